//! The driver: the only event loop. It owns sockets, files, children and clocks, carries out
//! what the core decides, and decides nothing itself.
//!
//! | file | what |
//! |---|---|
//! | [`enrol`] | from a join token to a sealed certificate; renewal |
//! | `waiting` | a node that is no member yet: told to join, provisioned, or to be approved |
//! | [`token`] | another join token for a member |
//! | `member` | the loop of a joined node |
//! | `perform` | operations on tasks: image, spec and shim put together |
//! | `pulls` | the image of a task |
//! | `images` | what tasks need of the image store, and when it is tidied |
//! | `attach` | a task's place on the network |
//! | `publish` | answers to `docker service logs` |
//! | `devices` | devices that the owner lets containers use, and where bind mounts lead |
//! | `describe` | what the node says of itself |
//! | [`control`] | the socket that the short commands speak to |
//! | `notify` | readiness and watchdog for systemd |

mod attach;
pub mod control;
mod describe;
mod devices;
pub mod enrol;
mod images;
mod member;
mod notify;
mod perform;
mod publish;
mod pulls;
pub mod token;
mod turns;
mod waiting;

use std::{
    error::Error,
    fmt, fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, SystemTime},
};

use smol::{Async, LocalExecutor, Timer, channel::Receiver, future};

pub(crate) use self::images::{needed, store as image_store};
use self::member::report;
use self::{
    control::{Question, Request, Response, StatusReport, TaskReport},
    member::{End, Member},
    notify::Supervisor,
    waiting::Outsider,
};
pub(crate) use self::{perform::sweep, pulls::pull_request, waiting::settle};
use crate::{
    ca::{Issued, PinnedRoot, key_fingerprint},
    config::Config,
    image::{self, Store, StoreError},
    limits::{IDENTITY_RETRY, LOCK_ATTEMPTS, LOCK_PAUSE},
    model::{Now, PendingCertificate, Platform, TaskState, UnixTime, chain},
    rpc::TlsError,
    seal::{FileError, IdentityStore, Machine, OpenError, SealError, Sealer, TaskStore, Tier},
    shim::{self, AppArmor, Program, Storage},
    sys,
};

/// Why the agent can not run.
#[derive(Debug)]
pub enum RunError {
    /// A folder or socket that it needs can not be made.
    Place {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Another agent uses the same `exec-root`.
    AlreadyRunning {
        /// That folder.
        exec_root: PathBuf,
    },
    /// Sealing does not work here.
    Seal(SealError),
    /// The sealed identity can not be opened.
    Open(OpenError),
    /// The image store can not be used.
    Images(StoreError),
    /// Our own program can not be protected from containers.
    Program(io::Error),
    /// The identity does not make a TLS configuration.
    Tls(TlsError),
    /// The task records can not be read.
    Tasks(FileError),
    /// Signals can not be waited for.
    Signals(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place { path, .. } => write!(f, "cannot use {}", path.display()),
            Self::AlreadyRunning { exec_root } => write!(
                f,
                "another agent runs already, or is just starting or leaving, with exec-root {}; stop \
                 it first, or give this one an exec-root of its own",
                exec_root.display()
            ),
            Self::Seal(_) => f.write_str("sealing does not work on this device"),
            Self::Open(_) => f.write_str("the sealed identity can not be opened"),
            Self::Images(_) => f.write_str("the image store can not be used"),
            Self::Program(_) => f.write_str("the agent's own program can not be protected"),
            Self::Tls(_) => f.write_str("the identity does not make a TLS configuration"),
            Self::Signals(_) => f.write_str("signals can not be waited for"),
            Self::Tasks(_) => f.write_str("the task records can not be read"),
        }
    }
}

impl Error for RunError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Place { cause, .. } | Self::Program(cause) | Self::Signals(cause) => Some(cause),
            Self::Seal(cause) => Some(cause),
            Self::Open(cause) => Some(cause),
            Self::Images(cause) => Some(cause),
            Self::Tls(cause) => Some(cause),
            Self::Tasks(cause) => Some(cause),
            Self::AlreadyRunning { .. } => None,
        }
    }
}

