//! The control socket: how the short commands speak to the running agent.
//!
//! A unix socket in `exec-root`, mode 0600, and each peer's user id is checked besides: root or
//! the agent's own user. One JSON line is asked, one JSON line is answered. At most
//! [`CONTROL_CONNECTIONS`] are served at once; one more is closed unanswered.

use std::{
    cell::Cell,
    fs, io,
    os::unix::net::UnixStream as BlockingStream,
    path::{Path, PathBuf},
    rc::Rc,
};

use serde::{Deserialize, Serialize};
use smol::{
    LocalExecutor, Timer,
    channel::Sender,
    future,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::{UnixListener, UnixStream},
};

use zeroize::Zeroizing;

use super::token::NewToken;
use crate::{
    limits::{CONTROL_CONNECTIONS, CONTROL_REQUEST_MAX_BYTES, CONTROL_TIMEOUT},
    model::Health,
};

/// What a command asks of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Tell the state of the node.
    Status,
    /// List the tasks.
    Tasks,
    /// The sealed identity was written by another process: read it again.
    IdentityChanged,
    /// Keep another join token.
    SetToken(NewToken),
    /// Stop and remove all tasks, forget the identity.
    Leave,
}

impl Request {
    /// Reads what a command asks, one line without its end.
    ///
    /// # Errors
    /// With the place of what is wrong and nothing of the line, which may hold a join token.
    pub fn parse(line: &[u8]) -> io::Result<Self> {
        serde_json::from_slice(line).map_err(|fault| {
            let text = format!(
                "the agent does not understand the request (byte {} of it): a command and the \
                 agent that runs must be of the same version",
                fault.column()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }
}

/// What the agent answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// It is done.
    Done,
    /// It could not be done; for the person who asked.
    Failed(String),
    /// It is not allowed; why, for the person who asked.
    Refused(String),
    /// This node is in no swarm, or has no certificate yet.
    NotJoined,
    /// Answer to [`Request::Status`].
    Status(Box<StatusReport>),
    /// Answer to [`Request::Tasks`].
    Tasks(Vec<TaskReport>),
}

impl Response {
    /// Reads what the agent answers, one line with or without its end.
    ///
    /// # Errors
    /// When it is no answer, or longer than [`ANSWER_MAX_BYTES`].
    pub fn parse(line: &[u8]) -> io::Result<Self> {
        let invalid = |text| io::Error::new(io::ErrorKind::InvalidData, text);
        if ANSWER_MAX_BYTES < line.len() {
            return Err(invalid(format!("the answer is longer than {ANSWER_MAX_BYTES} bytes")));
        }
        serde_json::from_slice(line).map_err(|fault| {
            invalid(format!(
                "the answer is not understood: {fault}; a command and the agent that runs must be \
                 of the same version"
            ))
        })
    }
}

/// Most bytes of an answer: every task with the longest texts is a quarter of it.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// The state of the node, as `edgeagent status --json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// `not-joined`, `joining` (with a provisioning file), `pending-approval`, `rejected`,
    /// `connecting`, `ready`, `backing-off`, `removed`, `expired`, `clock-wrong`, `root-changed`,
    /// `leaving`, `certificate-unusable`; `stopped` when no agent runs.
    pub state: String,
    /// Why the node is in this state, when there is something to say.
    pub reason: String,
    /// This node's identifier.
    pub node_id: Option<String>,
    /// The node whose place this one took after its certificate had expired. Its record stays at
    /// the managers until an operator removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// The swarm's identifier.
    pub cluster_id: Option<String>,
    /// Whether managers give it tasks: `active`, `pause`, `drain`.
    pub availability: Option<String>,
    /// The manager in use.
    pub manager: Option<String>,
    /// Every manager known, and the addresses given to `join`.
    pub managers: Vec<String>,
    /// The certificate.
    pub certificate: Option<CertificateReport>,
    /// Whether a join token is kept: `sealed`, or `forgotten` when it was burnt.
    pub join_token: Option<String>,
    /// What seals the state: `tpm2`, `credential` or `host`.
    pub seal: String,
    /// Tasks on this node, finished ones included.
    pub tasks: usize,
    /// Tasks that run.
    pub running: usize,
    /// Images that are being pulled for tasks.
    #[serde(default)]
    pub pulls: Vec<PullReport>,
    /// Images that tasks use although their registry could not be asked whether the tag means
    /// another one by now.
    #[serde(default)]
    pub stale_images: Vec<StaleImage>,
    /// What last went wrong between this node and the managers.
    pub last_error: Option<String>,
    /// Seconds until the next attempt to reach a manager.
    pub next_attempt_seconds: Option<u64>,
    /// Version of the agent that answers.
    pub version: String,
}

/// A pull under way, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullReport {
    /// The image.
    pub image: String,
    /// Packed bytes that are here, those kept from earlier included.
    pub done_bytes: u64,
    /// Packed bytes of all layers that were missing; 0 while that is not known.
    pub total_bytes: u64,
}

