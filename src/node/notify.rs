//! What a service manager is told: `sd_notify(3)`, spoken directly.
//!
//! A task of its own asks the driver for its state, as `edgeagent status` does, and passes the
//! answer on. So `READY=1` means that the control socket is answered, and a watchdog is fed only
//! by a loop that turns: one that is stuck gives no answer, whatever the timers do.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use smol::{
    Timer,
    channel::{self, Sender},
};

use super::control::{Question, Request, Response, StatusReport};

/// Someone who supervises the agent.
pub(super) struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Half of the watchdog's time; without a watchdog nothing is told after `READY=1`.
    interval: Option<Duration>,
}

impl Supervisor {
    /// Who the environment names; `None` when nobody does.
    pub(super) fn of_environment() -> Option<Self> {
        let name = std::env::var_os("NOTIFY_SOCKET")?;
        let variable = |name| std::env::var(name).ok();
        let interval = interval(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            std::process::id(),
        );
        let supervisor = address(&name)
            .and_then(|address| Ok(Self { socket: UnixDatagram::unbound()?, address, interval }));
        match supervisor {
            Ok(supervisor) => Some(supervisor),
            Err(error) => {
                log::warn!("NOTIFY_SOCKET={} can not be used: {error}", name.display());
                None
            }
        }
    }

    /// Tells of the state for as long as the driver answers.
    pub(super) async fn inform(self, questions: Sender<Question>) {
        let mut ready = false;
        loop {
            let (answer, answered) = channel::bounded(1);
            let question = Question { request: Request::Status, answer };
            if questions.send(question).await.is_err() {
                return;
            }
            if let Ok(Response::Status(report)) = answered.recv().await {
                self.tell(&message(&report, !ready, self.interval.is_some()));
                ready = true;
            }
            match self.interval {
                Some(interval) => Timer::after(interval).await,
                None => return,
            };
        }
    }

    fn tell(&self, message: &str) {
        // A supervisor that is being restarted has no socket for a moment.
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            log::debug!("the supervisor can not be told: {error}");
        }
    }
}

/// A path, or a name of the abstract kind behind `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no path and no @name")),
    }
}

/// How often the watchdog is fed: twice in its time, as `sd_watchdog_enabled(3)` advises. `None`
/// when there is none, or when it is meant for another process.
fn interval(microseconds: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let whole: u64 = microseconds?.parse().ok()?;
    (whole > 1).then(|| Duration::from_micros(whole / 2))
}

/// What one answer of the driver is worth. Without a watchdog nothing follows, and the status
/// would grow old unseen, so it is left out.
fn message(report: &StatusReport, first: bool, watched: bool) -> String {
    let mut message = String::new();
    if first {
        message.push_str("READY=1\n");
    }
    if watched {
        let StatusReport { state, tasks, running, .. } = report;
        message.push_str(&format!("WATCHDOG=1\nSTATUS={state}, {running} of {tasks} tasks run\n"));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_fed_twice_in_its_time_and_only_by_the_process_it_watches() {
        assert_eq!(interval(Some("60000000"), None, 7), Some(Duration::from_secs(30)));
        assert_eq!(interval(Some("60000000"), Some("7"), 7), Some(Duration::from_secs(30)));
        for (microseconds, pid) in
            [(None, None), (Some("60000000"), Some("8")), (Some("0"), None), (Some("soon"), None)]
        {
            assert_eq!(interval(microseconds, pid, 7), None, "{microseconds:?} {pid:?}");
        }
    }

    #[test]
    fn a_status_is_told_only_where_newer_ones_follow() {
        let report = StatusReport { tasks: 3, running: 2, ..StatusReport::new("ready", None) };
        assert_eq!(message(&report, true, false), "READY=1\n");
        let status = "STATUS=ready, 2 of 3 tasks run\n";
        assert_eq!(message(&report, true, true), format!("READY=1\nWATCHDOG=1\n{status}"));
        assert_eq!(message(&report, false, true), format!("WATCHDOG=1\n{status}"));
    }

    #[test]
    fn only_unix_sockets_are_spoken_to() {
        assert!(address(OsStr::new("/run/systemd/notify")).is_ok());
        assert_eq!(
            address(OsStr::new("@abstract")).unwrap().as_abstract_name(),
            Some(b"abstract".as_slice())
        );
        assert!(address(OsStr::new("vsock:2:1234")).is_err());
    }
}