/// What helps against a wrong clock.
const CLOCK_REMEDY: &str = "Set the clock, or wait until it is synchronised: the node goes on by \
                            itself then. Running tasks go on";

/// Samples both clocks. Everything below gets them passed in.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
#[must_use]
pub fn clock() -> Now {
    let wall = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_nanos();
    Now {
        mono: std::time::Instant::now(),
        wall: UnixTime::from_nanos(i64::try_from(wall).unwrap_or(i64::MAX)),
    }
}

/// Descriptors that the agent takes where it may: a few for each task and stream, and 1024 are few
/// for some hundred tasks.
const DESCRIPTORS: u64 = 16_384;

/// What stays the same while the agent runs, joined or not.
pub(crate) struct NodeState {
    config: Config,
    images: Rc<Store>,
    platform: Platform,
    /// Our own program, read-only as containers may come to see it.
    program: Rc<Program>,
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// Either signal only ends the loop: what the agent must not lose is stored before it matters,
/// so that SIGKILL does no more harm, and its tasks are meant to outlive it.
///
/// # Errors
/// [`RunError`] when the agent can not begin.
pub fn run(config: Config) -> Result<(), RunError> {
    if let Err(error) = sys::raise_descriptor_limit(DESCRIPTORS) {
        log::debug!("the limit of open files stays as it is: {error}");
    }
    let stop = sys::termination_fd().and_then(Async::new).map_err(RunError::Signals)?;
    make_private_dir(&config.data_root)?;
    make_private_dir(&config.exec_root)?;
    make_private_dir(&config.exec_root.join("tasks"))?;
    let _alone = lock(&config.exec_root)?;
    let state = NodeState {
        images: Rc::new(images::store(&config).map_err(RunError::Images)?),
        platform: image::host_platform(),
        program: Rc::new(Program::protect(&config.exec_root).map_err(RunError::Program)?),
        config,
    };
    match shim::storage(&state.config.data_root) {
        Ok(Storage::Overlay) => {}
        Ok(Storage::Copy { reason }) => log::warn!(
            "each container copies its whole image, for the storage of {} is not fit for overlayfs: \
             {reason}",
            state.config.data_root.display()
        ),
        Err(error) => log::warn!("it can not be told whether overlayfs works here: {error}"),
    }
    if shim::apparmor(Path::new("/")) == AppArmor::NoProfile {
        log::warn!(
            "containers run without a profile of AppArmor: docker-default is not loaded; load it \
             with apparmor_parser"
        );
    }
    let machine = Machine::this();
    let sealer = Sealer::settle(&state.config.data_root, &machine, &state.config.seal)
        .map_err(RunError::Seal)?;
    log::info!("sealed with the tier {}", sealer.tier().name());
    let listener = control::listen(&state.config.exec_root).map_err(|cause| RunError::Place {
        path: control::socket_path(&state.config.exec_root),
        cause,
    })?;

    let executor = Rc::new(LocalExecutor::new());
    let (asked, questions) = smol::channel::bounded(4);
    let informed = Supervisor::of_environment()
        .map(|supervisor| executor.spawn(supervisor.inform(asked.clone())));
    let served = executor.spawn(control::serve(Rc::clone(&executor), listener, asked));
    let stopped = async {
        // An error here would be one of epoll itself: stopping is all that is left.
        let _asked = stop.readable().await;
        log::info!("stopping; the tasks of this node go on");
        Ok(())
    };
    let ended = future::block_on(
        executor.run(future::or(stopped, live(&executor, &state, &machine, sealer, &questions))),
    );
    drop((served, informed));
    ended
}

/// A core file of this process would hold keys and secrets, and so would a debugger's view of it.
pub(crate) fn keep_private() {
    let private = rustix::process::DumpableBehavior::NotDumpable;
    if let Err(error) = rustix::process::set_dumpable_behavior(private) {
        log::warn!("core files of edgeagent can not be switched off: {error}");
    }
}

/// Not joined → pending → member → left → not joined, for ever.
async fn live(
    executor: &Rc<LocalExecutor<'static>>,
    state: &NodeState,
    machine: &Machine,
    mut sealer: Sealer,
    questions: &Receiver<Question>,
) -> Result<(), RunError> {
    let data_root = &state.config.data_root;
    let mut outsider = Outsider::new(executor, &state.config, machine, questions);
    let mut begin = true;
    loop {
        sealer = sealer.follow(data_root, machine, &state.config.seal).map_err(RunError::Seal)?;
        let store = IdentityStore::new(data_root, sealer.clone());
        let Some(identity) = store.load().map_err(RunError::Open)? else {
            let left = sweep(&state.config, false);
            let _sweeping = executor.spawn(perform::keep_discarding(state.config.clone(), left));
            outsider.await_join(&store).await;
            continue;
        };
        settle(&state.config, machine, &identity, begin);
        if std::mem::take(&mut begin)
            && identity.forget_token
            && let Err(error) = store.burn_older()
        {
            log::warn!("the burnt token is still sealed in the older slot: {error}");
        }
        let Some(certificate) = identity.certificate.clone() else {
            outsider.await_approval(&store, &identity).await;
            continue;
        };
        outsider.last_error = None;
        let root = PinnedRoot::unsealed(identity.root_ca.clone());
        let issued = match Issued::stored(&root, &certificate.chain, &certificate.key) {
            Ok(issued) => issued,
            Err(error) => {
                let tasks = stored_tasks(data_root, &sealer).map_err(RunError::Tasks)?;
                let mut report =
                    StatusReport::new("certificate-unusable", Some(store.tier())).counting(&tasks);
                report.reason = format!(
                    "this node's certificate is unusable: {}. Running tasks go on. To join again: \
                     edgeagent leave, then edgeagent join",
                    chain(&error)
                );
                log::error!("{}", report.reason);
                report.node_id = Some(certificate.node_id.to_string());
                report.join_token = Some(String::from(token::kept(&identity)));
                report.managers = identity.seeds;
                rest(&report, &tasks, questions).await;
                continue;
            }
        };
        let tasks = TaskStore::open(data_root, sealer.clone()).map_err(RunError::Tasks)?;
        let mut member =
            Member::new(Rc::clone(executor), state, &store, tasks, identity, &certificate, issued)?;
        match member.run(questions).await {
            End::Left => log::info!("left the swarm"),
        }
    }
}

impl StatusReport {
    /// A report of a node without a session; without a tier where nothing was ever sealed.
    pub(crate) fn new(state: &str, tier: Option<Tier>) -> Self {
        Self {
            state: String::from(state),
            seal: tier.map(|tier| String::from(tier.name())).unwrap_or_default(),
            version: String::from(env!("CARGO_PKG_VERSION")),
            ..Self::default()
        }
    }

