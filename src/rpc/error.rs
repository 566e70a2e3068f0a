//! How a call to a manager fails, and what a worker makes of it.

use std::{error::Error, fmt, io};

use rustls::AlertDescription;

use super::{convert::MessageError, frame::FrameError};
use crate::model::{LinkLoss, UnixTime};

/// A gRPC status code (grpc `doc/statuscodes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The caller gave up, or the server stops.
    Cancelled,
    /// A plain error text of the manager, or a code that does not exist.
    Unknown,
    /// The request makes no sense, or the session or token is not valid.
    InvalidArgument,
    /// Nothing with this identifier.
    NotFound,
    /// Not with this certificate.
    PermissionDenied,
    /// Too much, or too many redirections.
    ResourceExhausted,
    /// The manager is not ready for it.
    Aborted,
    /// No such method.
    Unimplemented,
    /// Try again.
    Unavailable,
    /// One of the codes that swarm does not use.
    Other(u32),
}

/// `OK`.
pub(super) const STATUS_OK: u32 = 0;
/// `DEADLINE_EXCEEDED`: a manager saw our deadline pass, which is [`CallError::Deadline`].
pub(super) const STATUS_DEADLINE: u32 = 4;

impl Code {
    /// The code with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Cancelled,
            2 => Self::Unknown,
            3 => Self::InvalidArgument,
            5 => Self::NotFound,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            10 => Self::Aborted,
            12 => Self::Unimplemented,
            14 => Self::Unavailable,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("Canceled"),
            Self::Unknown => f.write_str("Unknown"),
            Self::InvalidArgument => f.write_str("InvalidArgument"),
            Self::NotFound => f.write_str("NotFound"),
            Self::PermissionDenied => f.write_str("PermissionDenied"),
            Self::ResourceExhausted => f.write_str("ResourceExhausted"),
            Self::Aborted => f.write_str("Aborted"),
            Self::Unimplemented => f.write_str("Unimplemented"),
            Self::Unavailable => f.write_str("Unavailable"),
            Self::Other(number) => write!(f, "code {number}"),
        }
    }
}

/// How a call fails.
#[derive(Debug)]
pub enum CallError {
    /// The name of the manager's host means nothing here.
    Resolve {
        /// `host:port`.
        addr: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody answered at the address; the error is that of the last address of the name.
    Connect {
        /// `host:port`.
        addr: String,
        /// Why.
        source: io::Error,
    },
    /// TCP is up, and the handshake on it gets no answer in time.
    Stalled {
        /// `host:port`.
        addr: String,
    },
    /// One side refused the other, in the handshake or (TLS 1.3) right after it.
    Tls {
        /// `host:port`.
        addr: String,
        /// Why.
        source: rustls::Error,
    },
    /// The manager answered with an error.
    Status {
        /// Its code.
        code: Code,
        /// Its text, without control characters, cut at
        /// [`crate::limits::STATUS_MESSAGE_MAX_BYTES`].
        message: String,
    },
    /// The connection or the stream broke.
    Transport {
        /// How.
        source: h2::Error,
    },
    /// A message passes a limit of [`crate::limits`]: theirs, or ours before it is sent.
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The answer is no gRPC.
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A message can not be used.
    Message {
        /// Why.
        source: MessageError,
    },
    /// No answer in time.
    Deadline,
    /// The stream ended where it should go on, or the link is not open.
    Closed,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { addr, .. } => write!(f, "the address {addr} can not be resolved"),
            Self::Connect { addr, .. } => write!(f, "no connection to {addr}"),
            Self::Stalled { addr } => write!(
                f,
                "{addr} takes connections, but its answer to the TLS handshake does not arrive: \
                 the program there hangs, or the path loses large packets because its MTU is \
                 smaller than this node's (try: ip link set dev INTERFACE mtu 1280)"
            ),
            Self::Tls { addr, .. } => match self.outside_validity() {
                Some((end, bound, now)) => write!(
                    f,
                    "TLS with {addr} failed: the certificate there is {end} {bound}, and this \
                     node's clock says {now}. If the clock is wrong, set it or wait until it is \
                     synchronised"
                ),
                None => write!(f, "TLS with {addr} failed"),
            },
            Self::Status { code, message } => write!(f, "the manager answered {code}: {message}"),
            Self::Transport { .. } => f.write_str("the connection to the manager broke"),
            Self::TooLarge { bytes, limit } => {
                write!(f, "a message of {bytes} bytes passes the limit of {limit} bytes")
            }
            Self::Malformed { what } => write!(f, "the manager's answer is no gRPC: {what}"),
            Self::Message { .. } => f.write_str("a message of the manager can not be used"),
            Self::Deadline => f.write_str("the manager did not answer in time"),
            Self::Closed => f.write_str("the manager ended the stream"),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Resolve { source, .. } | Self::Connect { source, .. } => Some(source),
            // The dates are in our own sentence.
            Self::Tls { .. } if self.outside_validity().is_some() => None,
            Self::Tls { source, .. } => Some(source),
            Self::Transport { source } => Some(source),
            Self::Message { source } => Some(source),
            Self::Stalled { .. }
            | Self::Status { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::Deadline
            | Self::Closed => None,
        }
    }
}

