//! Operations on tasks, carried out: image, spec and shim put together.
//!
//! Each operation is one future on the agent's executor and ends in exactly one [`Settled`].
//! What it knows of the container travels in a [`Controller`], which belongs to the operation
//! while one is under way and to the driver otherwise: nothing is shared.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use smol::{
    LocalExecutor, Task as Running,
    channel::{Receiver, Sender},
    future,
};

use super::{
    attach,
    control::{PullReport, StaleImage},
    devices, images, make_private_dir, pulls,
    turns::Turns,
};
use crate::{
    agent::{Agent, Op, Outcome, Settlement},
    config::Config,
    image::Store,
    model::{
        ContainerId, ContainerStatus, Exit, Health, HealthStatus, LocalImage, Platform, PortConfig,
        Task, TaskId, chain,
    },
    net::{self, Lease, Network},
    shim::{self, Left, Program, Shim},
    spec::{self, Files, NodeFacts},
};

/// How many tasks with files that resist wait to be heard of.
pub(super) const STUCK_MAX: usize = 64;

/// Pauses before files that resist are tried again: the first, and the longest.
const STUCK_RETRY_MIN: Duration = Duration::from_secs(60);
const STUCK_RETRY_MAX: Duration = Duration::from_secs(3600);

/// What is known of one task's container.
#[derive(Debug, Default)]
pub(super) struct Controller {
    container: Option<ContainerId>,
    image: Option<LocalImage>,
    shim: Option<Shim>,
    exit: Option<Exit>,
    pid: i32,
    /// What it publishes, while it runs.
    ports: Vec<PortConfig>,
}

/// The end of an operation.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) task: TaskId,
    pub(super) op: Op,
    pub(super) settlement: Settlement,
    controller: Controller,
}

/// What operations need of the node.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) facts: RefCell<NodeFacts>,
    pub(super) agent: Rc<RefCell<Agent>>,
    pub(super) store: Rc<Store>,
    pub(super) platform: Platform,
    /// Our own program, as containers may see it: never writable.
    pub(super) program: Rc<Program>,
    /// Whose turn it is to pull.
    pub(super) pulling: Turns,
    /// When each reference was last asked for, and why it was not pulled: twenty tasks of one
    /// service ask the registry once.
    pub(super) pulled: RefCell<BTreeMap<String, (Instant, Option<String>)>>,
    /// The pulls under way, by image.
    pub(super) pulls: RefCell<BTreeMap<String, PullReport>>,
    /// Images that a task uses although their registry could not be asked, and why.
    pub(super) stale: RefCell<BTreeMap<String, String>>,
    /// Manifests of images whose layers were seen to be whole.
    pub(super) sound: RefCell<BTreeSet<String>>,
    /// Asks for old images to be looked for.
    pub(super) tidy: Sender<()>,
    /// Tasks of which only files are left that could not be removed.
    pub(super) stuck: Sender<TaskId>,
    /// What was last heard of containers with a health check, for people. At most one per task.
    pub(super) health: RefCell<BTreeMap<TaskId, Health>>,
    /// The bridge, and who is on it.
    pub(super) network: RefCell<Network>,
}

impl Context {
    /// Something was pulled or removed.
    pub(super) fn tidy(&self) {
        // One request that waits is enough.
        let _asked_already = self.tidy.try_send(());
    }

    /// A shim told how its container is. What the probe said is the container's, and not for a log.
    fn heard(&self, task: &Task, health: &Health) {
        let Health { status, failing_streak, exit_code, .. } = health;
        log::debug!(
            "container is {} task.id={} failing_streak={failing_streak} exit_code={}",
            status.name(),
            task.id,
            exit_code.unwrap_or_default(),
        );
        self.health.borrow_mut().insert(task.id.clone(), health.clone());
    }
}

/// Starts operations and keeps the controllers that rest.
#[derive(Debug)]
pub(super) struct Performer {
    executor: Rc<LocalExecutor<'static>>,
    context: Rc<Context>,
    // Boxed, for the channel keeps room for 31 of them.
    settled: Sender<Box<Settled>>,
    resting: BTreeMap<TaskId, Controller>,
    under_way: BTreeMap<TaskId, (Sender<()>, Running<()>)>,
    _tidying: Running<()>,
    _clearing: Running<()>,
}

