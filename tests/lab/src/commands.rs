//! What the commands do, but for `service logs`: a change of the state, and a text.

use std::{collections::BTreeMap, fmt::Write as _, rc::Rc};

use serde_json::json;

use crate::{
    ca::{self, Authority, NoRandom},
    cli::{
        CaSubcommand, Command, Evil, NodeSubcommand, NodeUpdate, ServiceCreate, ServiceSubcommand,
        ServiceUpdate,
    },
    evil,
    lab::{self, Lab},
    state::{Issuance, Liveness, Node, Rotation, Service, Spec, task_state},
    time,
};

/// What the operator reads: the answer, or why not.
type Answer = Result<String, String>;

/// Does one command.
pub(crate) fn run(lab: &Rc<Lab>, command: Command) -> Answer {
    match command {
        Command::Init(_) | Command::Serve(_) => Err(String::from("a lab runs here already")),
        Command::JoinToken(wish) => join_token(lab, wish.rotate),
        Command::Node(node) => match node.command {
            NodeSubcommand::Ls(wish) => Ok(node_ls(lab, wish.json)),
            NodeSubcommand::Accept(wish) => node_accept(lab, &wish.node),
            NodeSubcommand::Reject(wish) => node_reject(lab, &wish.node),
            NodeSubcommand::Update(wish) => node_update(lab, wish),
            NodeSubcommand::Rm(wish) => node_rm(lab, &wish.node, wish.force),
        },
        Command::Service(service) => match service.command {
            ServiceSubcommand::Create(wish) => service_create(lab, wish),
            ServiceSubcommand::Ls(wish) => Ok(service_ls(lab, wish.json)),
            ServiceSubcommand::Ps(wish) => service_ps(lab, &wish.service, wish.json),
            ServiceSubcommand::Scale(wish) => service_scale(lab, &wish.target.0, &wish.target.1),
            ServiceSubcommand::Update(wish) => service_update(lab, wish),
            ServiceSubcommand::Rm(wish) => service_rm(lab, &wish.service),
            ServiceSubcommand::Logs(_) => Err(String::from("logs are a stream")),
        },
        Command::Ca(ca) => match ca.command {
            CaSubcommand::Rotate(_) => ca_rotate(lab),
        },
        Command::Calls(_) => Ok(format!("{}\n", json!(*lab.calls.borrow()))),
        Command::Evil(wish) => be_evil(lab, &wish),
    }
}

fn no_random(_: NoRandom) -> String {
    String::from("the kernel gives no random numbers")
}

fn join_token(lab: &Lab, rotate: bool) -> Answer {
    if rotate {
        lab.state.borrow_mut().secret = ca::random_id().map_err(no_random)?;
        lab.changed();
    }
    let state = lab.state.borrow();
    Ok(format!("{}\n", ca::join_token(state.root.certificate.as_bytes(), &state.secret)))
}

// --- nodes ---

/// The one node with this id, this beginning of an id, or this host name.
fn node_id(lab: &Lab, name: &str) -> Result<String, String> {
    let state = lab.state.borrow();
    let fits = |id: &str, node: &Node| id.starts_with(name) || node.hostname == name;
    let mut found = state.nodes.iter().filter(|(id, node)| fits(id, node));
    match (found.next(), found.next()) {
        (Some((id, _)), None) if !name.is_empty() => Ok(id.clone()),
        (Some(_), _) => Err(format!("more than one node is called {name}")),
        (None, _) => Err(format!("no node is called {name}")),
    }
}

fn node_ls(lab: &Lab, json: bool) -> String {
    let state = lab.state.borrow();
    let membership = |node: &Node| match (node.accepted, node.issuance) {
        (true, _) => "accepted",
        (false, Issuance::Failed) => "rejected",
        (false, Issuance::Pending | Issuance::Issued | Issuance::Rotate) => "pending",
    };
    let availability = |node: &Node| format!("{:?}", node.availability);
    if json {
        let nodes = state.nodes.iter().map(|(id, node)| {
            json!({
                "id": id, "hostname": node.hostname, "status": format!("{:?}", node.status),
                "availability": availability(node), "membership": membership(node),
                "engine": node.engine, "addr": node.addr, "fingerprint": node.fingerprint,
                "labels": node.labels, "engine_labels": node.engine_labels,
                "certificate": node.certificate, "csr": node.csr, "issuer": node.issuer,
                "issuance": node.issuance,
            })
        });
        return format!("{}\n", nodes.collect::<serde_json::Value>());
    }
    let mut rows = vec![
        ["ID", "HOSTNAME", "STATUS", "AVAILABILITY", "MEMBERSHIP", "ENGINE", "KEY"]
            .map(String::from),
    ];
    rows.extend(state.nodes.iter().map(|(id, node)| {
        let key = node.fingerprint.get(..16).unwrap_or_default();
        [
            id.clone(),
            node.hostname.clone(),
            format!("{:?}", node.status),
            availability(node),
            membership(node).to_owned(),
            node.engine.clone(),
            format!("SHA256:{key}…"),
        ]
    }));
    table(&rows)
}

