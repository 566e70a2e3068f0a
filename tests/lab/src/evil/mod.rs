//! Evil on demand: every way in which a manager can be wrong, one small function each.
//!
//! A mode names the moment at which it acts ([`Hook`]) and one function. Modes are switched with
//! `lab evil NAME [on|off|N]`; every switch cuts the connections that are open, so that the next
//! ones show it. [`MODES`] is the list, and the only place that knows a name.

mod certificates;
mod http2;
mod messages;

use std::{future::Future, pin::Pin, time::Duration};

use smol::net::TcpStream;

use crate::{
    ca::{Authority, NoRandom, Template},
    grpc::{Call, Status},
    lab::Lab,
    proto,
    server::Tls,
};

/// What replaces a connection or a call.
pub(crate) type Instead = Pin<Box<dyn Future<Output = ()>>>;

/// The certificate that the lab is about to show.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) template: Template,
    pub(crate) root: Authority,
    /// PEM that follows the leaf.
    pub(crate) cross: String,
}

/// What an assignment stream remembers for its evil mode.
#[derive(Debug, Default)]
pub(crate) struct Line {
    count: u64,
    held: Option<proto::AssignmentsMessage>,
}

/// When a mode acts. The number is the N of `lab evil NAME N`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hook {
    /// Instead of TLS.
    Tcp(fn(TcpStream, u64) -> Instead),
    /// The manager's own certificate chain, PEM.
    Show(fn(&mut Own, u64) -> Result<String, NoRandom>),
    /// No protocol is selected.
    NoAlpn,
    /// Instead of HTTP/2.
    Wire(fn(Tls, u64) -> Instead),
    /// What GetRootCACertificate answers.
    Root(fn(&[u8], u64) -> Result<Vec<u8>, NoRandom>),
    /// A node's certificate before it is signed.
    Sign(fn(&mut Template, u64)),
    /// What NodeCertificateStatus answers; `None` is nothing, yet.
    Status(
        fn(
            proto::NodeCertificateStatusResponse,
            u64,
        ) -> Option<proto::NodeCertificateStatusResponse>,
    ),
    /// A call that is refused: path and node id.
    Refuse(fn(&str, &str, u64) -> Option<Status>),
    /// Instead of one method, or of `*` all.
    Call(&'static str, fn(Call, u64) -> Instead),
    /// Messages of an assignment stream.
    Assign(fn(&mut Line, proto::AssignmentsMessage, u64) -> Vec<proto::AssignmentsMessage>),
    /// The heartbeat period that is asked for.
    Period(fn(u64) -> Duration),
    /// Every N seconds.
    Tick(fn(&Lab)),
}

/// A way to be evil.
#[derive(Debug)]
pub(crate) struct Mode {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) hook: Hook,
}

/// The mode of this name.
pub(crate) fn find(name: &str) -> Option<&'static Mode> {
    MODES.iter().find(|mode| mode.name == name)
}

const fn mode(name: &'static str, what: &'static str, hook: Hook) -> Mode {
    Mode { name, what, hook }
}

const ASSIGNMENTS: &str = "Dispatcher/Assignments";
const SESSION: &str = "Dispatcher/Session";