impl Performer {
    pub(super) fn new(
        executor: Rc<LocalExecutor<'static>>,
        context: Rc<Context>,
        settled: Sender<Box<Settled>>,
        asked_to_tidy: Receiver<()>,
        stuck: Receiver<TaskId>,
    ) -> Self {
        let tidying = executor.spawn(images::keep_tidy(Rc::clone(&context), asked_to_tidy));
        let clearing = executor.spawn(clear_away(Rc::clone(&context), stuck));
        Self {
            executor,
            context,
            settled,
            resting: BTreeMap::new(),
            under_way: BTreeMap::new(),
            _tidying: tidying,
            _clearing: clearing,
        }
    }

    /// Begins `op` on the task; its record is read from the agent.
    pub(super) fn perform(&mut self, id: TaskId, op: Op) {
        let record = self.context.agent.borrow().record(&id).cloned();
        let mut controller = self.resting.remove(&id).unwrap_or_else(|| Controller {
            // Managers were told of it, so a start that an earlier agent left keeps it.
            container: record
                .as_ref()
                .and_then(|record| record.status.container.as_ref())
                .map(|c| c.id.clone()),
            ..Controller::default()
        });
        let task = record.map(|record| record.task);
        let (context, settled) = (Rc::clone(&self.context), self.settled.clone());
        let (cancel, cancelled) = smol::channel::bounded(1);
        let running = self.executor.spawn({
            let id = id.clone();
            async move {
                let settlement = match task {
                    // Boxed: operations by the hundred may wait until they are begun, or heard.
                    Some(task) => {
                        Box::pin(carry_out(&context, &task, op, &mut controller, cancelled)).await
                    }
                    None => settle(&controller, Outcome::Done),
                };
                // The driver is gone only when the whole agent ends.
                let ended = Settled { task: id, op, settlement, controller };
                let _unheard = settled.send(Box::new(ended)).await;
            }
        });
        self.under_way.insert(id, (cancel, running));
    }

    /// Removes what is left of containers that no task needs.
    pub(super) fn discard(&self, left: BTreeSet<TaskId>) -> Running<()> {
        let context = Rc::clone(&self.context);
        self.executor.spawn(async move {
            for task in discard_all(context.config.clone(), left, false).await {
                // Full: the next start of the agent looks for what is left.
                let _full = context.stuck.try_send(task);
            }
        })
    }

    /// Asks the operation under way to end; one that can not be interrupted goes on.
    pub(super) fn cancel(&self, id: &TaskId) {
        if let Some((cancel, _)) = self.under_way.get(id) {
            // A second request changes nothing.
            let _asked_already = cancel.try_send(());
        }
    }

    /// What operations need of the node.
    pub(super) fn context(&self) -> Rc<Context> {
        Rc::clone(&self.context)
    }

    /// Images that are being pulled.
    pub(super) fn pulls(&self) -> Vec<PullReport> {
        self.context.pulls.borrow().values().cloned().collect()
    }

    /// Images that are used although their registry could not be asked.
    pub(super) fn stale_images(&self) -> Vec<StaleImage> {
        let stale = self.context.stale.borrow();
        let report = |(image, reason): (&String, &String)| StaleImage {
            image: image.clone(),
            reason: reason.clone(),
        };
        stale.iter().map(report).collect()
    }

    /// What was last heard of the health of a task's container.
    pub(super) fn health(&self, task: &TaskId) -> Option<Health> {
        self.context.health.borrow().get(task).cloned()
    }

    /// Takes the end of an operation in.
    pub(super) fn settled(&mut self, settled: Settled) -> (TaskId, Op, Settlement) {
        self.under_way.remove(&settled.task);
        if settled.op != Op::Remove {
            self.resting.insert(settled.task.clone(), settled.controller);
        }
        (settled.task, settled.op, settled.settlement)
    }
}

