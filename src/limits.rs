//! Every bound and interval of edgeagent: unit, reason, and source where swarm fixes it.
//!
//! A bound comes with a written answer for *full*. Numbers live here and nowhere else.

/// Longest identifier, in bytes. Swarm's have 25 characters, a container's 64; a longer one is
/// refused where it is read.
pub const ID_MAX_BYTES: usize = 64;

use std::time::Duration;

/// After `exceeded rate limit count of registrations`, wait this long: managers count
/// registrations that follow each other within 8 s (swarmkit `manager/dispatcher/nodes.go`).
pub const REGISTRATION_PAUSE: Duration = Duration::from_secs(9);

// --- rpc ---

/// Largest message of an assignments stream: a complete set carries every task, secret and config
/// of the node at once, and swarmkit's own client takes 2 GiB. A larger one ends the link.
pub const ASSIGNMENTS_MAX_BYTES: usize = 64 << 20;
/// Most changes in one message of an assignments stream, removals included; a device runs some
/// tens of tasks. More end the link.
pub const ASSIGNMENTS_MAX_CHANGES: usize = 16 << 10;
/// Largest single task, secret or config: managers store nothing above 1.5 MiB (swarmkit
/// `manager/state/store/memory.go`, `MaxTransactionBytes`). A larger one is dropped.
pub const ASSIGNMENT_MAX_BYTES: usize = 2 << 20;
/// Most mounts, networks, secrets or configs of one task, each. A task with more is dropped.
pub const TASK_MAX_LIST: usize = 1024;
/// Largest message of any other call. A larger one ends the call, or the link.
pub const ANSWER_MAX_BYTES: usize = 4 << 20;
/// Largest message that we send: managers take 4 MiB (swarmkit `manager/manager.go`, `New`). A
/// larger one fails before anything is sent.
pub const REQUEST_MAX_BYTES: usize = 4 << 20;
/// Longest `message` or `err` of a reported status, in bytes; the rest is cut off.
pub const STATUS_TEXT_MAX_BYTES: usize = 4 << 10;
/// Longest text of a gRPC status, in bytes; the rest is cut off.
pub const STATUS_MESSAGE_MAX_BYTES: usize = 2 << 10;
/// Log lines travel in messages of about this many bytes; a single longer line has its own.
pub const LOG_BATCH_BYTES: usize = 64 << 10;
/// Bytes that a manager may send ahead on one stream; more waits at the manager. Held in memory
/// only while nobody reads.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The same for a whole connection: above the three streams that a link keeps open, so that their
/// readers can not block an answer.
pub const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of a stream that h2 takes from us before it asks us to wait.
pub const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Largest set of headers that we take; grpc-go sends some 200 bytes. More ends the call.
pub const HEADERS_MAX_BYTES: u32 = 16 << 10;
/// Addresses of one name that are tried; the others are ignored.
pub const ADDRESSES_MAX: usize = 8;
/// From nothing to an open HTTP/2 connection.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls to the CA that are answered at once (swarmkit `ca/certificates.go`).
pub const CA_TIMEOUT: Duration = Duration::from_secs(5);
/// Heartbeats and status reports (swarmkit `agent/session.go`, `dispatcherRPCTimeout`).
pub const DISPATCHER_TIMEOUT: Duration = Duration::from_secs(5);
/// From the call to the first session message. Twice swarmkit's, for slow links: the manager
/// alone takes up to 0.1 s.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// A finished log stream waits this long for the manager to take the rest.
pub const LOG_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest pause between heartbeats, whatever a manager says: no busy loop on its word.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
/// Longest pause between heartbeats, whatever a manager says.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(3600);
