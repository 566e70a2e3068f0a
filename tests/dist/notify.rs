//! `READY=1` and the watchdog, received as systemd would.

use std::{
    fs,
    io::ErrorKind,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Folder, run};

/// Far above what a loaded machine needs for one message.
const PATIENCE: Duration = Duration::from_secs(20);

struct Agent<'a> {
    child: Child,
    folder: &'a Folder,
}

impl<'a> Agent<'a> {
    fn start(folder: &'a Folder, socket: &str, watchdog: Option<&str>) -> Self {
        let config = format!(
            r#"{{ "data-root": "{0}/data", "exec-root": "{0}/run", "cgroup-parent": "ea-dist" }}"#,
            folder.0.display()
        );
        fs::write(folder.path("agent.json"), config).unwrap();
        let mut command = program(folder);
        command.arg("run").env("NOTIFY_SOCKET", socket).stderr(Stdio::null());
        command.envs(watchdog.map(|microseconds| ("WATCHDOG_USEC", microseconds)));
        Self { child: command.spawn().unwrap(), folder }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    fn status(&self) -> String {
        run(program(self.folder).arg("status")).1
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn program(folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeagent"));
    command.arg("--config").arg(folder.path("agent.json"));
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    command
}

/// The next message, if one comes in time. A signal ends no wait, and what else goes wrong is told.
#[expect(clippy::disallowed_methods, reason = "a test waits with a bound")]
fn message(socket: &UnixDatagram, patience: Duration) -> Option<String> {
    let begin = Instant::now();
    let mut bytes = [0; 4096];
    loop {
        // Zero would mean no bound at all.
        let left = patience.saturating_sub(begin.elapsed()).max(Duration::from_millis(1));
        socket.set_read_timeout(Some(left)).unwrap();
        match socket.recv(&mut bytes) {
            Ok(length) => return Some(String::from_utf8(bytes[..length].to_vec()).unwrap()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return None;
            }
            Err(e) => panic!("no message: {e}"),
        }
    }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn ready_is_told_when_commands_are_answered_and_the_watchdog_is_fed_while_the_loop_turns() {
    let folder = Folder::new();
    let name = format!("ea-dist-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    let agent = Agent::start(&folder, &format!("@{name}"), Some("200000"));

    let first = message(&socket, PATIENCE).expect("READY=1");
    assert_eq!(first, "READY=1\nWATCHDOG=1\nSTATUS=not-joined, 0 of 0 tasks run\n");
    let status = agent.status();
    assert!(status.contains("not-joined"), "the agent itself answers: {status}");
    for _ in 0..3 {
        let next = message(&socket, PATIENCE).expect("WATCHDOG=1");
        assert_eq!(next, "WATCHDOG=1\nSTATUS=not-joined, 0 of 0 tasks run\n");
    }

    agent.signal(Signal::STOP);
    while message(&socket, Duration::from_millis(300)).is_some() {}
    assert_eq!(message(&socket, Duration::from_secs(1)), None, "a stopped loop feeds nothing");
    agent.signal(Signal::CONT);
    assert!(message(&socket, PATIENCE).expect("WATCHDOG=1").starts_with("WATCHDOG=1\n"));
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn without_a_watchdog_nothing_follows_ready() {
    let folder = Folder::new();
    let path = folder.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let _agent = Agent::start(&folder, as_text(&path), None);
    assert_eq!(message(&socket, PATIENCE).as_deref(), Some("READY=1\n"));
    assert_eq!(message(&socket, Duration::from_secs(1)), None);
}

fn as_text(path: &Path) -> &str {
    path.to_str().unwrap()
}
