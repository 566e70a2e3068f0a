//! A manager, a driver and a clock, all fake; and what must hold after every step.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use edgeagent::{
    agent::{Agent, Input, Op, Outcome, Output, Start},
    model::{
        AssignmentSet, Change, IssuanceState, LinkLoss, Now, Peer, SessionId, TaskId, TaskRecord,
        TaskState, TaskStatus, UnixTime,
    },
};

use crate::{nouns, random::Dice};

/// Faults happen for this long; after that everything works.
const CHAOS: Duration = Duration::from_secs(60);
/// And this long everything has to come to rest.
const CALM: Duration = Duration::from_secs(100);
const WALL_START: i64 = 1_700_000_000;

pub(crate) struct World {
    agent: Agent,
    dice: Dice,
    epoch: Instant,
    clock: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    serial: u64,
    // The driver.
    stored: BTreeMap<TaskId, TaskRecord>,
    managers: Vec<Peer>,
    ops: BTreeMap<TaskId, Running>,
    life: u64,
    // The link, as both ends see it.
    link: u64,
    linked: bool,
    registered: bool,
    reports: BTreeSet<TaskId>,
    highest: BTreeMap<TaskId, TaskState>,
    // The manager.
    session: Option<SessionId>,
    assigned: BTreeMap<TaskId, Assigned>,
    version: u64,
    watched: Option<u64>,
    held: Option<AssignmentSet>,
    born: u64,
}

struct Running {
    op: Op,
    number: u64,
}

/// A task at the manager.
struct Assigned {
    desired: TaskState,
    status: TaskStatus,
    secretive: bool,
}