impl From<MessageError> for CallError {
    fn from(source: MessageError) -> Self {
        Self::Message { source }
    }
}

impl From<FrameError> for CallError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Compressed => Self::Malformed { what: "it is compressed" },
            FrameError::TooLarge { bytes, limit } => {
                Self::TooLarge { bytes: usize::try_from(bytes).unwrap_or(usize::MAX), limit }
            }
        }
    }
}

impl CallError {
    /// What this means for a member of the swarm; one arm per row of behaviour.md §5.
    ///
    /// Swarm tells some cases apart by text only; the texts are swarmkit's, the same from 20.10
    /// on. While joining there is no membership to lose: look at the error itself.
    #[must_use]
    pub fn loss(&self) -> LinkLoss {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Stalled { .. } | Self::Deadline => {
                LinkLoss::Unreachable(chain(self))
            }
            Self::Tls { source: rustls::Error::AlertReceived(alert), .. }
                if is_about_dates(*alert) =>
            {
                LinkLoss::Refused(chain(self))
            }
            Self::Tls { .. } if self.outside_validity().is_some() => {
                LinkLoss::WrongTime(chain(self))
            }
            Self::Tls { source: rustls::Error::AlertReceived(alert), .. }
                if is_about_our_certificate(*alert) =>
            {
                LinkLoss::Denied(chain(self))
            }
            Self::Tls { .. } => LinkLoss::Untrusted(chain(self)),
            Self::Status { code, message } => self.status_loss(*code, message),
            Self::Transport { source } if source.is_library() => LinkLoss::Misbehaved(chain(self)),
            Self::TooLarge { .. } | Self::Malformed { .. } | Self::Message { .. } => {
                LinkLoss::Misbehaved(chain(self))
            }
            Self::Transport { .. } | Self::Closed => LinkLoss::Broken(chain(self)),
        }
    }

    /// The certificate of the other side is out of time: in which way, the bound that it passes,
    /// and the time it was judged by, which is never before the time floor.
    fn outside_validity(&self) -> Option<(&'static str, UnixTime, UnixTime)> {
        use rustls::{CertificateError as Bad, Error};
        let shown = |time: &rustls::pki_types::UnixTime| {
            UnixTime::from_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
        };
        let Self::Tls { source: Error::InvalidCertificate(bad), .. } = self else { return None };
        if let Bad::ExpiredContext { time, not_after } = bad {
            Some(("not valid after", shown(not_after), shown(time)))
        } else if let Bad::NotValidYetContext { time, not_before } = bad {
            Some(("not valid before", shown(not_before), shown(time)))
        } else {
            None
        }
    }

    fn status_loss(&self, code: Code, message: &str) -> LinkLoss {
        let why = || chain(self);
        match code {
            Code::PermissionDenied
                if message.starts_with("Permission denied: unauthorized peer role: ")
                    && message.ends_with(" was removed from swarm") =>
            {
                LinkLoss::Removed(why())
            }
            Code::PermissionDenied => LinkLoss::Denied(why()),
            Code::Unknown if message == "node not found" => LinkLoss::Removed(why()),
            Code::Unknown if message.starts_with("The swarm does not have a leader.") => {
                LinkLoss::NoLeader(why())
            }
            Code::Unknown | Code::Cancelled if message == "context canceled" => {
                LinkLoss::NoLeader(why())
            }
            // Polling a certificate, and renewing one, of a node whose record is gone.
            Code::NotFound if message == "NotFound" => LinkLoss::Removed(why()),
            Code::NotFound
                if message.starts_with("node ")
                    && message.ends_with(" not found when attempting to renew certificate") =>
            {
                LinkLoss::Removed(why())
            }
            Code::NotFound if message == "node not registered" => LinkLoss::SessionInvalid,
            Code::InvalidArgument if message == "session invalid" => LinkLoss::SessionInvalid,
            // A renewal whose certificate is not accepted falls through to the token check.
            Code::InvalidArgument
                if message == "A valid join token is necessary to join this cluster" =>
            {
                LinkLoss::Removed(why())
            }
            Code::Unavailable if message.contains("exceeded rate limit count of registrations") => {
                LinkLoss::RateLimited
            }
            Code::ResourceExhausted if message.starts_with("more than one redirect to leader") => {
                LinkLoss::NoLeader(why())
            }
            Code::Aborted | Code::Unavailable => LinkLoss::NoLeader(why()),
            Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::NotFound
            | Code::ResourceExhausted
            | Code::Unimplemented
            | Code::Other(_) => LinkLoss::Broken(why()),
        }
    }
}