    /// With the number of tasks, as they are stored.
    pub(crate) fn counting(mut self, tasks: &[TaskReport]) -> Self {
        self.tasks = tasks.len();
        self.running = tasks.iter().filter(|task| task.state == TaskState::Running.name()).count();
        self
    }
}

/// What is stored of the tasks of this node. Their containers need no agent, so this is how they
/// are unless they have ended meanwhile.
pub(crate) fn stored_tasks(
    data_root: &Path,
    sealer: &Sealer,
) -> Result<Vec<TaskReport>, FileError> {
    let stored = TaskStore::open(data_root, sealer.clone())?.load_all()?;
    Ok(stored.records.iter().map(report).collect())
}

/// Answers questions until the identity has changed, or is about to be forgotten. Returns which.
async fn wait_for_identity(
    report: &StatusReport,
    tasks: &[TaskReport],
    questions: &Receiver<Question>,
) -> Request {
    let begin = clock().mono;
    while let Ok(question) = questions.recv().await {
        let response = match &question.request {
            Request::Status => {
                let waited = clock().mono.saturating_duration_since(begin).as_secs();
                let mut report = Box::new(report.clone());
                report.next_attempt_seconds =
                    report.next_attempt_seconds.map(|seconds| seconds.saturating_sub(waited));
                Response::Status(report)
            }
            Request::Tasks => Response::Tasks(tasks.to_vec()),
            Request::IdentityChanged => Response::Done,
            // What is stored but not in use here is changed, or forgotten, by the command itself.
            Request::SetToken(_) | Request::Leave => Response::NotJoined,
        };
        // Whoever asked may have gone away.
        let _unheard = question.answer.try_send(response);
        match question.request {
            Request::Status | Request::Tasks | Request::SetToken(_) => {}
            last @ (Request::IdentityChanged | Request::Leave) => return last,
        }
    }
    future::pending().await
}

/// Answers questions for a while, or until the identity has changed.
async fn rest(report: &StatusReport, tasks: &[TaskReport], questions: &Receiver<Question>) {
    rest_for(IDENTITY_RETRY, report, tasks, questions).await;
}

/// The same for `pause`, which `status` shows running down.
async fn rest_for(
    pause: Duration,
    report: &StatusReport,
    tasks: &[TaskReport],
    questions: &Receiver<Question>,
) {
    let report = StatusReport { next_attempt_seconds: Some(pause.as_secs()), ..report.clone() };
    let changed = async {
        wait_for_identity(&report, tasks, questions).await;
    };
    future::or(changed, async {
        Timer::after(pause).await;
    })
    .await;
}

/// What an operator compares before he lets a node in.
pub(crate) fn fingerprint(pending: &PendingCertificate) -> String {
    key_fingerprint(&pending.key)
        .map_or_else(|error| error.to_string(), |hex| format!("sha256:{hex}"))
}

/// Makes a folder that only its owner may enter, with its parents.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), RunError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|cause| RunError::Place { path: path.to_owned(), cause })
}

