//! A joined node: the loop around the core.
//!
//! One turn: wait for the first of {deadline, link event, settled operation, renewal, question};
//! sample both clocks once; hand the event to the core; do its outputs in order.

mod rejoin;
mod standing;
mod trust;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use rustls::ClientConfig;
use smol::{
    LocalExecutor, Task as Running, Timer,
    channel::{Receiver, Sender},
    future,
};

use self::{
    rejoin::Step,
    standing::Facts,
    trust::{Offer, Trust},
};
use super::{
    NodeState, RunError, attach, clock,
    control::{CertificateReport, Question, Request, Response, StatusReport, TaskReport},
    describe, enrol,
    enrol::JoinError,
    fingerprint,
    perform::{self, Context, Performer, Settled},
    publish::Publisher,
    token::{self, NewToken},
    turns::Turns,
};
use crate::{
    agent::{Agent, Input, Outcome, Output, Start},
    ca::{Issued, PinnedRoot},
    config::Config,
    limits::{DIAL_TIMEOUT, LEAVE_PATIENCE, LINK_EVENTS_MAX, RENEWAL_TIMEOUT},
    model::{
        Availability, Identity, LinkLoss, NodeCertificate, NodeDescription, NodeId, NodeRecord,
        NodeRole, Runtime, TaskId, TaskRecord, TaskState, UnixTime, chain,
    },
    rpc::{self, Channel, Link, LinkEvent, Target},
    seal::{DamagedTask, IdentityStore, LoadedTasks, TaskStore},
    shim,
    spec::NodeFacts,
};

/// How membership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The operator made the node leave; tasks and identity are gone.
    Left,
}

/// The outcome of a renewal.
type Renewal = Result<(NodeCertificate, Issued), JoinError>;

/// What comes of work beside the loop.
enum News {
    Renewed(Renewal),
    Rejoin(Step),
    Root(Offer),
}

/// What the loop waits for.
enum Event {
    Deadline,
    Link(LinkEvent),
    Settled(Box<Settled>),
    News(Box<News>),
    Question(Question),
}

/// A node with a certificate.
pub(super) struct Member<'a> {
    executor: Rc<LocalExecutor<'static>>,
    config: Config,
    identities: &'a IdentityStore,
    tasks: TaskStore,
    identity: Identity,
    node_id: NodeId,
    issued: Issued,
    root: PinnedRoot,
    tls: Arc<ClientConfig>,
    description: NodeDescription,
    agent: Rc<RefCell<Agent>>,
    performer: Performer,
    publisher: Publisher,
    link: Option<(Link, Receiver<LinkEvent>)>,
    settled: Receiver<Box<Settled>>,
    /// At most one of each kind of work is under way.
    news: (Sender<News>, Receiver<News>),
    renewing: Option<Running<()>>,
    rejoining: Option<Running<()>>,
    fetching: Option<Running<()>>,
    /// The manager of the last link.
    dialled: String,
    trust: Trust,
    sweeping: Option<Running<()>>,
    /// Containers without a task are removed once the managers have said what there is.
    swept: bool,
    /// Records that do not open, until then.
    damaged: Vec<DamagedTask>,
    leaving: bool,
    /// Everybody who waits for that: none of them is told that it failed because of another.
    leavers: Vec<Question>,
    /// Since when a task can not be removed while the node leaves.
    stuck: Option<Instant>,
    last_error: Option<String>,
}

