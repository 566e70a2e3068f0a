//! A session with a dispatcher: one connection, the streams of a registered worker, and reports.
//!
//! ```text
//! open → connect → Session stream → first message → { session, heartbeats, assignments,
//!                                                     reports, log subscriptions } → Lost
//! ```
//! As in swarmkit's `agent/session.go`, any error in any part ends the whole link. Events wait
//! for the receiver, and unread streams then wait at the manager: a slow reader costs no memory.

use std::{
    cell::RefCell, collections::VecDeque, convert::Infallible, fmt, rc::Rc, sync::Arc,
    time::Duration,
};

use log::warn;
use rustls::ClientConfig;
use smol::{
    LocalExecutor, Task,
    channel::{Receiver, Sender, TrySendError, bounded},
    future::{self, FutureExt},
};

use super::{
    assignments::SetReader,
    channel::{Channel, decode},
    convert,
    error::{CallError, Code},
    grpc::{Client, within},
    logs::LogSink,
    proto,
};
use crate::{
    limits::{
        ANSWER_MAX_BYTES, ASSIGNMENTS_MAX_BYTES, DIAL_TIMEOUT, DISPATCHER_TIMEOUT, SESSION_TIMEOUT,
    },
    model::{
        AssignmentSet, LinkLoss, LogSubscription, NodeDescription, NodeId, SessionId,
        SessionMessage, TaskId, TaskState, TaskStatus,
    },
};

/// What happens on a link.
#[derive(Debug)]
pub enum LinkEvent {
    /// A session message; the first one means *registered*, and nothing precedes it but
    /// [`LinkEvent::Lost`].
    Session(SessionMessage),
    /// A heartbeat was answered.
    HeartbeatAck {
        /// Send the next one after this.
        period: Duration,
    },
    /// A message of the assignments stream.
    Assignments(AssignmentSet),
    /// A status was delivered, or the manager will never want it.
    Reported {
        /// Of this task.
        task: TaskId,
        /// With this state.
        state: TaskState,
    },
    /// Somebody wants logs, or no longer wants them.
    Subscription(LogSubscription),
    /// The link is gone. Comes once, and nothing after it.
    Lost(LinkLoss),
}

/// Where a link goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port` of the manager.
    pub addr: String,
    /// From [`super::member`].
    pub tls: Arc<ClientConfig>,
    /// [`super::MANAGER_NAME`].
    pub name: &'static str,
}

/// A link to a manager. Dropping it closes everything, and no event comes any more.
pub struct Link {
    shared: Rc<Shared>,
    /// Rings; each holds one ring, which stands for any number of them.
    heartbeat: Sender<()>,
    watch: Sender<()>,
    report: Sender<()>,
    _session: Task<()>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("channel", &self.shared.channel).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Shared {
    /// While it is open.
    channel: RefCell<Option<Channel>>,
    /// In order, at most one per task.
    reports: RefCell<VecDeque<(TaskId, TaskStatus)>>,
}

struct Session {
    client: Client,
    id: SessionId,
    events: Sender<LinkEvent>,
}

struct Bells {
    heartbeat: Receiver<()>,
    watch: Receiver<()>,
    report: Receiver<()>,
}

impl Link {
    /// Connects to the manager, registers with `description` (resuming `session` if the
    /// dispatcher still knows it), listens for log subscriptions, and does what it is told.
    ///
    /// Returns at once; what comes of it arrives in `events`.
    #[must_use]
    pub fn open(
        ex: Rc<LocalExecutor<'static>>,
        target: Target,
        session: Option<SessionId>,
        description: NodeDescription,
        events: Sender<LinkEvent>,
    ) -> Self {
        let shared = Rc::new(Shared::default());
        let (heartbeat, on_heartbeat) = bounded(1);
        let (watch, on_watch) = bounded(1);
        let (report, on_report) = bounded(1);
        let bells = Bells { heartbeat: on_heartbeat, watch: on_watch, report: on_report };
        let (ours, dialler) = (Rc::clone(&shared), Rc::clone(&ex));
        let task = ex.spawn(async move {
            let served =
                Box::pin(serve(&dialler, &ours, target, session, &description, &events, &bells));
            let Err(error) = served.await;
            drop(ours.channel.take());
            // Fails only when nobody listens any more.
            drop(events.send(LinkEvent::Lost(error.loss())).await);
        });
        Self { shared, heartbeat, watch, report, _session: task }
    }

    /// Sends a heartbeat; [`LinkEvent::HeartbeatAck`] follows, or [`LinkEvent::Lost`] after
    /// [`DISPATCHER_TIMEOUT`]. Called again before the answer, one more follows.
    pub fn heartbeat(&self) {
        ring(&self.heartbeat);
    }

    /// Opens the assignments stream, anew if there is one; its first message is a complete set.
    pub fn watch(&self) {
        ring(&self.watch);
    }

    /// Sends a status; [`LinkEvent::Reported`] follows. One is under way at a time, in the order
    /// of the calls; a status that still waits is replaced by a newer one of the same task.
    pub fn report(&self, task: TaskId, status: TaskStatus) {
        let mut reports = self.shared.reports.borrow_mut();
        match reports.iter_mut().find(|(queued, _)| *queued == task) {
            Some((_, waiting)) => *waiting = status,
            None => reports.push_back((task, status)),
        }
        ring(&self.report);
    }