/// Keeps a second agent out of the same `exec-root`, for as long as the file lives.
pub(crate) fn lock(exec_root: &Path) -> Result<fs::File, RunError> {
    let path = exec_root.join("agent.lock");
    let place = |cause| RunError::Place { path: path.clone(), cause };
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(place)?;
    // A child that a killed agent had just forked holds the lock until it runs its program.
    for pause in [LOCK_PAUSE; LOCK_ATTEMPTS] {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(pause),
            Err(error) => return Err(place(error.into())),
        }
    }
    Err(RunError::AlreadyRunning { exec_root: exec_root.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_secrets_leaves_no_core_file() {
        keep_private();
        let behavior = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(behavior, rustix::process::DumpableBehavior::NotDumpable);
    }

    #[test]
    fn a_node_without_a_session_tells_its_tasks_and_lets_go_when_it_is_to_leave() {
        let task = |state: TaskState| TaskReport {
            id: String::from("t1"),
            service: String::from("web"),
            slot: 1,
            image: String::from("app"),
            state: String::from(state.name()),
            desired: String::from("running"),
            message: String::new(),
            err: String::new(),
            container_id: None,
            pid: None,
            exit_code: None,
            health: None,
        };
        let tasks = [task(TaskState::Running), task(TaskState::Complete)];
        let report = StatusReport::new("certificate-unusable", None).counting(&tasks);
        assert_eq!((report.running, report.tasks), (1, 2));

        let (ask, questions) = smol::channel::bounded(4);
        let mut answers = Vec::new();
        for request in [Request::Status, Request::Tasks, Request::Leave] {
            let (answer, answered) = smol::channel::bounded(1);
            ask.try_send(Question { request, answer }).unwrap();
            answers.push(answered);
        }
        let last = future::block_on(wait_for_identity(&report, &tasks, &questions));
        assert_eq!(last, Request::Leave);
        let answers: Vec<Response> =
            answers.iter().map(|answered| answered.try_recv().unwrap()).collect();
        assert!(matches!(&answers[0], Response::Status(status) if **status == report));
        assert!(matches!(&answers[1], Response::Tasks(told) if told == &tasks));
        assert!(matches!(answers[2], Response::NotJoined));
    }
}
