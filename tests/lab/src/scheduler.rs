//! The plain scheduler: from services and nodes to tasks. Pure.
//!
//! Replicated services fill slots, global ones nodes. A task that ended is replaced after a
//! delay, one of an old spec at once and never before the old one stopped. No rolling updates,
//! no resources, no preferences: the node with the fewest tasks gets the next one.

use std::collections::BTreeMap;

use crate::{
    ca::{self, NoRandom},
    state::{Availability, Liveness, Node, Restart, Service, State, Task, task_state},
};

/// Ended tasks that are kept per slot (swarm's default task history).
const HISTORY: usize = 4;

/// Brings the tasks in line with services and nodes. Tells the next moment, in milliseconds since
/// 1970, at which it must be asked again although nothing happened.
///
/// # Errors
/// No random numbers for identifiers.
pub(crate) fn reconcile(state: &mut State, now_ms: u64) -> Result<Option<u64>, NoRandom> {
    for id in state.services.keys().cloned().collect::<Vec<_>>() {
        reconcile_service(state, &id, now_ms)?;
    }
    for task in state.tasks.values_mut() {
        if !state.services.contains_key(&task.service) {
            task.desired = task_state::REMOVE;
        }
    }
    reap(state);
    assign(state, now_ms);
    let waiting = |task: &&Task| task.state < task_state::ASSIGNED && now_ms < task.start_at_ms;
    Ok(state.tasks.values().filter(waiting).map(|task| task.start_at_ms).min())
}

fn reconcile_service(state: &mut State, id: &str, now_ms: u64) -> Result<(), NoRandom> {
    let Some(service) = state.services.get(id) else { return Ok(()) };
    // Where a task belongs: its slot, or its node.
    let places: Vec<(u64, String)> = service.replicas.map_or_else(
        || {
            let wanted = |node: &Node| {
                node.accepted
                    && node.availability != Availability::Drain
                    && node.status == Liveness::Ready
            };
            let nodes = state.nodes.iter().filter(|(_, node)| wanted(node));
            let fitting = nodes.filter(|(id, node)| fits(&service.spec.constraints, id, node));
            fitting.map(|(id, _)| (0, id.clone())).collect()
        },
        |replicas| (1..=replicas).map(|slot| (slot, String::new())).collect(),
    );
    let global = service.replicas.is_none();
    let mut created = Vec::new();
    for (slot, node) in &places {
        let here = |task: &Task| {
            task.service == id && task.slot == *slot && (!global || task.node == *node)
        };
        let mut live = false;
        // What the successor waits for.
        let mut start_at_ms = now_ms;
        let mut stopping = false;
        let mut ended_for_good = false;
        for task in state.tasks.values_mut().filter(|task| here(task)) {
            let gone = state.nodes.get(&task.node).is_none_or(|node| {
                node.status == Liveness::Down || node.availability == Availability::Drain
            });
            if task.desired <= task_state::RUNNING {
                if task.version != service.version || (!task.node.is_empty() && gone) {
                    task.desired = task_state::SHUTDOWN;
                } else if task.state <= task_state::RUNNING {
                    live = true;
                } else if again(task) {
                    task.desired = task_state::SHUTDOWN;
                    start_at_ms = now_ms + task.spec.restart_delay_ms;
                } else {
                    ended_for_good = true;
                }
            }
            let reachable = state.nodes.get(&task.node).is_some_and(|n| n.status != Liveness::Down);
            stopping |= task_state::ASSIGNED <= task.state
                && task.state <= task_state::RUNNING
                && task.desired > task_state::RUNNING
                && reachable;
        }
        if !live && !stopping && !ended_for_good {
            created.push(new_task(id, service, *slot, node, start_at_ms));
        }
    }
    // Slots and nodes that are not wanted any more.
    for task in state.tasks.values_mut().filter(|task| task.service == id) {
        let wanted =
            |(slot, node): &(u64, String)| task.slot == *slot && (!global || task.node == *node);
        if task.desired <= task_state::RUNNING && !places.iter().any(wanted) {
            // A paused node keeps what it has.
            let node = state.nodes.get(&task.node);
            let unknown = node.is_some_and(|node| node.status == Liveness::Unknown);
            if global && unknown {
                continue;
            }
            task.desired = if global { task_state::SHUTDOWN } else { task_state::REMOVE };
        }
    }
    for task in created {
        state.tasks.insert(ca::random_id()?, task);
    }
    Ok(())
}

