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

// node

/// Connections to the control socket that are served at once; one more is closed unanswered.
pub const CONTROL_CONNECTIONS: usize = 8;

/// Longest request on the control socket, in bytes; a longer one closes the connection.
pub const CONTROL_REQUEST_MAX_BYTES: usize = 256;

/// How long a request or an answer on the control socket may take.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one attempt to reach one manager may take, name look-up and TLS included. A device
/// on a satellite link needs several seconds for the handshakes alone.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(15);

/// How long one poll for a certificate may be held by the manager (swarmkit
/// `ca/certificates.go`, `GetRemoteSignedCertificate`).
pub const CERTIFICATE_POLL: Duration = Duration::from_secs(5);

/// Longest pause between two polls for a certificate (the same).
pub const CERTIFICATE_POLL_PAUSE: Duration = Duration::from_secs(30);

/// While someone follows logs, the rings are looked at this often. Nothing wakes up otherwise.
pub const LOG_FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes of log lines that are put into one message: well below the 4 MiB that a manager takes.
pub const LOG_BATCH_MAX_BYTES: usize = 64 * 1024;

/// Log subscriptions that are served at once; one more is answered as complete, with a warning
/// in our log.
pub const LOG_SUBSCRIPTIONS_MAX: usize = 32;

/// Events of the link to the manager that wait for the loop; when full, the streams wait.
pub const LINK_EVENTS_MAX: usize = 16;

/// Pause before an identity that can not be used, or a broken enrolment, is tried again.
pub const IDENTITY_RETRY: Duration = Duration::from_secs(20);

// cli

/// The port that managers listen on when an address names none.
pub const DEFAULT_MANAGER_PORT: u16 = 2377;

/// Addresses that `join` takes; more is a usage error.
pub const JOIN_ADDRESSES_MAX: usize = 16;

/// Bytes read of a token file; what follows is ignored, and a token cut off is malformed.
pub const TOKEN_FILE_MAX_BYTES: u64 = 4096;
// --- ca ---

/// Characters of the root CA's digest in a join token: 256 bits in base 36 (swarmkit
/// `ca/config.go`, `base36DigestLen`).
pub const TOKEN_DIGEST_CHARS: usize = 50;

/// Characters of the secret in a join token: 128 bits in base 36 (swarmkit `ca/config.go`,
/// `maxGeneratedSecretLength`).
pub const TOKEN_SECRET_CHARS: usize = 25;

/// Longest PEM text, in bytes, of a root CA bundle or a certificate chain. Real ones have 550 to
/// some 8000; a longer one is refused.
pub const PEM_MAX_BYTES: usize = 65_536;

/// Most certificates in a root CA bundle or a chain. Swarm sends one, or two during a rotation;
/// more are refused.
pub const PEM_MAX_CERTIFICATES: usize = 16;

// --- seal ---

/// Largest sealed identity, in bytes: token, key, chain, root bundle and manager list need some
/// 6000. A larger one is not stored, and the one before stays.
pub const IDENTITY_MAX_BYTES: usize = 262_144;

/// Largest sealed task record, in bytes: a spec of some kilobytes, or much more with long
/// environments. A larger one is not stored, and its task must be refused.
pub const TASK_RECORD_MAX_BYTES: usize = 1_048_576;

/// What is read at most, in bytes, of a file that names the hardware; real ones have up to 37.
pub const HARDWARE_ID_MAX_BYTES: usize = 256;