impl<'a> Member<'a> {
    /// Sets everything up from the sealed state; touches no network.
    pub(super) fn new(
        executor: Rc<LocalExecutor<'static>>,
        state: &NodeState,
        identities: &'a IdentityStore,
        tasks: TaskStore,
        identity: Identity,
        certificate: &NodeCertificate,
        issued: Issued,
    ) -> Result<Self, RunError> {
        let config = state.config.clone();
        let root = PinnedRoot::unsealed(identity.root_ca.clone());
        let tls = rpc::member(&root, &certificate.chain, &certificate.key, identity.time_floor)
            .map_err(RunError::Tls)?;
        let mut description = describe::describe(&config, &identity.labels, issued.tls_info(&root));
        rejoin::label(&mut description, &identity);
        let LoadedTasks { records, damaged } = tasks.load_all().map_err(RunError::Tasks)?;
        for task in &damaged {
            log::error!(
                "the record {} can not be opened: its task starts anew",
                task.path.display()
            );
        }
        let now = clock();
        let agent = Rc::new(RefCell::new(Agent::new(
            Start {
                records,
                managers: identity.managers.clone(),
                seeds: identity.seeds.clone(),
                seed: seed(),
                validity: Some((issued.not_before, issued.not_after)),
                token: rejoin::token(&identity).is_some(),
                rejoined: identity.rejoined,
                time_floor: identity.time_floor,
                keep_when_removed: config.keep_when_removed,
            },
            now,
        )));
        let (settled_sender, settled) = smol::channel::unbounded();
        let (tidy, asked_to_tidy) = smol::channel::bounded(1);
        let (stuck, stuck_tasks) = smol::channel::bounded(perform::STUCK_MAX);
        let context = Rc::new(Context {
            facts: RefCell::new(facts(&config, &description)),
            config: config.clone(),
            agent: Rc::clone(&agent),
            store: Rc::clone(&state.images),
            platform: state.platform.clone(),
            program: Rc::clone(&state.program),
            pulling: Turns::default(),
            pulled: RefCell::new(BTreeMap::new()),
            pulls: RefCell::new(BTreeMap::new()),
            stale: RefCell::new(BTreeMap::new()),
            sound: RefCell::new(BTreeSet::new()),
            tidy,
            stuck,
            health: RefCell::new(BTreeMap::new()),
            network: RefCell::new(attach::network(&config, &agent.borrow())),
        });
        let performer = Performer::new(
            Rc::clone(&executor),
            context,
            settled_sender,
            asked_to_tidy,
            stuck_tasks,
        );
        let publisher = Publisher::new(Rc::clone(&executor), performer.context());
        Ok(Self {
            executor,
            config,
            identities,
            tasks,
            node_id: certificate.node_id.clone(),
            identity,
            issued,
            root,
            tls,
            description,
            agent,
            performer,
            publisher,
            link: None,
            settled,
            news: smol::channel::bounded(3),
            renewing: None,
            rejoining: None,
            fetching: None,
            dialled: String::new(),
            trust: Trust::default(),
            sweeping: None,
            swept: false,
            damaged,
            leaving: false,
            leavers: Vec::new(),
            stuck: None,
            last_error: None,
        })
    }

    /// Runs until membership ends.
    pub(super) async fn run(&mut self, questions: &Receiver<Question>) -> End {
        self.await_new_node();
        loop {
            while let Some(output) = self.poll() {
                if let Some(end) = self.act(output) {
                    return end;
                }
            }
            let event = self.next(questions).await;
            self.handle(event);
        }
    }

    fn poll(&self) -> Option<Output> {
        self.agent.borrow_mut().poll()
    }

    fn tell(&self, input: Input) {
        self.agent.borrow_mut().handle(input, clock());
    }