/// An image that may be stale, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaleImage {
    /// The image.
    pub image: String,
    /// Why its registry could not be asked.
    pub reason: String,
}

/// The certificate, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReport {
    /// Start of validity, RFC 3339.
    pub not_before: String,
    /// End of validity, RFC 3339.
    pub not_after: String,
    /// SHA-256 of the root CA bundle.
    pub root_ca: String,
}

/// A task, as `edgeagent ps --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Its identifier.
    pub id: String,
    /// Its service's name.
    pub service: String,
    /// Its slot; 0 for a global service.
    pub slot: u64,
    /// Its image.
    pub image: String,
    /// How far it has come.
    pub state: String,
    /// How far it should come.
    pub desired: String,
    /// What happened, in a word.
    pub message: String,
    /// What went wrong.
    pub err: String,
    /// Its container.
    pub container_id: Option<String>,
    /// Process id on the host.
    pub pid: Option<i32>,
    /// Exit code of a finished container.
    pub exit_code: Option<i32>,
    /// Health of a container with a health check, and what the last failed probe printed.
    pub health: Option<Health>,
}

/// A request and where its answer goes.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) request: Request,
    pub(super) answer: Sender<Response>,
}

/// Where the socket is.
#[must_use]
pub fn socket_path(exec_root: &Path) -> PathBuf {
    exec_root.join("control.sock")
}

/// Asks the running agent; `None` when there is none.
///
/// # Errors
/// When an agent is there and does not answer as it should.
pub fn ask(exec_root: &Path, request: &Request) -> io::Result<Option<Response>> {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};

    let stream = match BlockingStream::connect(socket_path(exec_root)) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // Leaving waits for containers to stop; everything else is answered at once.
    if *request != Request::Leave {
        stream.set_read_timeout(Some(CONTROL_TIMEOUT))?;
    }
    // Large enough from the start: a buffer that grows leaves a token behind.
    let mut line = Zeroizing::new(Vec::with_capacity(CONTROL_REQUEST_MAX_BYTES));
    serde_json::to_writer(&mut *line, request)?;
    line.push(b'\n');
    (&stream).write_all(&line)?;
    let mut answer = Vec::new();
    // One byte more than may be, so that what is too long is seen.
    let most = u64::try_from(ANSWER_MAX_BYTES + 1).unwrap_or(u64::MAX);
    BufReader::new((&stream).take(most)).read_until(b'\n', &mut answer).map_err(unanswered)?;
    if answer.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the agent closed the connection without an answer",
        ));
    }
    Response::parse(&answer).map(Some)
}

/// A timeout comes as *would block*, which tells a person nothing.
fn unanswered(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        let text = format!("no answer within {} s", CONTROL_TIMEOUT.as_secs());
        return io::Error::new(io::ErrorKind::TimedOut, text);
    }
    error
}

/// Listens on the control socket.
pub(super) fn listen(exec_root: &Path) -> io::Result<UnixListener> {
    let path = socket_path(exec_root);
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // exec-root itself is 0700: nobody can connect between bind and chmod.
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Serves connections for ever; each request is put to the driver through `questions`.
pub(super) async fn serve(
    executor: Rc<LocalExecutor<'static>>,
    listener: UnixListener,
    questions: Sender<Question>,
) {
    let free = Rc::new(Cell::new(CONTROL_CONNECTIONS));
    let mut connections = Vec::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back.
                log::warn!("control socket: {error}");
                Timer::after(CONTROL_TIMEOUT).await;
                continue;
            }
        };
        connections.retain(|task: &smol::Task<()>| !task.is_finished());
        if free.get() == 0 || !is_trusted(&stream) {
            continue;
        }
        free.set(free.get().saturating_sub(1));
        let (free, questions) = (Rc::clone(&free), questions.clone());
        connections.push(executor.spawn(async move {
            if let Err(error) = converse(stream, &questions).await {
                log::debug!("control socket: {error}");
            }
            free.set(free.get().saturating_add(1));
        }));
    }
}