async fn carry_out(
    context: &Context,
    task: &Task,
    op: Op,
    controller: &mut Controller,
    cancelled: Receiver<()>,
) -> Settlement {
    let cancel = || async {
        // The sender lives as long as this operation is under way.
        let _asked = cancelled.recv().await;
        Outcome::Cancelled
    };
    let outcome = match op {
        Op::Resolve => resolve(context, task),
        Op::Prepare => future::or(prepare(context, task, controller), cancel()).await,
        Op::Wait => future::or(wait(context, task, controller), cancel()).await,
        // A start takes milliseconds and a stop has its own bound: neither is left half way. Only
        // an image that is missing by then may take long, and a health check.
        Op::Start => match future::or(equip(context, task, controller), cancel()).await {
            Outcome::Done => match start(context, task, controller).await {
                Outcome::Done => future::or(healthy(context, task, controller), cancel()).await,
                ended @ (Outcome::Cancelled | Outcome::Temporary(_) | Outcome::Fatal(_)) => ended,
            },
            ended @ (Outcome::Cancelled | Outcome::Temporary(_) | Outcome::Fatal(_)) => ended,
        },
        Op::Shutdown => shutdown(context, task, controller).await,
        Op::Remove => remove(context, task, controller).await,
    };
    if controller.exit.is_some() || op == Op::Remove {
        context.network.borrow_mut().release(&task.id);
    }
    settle(controller, outcome)
}

fn settle(controller: &Controller, outcome: Outcome) -> Settlement {
    let container = controller.container.clone().map(|id| match &controller.exit {
        Some(exit) => ContainerStatus { id, pid: 0, exit_code: exit.code },
        None => ContainerStatus { id, pid: controller.pid, exit_code: 0 },
    });
    let ports = if controller.exit.is_some() { Vec::new() } else { controller.ports.clone() };
    Settlement { outcome, container, ports }
}

fn resolve(context: &Context, task: &Task) -> Outcome {
    let checked = spec::check(task, &context.facts.borrow()).map_err(|error| chain(&error));
    let admitted = checked.and_then(|()| {
        let name = pulls::reference(task)?;
        let by_digest = name.digest().is_some() || name.image_id().is_some();
        spec::admit_image(&context.config.policy, &name.canonical(), by_digest)
            .map_err(|error| error.to_string())
    });
    match admitted {
        Ok(()) => Outcome::Done,
        Err(reason) => Outcome::Fatal(reason),
    }
}

async fn prepare(context: &Context, task: &Task, controller: &mut Controller) -> Outcome {
    if let Err(reason) = attach::check(context, task) {
        return Outcome::Fatal(reason);
    }
    let image = match pulls::ensure_image(context, task).await {
        Ok(image) => image,
        Err(reason) => return Outcome::Fatal(reason),
    };
    let container = match container_id(controller) {
        Ok(container) => container,
        Err(error) => return Outcome::Temporary(error.to_string()),
    };
    let unchecked = Files::Unchecked;
    let bundle = spec::build(task, &container, &image, &context.facts.borrow(), None, unchecked);
    controller.image = Some(image);
    match bundle {
        Ok(mut bundle) => {
            let missing = "invalid mount config for type \"bind\": bind source path does not exist";
            match devices::complete(&mut bundle, task, &context.config.policy, missing) {
                Ok(()) => Outcome::Done,
                Err(reason) => Outcome::Fatal(reason),
            }
        }
        Err(error) => Outcome::Fatal(chain(&error)),
    }
}

/// Finds the shim that an earlier agent started, or the image that a start needs.
async fn equip(context: &Context, task: &Task, controller: &mut Controller) -> Outcome {
    match find_shim(context, task, controller) {
        Ok(true) => return Outcome::Done,
        Ok(false) => {}
        Err(reason) => return Outcome::Temporary(reason),
    }
    // Prepared before the agent was restarted; or pruned since.
    let prepared = controller.image.take().or_else(|| pulls::local(context, task));
    let whole = prepared.filter(|image| image.layers.iter().all(|layer| layer.exists()));
    let whole = match whole {
        Some(image) => images::sound(context, image).await,
        None => None,
    };
    let image = match whole {
        Some(image) => Ok(image),
        None => pulls::ensure_image(context, task).await,
    };
    match image {
        Ok(image) => {
            controller.image = Some(image);
            Outcome::Done
        }
        Err(reason) => not_started(&reason),
    }
}

fn not_started(reason: &str) -> Outcome {
    Outcome::Fatal(format!("starting container failed: {reason}"))
}

async fn start(context: &Context, task: &Task, controller: &mut Controller) -> Outcome {
    if controller.shim.is_none()
        && let Err(reason) = spawn(context, task, controller).await
    {
        return not_started(&reason);
    }
    let Some(shim) = controller.shim.as_mut() else { return not_started("its shim is gone") };
    match shim.started().await {
        Ok(started) => {
            controller.container = Some(started.container);
            controller.pid = started.pid;
            Outcome::Done
        }
        Err(error) => {
            let exit = shim.wait().await;
            controller.exit = Some(exit);
            not_started(&chain(&error))
        }
    }
}

