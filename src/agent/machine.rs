//! The agent: hands each input to the part that it concerns, and what comes of it to the next.
//!
//! Within a turn the direction is always session, assignments, task, reporter; no part calls
//! another.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use crate::{
    limits::TASKS_MAX,
    model::{
        AssignmentSet, Config, ConfigId, LinkLoss, Now, Peer, Secret, SecretBytes, SecretId,
        SessionMessage, Task, TaskId, TaskRecord, TaskState, TaskStatus, UnixTime,
    },
};

use super::{
    Input, Op, Output, SessionView, Settlement,
    assignments::Chain,
    expiry::{Expiry, Standing},
    files::Files,
    memory::Memory,
    random::Random,
    remotes::Remotes,
    renewal::Renewal,
    reporter::Reporter,
    session::{Arrival, Elapsed, Session},
    task::{After, Tracked},
};

/// What the agent knows when it starts.
#[derive(Debug, Default)]
pub struct Start {
    /// Every stored task.
    pub records: Vec<TaskRecord>,
    /// Managers learned in earlier sessions.
    pub managers: Vec<Peer>,
    /// `host:port` of the managers that the operator named: the fallback for ever.
    pub seeds: Vec<String>,
    /// For jitter and choices; different on each node and start.
    pub seed: u64,
    /// Validity of the certificate in use.
    pub validity: Option<(UnixTime, UnixTime)>,
    /// There is a join token for the day on which the certificate has expired.
    pub token: bool,
    /// When the node last joined anew on its own account, or [`crate::model::Identity::NEVER`].
    pub rejoined: Option<UnixTime>,
    /// A time that is surely past.
    pub time_floor: UnixTime,
    /// Tasks of a node that an operator removed go on.
    pub keep_when_removed: bool,
}

/// Why the agent wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// The pause before the next link is over.
    Connect,
    /// The first session message is late.
    Registration,
    /// A heartbeat is to be sent.
    Heartbeat,
    /// The answer to a heartbeat is late.
    HeartbeatAnswer,
    /// The assignments stream is to be opened anew after a gap.
    Watch,
    /// A failed operation is to be tried again.
    Operation,
    /// The node is to join anew.
    Rejoin,
    /// A changed list of managers is to be stored.
    Store,
    /// The certificate is to be renewed, or the wall clock to be asked whether it is.
    Renewal,
}

/// The core of a worker; see the module for how to drive it.
#[derive(Debug)]
pub struct Agent {
    session: Session,
    remotes: Remotes,
    memory: Memory,
    renewal: Renewal,
    expiry: Expiry,
    keep_when_removed: bool,
    chain: Chain,
    files: Files,
    /// A complete set came since the start: secrets and configs are known.
    files_known: bool,
    /// At most [`TASKS_MAX`].
    tasks: BTreeMap<TaskId, Tracked>,
    reporter: Reporter,
    leaving: Leaving,
    random: Random,
    /// Drained after every input. One input makes at most a few outputs per task, so tasks bound
    /// it; no fixed size fits both 1 and 512 of them.
    out: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    Stopping,
    Left,
}

impl Agent {
    /// Continues every stored task and connects at once: there are outputs to drain.
    #[must_use]
    pub fn new(start: Start, now: Now) -> Self {
        let mut random = Random::new(start.seed);
        let records = start.records.into_iter();
        let tasks =
            records.map(|record| (record.task.id.clone(), Tracked::stored(record))).collect();
        let renewal = Renewal::new(start.validity, &mut random, now);
        let mut agent = Self {
            session: Session::new(now.mono),
            memory: Memory::new(start.managers.clone(), now.mono),
            remotes: Remotes::new(start.managers, start.seeds),
            renewal,
            expiry: Expiry::new(
                start.validity,
                start.token,
                start.rejoined,
                start.time_floor,
                now.mono,
            ),
            keep_when_removed: start.keep_when_removed,
            chain: Chain::default(),
            files: Files::default(),
            files_known: false,
            tasks,
            reporter: Reporter::default(),
            leaving: Leaving::No,
            random,
            out: VecDeque::new(),
        };
        agent.advance_all(now);
        agent.do_what_is_due(now);
        agent
    }