/// Root, or the user that the agent runs as.
fn is_trusted(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
}

async fn converse(mut stream: UnixStream, questions: &Sender<Question>) -> io::Result<()> {
    let request = future::or(read_request(&mut stream), async {
        Timer::after(CONTROL_TIMEOUT).await;
        Err(io::ErrorKind::TimedOut.into())
    })
    .await;
    let response = match request {
        Ok(request) => answered(request, questions).await,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Response::Failed(error.to_string())
        }
        Err(error) => return Err(error),
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    future::or(stream.write_all(&line), async {
        Timer::after(CONTROL_TIMEOUT).await;
        Err(io::ErrorKind::TimedOut.into())
    })
    .await
}

async fn answered(request: Request, questions: &Sender<Question>) -> Response {
    let (answer, answered) = smol::channel::bounded(1);
    let response = match questions.send(Question { request, answer }).await {
        Ok(()) => answered.recv().await.ok(),
        Err(_closed) => None,
    };
    response.unwrap_or_else(|| Response::Failed(String::from("the agent is stopping")))
}

async fn read_request(stream: &mut UnixStream) -> io::Result<Request> {
    let mut line = Zeroizing::new(Vec::with_capacity(CONTROL_REQUEST_MAX_BYTES + 1));
    let mut byte = [0];
    while line.len() <= CONTROL_REQUEST_MAX_BYTES {
        stream.read_exact(&mut byte).await?;
        if byte == *b"\n" {
            return Request::parse(&line);
        }
        line.extend_from_slice(&byte);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::token::TokenText;

    #[test]
    fn requests_are_short_words_on_the_wire() {
        let token = TokenText(Zeroizing::new("x".repeat(90)));
        for request in [
            Request::Status,
            Request::Tasks,
            Request::IdentityChanged,
            Request::Leave,
            Request::SetToken(NewToken { token, new_root: false }),
        ] {
            let line = serde_json::to_string(&request).unwrap();
            assert!(line.len() < CONTROL_REQUEST_MAX_BYTES);
            assert_eq!(Request::parse(line.as_bytes()).unwrap(), request);
        }
    }

    #[test]
    fn what_is_no_request_is_told_without_a_word_of_it() {
        for line in [
            r#"{"set-token":"SWMTKN-1-secret"}"#,
            r#"{"set-token":{"token":"SWMTKN-1-secret","new-root":"SWMTKN-1-secret"}}"#,
            r#"{"set-token":{"token":"a","SWMTKN-1-secret":0}}"#,
            r#""SWMTKN-1-secret""#,
            "SWMTKN-1-secret",
        ] {
            let fault = Request::parse(line.as_bytes()).unwrap_err().to_string();
            assert!(fault.contains("same version") && !fault.contains("secret"), "{fault}");
        }
        let fault = Response::parse(&vec![b' '; ANSWER_MAX_BYTES + 1]).unwrap_err().to_string();
        assert!(fault.contains("longer than"), "{fault}");
    }

    #[test]
    fn a_command_that_is_not_understood_gets_an_answer() {
        use std::io::{Read as _, Write as _};

        let (theirs, ours) = BlockingStream::pair().unwrap();
        (&theirs).write_all(b"\"dance\"\n").unwrap();
        let (questions, _asked) = smol::channel::bounded(1);
        let ours = UnixStream::from(smol::Async::new(ours).unwrap());
        smol::block_on(converse(ours, &questions)).unwrap();
        let mut answer = Vec::new();
        (&theirs).read_to_end(&mut answer).unwrap();
        let Response::Failed(text) = Response::parse(&answer).unwrap() else { panic!() };
        assert!(text.contains("does not understand"), "{text}");
    }

    #[test]
    fn an_agent_that_does_not_answer_in_time_is_called_that() {
        let slow = unanswered(io::ErrorKind::WouldBlock.into());
        assert_eq!(slow.to_string(), "no answer within 10 s");
        let other = unanswered(io::ErrorKind::ConnectionReset.into());
        assert_eq!(other.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn no_agent_is_an_answer_and_not_an_error() {
        let dir = std::env::temp_dir().join(format!("edgeagent-control-{}", std::process::id()));
        assert!(ask(&dir, &Request::Status).unwrap().is_none());
    }
}
