//! One task's life: what to do next, and what an operation's end means.
//!
//! [`decide`] and [`settle`] are total and know nothing but states; style.md §3.2 gives the rules
//! and `tests/task_table.rs` every pair. A terminal task rests for ever: swarm's managers replace
//! tasks, nobody here restarts one. Source: swarmkit `agent/exec/controller.go`, `agent/task.go`;
//! behaviour.md §9.

use std::{mem, time::Instant};

use crate::{
    limits::{OPERATION_RETRY, TASK_ERR_MAX_BYTES},
    model::{Now, Runtime, Task, TaskRecord, TaskState, TaskStatus},
};

use super::{Op, Outcome, Output, Settlement, random::Random};

/// What to do next with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Go to this state at once, with this message.
    Become(TaskState, &'static str),
    /// Begin this operation.
    Run(Op),
}

/// Returns what to do next with a task in `state` that should come to `desired`.
#[must_use]
pub fn decide(state: TaskState, desired: TaskState) -> Step {
    if TaskState::Shutdown <= desired {
        return if state.is_terminal() { Step::Rest } else { Step::Run(Op::Shutdown) };
    }
    if desired < state {
        return Step::Rest;
    }
    match state {
        // These go on even when the state they lead to is not desired yet.
        TaskState::Preparing => Step::Run(Op::Prepare),
        TaskState::Starting => Step::Run(Op::Start),
        TaskState::Running => Step::Run(Op::Wait),
        // The others wait until it is.
        TaskState::New | TaskState::Pending | TaskState::Assigned if state < desired => {
            Step::Run(Op::Resolve)
        }
        TaskState::Accepted if state < desired => Step::Become(TaskState::Preparing, "preparing"),
        TaskState::Ready if state < desired => Step::Become(TaskState::Starting, "starting"),
        TaskState::New
        | TaskState::Pending
        | TaskState::Assigned
        | TaskState::Accepted
        | TaskState::Ready
        | TaskState::Complete
        | TaskState::Shutdown
        | TaskState::Failed
        | TaskState::Rejected
        | TaskState::Remove
        | TaskState::Orphaned => Step::Rest,
    }
}

/// What an operation's end means for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The state from here on; never below the one before.
    pub state: TaskState,
    /// The new message; absent: unchanged.
    pub message: Option<&'static str>,
    /// The new error text; absent: unchanged.
    pub err: Option<String>,
    /// Wait before the same operation is begun again.
    pub pause: bool,
}

/// Returns what it means that `op` ended with `outcome` for a task in `state`.
///
/// A terminal state is kept whatever happens.
#[must_use]
pub fn settle(state: TaskState, op: Op, outcome: &Outcome) -> Verdict {
    let keep = Verdict { state, message: None, err: None, pause: false };
    match outcome {
        Outcome::Done => {
            let (reached, message) = match op {
                Op::Resolve => (TaskState::Accepted, "accepted"),
                Op::Prepare => (TaskState::Ready, "prepared"),
                Op::Start => (TaskState::Running, "started"),
                Op::Wait => (TaskState::Complete, "finished"),
                Op::Shutdown => (TaskState::Shutdown, "shutdown"),
                Op::Remove => return keep,
            };
            if reached <= state || state.is_terminal() {
                return keep;
            }
            let err = Some(String::new());
            Verdict { state: reached, message: Some(message), err, pause: false }
        }
        Outcome::Cancelled => keep,
        Outcome::Temporary(text) => Verdict { err: Some(text.clone()), pause: true, ..keep },
        Outcome::Fatal(_) if op == Op::Remove || state.is_terminal() => keep,
        Outcome::Fatal(text) => {
            let early = state < TaskState::Starting;
            Verdict {
                state: if early { TaskState::Rejected } else { TaskState::Failed },
                message: (op == Op::Resolve).then_some("resolving controller failed"),
                err: Some(text.clone()),
                pause: false,
            }
        }
    }
}

/// A task of this node and what is being done with it.
#[derive(Debug)]
pub(super) struct Tracked {
    record: TaskRecord,
    activity: Activity,
    removal: Removal,
    /// The state in the durable record, if there is one.
    stored: Option<TaskState>,
    /// It ended before it came to us: there is nothing of it here, nor anything to report.
    history: bool,
}

#[derive(Clone, Copy, Debug)]
enum Activity {
    Idle,
    Busy { op: Op, cancelled: bool },
    Pausing { op: Op, until: Instant },
}