fn again(task: &Task) -> bool {
    match task.spec.restart {
        Restart::Any => true,
        Restart::OnFailure => task.state != task_state::COMPLETE,
        Restart::None => false,
    }
}

fn new_task(id: &str, service: &Service, slot: u64, node: &str, start_at_ms: u64) -> Task {
    Task {
        service: id.to_owned(),
        service_name: service.name.clone(),
        slot,
        node: node.to_owned(),
        version: service.version,
        spec: service.spec.clone(),
        desired: task_state::RUNNING,
        state: task_state::PENDING,
        message: String::from("created"),
        err: String::new(),
        pid: 0,
        exit_code: 0,
        since_ms: start_at_ms,
        start_at_ms,
    }
}

/// Deletes what has ended and is not wanted as history.
fn reap(state: &mut State) {
    let ended =
        |task: &Task| task.state < task_state::ASSIGNED || task_state::COMPLETE <= task.state;
    let nodes = &state.nodes;
    state.tasks.retain(|_, task| {
        let orphan = !task.node.is_empty() && !nodes.contains_key(&task.node);
        let unwanted = task.desired == task_state::REMOVE
            || (task.desired == task_state::SHUTDOWN && task.state < task_state::ASSIGNED);
        !(orphan || unwanted && ended(task))
    });
    let mut history: BTreeMap<(String, u64, String), Vec<(u64, String)>> = BTreeMap::new();
    for (id, task) in &state.tasks {
        if task.desired == task_state::SHUTDOWN && ended(task) {
            let node = if task.slot == 0 { task.node.clone() } else { String::new() };
            let place = (task.service.clone(), task.slot, node);
            history.entry(place).or_default().push((task.since_ms, id.clone()));
        }
    }
    for mut ended in history.into_values() {
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(HISTORY);
        for (_, id) in ended.into_iter().take(surplus) {
            state.tasks.remove(&id);
        }
    }
}

/// Gives each waiting task that is due a node.
fn assign(state: &mut State, now_ms: u64) {
    let mut load: BTreeMap<String, usize> = BTreeMap::new();
    for task in state.tasks.values().filter(|task| task.state <= task_state::RUNNING) {
        *load.entry(task.node.clone()).or_default() += 1;
    }
    for task in state.tasks.values_mut() {
        let due = task.state == task_state::PENDING
            && task.desired == task_state::RUNNING
            && task.start_at_ms <= now_ms;
        if !due {
            continue;
        }
        let able = |id: &str, node: &Node| {
            node.accepted
                && node.status == Liveness::Ready
                && node.availability == Availability::Active
                && fits(&task.spec.constraints, id, node)
                && (task.node.is_empty() || task.node == id)
        };
        let candidates = state.nodes.iter().filter(|(id, node)| able(id, node));
        let best = candidates.min_by_key(|(id, _)| load.get(*id).copied().unwrap_or(0));
        if let Some((id, _)) = best {
            task.node.clone_from(id);
            task.state = task_state::ASSIGNED;
            task.message = String::from("scheduler assigned task to node");
            task.err.clear();
            task.since_ms = now_ms;
            *load.entry(id.clone()).or_default() += 1;
        } else {
            task.err = String::from("no suitable node");
        }
    }
}

/// Whether a node meets `constraints`, swarm's expressions with `==` and `!=`. A key that the lab
/// does not know is never met.
pub(crate) fn fits(constraints: &[String], id: &str, node: &Node) -> bool {
    constraints.iter().all(|constraint| {
        let (key, value, equal) = match (constraint.split_once("!="), constraint.split_once("==")) {
            (Some((key, value)), _) => (key.trim(), value.trim(), false),
            (None, Some((key, value))) => (key.trim(), value.trim(), true),
            (None, None) => return false,
        };
        let label = |labels: &BTreeMap<String, String>, name: &str| {
            labels.get(name).cloned().unwrap_or_default()
        };
        let actual = match key {
            "node.id" => id.to_owned(),
            "node.hostname" => node.hostname.clone(),
            "node.role" => String::from("worker"),
            "node.ip" => node.addr.clone(),
            "node.platform.os" => node.platform.1.clone(),
            "node.platform.arch" => node.platform.0.clone(),
            key => match (key.strip_prefix("node.labels."), key.strip_prefix("engine.labels.")) {
                (Some(name), _) => label(&node.labels, name),
                (None, Some(name)) => label(&node.engine_labels, name),
                (None, None) => return false,
            },
        };
        actual.eq_ignore_ascii_case(value) == equal
    })
}