/// Waits until a container with a health check works; one without does as soon as it runs. One
/// that ends with 0 meanwhile has run, and one that turns out sick is stopped (moby
/// `daemon/cluster/executor/container/controller.go`, `Start`).
async fn healthy(context: &Context, task: &Task, controller: &mut Controller) -> Outcome {
    let Some(shim) = controller.shim.as_ref().filter(|shim| shim.has_check()) else {
        return Outcome::Done;
    };
    let told = |health: &Health| context.heard(task, health);
    let known = [HealthStatus::Healthy, HealthStatus::Unhealthy];
    match shim.health(&known, &told).await {
        Some(HealthStatus::Healthy) => Outcome::Done,
        Some(HealthStatus::Starting) | None => ended(controller).await,
        Some(HealthStatus::Unhealthy) => stop_sick(task, controller).await,
    }
}

/// Waits for the end of the container, or until it is sick: then it is stopped.
async fn wait(context: &Context, task: &Task, controller: &mut Controller) -> Outcome {
    if let Err(reason) = known(context, task, controller).await {
        return Outcome::Temporary(reason);
    }
    let Some(shim) = controller.shim.as_ref() else { return no_container(task) };
    let told = |health: &Health| context.heard(task, health);
    match shim.health(&[HealthStatus::Unhealthy], &told).await {
        Some(_) => stop_sick(task, controller).await,
        None => ended(controller).await,
    }
}

/// The outcome of a container that ends.
async fn ended(controller: &mut Controller) -> Outcome {
    let Some(shim) = controller.shim.as_mut() else { return not_started("its shim is gone") };
    let exit = shim.wait().await;
    let outcome = exit_outcome(&exit);
    controller.exit = Some(exit);
    outcome
}

async fn stop_sick(task: &Task, controller: &mut Controller) -> Outcome {
    log::warn!("container is unhealthy, it is being stopped task.id={}", task.id);
    stop(task, controller).await;
    match ended(controller).await {
        Outcome::Fatal(text) => Outcome::Fatal(format!("{text}: dockerexec: unhealthy container")),
        other @ (Outcome::Done | Outcome::Cancelled | Outcome::Temporary(_)) => other,
    }
}

/// Asks the shim to stop the container.
async fn stop(task: &Task, controller: &Controller) {
    if let Some(shim) = &controller.shim {
        let (signal, grace) = spec::stop(task, controller.image.as_ref());
        shim.stop(signal, grace).await;
    }
}

async fn shutdown(context: &Context, task: &Task, controller: &mut Controller) -> Outcome {
    // It may run still, so it must not be called stopped.
    if let Err(reason) = known(context, task, controller).await {
        return Outcome::Temporary(reason);
    }
    stop(task, controller).await;
    if let Some(shim) = controller.shim.as_mut() {
        controller.exit = Some(shim.wait().await);
    }
    context.health.borrow_mut().remove(&task.id);
    Outcome::Done
}

async fn remove(context: &Context, task: &Task, controller: &mut Controller) -> Outcome {
    // It was stopped as well as it could be.
    let _stopped = shutdown(context, task, controller).await;
    controller.shim = None;
    match discard(&context.config, &task.id).await {
        Ok(()) => {
            context.tidy();
            Outcome::Done
        }
        Err(error @ Left::Alive(_)) => {
            Outcome::Temporary(format!("cannot remove the container: {error}"))
        }
        // It has ended and only files are in the way: that holds up neither `leave` nor a manager.
        Err(error @ Left::Files(_)) => {
            log::warn!("{error}; tried again now and then task.id={}", task.id);
            // Full: the next start of the agent looks for what is left.
            let _full = context.stuck.try_send(task.id.clone());
            Outcome::Done
        }
    }
}