#[derive(Debug)]
enum Removal {
    No,
    /// Everything of it goes. A manager may assign the same identifier meanwhile.
    Yes {
        again: Option<Box<Task>>,
    },
}

/// What became of a task when an operation had ended.
#[derive(Debug)]
pub(super) enum After {
    /// It is still here.
    Kept,
    /// Every trace of it is gone. It may have been assigned again.
    Gone { again: Option<Box<Task>> },
}

impl Tracked {
    /// A task that was stored before the agent started.
    pub(super) const fn stored(record: TaskRecord) -> Self {
        let stored = Some(record.status.state);
        Self { record, activity: Activity::Idle, removal: Removal::No, stored, history: false }
    }

    /// A task without a local record: the status that the manager sent is where it begins.
    pub(super) fn assigned(mut task: Task) -> Self {
        let status = mem::take(&mut task.status);
        let history = status.state.is_terminal();
        let record = TaskRecord { task, status };
        Self { record, activity: Activity::Idle, removal: Removal::No, stored: None, history }
    }

    pub(super) const fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// What the managers should know of it, if anything.
    pub(super) fn report(&self) -> Option<Output> {
        let worth = match self.removal {
            Removal::No => !self.history && TaskState::Accepted <= self.record.status.state,
            Removal::Yes { .. } => false,
        };
        worth.then(|| {
            let mut status = self.record.status.clone();
            // As dockerd does, although the identifier is known a little earlier (swarmkit
            // `agent/exec/controller.go`, `Do`).
            if status.state < TaskState::Starting {
                status.container = None;
            }
            Output::Report(self.record.task.id.clone(), status)
        })
    }

    /// Whether it has ended, and nothing is left to do for it.
    pub(super) fn is_over(&self) -> bool {
        let staying = matches!(self.removal, Removal::No);
        staying && self.record.status.state.is_terminal() && self.step() == Step::Rest
    }

