//! The Dispatcher: sessions, heartbeats, assignments, status reports.
//!
//! Source: swarmkit `manager/dispatcher` (behaviour.md §7 and §8). Its one difference: no batching,
//! a change is sent at once.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use prost::Message as _;
use smol::{Timer, future};

use crate::{
    ca,
    evil::{Hook, Line},
    grpc::{Answer, Call, Gone, Status, code},
    lab::{Lab, Session},
    node_ca, proto,
    state::{Liveness, Node, Task, task_state},
    time,
};

/// More new registrations than this, each within [`REGISTRATION_WINDOW_MS`] of the one before,
/// are refused (swarmkit `manager/dispatcher/nodes.go`).
const REGISTRATIONS_MAX: u32 = 3;
const REGISTRATION_WINDOW_MS: u64 = 8000;

/// A node is down after so many periods without a heartbeat.
const GRACE_PERIODS: u64 = 3;

fn node_id(call: &Call) -> String {
    call.peer.as_ref().map(|peer| peer.name.clone()).unwrap_or_default()
}

/// Whether `session` is the one that the node has.
fn check(lab: &Lab, node: &str, session: &str) -> Result<(), Status> {
    match lab.sessions.borrow().get(node) {
        Some(known) if known.id == session && !session.is_empty() => Ok(()),
        Some(known) if !known.id.is_empty() => {
            Err(Status::new(code::INVALID_ARGUMENT, "session invalid"))
        }
        Some(_) | None => Err(Status::new(code::NOT_FOUND, "node not registered")),
    }
}

// --- session ---

pub(crate) async fn session(lab: &Rc<Lab>, mut call: Call) {
    let node = node_id(&call);
    let registered = match call.body.only::<proto::SessionRequest>().await {
        Ok(request) => register(lab, &node, &call, request),
        Err(status) => Err(status),
    };
    let result = match registered {
        Ok(id) => {
            let peer = proto::Peer {
                node_id: lab.state.borrow().manager.clone(),
                addr: call.local.to_string(),
            };
            stream_session(lab, &node, id, peer, &mut call.answer).await
        }
        Err(status) => Err(status),
    };
    call.answer.finish(result);
}

fn register(
    lab: &Lab,
    id: &str,
    call: &Call,
    request: proto::SessionRequest,
) -> Result<String, Status> {
    let now = time::now_ms();
    let period = lab.state.borrow().heartbeat_ms;
    let known = lab.sessions.borrow().get(id).cloned();
    let resumed =
        known.as_ref().filter(|known| known.id == request.session_id && !known.id.is_empty());
    let session = if let Some(known) = resumed {
        known.clone()
    } else {
        let again = known.as_ref().is_some_and(|known| !known.id.is_empty());
        let recent = known.as_ref().filter(|known| {
            again && now.saturating_sub(known.registered_ms) <= REGISTRATION_WINDOW_MS
        });
        let registrations = recent.map_or(0, |known| known.registrations + 1);
        if REGISTRATIONS_MAX < registrations {
            let message = format!("node {id} exceeded rate limit count of registrations");
            return Err(Status::new(code::UNAVAILABLE, message));
        }
        Session {
            id: ca::random_id().map_err(|_| Status::new(code::INTERNAL, "no random numbers"))?,
            deadline_ms: now + GRACE_PERIODS * period,
            registrations,
            registered_ms: now,
        }
    };
    {
        let mut state = lab.state.borrow_mut();
        let node =
            state.nodes.get_mut(id).ok_or_else(|| Status::new(code::UNKNOWN, "node not found"))?;
        describe(node, request.description.unwrap_or_default());
        node.addr = call.addr.to_string();
        node.status = Liveness::Ready;
    }
    let session_id = session.id.clone();
    lab.sessions.borrow_mut().insert(id.to_owned(), session);
    lab.changed();
    Ok(session_id)
}

fn describe(node: &mut Node, description: proto::NodeDescription) {
    let platform = description.platform.unwrap_or_default();
    node.hostname = description.hostname;
    node.platform = (platform.architecture, platform.os);
    let engine = description.engine.unwrap_or_default();
    node.engine = engine.engine_version;
    node.engine_labels = engine.labels;
    let tls = description.tls_info.unwrap_or_default();
    node.issuer = if tls.cert_issuer_public_key.is_empty() {
        String::new()
    } else {
        ca::fingerprint(&tls.cert_issuer_public_key)
    };
}