    async fn next(&self, questions: &Receiver<Question>) -> Event {
        let deadline = self.agent.borrow().deadline().map(|(at, _)| at);
        let timer = async {
            match deadline {
                Some(at) => {
                    Timer::at(at).await;
                    Event::Deadline
                }
                None => future::pending().await,
            }
        };
        let link = async {
            match &self.link {
                Some((_, events)) => match events.recv().await {
                    Ok(event) => Event::Link(event),
                    Err(_closed) => future::pending().await,
                },
                None => future::pending().await,
            }
        };
        let settled = async {
            match self.settled.recv().await {
                Ok(settled) => Event::Settled(settled),
                Err(_closed) => future::pending().await,
            }
        };
        let news = async {
            match self.news.1.recv().await {
                Ok(news) => Event::News(Box::new(news)),
                Err(_closed) => future::pending().await,
            }
        };
        let question = async {
            match questions.recv().await {
                Ok(question) => Event::Question(question),
                Err(_closed) => future::pending().await,
            }
        };
        // What the manager sends may have no end, so all others come before it, and the clock
        // has its turn as often as it does.
        future::or(future::or(question, news), future::or(settled, future::race(link, timer))).await
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deadline => self.tell(Input::Timeout),
            Event::Link(event) => self.handle_link(event),
            Event::Settled(settled) => {
                let (task, op, settlement) = self.performer.settled(*settled);
                if let Outcome::Temporary(reason) = &settlement.outcome {
                    self.complain(format!("task {task}: {reason}; trying again"));
                    self.give_up_leaving(&task, reason);
                }
                self.tell(Input::Settled { task, op, settlement });
            }
            Event::News(news) => match *news {
                News::Renewed(renewal) => self.handle_renewal(renewal),
                News::Rejoin(step) => self.handle_rejoin(step),
                News::Root(offer) => self.handle_offer(offer),
            },
            Event::Question(question) => self.answer(question),
        }
    }

    fn handle_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Session(message) => {
                self.is_member_again();
                self.follow_root(&message);
                self.tell(Input::Session(message));
            }
            LinkEvent::HeartbeatAck { period } => self.tell(Input::HeartbeatAck { period }),
            LinkEvent::Assignments(set) => {
                self.tell(Input::Assignments(set));
                self.sweep_once();
                self.follow_token();
            }
            LinkEvent::Reported { task, state } => self.tell(Input::Reported { task, state }),
            LinkEvent::Subscription(wish) => {
                if let Some((link, _)) = &self.link {
                    self.publisher.handle(link, &self.node_id, wish);
                }
            }
            LinkEvent::Lost(loss) => {
                self.close_link();
                self.tell(Input::LinkLost(loss));
            }
        }
    }

    /// A manager takes this node: no alarm holds, and no removal does.
    fn is_member_again(&mut self) {
        self.trust.alarm = None;
        if self.identity.rejoined == Some(Identity::NEVER) {
            self.identity.rejoined = None;
            self.save_identity();
        }
    }

    fn lost(&mut self, loss: &LinkLoss) {
        self.last_error = Some(loss.to_string());
        self.ask_for_root(loss);
        // Known after a restart too, when the certificate may have expired meanwhile.
        if let LinkLoss::Removed(_) = loss
            && self.identity.rejoined != Some(Identity::NEVER)
        {
            self.identity.rejoined = Some(Identity::NEVER);
            self.save_identity();
        }
    }

    /// Containers that belong to no task were left by an agent that lost its records.
    fn sweep_once(&mut self) {
        if !self.swept {
            self.swept = true;
            let agent = Rc::clone(&self.agent);
            let known = |task: &TaskId| agent.borrow().record(task).is_some();
            let left = perform::leftovers(&self.config, known);
            self.sweeping = Some(self.performer.discard(left));
            // One that came again is written anew.
            for task in std::mem::take(&mut self.damaged).into_iter().filter_map(|task| task.id) {
                if !known(&task) {
                    self.erase(&task);
                }
            }
        }
    }

    /// Does one output. Each effect comes back as a later input.
    fn act(&mut self, output: Output) -> Option<End> {
        match output {
            Output::Persist(record) => self.persist(&record),
            Output::Erase(task) => self.erase(&task),
            Output::Managers(managers) => {
                self.identity.managers = managers;
                self.save_identity();
            }
            Output::Connect { peer, session } => {
                log::debug!("connecting manager={}", peer.addr);
                self.dialled.clone_from(&peer.addr);
                let (events, received) = smol::channel::bounded(LINK_EVENTS_MAX);
                let target =
                    Target { addr: peer.addr, tls: Arc::clone(&self.tls), name: rpc::MANAGER_NAME };
                let link = Link::open(
                    Rc::clone(&self.executor),
                    target,
                    session,
                    self.description.clone(),
                    events,
                );
                self.link = Some((link, received));
            }
            Output::Lost(loss) => self.lost(&loss),
            Output::Close => self.close_link(),
            Output::Heartbeat => self.on_link(Link::heartbeat),
            Output::Watch => self.on_link(Link::watch),
            Output::Report(task, status) => self.on_link(|link| link.report(task, status)),
            Output::Perform(task, op) => self.performer.perform(task, op),
            Output::Cancel(task) => self.performer.cancel(&task),
            Output::Renew => self.renew(),
            Output::Rejoin => self.rejoin(),
            Output::Left => return Some(self.left()),
        }
        None
    }

    fn on_link(&self, act: impl FnOnce(&Link)) {
        if let Some((link, _)) = &self.link {
            act(link);
        }
    }

    fn close_link(&mut self) {
        self.publisher.clear();
        self.link = None;
    }

    /// A record that can not be stored does not stop its task: within this boot the task's
    /// folder in `exec-root` tells the same, and the managers know the rest.
    fn persist(&mut self, record: &TaskRecord) {
        if let Err(error) = self.tasks.save(record) {
            self.complain(format!("cannot store task {}: {}", record.task.id, chain(&error)));
        }
    }

    fn erase(&mut self, task: &TaskId) {
        if let Err(error) = self.tasks.erase(task) {
            self.complain(format!("cannot erase task {task}: {}", chain(&error)));
        }
    }

    fn save_identity(&mut self) -> bool {
        match self.identities.save(&self.identity) {
            Ok(()) => true,
            Err(error) => {
                self.complain(format!("cannot store the identity: {}", chain(&error)));
                false
            }
        }
    }

    fn complain(&mut self, text: String) {
        log::error!("{text}");
        self.last_error = Some(text);
    }

    /// Makes TLS and description follow the identity.
    fn adopt_identity(&mut self) {
        let Some(certificate) = &self.identity.certificate else { return };
        let floor = self.identity.time_floor;
        match rpc::member(&self.root, &certificate.chain, &certificate.key, floor) {
            Ok(tls) => self.tls = tls,
            Err(error) => {
                let text = format!("the certificate can not be used: {}", chain(&error));
                self.complain(text);
                return;
            }
        }
        let tls_info = self.issued.tls_info(&self.root);
        if self.description.tls_info != tls_info {
            self.description.tls_info = tls_info;
            self.tell(Input::Described);
        }
    }

    fn renew(&mut self) {
        let Some(addr) = self.agent.borrow().session().manager.map(String::from) else {
            self.tell(Input::RenewalFailed);
            return;
        };
        let (executor, tls) = (Rc::clone(&self.executor), Arc::clone(&self.tls));
        let (root, node) = (self.root.clone(), self.node_id.clone());
        let floor = self.identity.time_floor;
        let news = self.news.0.clone();
        self.renewing = Some(self.executor.spawn(async move {
            let renewal = async {
                let channel = Channel::open(&executor, &addr, tls, rpc::MANAGER_NAME, DIAL_TIMEOUT)
                    .await
                    .map_err(|cause| JoinError::Call { addr: addr.clone(), cause })?;
                enrol::renew(&channel, &addr, &root, &node, || clock().wall.max(floor)).await
            };
            let renewal = enrol::bounded(&addr, RENEWAL_TIMEOUT, Box::pin(renewal)).await;
            // The loop lives as long as this future.
            let _unheard = news.send(News::Renewed(renewal)).await;
        }));
    }

    fn handle_renewal(&mut self, renewal: Renewal) {
        self.renewing = None;
        let (certificate, issued) = match renewal {
            Ok(renewed) => renewed,
            Err(error) => {
                self.complain(format!("the certificate could not be renewed: {}", chain(&error)));
                self.tell(Input::RenewalFailed);
                return;
            }
        };
        let before = self.identity.certificate.replace(certificate);
        let floor = self.identity.time_floor;
        self.identity.time_floor = Identity::raised_floor(floor, issued.not_before);
        if !self.save_identity() {
            self.identity.certificate = before;
            self.identity.time_floor = floor;
            self.tell(Input::RenewalFailed);
            return;
        }
        log::info!("the certificate was renewed");
        let (not_before, not_after) = (issued.not_before, issued.not_after);
        self.issued = issued;
        self.tell(Input::Certificate { not_before, not_after });
        self.adopt_identity();
    }

    fn tasks(&self) -> Vec<TaskReport> {
        let agent = self.agent.borrow();
        let tasks = agent.records().map(|record| {
            let lives = !record.status.state.is_terminal();
            let health = self.performer.health(&record.task.id).filter(|_| lives);
            TaskReport { health, ..report(record) }
        });
        tasks.collect()
    }

    fn answer(&mut self, question: Question) {
        let response = match &question.request {
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Tasks => Response::Tasks(self.tasks()),
            Request::IdentityChanged => Response::Done,
            Request::SetToken(wish) => self.set_token(wish),
            Request::Leave => {
                if !self.leaving {
                    log::info!("leaving the swarm");
                }
                self.leaving = true;
                self.leavers.push(question);
                self.tell(Input::Leave);
                return;
            }
        };
        // Whoever asked may have gone away.
        let _unheard = question.answer.try_send(response);
    }

    fn set_token(&mut self, wish: &NewToken) -> Response {
        let before = self.identity.clone();
        match token::set(&mut self.identity, wish) {
            Ok(()) if self.save_identity() => {
                self.tell_token();
                Response::Done
            }
            Ok(()) => {
                self.identity = before;
                Response::Failed(self.last_error.clone().unwrap_or_default())
            }
            Err(error) => Response::Refused(chain(&error)),
        }
    }

    /// Tells whoever waits for the node to leave that a task is in the way, once it was for
    /// [`LEAVE_PATIENCE`]. The identity stays until the last task is gone: without it nobody would
    /// know what is to be removed.
    fn give_up_leaving(&mut self, task: &TaskId, reason: &str) {
        if !self.leaving {
            return;
        }
        let now = clock().mono;
        if now.saturating_duration_since(*self.stuck.get_or_insert(now)) < LEAVE_PATIENCE {
            return;
        }
        let left: Vec<_> = self.agent.borrow().records().map(|r| r.task.id.to_string()).collect();
        let response = Response::Failed(format!(
            "this node takes no more work, but can not leave yet: task {task}: {reason}. Left: {}. \
             The agent keeps trying and forgets the identity when they are gone; find out what \
             holds them, then ask again: edgeagent leave",
            left.join(", ")
        ));
        self.stuck = None;
        for question in self.leavers.drain(..) {
            let _unheard = question.answer.try_send(response.clone());
        }
    }

    fn left(&mut self) -> End {
        self.close_link();
        // What stays is told by the node that is none any more, which looks for it as well.
        let _left = perform::sweep(&self.config, true);
        let response = match self.tasks.clear().and_then(|()| self.identities.forget()) {
            Ok(()) => Response::Done,
            Err(error) => Response::Failed(format!(
                "the tasks are stopped, but what is stored could not be erased: {}",
                chain(&error)
            )),
        };
        for question in self.leavers.drain(..) {
            let _unheard = question.answer.try_send(response.clone());
        }
        End::Left
    }

    fn status(&self) -> StatusReport {
        let agent = self.agent.borrow();
        let session = agent.session();
        let now = clock();
        let mut managers: Vec<String> =
            self.identity.managers.iter().map(|peer| peer.addr.clone()).collect();
        for seed in &self.identity.seeds {
            if !managers.contains(seed) {
                managers.push(seed.clone());
            }
        }
        let facts = Facts {
            session,
            standing: agent.standing(now),
            validity: (self.issued.not_before, self.issued.not_after),
            clock: now.wall,
            floor: self.identity.time_floor,
            pending: self
                .identity
                .pending
                .as_ref()
                .map(|pending| (&pending.node_id, fingerprint(pending))),
            alarm: self.trust.alarm.as_deref(),
            rejoined: self.identity.rejoined,
            keep_when_removed: self.config.keep_when_removed,
        };
        let (state, reason) = facts.state();
        let state = if self.leaving { "leaving" } else { state };
        StatusReport {
            state: String::from(state),
            reason,
            node_id: Some(self.node_id.to_string()),
            replaces: self.identity.replaces.as_ref().map(ToString::to_string),
            cluster_id: Some(self.issued.organization.clone()),
            availability: session.node.map(|node| String::from(availability(node.availability))),
            manager: session.manager.map(String::from),
            managers,
            certificate: Some(CertificateReport {
                not_before: self.issued.not_before.to_string(),
                not_after: self.issued.not_after.to_string(),
                root_ca: self.root.fingerprint(),
            }),
            join_token: Some(String::from(token::kept(&self.identity))),
            seal: String::from(self.identities.tier().name()),
            tasks: agent.records().count(),
            running: agent
                .records()
                .filter(|record| record.status.state == TaskState::Running)
                .count(),
            pulls: self.performer.pulls(),
            stale_images: self.performer.stale_images(),
            last_error: self.last_error.clone(),
            next_attempt_seconds: session
                .next_attempt
                .map(|at| at.saturating_duration_since(now.mono).as_secs()),
            version: String::from(env!("CARGO_PKG_VERSION")),
        }
    }
}