/// Tries again to remove the files that resisted, with pauses that grow.
async fn clear_away(context: Rc<Context>, stuck: Receiver<TaskId>) {
    while let Ok(first) = stuck.recv().await {
        let mut left = BTreeSet::from([first]);
        let mut pause = STUCK_RETRY_MIN;
        while !left.is_empty() {
            let more = async { stuck.recv().await.ok() };
            let elapsed = async {
                smol::Timer::after(pause).await;
                None
            };
            if let Some(task) = future::or(more, elapsed).await {
                left.insert(task);
                continue;
            }
            pause = pause.saturating_mul(2).min(STUCK_RETRY_MAX);
            let mut still = BTreeSet::new();
            for task in left {
                // A manager may have assigned the same identifier again: its start clears away.
                if context.agent.borrow().record(&task).is_some() {
                    continue;
                }
                match discard(&context.config, &task).await {
                    Ok(()) => {
                        log::info!("the files of a container are gone at last task.id={task}")
                    }
                    Err(error) => {
                        log::debug!("{error} task.id={task}");
                        still.insert(task);
                    }
                }
            }
            left = still;
        }
    }
}

/// Removes every trace of a task's container, on a thread of its own: a writable layer may hold
/// a hundred thousand files, and the loop has heartbeats to send.
async fn discard(config: &Config, task: &TaskId) -> Result<(), Left> {
    let dir = task_dir(&config.exec_root, task);
    let writable = writable_dir(&config.data_root, task);
    smol::unblock(move || shim::remove(&dir, &writable)).await
}

/// Removes what is left of containers that [`leftovers`] found, and gives those of which something
/// stays. That is told, unless it was `told` before.
pub(super) async fn discard_all(
    config: Config,
    left: BTreeSet<TaskId>,
    told: bool,
) -> BTreeSet<TaskId> {
    let level = if told { log::Level::Debug } else { log::Level::Warn };
    let mut still = BTreeSet::new();
    for task in left {
        match discard(&config, &task).await {
            Ok(()) => log::info!("removed what was left of a container task.id={task}"),
            Err(error) => {
                log::log!(level, "{error}; tried again now and then task.id={task}");
                still.insert(task);
            }
        }
    }
    still
}

/// Tries again to remove what [`discard_all`] could not, with pauses that grow.
pub(super) async fn keep_discarding(config: Config, mut left: BTreeSet<TaskId>) {
    let mut pause = STUCK_RETRY_MIN;
    while !left.is_empty() {
        smol::Timer::after(pause).await;
        pause = pause.saturating_mul(2).min(STUCK_RETRY_MAX);
        left = discard_all(config.clone(), left, true).await;
    }
}

/// Removes what is left of every container, and their network; gives the tasks of which something
/// stays, and tells it unless it is `told` elsewhere. Blocks: for a node that has nothing else to
/// do.
pub(crate) fn sweep(config: &Config, told: bool) -> BTreeSet<TaskId> {
    let all = leftovers(config, |_| false);
    let left = future::block_on(discard_all(config.clone(), all, told));
    net::remove();
    left
}

/// Tasks of which there is something on this device, and which are not in `keep`.
pub(super) fn leftovers(config: &Config, keep: impl Fn(&TaskId) -> bool) -> BTreeSet<TaskId> {
    let mut left = BTreeSet::new();
    for root in [config.exec_root.join("tasks"), config.data_root.join("containers")] {
        let Ok(entries) = fs::read_dir(root) else { continue };
        for entry in entries.flatten() {
            let Some(task) = entry.file_name().to_str().and_then(|name| TaskId::new(name).ok())
            else {
                continue;
            };
            if !keep(&task) {
                left.insert(task);
            }
        }
    }
    left
}

/// Where a task's records, log and mount points are.
pub(super) fn task_dir(exec_root: &Path, task: &TaskId) -> PathBuf {
    exec_root.join("tasks").join(task.as_str())
}

fn writable_dir(data_root: &Path, task: &TaskId) -> PathBuf {
    data_root.join("containers").join(task.as_str())
}

/// Makes sure that the controller has its shim, if there ever was one, and knows its container.
async fn known(context: &Context, task: &Task, controller: &mut Controller) -> Result<(), String> {
    if controller.shim.is_none()
        && find_shim(context, task, controller)?
        && let Some(shim) = &controller.shim
        && let Ok(started) = shim.started().await
    {
        controller.container = Some(started.container);
        controller.pid = started.pid;
    }
    Ok(())
}