/// Columns side by side.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn node_accept(lab: &Lab, name: &str) -> Answer {
    let id = node_id(lab, name)?;
    let fingerprint = {
        let mut state = lab.state.borrow_mut();
        let node = state.nodes.get_mut(&id).ok_or("it went away")?;
        if node.issuance == Issuance::Failed {
            return Err(format!("node {id} was rejected: {}", node.refusal));
        }
        node.accepted = true;
        node.fingerprint.clone()
    };
    lab::issue(lab, &id).map_err(no_random)?;
    lab.changed();
    Ok(format!("Node {id} accepted in the swarm. Its key: SHA256:{fingerprint}\n"))
}

fn node_reject(lab: &Lab, name: &str) -> Answer {
    let id = node_id(lab, name)?;
    {
        let mut state = lab.state.borrow_mut();
        let node = state.nodes.get_mut(&id).ok_or("it went away")?;
        if node.accepted {
            return Err(format!("node {id} is a member already; remove it: lab node rm {id}"));
        }
        node.issuance = Issuance::Failed;
        node.refusal = String::from("rejected by the operator");
    }
    lab.changed();
    Ok(format!("Node {id} rejected.\n"))
}

fn node_update(lab: &Lab, wish: NodeUpdate) -> Answer {
    let id = node_id(lab, &wish.node)?;
    {
        let mut state = lab.state.borrow_mut();
        let node = state.nodes.get_mut(&id).ok_or("it went away")?;
        if let Some(availability) = wish.availability {
            node.availability = availability;
        }
        node.labels.extend(wish.label_add);
        node.labels.retain(|key, _| !wish.label_rm.contains(key));
    }
    lab.changed();
    Ok(format!("{id}\n"))
}

fn node_rm(lab: &Lab, name: &str, force: bool) -> Answer {
    let id = node_id(lab, name)?;
    {
        let mut state = lab.state.borrow_mut();
        let ready = state.nodes.get(&id).is_some_and(|node| node.status == Liveness::Ready);
        if ready && !force {
            return Err(format!("node {id} is not down; --force removes it all the same"));
        }
        state.nodes.remove(&id);
        state.removed.insert(id.clone());
    }
    lab.sessions.borrow_mut().remove(&id);
    lab.changed();
    Ok(format!("{id}\n"))
}

// --- services ---

/// The service with this name, or this beginning of an id.
pub(crate) fn service_id(lab: &Lab, name: &str) -> Result<String, String> {
    let state = lab.state.borrow();
    let by_name = state.services.iter().find(|(_, service)| service.name == name);
    let by_id = || state.services.iter().find(|(id, _)| !name.is_empty() && id.starts_with(name));
    let found = by_name.or_else(by_id).map(|(id, _)| id.clone());
    found.ok_or_else(|| format!("no service is called {name}"))
}

fn service_create(lab: &Lab, wish: ServiceCreate) -> Answer {
    let mut words = wish.image.into_iter();
    let image = words.next().ok_or("which image?")?;
    if service_id(lab, &wish.name).is_ok() {
        return Err(format!("there is a service {} already", wish.name));
    }
    let ms =
        |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let spec = Spec {
        image,
        args: words.collect(),
        env: wish.env,
        labels: wish.container_label.into_iter().collect(),
        user: wish.user,
        host_network: wish.network,
        secrets: wish.secret.into_iter().collect(),
        memory: wish.limit_memory,
        stop_grace_ms: wish.stop_grace_period.map(ms),
        constraints: wish.constraint,
        restart: wish.restart_condition,
        restart_delay_ms: ms(wish.restart_delay),
        force: 0,
    };
    let replicas = (!wish.mode).then_some(wish.replicas);
    let service = Service { name: wish.name, replicas, spec, version: 1 };
    let id = ca::random_id().map_err(no_random)?;
    lab.state.borrow_mut().services.insert(id.clone(), service);
    lab.changed();
    Ok(format!("{id}\n"))
}

fn running(lab: &Lab, id: &str) -> usize {
    let state = lab.state.borrow();
    let runs = state.tasks.values().filter(|task| {
        task.service == id
            && task.state == task_state::RUNNING
            && task.desired == task_state::RUNNING
    });
    runs.count()
}

fn service_ls(lab: &Lab, json: bool) -> String {
    let state = lab.state.borrow();
    if json {
        let services = state.services.iter().map(|(id, service)| {
            json!({
                "id": id, "name": service.name, "replicas": service.replicas,
                "running": running(lab, id), "image": service.spec.image,
            })
        });
        return format!("{}\n", services.collect::<serde_json::Value>());
    }
    let mut rows = vec![["ID", "NAME", "MODE", "RUNNING", "IMAGE"].map(String::from)];
    rows.extend(state.services.iter().map(|(id, service)| {
        let mode = service
            .replicas
            .map_or_else(|| String::from("global"), |replicas| format!("{replicas} replicas"));
        let count = running(lab, id).to_string();
        [id.clone(), service.name.clone(), mode, count, service.spec.image.clone()]
    }));
    table(&rows)
}