    /// Makes a sink for the log lines of one subscription; `node` is this node. The stream opens
    /// with the first call on it. One sink per subscription.
    #[must_use]
    pub fn publish(&self, subscription: &str, node: NodeId) -> LogSink {
        let client = self.shared.channel.borrow().as_ref().map(|channel| channel.client.clone());
        LogSink::new(client, subscription, node)
    }
}

fn ring(bell: &Sender<()>) {
    match bell.try_send(()) {
        Ok(()) => {}
        // A full bell rings already; a closed one belongs to a link that is lost.
        Err(TrySendError::Full(()) | TrySendError::Closed(())) => {}
    }
}

async fn serve(
    ex: &Rc<LocalExecutor<'static>>,
    shared: &Shared,
    target: Target,
    session: Option<SessionId>,
    description: &NodeDescription,
    events: &Sender<LinkEvent>,
    bells: &Bells,
) -> Result<Infallible, CallError> {
    let Target { addr, tls, name } = target;
    let channel = Channel::open(ex, &addr, tls, name, DIAL_TIMEOUT).await?;
    let client = channel.client.clone();
    shared.channel.replace(Some(channel));

    let request = proto::SessionRequest {
        description: Some(convert::description(description)),
        session_id: session.map(|id| id.as_str().into()).unwrap_or_default(),
    };
    let path = "/docker.swarmkit.v1.Dispatcher/Session";
    let (mut stream, first) = within(SESSION_TIMEOUT, async {
        let mut stream = client.server_stream(path, &request, ANSWER_MAX_BYTES).await?;
        let first = stream.next().await?.ok_or(CallError::Closed)?;
        Ok((stream, convert::session_message(&first)?))
    })
    .await?;
    let session = Session { client, id: first.session_id.clone(), events: events.clone() };
    session.tell(LinkEvent::Session(first)).await?;

    let messages = async {
        loop {
            let data = stream.next().await?.ok_or(CallError::Closed)?;
            session.tell(LinkEvent::Session(convert::session_message(&data)?)).await?;
        }
    };
    future::or(
        messages.or(session.heartbeats(&bells.heartbeat)),
        session
            .assignments(&bells.watch)
            .or(session.reports(&bells.report, &shared.reports))
            .or(session.subscriptions()),
    )
    .await
}

impl Session {
    /// Fails only when nobody listens any more.
    async fn tell(&self, event: LinkEvent) -> Result<(), CallError> {
        self.events.send(event).await.map_err(|_| CallError::Closed)
    }

    fn named(&self) -> proto::OfSession {
        proto::OfSession { session_id: self.id.as_str().into() }
    }

    async fn heartbeats(&self, bell: &Receiver<()>) -> Result<Infallible, CallError> {
        let path = "/docker.swarmkit.v1.Dispatcher/Heartbeat";
        loop {
            bell.recv().await.map_err(|_| CallError::Closed)?;
            let answer = self
                .client
                .unary(path, &self.named(), ANSWER_MAX_BYTES, DISPATCHER_TIMEOUT)
                .await?;
            let period = convert::heartbeat_period(&decode(&answer)?);
            self.tell(LinkEvent::HeartbeatAck { period }).await?;
        }
    }

    async fn assignments(&self, bell: &Receiver<()>) -> Result<Infallible, CallError> {
        let path = "/docker.swarmkit.v1.Dispatcher/Assignments";
        bell.recv().await.map_err(|_| CallError::Closed)?;
        loop {
            let follow = async {
                let mut stream =
                    self.client.server_stream(path, &self.named(), ASSIGNMENTS_MAX_BYTES).await?;
                let mut sets = SetReader::default();
                loop {
                    let set = stream.read(|frames, piece| sets.take(frames, piece)).await?;
                    self.tell(LinkEvent::Assignments(set.ok_or(CallError::Closed)?)).await?;
                }
            };
            // The order to open it anew comes first, so that no message of the old stream
            // follows it.
            let anew = async { bell.recv().await.map_err(|_| CallError::Closed) };
            anew.or(follow).await?;
        }
    }

    async fn reports(
        &self,
        bell: &Receiver<()>,
        queue: &RefCell<VecDeque<(TaskId, TaskStatus)>>,
    ) -> Result<Infallible, CallError> {
        let path = "/docker.swarmkit.v1.Dispatcher/UpdateTaskStatus";
        loop {
            let Some((task, status)) = queue.borrow_mut().pop_front() else {
                bell.recv().await.map_err(|_| CallError::Closed)?;
                continue;
            };
            let request = proto::UpdateTaskStatusRequest {
                session_id: self.id.as_str().into(),
                updates: vec![convert::status_update(&task, &status)],
            };
            match self.client.unary(path, &request, ANSWER_MAX_BYTES, DISPATCHER_TIMEOUT).await {
                // Not found: the managers forgot the task, or us; the latter the next heartbeat
                // tells, and a new session reports everything again.
                Ok(_) | Err(CallError::Status { code: Code::NotFound, .. }) => {}
                Err(CallError::Status { code: Code::PermissionDenied, message })
                    if message == "cannot update a task not assigned this node" =>
                {
                    warn!("the task is no longer ours, status dropped task.id={task}");
                }
                Err(error) => return Err(error),
            }
            self.tell(LinkEvent::Reported { task, state: status.state }).await?;
        }
    }

    async fn subscriptions(&self) -> Result<Infallible, CallError> {
        let path = "/docker.swarmkit.v1.LogBroker/ListenSubscriptions";
        let listen = async {
            let mut stream =
                self.client.server_stream(path, &proto::Empty {}, ANSWER_MAX_BYTES).await?;
            loop {
                let data = stream.next().await?.ok_or(CallError::Closed)?;
                self.tell(LinkEvent::Subscription(convert::subscription(&data)?)).await?;
            }
        };
        match listen.await {
            // A manager without a log broker: the rest of the link works.
            Err(CallError::Status { code: Code::Unimplemented, .. }) => future::pending().await,
            ended => ended,
        }
    }
}