/// Sends the node's record, the managers and the root whenever one of them is another.
async fn stream_session(
    lab: &Lab,
    id: &str,
    session_id: String,
    manager: proto::Peer,
    answer: &mut Answer,
) -> Result<(), Status> {
    let mut last = Vec::new();
    loop {
        let seen = lab.version();
        check(lab, id, &session_id)?;
        let message = {
            let state = lab.state.borrow();
            let node = state.nodes.get(id).map(|node| wire_node(id, node));
            proto::SessionMessage {
                session_id: session_id.clone(),
                node,
                managers: vec![proto::WeightedPeer { peer: Some(manager.clone()), weight: 10 }],
                root_ca: state.root.certificate.clone().into_bytes(),
            }
        };
        let bytes = message.encode_to_vec();
        if bytes != last {
            if let Err(Gone) = answer.send(&message).await {
                return Ok(());
            }
            last = bytes;
        }
        if wait(lab, seen, answer).await.is_err() {
            return Ok(());
        }
    }
}

/// Waits for a change, or until the client is gone.
pub(crate) async fn wait(lab: &Lab, seen: u64, answer: &mut Answer) -> Result<(), Gone> {
    let changed = async {
        lab.change_after(seen).await;
        Ok(())
    };
    let gone = async {
        answer.gone().await;
        Err(Gone)
    };
    future::or(changed, gone).await
}

fn wire_node(id: &str, node: &Node) -> proto::Node {
    proto::Node {
        id: id.to_owned(),
        spec: Some(proto::NodeSpec {
            annotations: Some(proto::Annotations {
                name: String::new(),
                labels: node.labels.clone(),
            }),
            desired_role: 0,
            membership: i32::from(node.accepted),
            availability: node.availability.to_wire(),
        }),
        description: None,
        status: None,
        certificate: Some(node_ca::certificate(id, node)),
        role: 0,
    }
}

// --- heartbeat ---

