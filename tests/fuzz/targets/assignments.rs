//! A manager that sends any sets in any order: the chain holds, and the agent keeps its promises.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use edgeagent::{
    agent::{Agent, Input, Op, Outcome, Output, Settlement, Start, assignments},
    limits::TASKS_MAX,
    model::{
        AssignmentSet, Change, Config, ConfigId, ContainerSpec, FileReference, NodeId, Now, Peer,
        ResourceLimits, Runtime, Secret, SecretBytes, SecretId, ServiceId, SessionId,
        SessionMessage, SetKind, Task, TaskId, TaskState, TaskStatus, UnixTime, WeightedPeer,
    },
};

/// Each group of four bytes is a set, a change in the set that is being made, an operation's
/// end, a report's answer, or a passing of time.
pub fn run(data: &[u8]) {
    let mut desk = Desk::new();
    let mut changes = Vec::new();
    for group in data.chunks_exact(4).take(4096) {
        let [what, who, how, more] = *group else { return };
        match what % 4 {
            0 => {
                let kind = if how % 4 == 0 { SetKind::Complete } else { SetKind::Incremental };
                let changes = std::mem::take(&mut changes);
                desk.assign(AssignmentSet {
                    kind,
                    applies_to: (who % 8).to_string(),
                    results_in: (more % 8).to_string(),
                    changes,
                });
            }
            1 => changes.extend(change(who, how, more)),
            2 => desk.settle(who, how),
            3 if who % 2 == 1 => desk.answer(),
            _ => desk.give(Input::Timeout, Duration::from_millis(u64::from(how) * 16)),
        }
    }
}

struct Desk {
    agent: Agent,
    clock: Now,
    last: Option<String>,
    /// What is under way, oldest first.
    ops: Vec<(TaskId, Op)>,
    reports: BTreeMap<TaskId, TaskState>,
    stored: BTreeSet<TaskId>,
}