    /// When a failed operation is tried again.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.activity {
            Activity::Pausing { until, .. } => Some(until),
            Activity::Idle | Activity::Busy { .. } => None,
        }
    }

    /// A manager sent the task again, perhaps changed.
    pub(super) fn update(&mut self, mut task: Task) {
        match &mut self.removal {
            Removal::Yes { again } => *again = Some(Box::new(task)),
            Removal::No => {
                // Ours counts, not what the manager last heard of it.
                mem::take(&mut task.status);
                if task.desired_state < self.record.task.desired_state {
                    log::debug!("lowered desired state ignored; task.id={}", task.id);
                } else {
                    self.record.task = task;
                }
            }
        }
    }

    /// Everything of it is to go.
    pub(super) fn remove(&mut self) {
        self.removal = Removal::Yes { again: None };
    }

    /// Does what there is to do, at most up to the next operation.
    ///
    /// `files_known`: the secrets and configs of this node were told at least once.
    pub(super) fn advance(&mut self, files_known: bool, now: Now, out: &mut Vec<Output>) {
        loop {
            let step = self.step();
            match &mut self.activity {
                Activity::Busy { op, cancelled } => {
                    let superseded = match step {
                        Step::Run(next @ (Op::Shutdown | Op::Remove)) => *op != next,
                        Step::Run(Op::Resolve | Op::Prepare | Op::Start | Op::Wait)
                        | Step::Become(..)
                        | Step::Rest => false,
                    };
                    if superseded && !*cancelled {
                        *cancelled = true;
                        out.push(Output::Cancel(self.record.task.id.clone()));
                    }
                    return;
                }
                Activity::Pausing { op, until } => {
                    if step == Step::Run(*op) && now.mono < *until {
                        return;
                    }
                    self.activity = Activity::Idle;
                }
                Activity::Idle => match step {
                    Step::Rest => return,
                    Step::Become(state, message) => {
                        let (message, err) = (Some(message), Some(String::new()));
                        self.change(Verdict { state, message, err, pause: false }, now, out);
                    }
                    Step::Run(op) => {
                        let gated = matches!(op, Op::Prepare | Op::Start);
                        if gated && !files_known && refers_to_files(&self.record.task) {
                            return;
                        }
                        if op == Op::Start && self.stored != Some(TaskState::Starting) {
                            self.persist(out);
                        }
                        self.activity = Activity::Busy { op, cancelled: false };
                        out.push(Output::Perform(self.record.task.id.clone(), op));
                        return;
                    }
                },
            }
        }
    }

    /// The operation under way has ended.
    pub(super) fn settled(
        &mut self,
        op: Op,
        settlement: Settlement,
        random: &mut Random,
        now: Now,
        out: &mut Vec<Output>,
    ) -> After {
        let Activity::Busy { op: running, cancelled } = self.activity else {
            log::debug!("nothing was under way; task.id={} op={op:?}", self.record.task.id);
            return After::Kept;
        };
        if running != op {
            log::debug!("another was under way; task.id={} op={op:?}", self.record.task.id);
            return After::Kept;
        }
        self.activity = Activity::Idle;
        let mut pause = settlement.outcome == Outcome::Cancelled && !cancelled;
        match &mut self.removal {
            Removal::Yes { again } if op == Op::Remove => match settlement.outcome {
                Outcome::Done => return After::Gone { again: again.take() },
                Outcome::Fatal(why) => {
                    log::warn!("task left traces; task.id={} {why}", self.record.task.id);
                    return After::Gone { again: again.take() };
                }
                Outcome::Temporary(_) => pause = true,
                Outcome::Cancelled => {}
            },
            // Nobody wants to know any more.
            Removal::Yes { .. } => {}
            Removal::No => {
                let verdict = settle(self.record.status.state, op, &settlement.outcome);
                pause |= verdict.pause;
                self.apply(verdict, op, settlement, now, out);
            }
        }
        if pause {
            let until = now.mono + OPERATION_RETRY + random.within(OPERATION_RETRY / 2);
            self.activity = Activity::Pausing { op, until };
        }
        After::Kept
    }

    fn step(&self) -> Step {
        match self.removal {
            Removal::Yes { .. } => Step::Run(Op::Remove),
            Removal::No => decide(self.record.status.state, self.record.task.desired_state),
        }
    }

    fn apply(
        &mut self,
        mut verdict: Verdict,
        op: Op,
        settlement: Settlement,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let before = self.record.status.clone();
        let told = match op {
            Op::Prepare => settlement.outcome == Outcome::Done,
            Op::Start | Op::Wait | Op::Shutdown => settlement.outcome != Outcome::Cancelled,
            Op::Resolve | Op::Remove => false,
        };
        if told {
            self.record.status.ports = settlement.ports;
            if settlement.container.is_some() {
                self.record.status.container = settlement.container;
            }
        }
        if let Some(err) = &mut verdict.err {
            err.truncate(err.floor_char_boundary(TASK_ERR_MAX_BYTES));
        }
        self.change_from(before, verdict, now, out);
    }

    fn change(&mut self, verdict: Verdict, now: Now, out: &mut Vec<Output>) {
        let before = self.record.status.clone();
        self.change_from(before, verdict, now, out);
    }

    fn change_from(
        &mut self,
        before: TaskStatus,
        verdict: Verdict,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let status = &mut self.record.status;
        debug_assert!(before.state <= verdict.state, "a state never falls");
        status.state = verdict.state;
        if let Some(message) = verdict.message {
            message.clone_into(&mut status.message);
        }
        if let Some(err) = verdict.err {
            status.err = err;
        }
        if *status == before {
            return;
        }
        status.at = now.wall;
        let (id, state) = (&self.record.task.id, status.state);
        log::debug!("task changed; task.id={id} state={}->{}", before.state.name(), state.name());
        if self.stored != Some(state) && is_stored(state) {
            self.persist(out);
        }
        out.extend(self.report());
    }

    fn persist(&mut self, out: &mut Vec<Output>) {
        self.stored = Some(self.record.status.state);
        out.push(Output::Persist(Box::new(self.record.clone())));
    }
}

/// States that are written to flash when they are reached. STARTING follows when the start
/// really begins; what lies between is done again after a restart.
///
/// RUNNING is among them because a task that ran must not run again: after a reboot its container
/// is gone, it has failed, and the managers decide what comes next.
const fn is_stored(state: TaskState) -> bool {
    match state {
        TaskState::Accepted
        | TaskState::Running
        | TaskState::Complete
        | TaskState::Shutdown
        | TaskState::Failed
        | TaskState::Rejected
        | TaskState::Remove
        | TaskState::Orphaned => true,
        TaskState::New
        | TaskState::Pending
        | TaskState::Assigned
        | TaskState::Preparing
        | TaskState::Ready
        | TaskState::Starting => false,
    }
}

fn refers_to_files(task: &Task) -> bool {
    match &task.runtime {
        Runtime::Container(spec) => !spec.secrets.is_empty() || !spec.configs.is_empty(),
        Runtime::Attachment | Runtime::Generic { .. } | Runtime::Unknown => false,
    }
}