pub(crate) async fn heartbeat(lab: &Lab, mut call: Call) {
    let node = node_id(&call);
    let result = match call.body.only::<proto::OfSession>().await {
        Ok(request) => check(lab, &node, &request.session_id),
        Err(status) => Err(status),
    };
    if let Err(status) = result {
        return call.answer.finish(Err(status));
    }
    let mut period = Duration::from_millis(lab.state.borrow().heartbeat_ms);
    if let Some(session) = lab.sessions.borrow_mut().get_mut(&node) {
        let patience = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        session.deadline_ms = time::now_ms() + GRACE_PERIODS * patience;
    }
    for (hook, n) in lab.evil() {
        if let Hook::Period(change) = hook {
            period = change(n);
        }
    }
    let period = proto::Duration {
        seconds: i64::try_from(period.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(period.subsec_nanos()).unwrap_or(0),
    };
    if call.answer.send(&proto::HeartbeatResponse { period: Some(period) }).await.is_ok() {
        call.answer.finish(Ok(()));
    }
}

/// Looks after the dead and the waiting; for ever.
pub(crate) async fn tick(lab: Rc<Lab>) {
    let mut tick = 0_u64;
    loop {
        Timer::after(Duration::from_millis(250)).await;
        tick += 1;
        let now = time::now_ms();
        let dead: Vec<String> = {
            let sessions = lab.sessions.borrow();
            let late = sessions.iter().filter(|(_, session)| session.deadline_ms < now);
            late.map(|(id, _)| id.clone()).collect()
        };
        for id in &dead {
            lab.sessions.borrow_mut().remove(id);
            if let Some(node) = lab.state.borrow_mut().nodes.get_mut(id) {
                node.status = Liveness::Down;
            }
        }
        let due = lab.next_ms.get().is_some_and(|at| at <= now);
        if !dead.is_empty() || due {
            lab.changed();
        }
        for (hook, n) in lab.evil() {
            if let Hook::Tick(act) = hook
                && tick.is_multiple_of(n.saturating_mul(4).max(1))
            {
                act(&lab);
            }
        }
    }
}

// --- status reports ---

pub(crate) async fn update_task_status(lab: &Lab, mut call: Call) {
    let node = node_id(&call);
    let result = match call.body.only::<proto::UpdateTaskStatusRequest>().await {
        Ok(request) => take_statuses(lab, &node, request),
        Err(status) => Err(status),
    };
    if let Err(status) = result {
        return call.answer.finish(Err(status));
    }
    if call.answer.send(&proto::Empty {}).await.is_ok() {
        call.answer.finish(Ok(()));
    }
}

fn take_statuses(
    lab: &Lab,
    node: &str,
    request: proto::UpdateTaskStatusRequest,
) -> Result<(), Status> {
    check(lab, node, &request.session_id)?;
    {
        let mut state = lab.state.borrow_mut();
        let foreign = |update: &proto::TaskStatusUpdate| {
            state.tasks.get(&update.task_id).is_some_and(|task| task.node != node)
        };
        if request.updates.iter().any(foreign) {
            let message = "cannot update a task not assigned this node";
            return Err(Status::new(code::PERMISSION_DENIED, message));
        }
        for update in request.updates {
            let (Some(task), Some(status)) = (state.tasks.get_mut(&update.task_id), update.status)
            else {
                continue;
            };
            if status.state < task.state {
                continue;
            }
            if task.state != status.state {
                task.since_ms = time::now_ms();
            }
            task.state = status.state;
            task.message = status.message;
            task.err = status.err;
            if let Some(container) = status.container {
                task.pid = container.pid;
                task.exit_code = container.exit_code;
            }
        }
    }
    lab.changed();
    Ok(())
}

// --- assignments ---

/// Kind and id, so that a removal is known without its content.
type Key = (u8, String);

pub(crate) async fn assignments(lab: &Rc<Lab>, mut call: Call) {
    let result = match call.body.only::<proto::OfSession>().await {
        Ok(request) => {
            let node = node_id(&call);
            stream_assignments(lab, &node, &request.session_id, &mut call.answer).await
        }
        Err(status) => Err(status),
    };
    call.answer.finish(result);
}

async fn stream_assignments(
    lab: &Lab,
    node: &str,
    session: &str,
    answer: &mut Answer,
) -> Result<(), Status> {
    let mut sent: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
    let mut number = 0_u64;
    let mut line = Line::default();
    loop {
        let seen = lab.version();
        check(lab, node, session)?;
        let wanted = {
            let state = lab.state.borrow();
            wanted(state.tasks.iter().filter(|(_, task)| task.node == node))
        };
        let changes = difference(&sent, &wanted);
        if number == 0 || !changes.is_empty() {
            let applies_to = if number == 0 { String::new() } else { number.to_string() };
            let message = proto::AssignmentsMessage {
                r#type: i32::from(number != 0),
                applies_to,
                results_in: (number + 1).to_string(),
                changes,
            };
            number += 1;
            sent = wanted.into_iter().map(|(key, (bytes, _))| (key, bytes)).collect();
            let mut messages = vec![message];
            for (hook, n) in lab.evil() {
                if let Hook::Assign(change) = hook {
                    messages = messages
                        .into_iter()
                        .flat_map(|message| change(&mut line, message, n))
                        .collect();
                }
            }
            for message in messages {
                if let Err(Gone) = answer.send(&message).await {
                    return Ok(());
                }
            }
        }
        if wait(lab, seen, answer).await.is_err() {
            return Ok(());
        }
    }
}

/// What a node should have: for each thing the bytes that tell whether it changed, and itself.
fn wanted<'a>(
    tasks: impl Iterator<Item = (&'a String, &'a Task)>,
) -> BTreeMap<Key, (Vec<u8>, proto::Assignment)> {
    use proto::assignment::Item;
    let mut all = BTreeMap::new();
    for (id, task) in tasks.filter(|(_, task)| task_state::ASSIGNED <= task.state) {
        if task.state <= task_state::RUNNING {
            for (name, data) in &task.spec.secrets {
                let secret = proto::Secret {
                    id: secret_id(&task.service, name),
                    spec: Some(proto::SecretSpec {
                        annotations: Some(proto::Annotations {
                            name: name.clone(),
                            labels: BTreeMap::new(),
                        }),
                        data: data.clone(),
                        templating: None,
                    }),
                };
                let bytes = secret.encode_to_vec();
                let key = (0, secret.id.clone());
                all.insert(key, (bytes, proto::Assignment { item: Some(Item::Secret(secret)) }));
            }
        }
        let mut wire = wire_task(id, task);
        // What a node reported itself is not sent back to it.
        let status = wire.status.take();
        let bytes = wire.encode_to_vec();
        wire.status = status;
        let assignment = proto::Assignment { item: Some(Item::Task(wire)) };
        all.insert((1, id.clone()), (bytes, assignment));
    }
    all
}