impl Desk {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "an origin; only differences count")]
        let clock = Now { mono: Instant::now(), wall: UnixTime::default() };
        let seeds = vec!["m1:2377".to_owned()];
        let agent = Agent::new(Start { seeds, ..Start::default() }, clock);
        let mut desk = Self {
            agent,
            clock,
            last: None,
            ops: Vec::new(),
            reports: BTreeMap::new(),
            stored: BTreeSet::new(),
        };
        desk.drain();
        desk.register();
        desk
    }

    fn register(&mut self) {
        let peer = Peer { node_id: "m1".to_owned(), addr: "m1:2377".to_owned() };
        let Ok(session_id) = SessionId::new("s1") else { return };
        let managers = vec![WeightedPeer { peer, weight: 10 }];
        let message = SessionMessage { session_id, node: None, managers, root_ca: Vec::new() };
        self.last = None;
        self.give(Input::Session(message), Duration::ZERO);
        self.give(Input::HeartbeatAck { period: Duration::MAX }, Duration::ZERO);
    }

    /// The reader must agree with the few lines that the rule takes.
    fn assign(&mut self, set: AssignmentSet) {
        let follows =
            set.kind == SetKind::Complete || self.last.as_deref() == Some(set.applies_to.as_str());
        let read = assignments::read(self.last.as_deref(), set.clone());
        assert_eq!(read.is_ok(), follows);
        if let Ok(diff) = &read {
            assert_eq!(diff.results_in, set.results_in);
            assert!(diff.removed_tasks.iter().all(|id| !diff.tasks.contains_key(id)));
        }
        let before: Vec<TaskId> = self.agent.records().map(|r| r.task.id.clone()).collect();
        self.last = read.ok().map(|diff| diff.results_in);
        self.give(Input::Assignments(set), Duration::ZERO);
        if !follows {
            let after: Vec<TaskId> = self.agent.records().map(|r| r.task.id.clone()).collect();
            assert_eq!(before, after, "a message that does not follow changes nothing");
        }
    }

    fn settle(&mut self, which: u8, how: u8) {
        if self.ops.is_empty() {
            return;
        }
        let (task, op) = self.ops.remove(usize::from(which) % self.ops.len());
        let outcome = match how % 4 {
            0 => Outcome::Cancelled,
            1 => Outcome::Temporary("later".to_owned()),
            2 => Outcome::Fatal("broken".to_owned()),
            _ => Outcome::Done,
        };
        let settlement = Settlement { outcome, container: None, ports: Vec::new() };
        self.give(Input::Settled { task, op, settlement }, Duration::ZERO);
    }

    fn answer(&mut self) {
        if let Some((task, state)) = self.reports.pop_first() {
            self.give(Input::Reported { task, state }, Duration::ZERO);
        }
    }

    fn give(&mut self, input: Input, after: Duration) {
        self.clock.mono += after;
        self.agent.handle(input, self.clock);
        self.drain();
    }

    fn drain(&mut self) {
        let mut register = false;
        while let Some(output) = self.agent.poll() {
            match output {
                Output::Persist(record) => {
                    self.stored.insert(record.task.id.clone());
                }
                Output::Erase(id) => {
                    assert!(self.ops.iter().all(|(of, _)| *of != id), "erased while in use");
                    self.stored.remove(&id);
                }
                Output::Connect { .. } => register = true,
                Output::Close => self.reports.clear(),
                Output::Lost(_) | Output::Rejoin => {}
                Output::Report(id, status) => {
                    let before = self.reports.insert(id.clone(), status.state);
                    assert_eq!(before, None, "two reports under way");
                    let kept = self.agent.record(&id).is_some();
                    if kept && status.state.is_terminal() {
                        assert!(self.stored.contains(&id), "reported before stored");
                    }
                }
                Output::Perform(id, op) => {
                    assert!(self.ops.iter().all(|(of, _)| *of != id), "two operations");
                    self.ops.push((id, op));
                }
                Output::Cancel(id) => assert!(self.ops.iter().any(|(of, _)| *of == id)),
                Output::Heartbeat | Output::Watch | Output::Managers(_) => {}
                Output::Renew | Output::Left => unreachable!("nobody asked for it"),
            }
        }
        if let Some((at, due)) = self.agent.deadline() {
            assert!(self.clock.mono < at, "{due:?} lies in the past");
        }
        assert!(self.agent.records().count() <= TASKS_MAX);
        if register && self.agent.session().manager.is_some() {
            self.register();
        }
    }
}

/// A change; the names are few, so that they meet.
fn change(who: u8, how: u8, more: u8) -> Option<Change> {
    let name = format!("t{}", more % 8);
    let task = TaskId::new(&name).ok()?;
    let (secret, config) = (SecretId::new(&format!("s.{name}")).ok()?, ConfigId::new(&name).ok()?);
    let data = SecretBytes::new(vec![how; usize::from(how)]);
    let (name, templating) = (String::new(), String::new());
    Some(match who % 8 {
        0 => Change::RemoveTask(task),
        1 => Change::UpdateSecret(Secret { id: secret, name, data: Some(data), templating }),
        2 => Change::RemoveSecret(secret),
        3 => Change::UpdateConfig(Config { id: config, name, data: Some(data), templating }),
        4 => Change::RemoveConfig(config),
        _ => {
            let state = |number: u8| TaskState::ALL.get(usize::from(number) % 14).copied();
            let reference = FileReference { id: SecretId::new("s").ok()?, name, file: None };
            let spec = ContainerSpec { secrets: vec![reference], ..ContainerSpec::default() };
            Change::UpdateTask(Box::new(Task {
                id: task,
                service_id: ServiceId::new("service").ok()?,
                slot: 1,
                node_id: NodeId::new("node").ok()?,
                name: String::new(),
                labels: [].into(),
                service_name: String::new(),
                service_labels: [].into(),
                status: TaskStatus { state: state(more >> 4)?, ..TaskStatus::default() },
                desired_state: state(how)?,
                networks: Vec::new(),
                ports: Vec::new(),
                log_driver: None,
                generic_resources: Vec::new(),
                runtime: Runtime::Container(Box::new(spec)),
                limits: ResourceLimits::default(),
            }))
        }
    })
}