    /// Takes one input, and does whatever has become due. Drain [`Self::poll`] afterwards.
    ///
    /// After [`Output::Close`], or an [`Output::Connect`], nothing of the link before may come in
    /// any more.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Timeout => {}
            Input::Session(message) => self.session_message(message, now),
            Input::HeartbeatAck { period } => self.session.answered(period, now.mono),
            Input::Assignments(set) => self.assignments(set, now),
            Input::Reported { task, state } => {
                if let Some(status) = self.reporter.taken(&task, state) {
                    self.out.push_back(Output::Report(task, status));
                }
            }
            Input::LinkLost(loss) => self.lost(loss, now),
            Input::Settled { task, op, settlement } => self.settled(&task, op, settlement, now),
            Input::Described => {
                self.session.describe();
                self.reconnect_if_outdated(now);
            }
            Input::Certificate { not_before, not_after } => {
                self.renewal.certified(not_before, not_after, &mut self.random, now);
                self.expiry.certified(not_before, not_after);
            }
            Input::Rejoined { at, not_before, not_after } => {
                self.renewal.certified(not_before, not_after, &mut self.random, now);
                self.expiry.certified(not_before, not_after);
                self.expiry.rejoined(at, now);
                if self.session.renamed(now.mono) {
                    self.out.push_back(Output::Close);
                }
                self.offline();
            }
            Input::RejoinFailed { rejoined } => {
                self.expiry.failed(rejoined, &mut self.random, now);
            }
            Input::Token(present) => self.expiry.token(present),
            Input::RenewalFailed => self.renewal.failed(&mut self.random, now),
            Input::Leave => self.leave(now),
        }
        self.do_what_is_due(now);
    }

    /// The next thing to do; absent when everything is drained.
    #[must_use]
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to call [`Self::handle`] with [`Input::Timeout`] at the latest, and why. Always after
    /// the last `now`.
    #[must_use]
    pub fn deadline(&self) -> Option<(Instant, Due)> {
        if self.leaving == Leaving::Left {
            return None;
        }
        let tasks = self.tasks.values().filter_map(|task| task.deadline());
        let tasks = tasks.map(|at| (at, Due::Operation)).min();
        let watch = self.chain.deadline().map(|at| (at, Due::Watch));
        let renewal = self.renewal.deadline().map(|at| (at, Due::Renewal));
        let rejoin = self.expiry.deadline().map(|at| (at, Due::Rejoin));
        let store = self.memory.deadline().map(|at| (at, Due::Store));
        [self.session.deadline(), watch, tasks, renewal, rejoin, store].into_iter().flatten().min()
    }

    /// A task of this node.
    #[must_use]
    pub fn record(&self, task: &TaskId) -> Option<&TaskRecord> {
        self.tasks.get(task).map(Tracked::record)
    }

    /// Every task of this node, by identifier; those that ended elsewhere included.
    pub fn records(&self) -> impl Iterator<Item = &TaskRecord> {
        self.tasks.values().map(Tracked::record)
    }

    /// The secret that `task` refers to by `id`: one made for this task alone, else the common
    /// one. Absent as well when the task does not refer to it.
    #[must_use]
    pub fn secret(&self, task: &TaskId, id: &SecretId) -> Option<&Secret> {
        self.files.secret(&self.record(task)?.task, id)
    }

    /// The config that `task` refers to by `id`.
    #[must_use]
    pub fn config(&self, task: &TaskId, id: &ConfigId) -> Option<&Config> {
        self.files.config(&self.record(task)?.task, id)
    }

    /// The content of each secret that a task which is to run here refers to as `name`: its name at the
    /// managers, or the name of its file.
    pub fn secrets_called(&self, name: &str) -> impl Iterator<Item = &SecretBytes> {
        let wanted = |task: &&Tracked| task.record().task.desired_state <= TaskState::Running;
        self.tasks.values().filter(wanted).flat_map(move |tracked| {
            self.files.secrets_called(&tracked.record().task, name).filter_map(|s| s.data.as_ref())
        })
    }

    /// How the certificate stands with the managers.
    #[must_use]
    pub fn standing(&self, now: Now) -> Standing {
        self.expiry.standing(now)
    }

    /// How the node stands with its managers.
    #[must_use]
    pub fn session(&self) -> SessionView<'_> {
        self.session.view()
    }

    fn session_message(&mut self, message: SessionMessage, now: Now) {
        let SessionMessage { session_id, node, managers, root_ca: _ } = message;
        let arrival = self.session.message(&session_id, node.clone(), now.mono);
        if arrival == Arrival::Stale {
            return;
        }
        if let Some(list) = self.remotes.learn(&managers) {
            self.memory.want(list);
        }
        // Before anything that a power cut could interrupt.
        self.remember(now);
        if let Some(node) = node {
            self.renewal.told(&node, now);
        }
        if arrival == Arrival::Registered {
            self.registered(now);
        }
    }

    fn remember(&mut self, now: Now) {
        if let Some(list) = self.memory.due(now.mono) {
            self.out.push_back(Output::Managers(list));
        }
    }

    fn registered(&mut self, now: Now) {
        if let Some(peer) = self.session.manager() {
            self.remotes.observe(&peer.clone(), true);
        }
        self.expiry.accepted();
        if self.reconnect_if_outdated(now) {
            return;
        }
        self.chain.reset();
        self.reporter.open();
        self.out.push_back(Output::Heartbeat);
        self.out.push_back(Output::Watch);
        let statuses: Vec<Output> = self.tasks.values().filter_map(Tracked::report).collect();
        self.emit(statuses);
    }

    /// Closes the link and registers again, in the same session, to tell a changed description.
    fn reconnect_if_outdated(&mut self, now: Now) -> bool {
        let Some(peer) = self.session.outdated() else { return false };
        self.out.push_back(Output::Close);
        self.offline();
        self.connect(peer, now);
        true
    }

    fn connect(&mut self, peer: Peer, now: Now) {
        let session = self.session.connecting(peer.clone(), now.mono);
        self.out.push_back(Output::Connect { peer, session });
    }

    fn lost(&mut self, loss: LinkLoss, now: Now) {
        log::debug!("link lost; {loss}");
        let Some(lost) = self.session.lost(loss.clone(), &mut self.random, now.mono) else {
            return;
        };
        if let LinkLoss::Refused(_) = &loss
            && self.leaving == Leaving::No
        {
            self.expiry.refused(&mut self.random, now);
        }
        self.out.push_back(Output::Lost(loss));
        if lost.blame {
            self.remotes.observe(&lost.peer, false);
        }
        // Other streams of the link may still be open.
        self.out.push_back(Output::Close);
        self.offline();
        if lost.removed {
            self.expiry.removed();
            if self.keep_when_removed {
                log::warn!("this node was removed from the swarm: its tasks go on as configured");
            } else {
                log::warn!("this node was removed from the swarm: its tasks are being removed");
                self.remove_all(now);
            }
        }
    }

    fn offline(&mut self) {
        self.chain.reset();
        self.reporter.close();
        self.renewal.offline();
    }

    fn assignments(&mut self, set: AssignmentSet, now: Now) {
        if !self.session.is_ready() {
            return;
        }
        let Some(mut diff) = self.chain.follow(set, &mut self.random, now.mono) else { return };
        self.files.apply(&mut diff);
        let complete = diff.complete;
        self.files_known |= complete;
        let gone: Vec<TaskId> = if complete {
            self.tasks.keys().filter(|id| !diff.names(id)).cloned().collect()
        } else {
            diff.removed_tasks.into_iter().collect()
        };
        for id in gone {
            self.remove(&id, now);
        }
        // A complete set names every task that is left, so those that waited for their secrets
        // and configs go on here.
        for task in diff.tasks.into_values() {
            self.assign(task, now);
        }
        for (id, why) in diff.refused_tasks {
            if !self.tasks.contains_key(&id) {
                self.refuse(&id, why, now);
            }
        }
    }

    fn assign(&mut self, task: Task, now: Now) {
        let id = task.id.clone();
        if let Some(tracked) = self.tasks.get_mut(&id) {
            tracked.update(task);
        } else if self.tasks.len() < TASKS_MAX || self.make_room(&task, now) {
            self.tasks.insert(id.clone(), Tracked::assigned(task));
        } else if task.status.state.is_terminal() {
            log::debug!("no room for a finished task; task.id={id}");
        } else {
            let why = format!("this node holds {TASKS_MAX} tasks and takes no more");
            self.refuse(&id, why, now);
        }
        self.advance(&id, now);
    }

    /// Removes the task that has been over for longest, for one that is not over. Managers keep
    /// finished tasks as history, five for each that runs.
    fn make_room(&mut self, task: &Task, now: Now) -> bool {
        if task.status.state.is_terminal() {
            return false;
        }
        let over = self.tasks.values().filter(|tracked| tracked.is_over());
        let oldest = over.map(Tracked::record).min_by_key(|record| record.status.at);
        let Some(id) = oldest.map(|record| record.task.id.clone()) else { return false };
        log::debug!("a finished task makes room; task.id={id}");
        self.remove(&id, now);
        true
    }

    /// This node can not take the task: it is told so and forgotten. Should the report be lost,
    /// the next complete set brings it again.
    fn refuse(&mut self, id: &TaskId, why: String, now: Now) {
        log::warn!("task refused; task.id={id}: {why}");
        if 2 * TASKS_MAX <= self.reporter.len() {
            return;
        }
        let status = TaskStatus {
            at: now.wall,
            state: TaskState::Rejected,
            message: "resolving controller failed".to_owned(),
            err: why,
            container: None,
            ports: Vec::new(),
        };
        self.emit(vec![Output::Report(id.clone(), status)]);
    }

    fn remove(&mut self, id: &TaskId, now: Now) {
        if let Some(tracked) = self.tasks.get_mut(id) {
            tracked.remove();
            self.reporter.forget(id);
            self.advance(id, now);
        }
    }

    fn remove_all(&mut self, now: Now) {
        let all: Vec<TaskId> = self.tasks.keys().cloned().collect();
        for id in all {
            self.remove(&id, now);
        }
    }

    fn settled(&mut self, id: &TaskId, op: Op, settlement: Settlement, now: Now) {
        let Some(tracked) = self.tasks.get_mut(id) else { return };
        let mut effects = Vec::new();
        let after = tracked.settled(op, settlement, &mut self.random, now, &mut effects);
        self.emit(effects);
        match after {
            After::Kept => self.advance(id, now),
            After::Gone { again } => {
                self.tasks.remove(id);
                self.files.forget(id);
                self.out.push_back(Output::Erase(id.clone()));
                if let Some(task) = again {
                    self.assign(*task, now);
                }
                self.leave_when_empty();
            }
        }
    }

    fn leave(&mut self, now: Now) {
        if self.leaving != Leaving::No {
            return;
        }
        self.leaving = Leaving::Stopping;
        if self.session.leave() {
            self.out.push_back(Output::Close);
        }
        self.offline();
        self.remove_all(now);
        self.leave_when_empty();
    }

    fn leave_when_empty(&mut self) {
        if self.leaving == Leaving::Stopping && self.tasks.is_empty() {
            self.leaving = Leaving::Left;
            self.out.push_back(Output::Left);
        }
    }

    fn advance_all(&mut self, now: Now) {
        let all: Vec<TaskId> = self.tasks.keys().cloned().collect();
        for id in all {
            self.advance(&id, now);
        }
    }

    fn advance(&mut self, id: &TaskId, now: Now) {
        let mut effects = Vec::new();
        if let Some(tracked) = self.tasks.get_mut(id) {
            tracked.advance(self.files_known, now, &mut effects);
        }
        self.emit(effects);
    }

    /// Passes on what a task wants done; its statuses take their turn with the reporter.
    fn emit(&mut self, effects: Vec<Output>) {
        for effect in effects {
            if let Output::Report(task, status) = effect {
                if let Some(status) = self.reporter.offer(&task, status) {
                    self.out.push_back(Output::Report(task, status));
                }
            } else {
                self.out.push_back(effect);
            }
        }
    }

    /// Leaves no deadline that has passed.
    fn do_what_is_due(&mut self, now: Now) {
        while let Some(elapsed) = self.session.elapsed(now.mono) {
            match elapsed {
                Elapsed::Beat => self.out.push_back(Output::Heartbeat),
                Elapsed::Dead(loss) => self.lost(loss, now),
                Elapsed::Connect => match self.remotes.choose(&mut self.random) {
                    Some(peer) => self.connect(peer, now),
                    None => self.session.nobody(&mut self.random, now.mono),
                },
            }
        }
        if self.chain.is_due(now.mono) {
            self.out.push_back(Output::Watch);
        }
        let late: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.deadline().is_some_and(|at| at <= now.mono))
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            self.advance(&id, now);
        }
        self.remember(now);
        if self.renewal.is_due(now) {
            self.out.push_back(Output::Renew);
        }
        if self.leaving == Leaving::No && self.expiry.is_due(now) {
            self.out.push_back(Output::Rejoin);
        }
    }
}
