//! One agent and a clock in milliseconds: what a transcript is written with.

use std::time::{Duration, Instant};

use edgeagent::{
    agent::{Agent, Due, Input, Op, Outcome, Output, Start},
    model::{AssignmentSet, LinkLoss, Now, TaskState, UnixTime},
};

use crate::nouns;

pub(crate) const WALL: i64 = 1_700_000_000;

pub(crate) struct Desk {
    pub(crate) agent: Agent,
    epoch: Instant,
    /// What the start put out.
    pub(crate) first: Vec<Output>,
}

impl Desk {
    /// An agent that knows the manager `m1` only.
    pub(crate) fn new() -> Self {
        Self::start(Start::default())
    }

    pub(crate) fn start(mut start: Start) -> Self {
        if start.managers.is_empty() && start.seeds.is_empty() {
            start.managers = vec![nouns::peer("m1")];
        }
        #[expect(clippy::disallowed_methods, reason = "an origin; only differences count")]
        let epoch = Instant::now();
        let agent = Agent::new(start, now(epoch, 0));
        let mut desk = Self { agent, epoch, first: vec![] };
        desk.first = desk.drain();
        desk
    }

    /// Gives one input at this time and returns everything that it makes.
    pub(crate) fn at(&mut self, ms: u64, input: Input) -> Vec<Output> {
        self.agent.handle(input, now(self.epoch, ms));
        self.drain()
    }

    /// Registered at `ms` by `m1` with session `s1`.
    pub(crate) fn registered(mut self, ms: u64) -> Self {
        self.at(ms, Input::Session(nouns::session("s1", &["m1"], Some(nouns::node()))));
        self.at(ms, Input::HeartbeatAck { period: Duration::from_secs(500) });
        self
    }

    pub(crate) fn assign(&mut self, ms: u64, set: AssignmentSet) -> Vec<Output> {
        self.at(ms, Input::Assignments(set))
    }

    pub(crate) fn settle(&mut self, ms: u64, task: &str, op: Op, how: Outcome) -> Vec<Output> {
        let settlement = nouns::settlement(how);
        self.at(ms, Input::Settled { task: nouns::id(task), op, settlement })
    }

    pub(crate) fn done(&mut self, ms: u64, task: &str, op: Op) -> Vec<Output> {
        self.settle(ms, task, op, Outcome::Done)
    }

    pub(crate) fn reported(&mut self, ms: u64, task: &str, state: TaskState) -> Vec<Output> {
        self.at(ms, Input::Reported { task: nouns::id(task), state })
    }

    pub(crate) fn lost(&mut self, ms: u64, loss: LinkLoss) -> Vec<Output> {
        self.at(ms, Input::LinkLost(loss))
    }

    pub(crate) fn timeout(&mut self, ms: u64) -> Vec<Output> {
        self.at(ms, Input::Timeout)
    }

    /// The deadline in milliseconds, and why.
    pub(crate) fn deadline(&self) -> (u64, Due) {
        let (at, due) = self.agent.deadline().unwrap();
        (u64::try_from((at - self.epoch).as_millis()).unwrap(), due)
    }

    pub(crate) fn state(&self, task: &str) -> TaskState {
        self.agent.record(&nouns::id(task)).unwrap().status.state
    }

    fn drain(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.agent.poll()).collect()
    }
}

fn now(epoch: Instant, ms: u64) -> Now {
    let nanos = WALL * 1_000_000_000 + i64::try_from(ms).unwrap() * 1_000_000;
    Now { mono: epoch + Duration::from_millis(ms), wall: UnixTime::from_nanos(nanos) }
}

/// One word per output, so that a transcript reads as one.
pub(crate) fn told(outputs: &[Output]) -> Vec<String> {
    outputs
        .iter()
        .filter(|output| !matches!(output, Output::Lost(_)))
        .map(|output| match output {
            Output::Persist(record) => {
                format!("persist {} {}", record.task.id, record.status.state.name())
            }
            Output::Erase(id) => format!("erase {id}"),
            Output::Managers(list) => format!("managers {}", list.len()),
            Output::Connect { peer, session: None } => format!("connect {}", peer.addr),
            Output::Connect { peer, session: Some(id) } => {
                format!("connect {} {id}", peer.addr)
            }
            Output::Lost(loss) => loss.to_string(),
            Output::Rejoin => "rejoin".into(),
            Output::Close => "close".into(),
            Output::Heartbeat => "heartbeat".into(),
            Output::Watch => "watch".into(),
            Output::Report(id, status) => format!("report {id} {}", status.state.name()),
            Output::Perform(id, op) => format!("{op:?} {id}").to_lowercase(),
            Output::Cancel(id) => format!("cancel {id}"),
            Output::Renew => "renew".into(),
            Output::Left => "left".into(),
        })
        .collect()
}