/// A task for `edgeagent ps`.
pub(super) fn report(record: &TaskRecord) -> TaskReport {
    let (task, status) = (&record.task, &record.status);
    let image = match &task.runtime {
        Runtime::Container(spec) => spec.image.clone(),
        Runtime::Attachment | Runtime::Generic { .. } | Runtime::Unknown => String::new(),
    };
    let container = status.container.as_ref();
    TaskReport {
        id: task.id.to_string(),
        service: task.service_name.clone(),
        slot: task.slot,
        image,
        state: String::from(status.state.name()),
        desired: String::from(task.desired_state.name()),
        message: status.message.clone(),
        err: status.err.clone(),
        container_id: container.map(|container| container.id.to_string()),
        pid: container.map(|container| container.pid).filter(|pid| *pid != 0),
        exit_code: container
            .filter(|_| status.state.is_terminal())
            .map(|container| container.exit_code),
        health: None,
    }
}

/// A manager wishes, or thinks, that this node is one too.
fn is_promoted(node: &NodeRecord) -> bool {
    node.role == NodeRole::Manager || node.desired_role == NodeRole::Manager
}

const fn availability(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

/// What specs need to know of this node.
fn facts(config: &Config, description: &NodeDescription) -> NodeFacts {
    NodeFacts {
        hostname: description.hostname.clone(),
        architecture: description.architecture.clone(),
        os: String::from("linux"),
        data_root: config.data_root.clone(),
        exec_root: config.exec_root.clone(),
        cpus: describe::cpus(),
        cgroup_parent: config.cgroup_parent.clone(),
        default_ulimits: config.default_ulimits.clone(),
        dns: config.dns.clone(),
        resolv_conf: String::new(),
        default_init: config.init,
        log_max_bytes: config.log_max_bytes.saturating_mul(u64::from(config.log_max_files)),
        policy: config.policy.clone(),
        memory_controller: shim::has_controller("memory"),
        kernel: describe::kernel(),
    }
}

/// A seed for jitter; not for keys.
fn seed() -> u64 {
    let mut bytes = [0_u8; 8];
    // Without random numbers the jitter is the same on every start, which is no harm.
    let _weak = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    u64::from_le_bytes(bytes)
}

/// The time that certificates are judged by: never before what was trusted once.
pub(super) fn trusted_now(identity: &Identity) -> UnixTime {
    clock().wall.max(identity.time_floor)
}
