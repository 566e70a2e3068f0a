//! Managers: TLS, HTTP/2, gRPC and protobuf on one side, the model on the other.
//!
//! [`Channel`] is one connection with the calls to the CA; [`Link`] is a registered session with
//! all its streams, and ends with exactly one [`LinkEvent::Lost`]. Nothing here decides when to
//! dial, to beat or to report, and no protobuf type leaves. The deprecated `Tasks` stream is left
//! out: every manager from 20.10 on has `Assignments`.
//!
//! Everything runs on one `LocalExecutor`, and only while the executor is run.

mod assignments;
mod channel;
mod convert;
mod error;
mod frame;
mod grpc;
mod link;
mod logs;
#[expect(unreachable_pub, clippy::large_enum_variant, reason = "generated from swarm.proto")]
mod proto;
mod task;
mod tls;

pub use assignments::assignments;
pub use channel::Channel;
pub use convert::{
    CertificateAnswer, MessageError, certificate_answer, session_message, subscription,
};
pub use error::{CallError, Code};
pub use frame::{FrameError, FrameReader};
pub use grpc::status_text;
pub use link::{Link, LinkEvent, Target};
pub use logs::LogSink;
pub use tls::{JOIN_NAME, MANAGER_NAME, TlsError, joining, member, unverified};