fn service_ps(lab: &Lab, name: &str, json: bool) -> Answer {
    let service = service_id(lab, name)?;
    let state = lab.state.borrow();
    let mut tasks: Vec<_> =
        state.tasks.iter().filter(|(_, task)| task.service == service).collect();
    tasks.sort_by_key(|(_, task)| (task.slot, std::cmp::Reverse(task.since_ms)));
    let hostname = |id: &str| state.nodes.get(id).map(|node| node.hostname.clone());
    if json {
        let tasks = tasks.iter().map(|(id, task)| {
            json!({
                "id": id, "slot": task.slot, "node": task.node, "hostname": hostname(&task.node),
                "state": task_state::name(task.state), "desired": task_state::name(task.desired),
                "message": task.message, "err": task.err, "pid": task.pid,
                "exit_code": task.exit_code, "image": task.spec.image,
            })
        });
        return Ok(format!("{}\n", tasks.collect::<serde_json::Value>()));
    }
    let now = time::now_ms();
    let mut rows = vec![["ID", "NAME", "NODE", "DESIRED", "CURRENT", "ERROR"].map(String::from)];
    rows.extend(tasks.iter().map(|(id, task)| {
        let (state, since) = (task_state::name(task.state), time::ago(task.since_ms, now));
        [
            (*id).clone(),
            format!("{}.{}", task.service_name, task.slot),
            hostname(&task.node).unwrap_or_default(),
            task_state::name(task.desired).to_owned(),
            format!("{state} {since} ago"),
            task.err.clone(),
        ]
    }));
    Ok(table(&rows))
}

fn service_scale(lab: &Lab, name: &str, number: &str) -> Answer {
    let id = service_id(lab, name)?;
    let number: u64 = number.parse().map_err(|_| format!("`{number}` is no number"))?;
    {
        let mut state = lab.state.borrow_mut();
        let service = state.services.get_mut(&id).ok_or("it went away")?;
        if service.replicas.is_none() {
            return Err(format!("{name} is global: one task on every node"));
        }
        service.replicas = Some(number);
    }
    lab.changed();
    Ok(format!("{name} scaled to {number}\n"))
}

fn service_update(lab: &Lab, wish: ServiceUpdate) -> Answer {
    let mut words = wish.service.into_iter();
    let name = words.next().ok_or("which service?")?;
    let args: Vec<String> = words.collect();
    let id = service_id(lab, &name)?;
    {
        let mut state = lab.state.borrow_mut();
        let service = state.services.get_mut(&id).ok_or("it went away")?;
        let before = service.spec.clone();
        let spec = &mut service.spec;
        if let Some(image) = wish.image {
            spec.image = image;
        }
        for added in wish.env_add {
            let key = added.split('=').next().unwrap_or_default();
            spec.env.retain(|old| old.split('=').next() != Some(key));
            spec.env.push(added);
        }
        spec.secrets.extend(wish.secret);
        if !args.is_empty() {
            spec.args = args;
        }
        spec.force += u64::from(wish.force);
        if *spec != before {
            service.version += 1;
        }
    }
    lab.changed();
    Ok(format!("{id}\n"))
}

fn service_rm(lab: &Lab, name: &str) -> Answer {
    let id = service_id(lab, name)?;
    lab.state.borrow_mut().services.remove(&id);
    lab.changed();
    Ok(format!("{name}\n"))
}

// --- root CA ---

fn ca_rotate(lab: &Lab) -> Answer {
    {
        let mut state = lab.state.borrow_mut();
        let next = Authority::new(time::now_s()).map_err(no_random)?;
        let cross = state.root.cross_sign(&next, time::now_s()).map_err(no_random)?;
        state.rotation = Some(Rotation { next, cross });
        for node in state.nodes.values_mut().filter(|node| node.issuance == Issuance::Issued) {
            node.issuance = Issuance::Rotate;
        }
    }
    lab.changed();
    Ok(String::from(
        "Every node has been told to renew; when the last has, the root switches. A node that \
         never comes must be removed first.\n",
    ))
}

// --- evil ---

fn be_evil(lab: &Lab, wish: &Evil) -> Answer {
    match wish.name.as_str() {
        "ls" => return Ok(list_evil(&lab.state.borrow().evil)),
        "none" => lab.state.borrow_mut().evil.clear(),
        name => {
            evil::find(name).ok_or_else(|| unknown_mode(name))?;
            let mut state = lab.state.borrow_mut();
            if wish.setting == 0 {
                state.evil.remove(name);
            } else {
                state.evil.insert(name.to_owned(), wish.setting);
            }
        }
    }
    lab.connections.borrow_mut().clear();
    lab.calls.borrow_mut().clear();
    lab.changed();
    Ok(String::new())
}

/// What to say of a mode that there is not.
pub(crate) fn unknown_mode(name: &str) -> String {
    format!("there is no evil mode {name}; see lab evil ls")
}

fn list_evil(on: &BTreeMap<String, u64>) -> String {
    let mut out = String::new();
    for mode in evil::MODES {
        let mark = on.get(mode.name).map_or_else(String::new, |n| format!("on {n}"));
        // Writing to a String can not fail.
        let _infallible = writeln!(out, "{:20}{:8}{}", mode.name, mark, mode.what);
    }
    out
}