enum Event {
    /// Reaches the agent if the link is still the same one.
    FromManager(u64, Input),
    /// The manager has registered the node.
    Register(u64),
    /// An operation ends, unless it has ended already.
    End { life: u64, task: TaskId, number: u64, outcome: Outcome },
    /// The certificate authority answers.
    Authority { life: u64, signed: bool },
    /// The manager or fate does something.
    Fate,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an origin; only differences count")]
        let epoch = Instant::now();
        let start = Start {
            seeds: vec!["seed:2377".into()],
            seed,
            validity: Some(validity(WALL_START)),
            ..Start::default()
        };
        let now = Now { mono: epoch, wall: UnixTime::from_seconds(WALL_START) };
        let mut world = Self {
            agent: Agent::new(start, now),
            dice: Dice::new(seed + 1),
            epoch,
            clock: Duration::ZERO,
            events: BTreeMap::new(),
            serial: 0,
            stored: BTreeMap::new(),
            managers: Vec::new(),
            ops: BTreeMap::new(),
            life: 0,
            link: 0,
            linked: false,
            registered: false,
            reports: BTreeSet::new(),
            highest: BTreeMap::new(),
            session: None,
            assigned: BTreeMap::new(),
            version: 0,
            watched: None,
            held: None,
            born: 0,
        };
        world.drain();
        world.later(Duration::from_millis(500), Event::Fate);
        world
    }

    pub(crate) fn run(mut self) {
        let end = CHAOS + CALM;
        let mut steps = 0;
        while self.clock < end {
            steps += 1;
            assert!(steps < 100_000, "busy without end");
            let deadline = self.agent.deadline().map(|(at, _)| at - self.epoch);
            let event = self.events.first_key_value().map(|(key, _)| *key);
            match (event, deadline) {
                (Some(key), at) if at.is_none_or(|at| key.0 <= at) => {
                    self.clock = self.clock.max(key.0);
                    let event = self.events.remove(&key).unwrap();
                    self.happen(event);
                }
                (_, Some(at)) => {
                    self.clock = at;
                    self.give(Input::Timeout);
                }
                (_, None) => panic!("nothing will ever happen again"),
            }
        }
        self.check_rest();
    }

    fn now(&self) -> Now {
        let nanos = WALL_START * 1_000_000_000 + i64::try_from(self.clock.as_nanos()).unwrap();
        Now { mono: self.epoch + self.clock, wall: UnixTime::from_nanos(nanos) }
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.serial += 1;
        self.events.insert((self.clock + after, self.serial), event);
    }

    fn chaos(&self) -> bool {
        self.clock < CHAOS
    }

    fn give(&mut self, input: Input) {
        self.agent.handle(input, self.now());
        self.drain();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::FromManager(link, input) => {
                if link == self.link && self.linked {
                    if let Input::LinkLost(_) = &input {
                        self.unlink();
                    }
                    if let Input::Reported { task, .. } = &input {
                        self.reports.remove(task);
                    }
                    self.give(input);
                }
            }
            Event::Register(link) => {
                if link == self.link && self.linked {
                    self.registered = true;
                    self.reports.clear();
                    let session = self
                        .session
                        .get_or_insert_with(|| SessionId::new(&format!("session{link}")).unwrap());
                    let mut node = nouns::node();
                    if self.clock < CHAOS && self.dice.percent(10) {
                        node.certificate = IssuanceState::Rotate;
                    }
                    let name = session.as_str().to_owned();
                    let managers: &[&str] = if self.dice.percent(10) { &[] } else { &["m1", "m2"] };
                    self.give(Input::Session(nouns::session(&name, managers, Some(node))));
                }
            }
            Event::End { life, task, number, outcome } => {
                if life == self.life && self.ops.get(&task).is_some_and(|r| r.number == number) {
                    let op = self.ops.remove(&task).unwrap().op;
                    let settlement = nouns::settlement(outcome);
                    self.give(Input::Settled { task, op, settlement });
                }
            }
            Event::Authority { life, signed } => {
                if life == self.life {
                    let wall = self.now().wall.seconds();
                    let (not_before, not_after) = validity(wall);
                    let input = if signed {
                        Input::Certificate { not_before, not_after }
                    } else {
                        Input::RenewalFailed
                    };
                    self.give(input);
                }
            }
            Event::Fate => {
                self.fate();
                if self.chaos() {
                    let after = self.dice.millis(1500);
                    self.later(after, Event::Fate);
                } else {
                    // A lost message is noticed by the next one.
                    self.publish(Vec::new());
                }
            }
        }
    }

    fn unlink(&mut self) {
        self.linked = false;
        self.registered = false;
        self.reports.clear();
        self.watched = None;
        self.held = None;
    }

    fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.agent.poll() {
            outputs += 1;
            assert!(outputs < 1000, "outputs without end");
            self.perform(output);
        }
        for record in self.agent.records() {
            let (id, state) = (&record.task.id, record.status.state);
            let highest = self.highest.entry(id.clone()).or_insert(state);
            assert!(*highest <= state, "{id} fell from {highest:?} to {state:?}");
            *highest = state;
        }
        if let Some((at, due)) = self.agent.deadline() {
            assert!(self.now().mono < at, "{due:?} lies in the past");
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Persist(record) => {
                self.stored.insert(record.task.id.clone(), *record);
            }
            Output::Erase(id) => {
                assert!(!self.ops.contains_key(&id), "{id} erased during an operation");
                self.stored.remove(&id);
                self.highest.remove(&id);
            }
            Output::Managers(managers) => {
                assert_ne!(managers, self.managers, "an unchanged list is not stored");
                assert!(!managers.is_empty());
                self.managers = managers;
            }
            Output::Connect { peer: _, session } => {
                assert!(!self.linked, "a second link");
                self.link += 1;
                self.linked = true;
                if session.is_none() || session != self.session {
                    self.session = None;
                }
                let after = self.dice.millis(300);
                if self.chaos() && self.dice.percent(25) {
                    let loss = self.loss();
                    self.later(after, Event::FromManager(self.link, Input::LinkLost(loss)));
                } else if !(self.chaos() && self.dice.percent(5)) {
                    self.later(after, Event::Register(self.link));
                }
            }
            Output::Lost(_) => {}
            Output::Close => self.unlink(),
            Output::Heartbeat => {
                assert!(self.registered, "a heartbeat without a session");
                let after = self.dice.millis(100);
                let input = if self.session.is_some() {
                    Input::HeartbeatAck { period: Duration::from_secs(5) }
                } else {
                    Input::LinkLost(LinkLoss::SessionInvalid)
                };
                if !(self.chaos() && self.dice.percent(3)) {
                    self.later(after, Event::FromManager(self.link, input));
                }
            }
            Output::Watch => {
                assert!(self.registered, "assignments without a session");
                self.held = None;
                self.version += 1;
                self.watched = Some(self.version);
                let mut changes = vec![nouns::secret("s1", "hunter2")];
                changes.extend(self.assigned.iter().map(|(id, of)| change(id, of)));
                let set = nouns::complete(&self.version.to_string(), changes);
                self.send(set);
            }
            Output::Report(id, status) => {
                assert!(self.registered, "a report without a session");
                assert!(self.reports.insert(id.clone()), "two reports of {id}");
                if status.state.is_terminal() {
                    assert_eq!(self.stored[&id].status, status, "reported before stored");
                }
                let state = status.state;
                if let Some(of) = self.assigned.get_mut(&id)
                    && of.status.state <= state
                {
                    of.status = status;
                }
                let after = self.dice.millis(50);
                let input = Input::Reported { task: id, state };
                self.later(after, Event::FromManager(self.link, input));
            }
            Output::Perform(id, op) => {
                if op == Op::Start {
                    assert_eq!(self.stored[&id].status.state, TaskState::Starting);
                }
                let (after, outcome) = self.outcome(op);
                self.serial += 1;
                let number = self.serial;
                let before = self.ops.insert(id.clone(), Running { op, number });
                assert!(before.is_none(), "two operations of {id}");
                let life = self.life;
                self.later(after, Event::End { life, task: id, number, outcome });
            }
            Output::Cancel(id) => {
                let number = self.ops[&id].number;
                let (life, after) = (self.life, self.dice.millis(1000));
                let outcome = Outcome::Cancelled;
                self.later(after, Event::End { life, task: id, number, outcome });
            }
            Output::Renew => {
                assert!(self.registered, "a renewal without a known role");
                let after = self.dice.millis(2000);
                let signed = !self.dice.percent(40);
                self.later(after, Event::Authority { life: self.life, signed });
            }
            Output::Rejoin => panic!("no certificate was refused"),
            Output::Left => panic!("nobody asked the node to leave"),
        }
    }

    /// When and how an operation ends.
    fn outcome(&mut self, op: Op) -> (Duration, Outcome) {
        let after = self.dice.millis(2000);
        let (temporary, fatal) = match op {
            Op::Resolve => (0, 3),
            Op::Prepare => (20, 5),
            Op::Start => (10, 5),
            Op::Wait => {
                let after = if self.dice.percent(30) { after * 10 } else { CHAOS * 10 };
                let code = if self.dice.percent(50) {
                    Outcome::Done
                } else {
                    Outcome::Fatal("task: non-zero exit (1)".into())
                };
                return (after, code);
            }
            Op::Shutdown => (10, 3),
            Op::Remove => (15, 3),
        };
        let cast = self.dice.below(100);
        let outcome = if cast < temporary {
            Outcome::Temporary("try again".into())
        } else if cast < temporary + fatal {
            Outcome::Fatal("broken".into())
        } else if self.chaos() && cast == 99 {
            Outcome::Cancelled
        } else {
            Outcome::Done
        };
        (after, outcome)
    }

    fn loss(&mut self) -> LinkLoss {
        match self.dice.below(5) {
            0 => LinkLoss::Unreachable("refused".into()),
            1 => LinkLoss::RateLimited,
            2 => LinkLoss::SessionInvalid,
            3 => LinkLoss::NoLeader("election".into()),
            _ => LinkLoss::Broken("reset".into()),
        }
    }

    fn fate(&mut self) {
        match self.dice.below(12) {
            0..=3 => self.assign(),
            4..=6 => self.advance_desired(),
            7 => self.reap(),
            8 if self.chaos() => self.restart(),
            9 if self.chaos() => {
                // The leader changed, or the link broke: sessions live in its memory.
                if self.dice.percent(50) {
                    self.session = None;
                }
                let loss = self.loss();
                self.happen(Event::FromManager(self.link, Input::LinkLost(loss)));
            }
            10 => self.give(Input::Described),
            _ => self.give(Input::Timeout),
        }
    }

    fn assign(&mut self) {
        if self.assigned.len() >= 12 {
            return;
        }
        self.born += 1;
        let id = nouns::id(&format!("task{}", self.born));
        let desired = if self.dice.percent(40) { TaskState::Ready } else { TaskState::Running };
        let secretive = self.dice.percent(30);
        let status = TaskStatus { state: TaskState::Assigned, ..TaskStatus::default() };
        self.assigned.insert(id.clone(), Assigned { desired, status, secretive });
        self.tell(&id);
    }

    fn advance_desired(&mut self) {
        let Some(id) = self.any() else { return };
        let of = self.assigned.get_mut(&id).unwrap();
        of.desired = if of.desired == TaskState::Ready {
            TaskState::Running
        } else if of.desired == TaskState::Running {
            TaskState::Shutdown
        } else {
            TaskState::Remove
        };
        self.tell(&id);
    }

    /// Deletes a finished task, as the task reaper does, and sometimes assigns it anew at once.
    fn reap(&mut self) {
        let Some(id) = self.any() else { return };
        if self.assigned[&id].status.state.is_terminal() {
            self.assigned.remove(&id);
            self.publish(vec![Change::RemoveTask(id)]);
        }
    }

    fn any(&mut self) -> Option<TaskId> {
        let count = u64::try_from(self.assigned.len()).unwrap();
        if count == 0 {
            return None;
        }
        let at = usize::try_from(self.dice.below(count)).unwrap();
        self.assigned.keys().nth(at).cloned()
    }

    fn tell(&mut self, id: &TaskId) {
        let change = change(id, &self.assigned[id]);
        self.publish(vec![change]);
    }

    /// Sends an incremental set, unless it is lost, doubled or overtaken on the way.
    fn publish(&mut self, changes: Vec<Change>) {
        let Some(before) = self.watched else { return };
        self.version += 1;
        self.watched = Some(self.version);
        let set = nouns::incremental(&before.to_string(), &self.version.to_string(), changes);
        let fault = if self.chaos() { self.dice.below(100) } else { 100 };
        match fault {
            0..5 => {}
            5..10 => {
                self.send(set.clone());
                self.send(set);
            }
            10..15 => self.held = Some(set),
            _ => {
                self.send(set);
                if let Some(held) = self.held.take() {
                    self.send(held);
                }
            }
        }
    }

    fn send(&mut self, set: AssignmentSet) {
        // A stream keeps its order.
        let event = Event::FromManager(self.link, Input::Assignments(set));
        self.later(Duration::from_millis(20), event);
    }

    /// The agent's process dies and starts again; containers live on.
    fn restart(&mut self) {
        self.unlink();
        self.ops.clear();
        self.highest.clear();
        self.life += 1;
        let start = Start {
            records: self.stored.values().cloned().collect(),
            managers: self.managers.clone(),
            seeds: vec!["seed:2377".into()],
            seed: self.serial,
            validity: Some(validity(self.now().wall.seconds())),
            ..Start::default()
        };
        self.agent = Agent::new(start, self.now());
        self.drain();
    }

    /// After a calm time manager and node agree, and every task is where it should be.
    fn check_rest(&self) {
        assert!(self.registered, "registered in the end");
        let here: BTreeMap<&TaskId, TaskState> =
            self.agent.records().map(|r| (&r.task.id, r.status.state)).collect();
        let there: Vec<&TaskId> = self.assigned.keys().collect();
        assert_eq!(here.keys().copied().collect::<Vec<_>>(), there, "the same tasks");
        for (id, of) in &self.assigned {
            let state = here[id];
            assert_eq!(state, of.status.state, "{id}: everything was reported");
            let stops = TaskState::Shutdown <= of.desired;
            let rests = state.is_terminal() || !stops && state == of.desired;
            assert!(rests, "{id} rests in {state:?}, desired {:?}", of.desired);
        }
        for id in self.stored.keys() {
            assert!(self.assigned.contains_key(id), "{id} was forgotten on disk");
        }
    }
}

fn change(id: &TaskId, of: &Assigned) -> Change {
    let make = if of.secretive { nouns::secretive } else { nouns::task };
    let mut task = make(id.as_str(), of.desired);
    task.status = of.status.clone();
    nouns::update(task)
}

fn validity(from: i64) -> (UnixTime, UnixTime) {
    (UnixTime::from_seconds(from - 60), UnixTime::from_seconds(from + 60))
}
