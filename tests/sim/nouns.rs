//! Short makers of swarm's nouns.

use edgeagent::{
    agent::{Outcome, Settlement},
    model::{
        AssignmentSet, Availability, Change, ContainerSpec, FileReference, IssuanceState, NodeId,
        NodeRecord, NodeRole, Peer, ResourceLimits, Runtime, Secret, SecretBytes, SecretId,
        ServiceId, SessionId, SessionMessage, SetKind, Task, TaskId, TaskState, TaskStatus,
        WeightedPeer,
    },
};

pub(crate) fn id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

pub(crate) fn task(name: &str, desired_state: TaskState) -> Task {
    Task {
        id: id(name),
        service_id: ServiceId::new("service").unwrap(),
        slot: 1,
        node_id: NodeId::new("node").unwrap(),
        name: String::new(),
        labels: [].into(),
        service_name: "web".into(),
        service_labels: [].into(),
        status: TaskStatus { state: TaskState::Assigned, ..TaskStatus::default() },
        desired_state,
        networks: vec![],
        ports: vec![],
        log_driver: None,
        generic_resources: vec![],
        runtime: Runtime::Container(Box::default()),
        limits: ResourceLimits::default(),
    }
}

/// A task that refers to the secret `s1`.
pub(crate) fn secretive(name: &str, desired_state: TaskState) -> Task {
    let reference =
        FileReference { id: SecretId::new("s1").unwrap(), name: "password".into(), file: None };
    let spec = ContainerSpec { secrets: vec![reference], ..ContainerSpec::default() };
    Task { runtime: Runtime::Container(Box::new(spec)), ..task(name, desired_state) }
}

pub(crate) fn in_state(mut task: Task, state: TaskState) -> Task {
    task.status.state = state;
    task
}

pub(crate) fn secret(id: &str, content: &str) -> Change {
    Change::UpdateSecret(Secret {
        id: SecretId::new(id).unwrap(),
        name: "password".into(),
        data: Some(SecretBytes::new(content.as_bytes().to_vec())),
        templating: String::new(),
    })
}

pub(crate) fn update(task: Task) -> Change {
    Change::UpdateTask(Box::new(task))
}

pub(crate) fn complete(results_in: &str, changes: Vec<Change>) -> AssignmentSet {
    AssignmentSet {
        kind: SetKind::Complete,
        applies_to: String::new(),
        results_in: results_in.into(),
        changes,
    }
}

pub(crate) fn incremental(
    applies_to: &str,
    results_in: &str,
    changes: Vec<Change>,
) -> AssignmentSet {
    AssignmentSet {
        kind: SetKind::Incremental,
        applies_to: applies_to.into(),
        results_in: results_in.into(),
        changes,
    }
}

pub(crate) fn node() -> NodeRecord {
    NodeRecord {
        id: NodeId::new("node").unwrap(),
        role: NodeRole::Worker,
        desired_role: NodeRole::Worker,
        availability: Availability::Active,
        certificate: IssuanceState::Issued,
    }
}

pub(crate) fn peer(name: &str) -> Peer {
    Peer { node_id: name.into(), addr: format!("{name}:2377") }
}

pub(crate) fn session(name: &str, managers: &[&str], node: Option<NodeRecord>) -> SessionMessage {
    SessionMessage {
        session_id: SessionId::new(name).unwrap(),
        node,
        managers: managers
            .iter()
            .map(|name| WeightedPeer { peer: peer(name), weight: 10 })
            .collect(),
        root_ca: vec![],
    }
}

pub(crate) fn settlement(outcome: Outcome) -> Settlement {
    Settlement { outcome, container: None, ports: vec![] }
}