/// Every mode, in the order of a connection's life.
pub(crate) const MODES: &[Mode] = &[
    mode("tcp-stall", "accepts, and says nothing for ever", Hook::Tcp(http2::tcp_stall)),
    mode("tcp-close", "accepts, and closes at once", Hook::Tcp(http2::tcp_close)),
    mode("tls11", "answers with TLS 1.1", Hook::Tcp(http2::tls11)),
    mode("no-alpn", "selects no protocol, as managers up to 26.1 (no fault)", Hook::NoAlpn),
    mode("cert-worker", "shows a worker's certificate", Hook::Show(certificates::worker)),
    mode(
        "cert-san",
        "shows a manager's certificate for another name",
        Hook::Show(certificates::san),
    ),
    mode("cert-no-san", "shows a certificate without names", Hook::Show(certificates::no_san)),
    mode(
        "cert-joining-name",
        "shows swarm-ca, but not swarm-manager",
        Hook::Show(certificates::joining_name),
    ),
    mode(
        "cert-foreign",
        "shows the right names from another CA",
        Hook::Show(certificates::foreign),
    ),
    mode(
        "cert-self-signed",
        "shows the right names, self-signed",
        Hook::Show(certificates::self_signed),
    ),
    mode("cert-expired", "shows an expired certificate", Hook::Show(certificates::expired)),
    mode("cert-future", "shows a certificate of tomorrow", Hook::Show(certificates::future)),
    mode("cert-truncated", "leaves the intermediate out", Hook::Show(certificates::truncated)),
    mode("h2-garbage", "speaks random bytes inside TLS", Hook::Wire(http2::garbage)),
    mode("h2-http1", "answers with HTTP/1.1", Hook::Wire(http2::http1)),
    mode("h2-goaway", "sends GOAWAY on every connection", Hook::Wire(http2::goaway)),
    mode("h2-rst", "resets streams, and floods RST_STREAM", Hook::Wire(http2::rst)),
    mode("h2-settings", "floods SETTINGS", Hook::Wire(http2::settings)),
    mode("h2-ping", "floods PING, and reads nothing", Hook::Wire(http2::ping)),
    mode("h2-window", "floods WINDOW_UPDATE", Hook::Wire(http2::window)),
    mode("h2-priority", "floods PRIORITY and unknown frames", Hook::Wire(http2::priority)),
    mode("h2-continuation", "headers that never end", Hook::Wire(http2::continuation)),
    mode("h2-headers", "headers that unpack to 64 MB (HPACK)", Hook::Wire(http2::header_bomb)),
    mode("h2-informational", "floods 103 responses", Hook::Wire(http2::informational)),
    mode("h2-empty-data", "floods empty DATA", Hook::Wire(http2::empty_data)),
    mode("root-wrong", "offers another root CA", Hook::Root(certificates::root_wrong)),
    mode("root-extra", "offers one root CA too many", Hook::Root(certificates::root_extra)),
    mode("root-huge", "offers 64 MB of root CA", Hook::Root(certificates::root_huge)),
    mode("sign-never", "never signs", Hook::Status(messages::sign_never)),
    mode("sign-fails", "says that signing failed", Hook::Status(messages::sign_fails)),
    mode(
        "sign-other-csr",
        "gives a certificate for another request",
        Hook::Status(messages::other_csr),
    ),
    mode("sign-nothing", "says issued, gives nothing", Hook::Status(messages::sign_nothing)),
    mode("sign-garbage", "says issued, gives noise", Hook::Status(messages::sign_garbage)),
    mode(
        "sign-expired",
        "issues certificates of yesterday",
        Hook::Sign(certificates::sign_expired),
    ),
    mode("sign-future", "issues certificates of tomorrow", Hook::Sign(certificates::sign_future)),
    mode(
        "sign-manager",
        "issues managers' certificates to workers",
        Hook::Sign(certificates::sign_manager),
    ),
    mode(
        "sign-other-key",
        "issues certificates for another key",
        Hook::Sign(certificates::sign_other_key),
    ),
    mode("sign-short", "issues certificates for N seconds", Hook::Sign(certificates::sign_short)),
    mode("rate-limit", "refuses registrations: too many", Hook::Refuse(messages::rate_limit)),
    mode("node-removed", "says that the node was removed", Hook::Refuse(messages::node_removed)),
    mode(
        "node-not-found",
        "says that the node is not found",
        Hook::Refuse(messages::node_not_found),
    ),
    mode("not-registered", "heartbeats of nobody it knows", Hook::Refuse(messages::not_registered)),
    mode(
        "session-invalid",
        "heartbeats of another session",
        Hook::Refuse(messages::session_invalid),
    ),
    mode("no-leader", "says that the swarm has no leader", Hook::Refuse(messages::no_leader)),
    mode(
        "leader-change",
        "forgets all sessions every N seconds",
        Hook::Tick(messages::leader_change),
    ),
    mode("cut", "cuts all connections every N seconds", Hook::Tick(messages::cut)),
    mode("period-zero", "wants heartbeats without a pause", Hook::Period(messages::period_zero)),
    mode(
        "period-ages",
        "wants heartbeats in a thousand years",
        Hook::Period(messages::period_ages),
    ),
    mode("stall", "takes every call and answers none", Hook::Call("*", messages::stall)),
    mode(
        "stall-heartbeat",
        "answers no heartbeat",
        Hook::Call("Dispatcher/Heartbeat", messages::stall),
    ),
    mode("stall-session", "registers nobody", Hook::Call(SESSION, messages::stall)),
    mode(
        "stall-assignments",
        "assigns nothing, not even nothing",
        Hook::Call(ASSIGNMENTS, messages::stall),
    ),
    mode(
        "stall-status",
        "takes no status report",
        Hook::Call("Dispatcher/UpdateTaskStatus", messages::stall),
    ),
    mode(
        "assign-drop",
        "every second increment is lost on the way",
        Hook::Assign(messages::drop_some),
    ),
    mode("assign-duplicate", "every message comes twice", Hook::Assign(messages::duplicate)),
    mode("assign-reorder", "messages change places", Hook::Assign(messages::reorder)),
    mode("assign-gap", "messages apply to what was never sent", Hook::Assign(messages::gap)),
    mode("assign-no-complete", "begins with an increment", Hook::Assign(messages::no_complete)),
    mode(
        "assign-endless",
        "increments without end, N tasks each",
        Hook::Call(ASSIGNMENTS, messages::endless),
    ),
    mode("assign-secrets", "secrets without end", Hook::Call(ASSIGNMENTS, messages::secrets)),
    mode(
        "assign-full",
        "the largest complete sets, one after the other",
        Hook::Call(ASSIGNMENTS, messages::full),
    ),
    mode("assign-fat", "tasks of empty labels without end", Hook::Call(ASSIGNMENTS, messages::fat)),
    mode(
        "assign-many",
        "a million changes in one message",
        Hook::Call(ASSIGNMENTS, messages::many),
    ),
    mode("assign-huge", "one message without end", Hook::Call(ASSIGNMENTS, messages::huge)),
    mode("assign-half", "half a message, then silence", Hook::Call(ASSIGNMENTS, messages::half)),
    mode("assign-malformed", "noise for a message", Hook::Call(ASSIGNMENTS, messages::malformed)),
    mode("session-huge", "a session message without end", Hook::Call(SESSION, messages::huge)),
    mode(
        "session-malformed",
        "noise for a session message",
        Hook::Call(SESSION, messages::malformed),
    ),
    mode(
        "session-managers",
        "a thousand managers that are none",
        Hook::Call(SESSION, messages::managers),
    ),
    mode(
        "session-empty-managers",
        "managers without a name, as many as fit, again and again",
        Hook::Call(SESSION, messages::empty_managers),
    ),
    mode(
        "logs-endless",
        "log subscriptions without end",
        Hook::Call("LogBroker/ListenSubscriptions", messages::subscriptions),
    ),
    mode(
        "compressed",
        "compressed messages that nobody asked for",
        Hook::Call("*", messages::compressed),
    ),
    mode("reset", "resets every call", Hook::Call("*", messages::reset)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for mode in MODES {
            assert_eq!(MODES.iter().filter(|other| other.name == mode.name).count(), 1);
        }
    }
}