/// Finds the shim that an earlier agent started; `false` when there never was one since boot.
/// What keeps us from it says nothing about the container, so it is worth another try.
fn find_shim(context: &Context, task: &Task, controller: &mut Controller) -> Result<bool, String> {
    if controller.shim.is_some() {
        return Ok(true);
    }
    let dir = task_dir(&context.config.exec_root, &task.id);
    // A folder alone is what an agent leaves that is killed between making it and running a shim.
    if !dir.exists() || shim::never_began(&dir).map_err(|error| error.to_string())? {
        return Ok(false);
    }
    controller.shim = Some(Shim::attach(&dir).map_err(|error| chain(&error))?);
    let network = context.network.borrow();
    controller.ports = network.of(&task.id).map(Lease::status).unwrap_or_default();
    if controller.image.is_none() {
        controller.image = pulls::local(context, task);
    }
    Ok(true)
}

fn no_container(task: &Task) -> Outcome {
    Outcome::Fatal(format!("No such container: {}", spec::container_name(task)))
}

async fn spawn(context: &Context, task: &Task, controller: &mut Controller) -> Result<(), String> {
    let image = controller.image.take().ok_or("its image is gone")?;
    let container = container_id(controller).map_err(|error| error.to_string())?;
    let place = attach::join(context, task, &container)?;
    let (lease, held) =
        place.map_or_else(|| (None, Vec::new()), |(lease, held)| (Some(lease), held));
    let spawned =
        spawn_at(context, task, controller, image, container, lease.as_ref(), &held).await;
    match spawned {
        Ok(shim) => {
            controller.shim = Some(shim);
            controller.ports = lease.as_ref().map(Lease::status).unwrap_or_default();
            Ok(())
        }
        Err(reason) => {
            context.network.borrow_mut().release(&task.id);
            Err(reason)
        }
    }
}

/// Starts the shim of a container whose place on the network is known.
async fn spawn_at(
    context: &Context,
    task: &Task,
    controller: &mut Controller,
    image: LocalImage,
    container: ContainerId,
    lease: Option<&Lease>,
    held: &[OwnedFd],
) -> Result<Shim, String> {
    context.facts.borrow_mut().resolv_conf =
        attach::resolv_conf(spec::bridged(task).unwrap_or_default());
    let bundle = {
        let agent = context.agent.borrow();
        let files = Files::Given {
            secret: &|id| agent.secret(&task.id, id),
            config: &|id| agent.config(&task.id, id),
        };
        let endpoint = lease.map(|lease| lease.endpoint);
        spec::build(task, &container, &image, &context.facts.borrow(), endpoint, files)
    };
    controller.image = Some(image);
    let mut bundle = bundle.map_err(|error| chain(&error))?;
    let missing = "invalid bind mount source, source path not found";
    devices::complete(&mut bundle, task, &context.config.policy, missing)?;
    if bundle.memory_bytes.is_none() && 0 < task.limits.memory_bytes {
        log::warn!(
            "task {} runs without its memory limit, for this kernel can not limit memory: see \
             edgeagent check",
            task.id
        );
    }
    // What an earlier boot left, or a start that was cut off: a task starts from its image.
    if bundle.dir.exists() || bundle.root.writable.exists() {
        discard(&context.config, &task.id).await.map_err(|error| error.to_string())?;
    }
    if let Some(lease) = lease {
        make_private_dir(&bundle.dir)
            .map_err(|error| chain(&error))
            .and_then(|()| lease.write(&bundle.dir).map_err(|error| chain(&error)))?;
    }
    shim::spawn(context.program.path(), &bundle, held).map_err(|error| chain(&error))
}

/// The container's id, made up once.
fn container_id(controller: &mut Controller) -> io::Result<ContainerId> {
    if let Some(id) = &controller.container {
        return Ok(id.clone());
    }
    let mut bytes = [0_u8; 32];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| io::Error::other("the operating system gave no random numbers"))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = ContainerId::new(&text).map_err(io::Error::other)?;
    controller.container = Some(id.clone());
    Ok(id)
}