fn secret_id(service: &str, name: &str) -> String {
    format!("{service}-{name}")
}

fn difference(
    sent: &BTreeMap<Key, Vec<u8>>,
    wanted: &BTreeMap<Key, (Vec<u8>, proto::Assignment)>,
) -> Vec<proto::AssignmentChange> {
    use proto::assignment::Item;
    let updates = wanted.iter().filter(|(key, (bytes, _))| sent.get(*key) != Some(bytes)).map(
        |(_, (_, assignment))| proto::AssignmentChange {
            assignment: Some(assignment.clone()),
            action: 0,
        },
    );
    let removals = sent.keys().filter(|key| !wanted.contains_key(*key)).map(|(kind, id)| {
        let id = id.clone();
        let item = if *kind == 0 {
            Item::Secret(proto::Secret { id, ..proto::Secret::default() })
        } else {
            Item::Task(proto::Task { id, ..proto::Task::default() })
        };
        let assignment = Some(proto::Assignment { item: Some(item) });
        proto::AssignmentChange { assignment, action: 1 }
    });
    updates.chain(removals).collect()
}

/// A task as a worker gets it.
pub(crate) fn wire_task(id: &str, task: &Task) -> proto::Task {
    let spec = &task.spec;
    let secrets = spec.secrets.keys().map(|name| proto::FileReference {
        id: secret_id(&task.service, name),
        name: name.clone(),
        file: Some(proto::FileTarget {
            name: name.clone(),
            uid: String::from("0"),
            gid: String::from("0"),
            mode: 0o444,
        }),
    });
    let container = proto::ContainerSpec {
        image: spec.image.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        labels: spec.labels.clone(),
        user: spec.user.clone(),
        stop_grace_period: spec.stop_grace_ms.map(duration),
        secrets: secrets.collect(),
        ..proto::ContainerSpec::default()
    };
    let limits = proto::Resources {
        memory_bytes: i64::try_from(spec.memory).unwrap_or(i64::MAX),
        ..proto::Resources::default()
    };
    let host = spec.host_network.then(host_network);
    let timestamp =
        proto::Timestamp { seconds: i64::try_from(task.since_ms / 1000).unwrap_or(0), nanos: 0 };
    proto::Task {
        id: id.to_owned(),
        spec: Some(proto::TaskSpec {
            resources: (spec.memory != 0)
                .then_some(proto::ResourceRequirements { limits: Some(limits) }),
            runtime: Some(proto::task_spec::Runtime::Container(container)),
        }),
        service_id: task.service.clone(),
        slot: task.slot,
        node_id: task.node.clone(),
        annotations: Some(proto::Annotations::default()),
        service_annotations: Some(proto::Annotations {
            name: task.service_name.clone(),
            labels: BTreeMap::new(),
        }),
        status: Some(proto::TaskStatus {
            timestamp: Some(timestamp),
            state: task.state,
            message: task.message.clone(),
            err: task.err.clone(),
            ..proto::TaskStatus::default()
        }),
        desired_state: task.desired,
        networks: host.into_iter().collect(),
        endpoint: None,
        log_driver: None,
        assigned_generic_resources: Vec::new(),
    }
}

fn duration(ms: u64) -> proto::Duration {
    proto::Duration {
        seconds: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
    }
}

/// The predefined network `host`, as managers embed it.
fn host_network() -> proto::NetworkAttachment {
    let annotations = proto::Annotations { name: String::from("host"), labels: BTreeMap::new() };
    let driver = proto::Driver { name: String::from("host"), options: BTreeMap::new() };
    let network = proto::Network {
        id: String::from("labhostnetwork00000000000"),
        spec: Some(proto::NetworkSpec { annotations: Some(annotations), ingress: false }),
        driver_state: Some(driver),
        ipam: Some(proto::IpamOptions { driver: Some(proto::Driver::default()) }),
    };
    proto::NetworkAttachment { network: Some(network) }
}