/// What the other side says of an expired certificate: Go since 1.21, and before.
const fn is_about_dates(alert: AlertDescription) -> bool {
    matches!(alert, AlertDescription::CertificateExpired | AlertDescription::BadCertificate)
}

/// The other side read our certificate and did not like it (RFC 8446 §6.2).
const fn is_about_our_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

/// An error and its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(number: u32, message: &str) -> LinkLoss {
        CallError::Status { code: Code::from_number(number), message: message.to_owned() }.loss()
    }

    #[test]
    fn every_known_answer_of_a_manager_has_its_reaction() {
        let role = "Permission denied: unauthorized peer role: rpc error: code = PermissionDenied \
                    desc = Permission denied: ";
        for (number, message) in [
            (7, &*format!("{role}node abc was removed from swarm")),
            (2, "node not found"),
            (5, "node abc not found when attempting to renew certificate"),
            (5, "NotFound"),
            (3, "A valid join token is necessary to join this cluster"),
        ] {
            assert!(matches!(loss(number, message), LinkLoss::Removed(_)), "{message}");
        }
        for message in [
            &*format!("{role}remote certificate not part of OUs: [swarm-manager]"),
            &*format!("{role}no client certificates in request"),
            &*format!("{role}remote certificate not part of organization: abc"),
            "Permission denied: unauthorized forwarder role: rpc error: code = PermissionDenied \
             desc = node abc was removed from swarm",
            "Permission denied: missing information in forwarded request",
            "Permission denied: unauthorized forwarded role, expecting: [swarm-worker]",
            "Permission denied: organization mismatch, expecting: abc",
            "cannot update a task not assigned this node",
            "node abc was removed from swarm",
        ] {
            assert!(matches!(loss(7, message), LinkLoss::Denied(_)), "{message}");
        }
        for (number, message) in [
            (10, "dispatcher is stopped"),
            (10, "node must disconnect"),
            (2, "context canceled"),
            (1, "context canceled"),
            (2, "The swarm does not have a leader. It's possible that …"),
            (8, "more than one redirect to leader from: [10.0.0.1:2377]"),
            (14, "transport is closing"),
        ] {
            assert!(matches!(loss(number, message), LinkLoss::NoLeader(_)), "{message}");
        }
        assert_eq!(loss(3, "session invalid"), LinkLoss::SessionInvalid);
        assert_eq!(loss(5, "node not registered"), LinkLoss::SessionInvalid);
        let message = "node abc exceeded rate limit count of registrations";
        assert_eq!(loss(14, message), LinkLoss::RateLimited);
        for (number, message) in [(2, "broker is not running"), (3, "InvalidArgument"), (99, "")] {
            assert!(matches!(loss(number, message), LinkLoss::Broken(_)), "{message}");
        }
    }

    #[test]
    fn dates_that_do_not_fit_are_told_as_a_matter_of_the_clock() {
        use rustls::{CertificateError, Error, pki_types};
        let at = |seconds| {
            pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
        };
        let tls = |source| CallError::Tls { addr: "m:2377".to_owned(), source };
        let bad = |bad| tls(Error::InvalidCertificate(bad)).loss();
        let ahead = CertificateError::ExpiredContext { time: at(86_400), not_after: at(3_600) };
        let LinkLoss::WrongTime(why) = bad(ahead) else { panic!() };
        assert!(why.contains("after 1970-01-01T01:00:00Z") && why.contains("1970-01-02"), "{why}");
        let behind = CertificateError::NotValidYetContext { time: at(0), not_before: at(3_600) };
        let LinkLoss::WrongTime(why) = bad(behind) else { panic!() };
        assert!(why.contains("before 1970-01-01T01:00:00Z"), "{why}");
        assert!(matches!(bad(CertificateError::UnknownIssuer), LinkLoss::Untrusted(_)));
        for (alert, refused) in [
            (AlertDescription::CertificateExpired, true),
            (AlertDescription::BadCertificate, true),
            (AlertDescription::UnknownCA, false),
            (AlertDescription::CertificateRevoked, false),
        ] {
            let loss = tls(Error::AlertReceived(alert)).loss();
            assert_eq!(matches!(loss, LinkLoss::Refused(_)), refused, "{loss}");
            assert_eq!(matches!(loss, LinkLoss::Denied(_)), !refused, "{loss}");
        }
    }

    #[test]
    fn a_loss_tells_the_whole_chain_of_causes() {
        let source = io::Error::new(io::ErrorKind::ConnectionRefused, "refused");
        let error = CallError::Connect { addr: "m:2377".to_owned(), source };
        assert_eq!(
            error.loss(),
            LinkLoss::Unreachable("no connection to m:2377: refused".to_owned())
        );
    }
}