fn exit_outcome(exit: &Exit) -> Outcome {
    match exit {
        Exit { start_error: Some(error), .. } => Outcome::Fatal(error.clone()),
        Exit { code: 0, .. } => Outcome::Done,
        Exit { code, .. } => Outcome::Fatal(format!("task: non-zero exit ({code})")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::clock, *};
    use crate::image;
    use crate::model::{
        ContainerSpec, DnsConfig, NodeId, PullPolicy, ResourceLimits, Runtime, ServiceId,
        TaskState, TaskStatus,
    };

    /// Operations on a scratch folder.
    fn context(name: &str) -> Context {
        let base =
            std::env::temp_dir().join(format!("edgeagent-perform-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&base));
        let config = Config {
            data_root: base.join("data"),
            exec_root: base.join("run"),
            ..Config::default()
        };
        let program = Program::protect(&config.exec_root).unwrap();
        let agent = Agent::new(crate::agent::Start::default(), clock());
        Context {
            facts: RefCell::new(NodeFacts {
                hostname: String::from("host"),
                architecture: String::from("x86_64"),
                os: String::from("linux"),
                data_root: config.data_root.clone(),
                exec_root: config.exec_root.clone(),
                cpus: 1,
                cgroup_parent: config.cgroup_parent.clone(),
                default_ulimits: Vec::new(),
                dns: DnsConfig::default(),
                resolv_conf: String::new(),
                default_init: false,
                log_max_bytes: 1 << 20,
                policy: config.policy.clone(),
                memory_controller: true,
                kernel: (6, 1),
            }),
            store: Rc::new(Store::open(&config.data_root.join("images")).unwrap()),
            platform: image::host_platform(),
            program: Rc::new(program),
            pulling: Turns::default(),
            pulled: RefCell::new(BTreeMap::new()),
            pulls: RefCell::new(BTreeMap::new()),
            stale: RefCell::new(BTreeMap::new()),
            sound: RefCell::new(BTreeSet::new()),
            tidy: smol::channel::bounded(1).0,
            stuck: smol::channel::bounded(1).0,
            health: RefCell::new(BTreeMap::new()),
            network: RefCell::new(Network::new(config.bridge.clone(), BTreeMap::new())),
            agent: Rc::new(RefCell::new(agent)),
            config,
        }
    }

    fn task() -> Task {
        Task {
            id: TaskId::new("t1").unwrap(),
            service_id: ServiceId::new("s1").unwrap(),
            slot: 1,
            node_id: NodeId::new("n1").unwrap(),
            name: String::from("web.1"),
            labels: BTreeMap::new(),
            service_name: String::from("web"),
            service_labels: BTreeMap::new(),
            status: TaskStatus::default(),
            desired_state: TaskState::Shutdown,
            networks: Vec::new(),
            ports: Vec::new(),
            log_driver: None,
            generic_resources: Vec::new(),
            runtime: Runtime::Container(Box::default()),
            limits: ResourceLimits::default(),
        }
    }

    #[test]
    #[cfg_attr(not(root), ignore = "needs root")]
    fn with_the_policy_never_no_registry_is_asked() {
        let mut context = context("never");
        context.config.pull_policy = PullPolicy::Never;
        let mut task = task();
        let image = String::from("registry.invalid/x:1");
        task.runtime =
            Runtime::Container(Box::new(ContainerSpec { image, ..ContainerSpec::default() }));
        let reason = future::block_on(pulls::ensure_image(&context, &task)).unwrap_err();
        let expected =
            "pull-policy is never (No such image: registry.invalid/x:1); IMAGE (compose: image)";
        assert!(reason.starts_with(expected), "{reason}");
        fs::remove_dir_all(context.config.data_root.parent().unwrap()).unwrap();
    }

    #[test]
    #[cfg_attr(not(root), ignore = "needs root")]
    fn a_container_that_can_not_be_asked_is_neither_stopped_nor_failed() {
        let context = context("unasked");
        let dir = task_dir(&context.config.exec_root, &task().id);
        fs::create_dir_all(dir.parent().unwrap()).unwrap();
        // Something is there, and what it is can not be told.
        fs::write(&dir, "").unwrap();
        for op in [Op::Start, Op::Wait, Op::Shutdown] {
            let (_cancel, cancelled) = smol::channel::bounded(1);
            let mut controller = Controller::default();
            let settlement =
                future::block_on(carry_out(&context, &task(), op, &mut controller, cancelled));
            assert!(matches!(settlement.outcome, Outcome::Temporary(_)), "{op:?} {settlement:?}");
        }
        fs::remove_file(&dir).unwrap();
        let stopped = future::block_on(shutdown(&context, &task(), &mut Controller::default()));
        assert_eq!(stopped, Outcome::Done, "there is no container");
        fs::remove_dir_all(context.config.data_root.parent().unwrap()).unwrap();
    }
}
