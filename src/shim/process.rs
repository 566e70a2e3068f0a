//! The shim itself: one thread, one loop, one container.
//!
//! tini's shape: wait for one thing, deal with it, reap, done? It never waits for anything but
//! its `poll`: what can hang happens in the container's process.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, WaitStatus},
};

use super::{
    confine,
    frame::{self, Decoder, Event, Request},
    lines::Lines,
    pace::Pace,
    probe::Care,
    record::{self, Started},
    stat,
};
use crate::{
    container::{self, CODE_NOT_STARTED, Cgroup, Failure, Stdio},
    limits,
    logs::Writer,
    model::{Bundle, Exit, LogStream, TaskId},
    sys,
};

/// Descriptors that the agent leaves to a shim.
const BUNDLE_FD: i32 = 3;
const SOCKET_FD: i32 = 4;
const SIGKILL: i32 = 9;

/// Entry of a process whose `argv[0]` is `edgeagent-shim`. Gives 0 when it left an exit record.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log::error!("shim failed error={e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    // The bundle holds secrets: no core file of the shim, whatever the host's settings.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    let signals = sys::signal_fd()?;
    let bundle = read_bundle(sys::inherited_fd(BUNDLE_FD)?)?;
    let listener = UnixListener::from(sys::inherited_fd(SOCKET_FD)?);
    listener.set_nonblocking(true)?;
    let mut shim = Shim::new(bundle.dir.clone(), signals, listener);
    match shim.start(bundle) {
        Ok(()) => shim.serve(),
        Err(failure) => shim.finish(None, Some(failure)),
    }
}

/// Reads the bundle and checks that it is for the task that the command line names.
fn read_bundle(fd: OwnedFd) -> io::Result<Bundle> {
    let file = fs::File::from(fd);
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let size = file.metadata()?.len().min(limits::BUNDLE_MAX_BYTES);
    // Exactly once, for growing would leave copies of secrets behind.
    bytes.reserve_exact(usize::try_from(size).map_err(io::Error::other)?);
    file.take(limits::BUNDLE_MAX_BYTES).read_to_end(&mut bytes)?;
    let bundle: Bundle = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
    let task = std::env::args().nth(1).and_then(|id| TaskId::new(&id).ok());
    if task.as_ref() != Some(&bundle.task) {
        return Err(io::Error::other("the bundle is for another task"));
    }
    Ok(bundle)
}

/// How far the container is.
#[derive(Debug)]
enum State {
    /// Nothing was made.
    Idle,
    /// Its process prepares; the pipe will tell.
    Starting { pid: Pid, ticks: u64, report: OwnedFd, said: Vec<u8> },
    /// The program runs.
    Running { pid: Pid },
}

impl State {
    const fn pid(&self) -> Option<Pid> {
        match self {
            Self::Idle => None,
            Self::Starting { pid, .. } | Self::Running { pid } => Some(*pid),
        }
    }
}

struct Output {
    pipe: Option<OwnedFd>,
    stream: LogStream,
    lines: Lines,
}

struct Connection {
    stream: UnixStream,
    decoder: Decoder,
}

struct Shim {
    dir: PathBuf,
    signals: OwnedFd,
    listener: UnixListener,
    connections: Vec<Connection>,
    cgroup: Option<Cgroup>,
    log: Option<Writer>,
    outputs: [Output; 2],
    /// Held so that the program's standard input stays open.
    _input: Option<OwnedFd>,
    /// Where a terminal comes from, until the program runs.
    console: Option<UnixStream>,
    state: State,
    container: Option<crate::model::ContainerId>,
    started: Option<Started>,
    /// When to send SIGKILL, on the monotonic clock.
    kill_at: Option<Duration>,
    /// Absent without a health check.
    care: Option<Box<Care>>,
    /// Absent for a container without a limit of its processor time.
    pace: Option<Pace>,
}

/// What woke the loop.
#[derive(Default)]
struct Ready {
    signals: bool,
    accept: bool,
    report: bool,
    outputs: [bool; 2],
    probe: bool,
    connections: Vec<bool>,
}

fn monotonic() -> Duration {
    time_of(rustix::time::ClockId::Monotonic)
}

/// Processor time that this shim has used.
fn used() -> Duration {
    time_of(rustix::time::ClockId::ThreadCPUTime)
}

fn time_of(clock: rustix::time::ClockId) -> Duration {
    let now = rustix::time::clock_gettime(clock);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

impl Shim {
    fn new(dir: PathBuf, signals: OwnedFd, listener: UnixListener) -> Self {
        let output = |stream| Output { pipe: None, stream, lines: Lines::default() };
        Self {
            dir,
            signals,
            listener,
            connections: Vec::new(),
            cgroup: None,
            log: None,
            outputs: [output(LogStream::Stdout), output(LogStream::Stderr)],
            _input: None,
            console: None,
            state: State::Idle,
            container: None,
            started: None,
            kill_at: None,
            care: None,
            pace: None,
        }
    }

    /// Begins the container. Takes the bundle, so that its secrets are gone when this returns.
    fn start(&mut self, bundle: Bundle) -> Result<(), Failure> {
        let kernel = |e: io::Error| Failure::from(container::errno_text(&e));
        if 0 < bundle.log_max_bytes {
            let log = Writer::open(&self.dir.join("log"), bundle.log_max_bytes);
            self.log = Some(log.map_err(|e| {
                Failure::from(format!("open the log: {}", container::errno_text(&e)))
            })?);
        }
        let cgroup =
            Cgroup::of(&bundle.cgroup_parent, bundle.container.as_str()).map_err(kernel)?;
        let made = cgroup.create(&bundle);
        self.cgroup = Some(cgroup);
        made?;
        let starting = {
            let stdio = self.stdio(&bundle).map_err(kernel)?;
            let Some(cgroup) = &self.cgroup else {
                return Err(kernel(io::ErrorKind::NotFound.into()));
            };
            container::start(&bundle, cgroup, stdio).map_err(|e| {
                Failure::from(format!("start the container: {}", container::errno_text(&e)))
            })?
        };
        rustix::io::ioctl_fionbio(&starting.report, true).map_err(|e| kernel(e.into()))?;
        self.container = Some(bundle.container.clone());
        self.pace = bundle.nano_cpus.map(|share| Pace::new(share, monotonic(), used()));
        self.care = Care::of(bundle, monotonic());
        let pid = starting.pid;
        let ticks = stat::number(pid, stat::STARTED).unwrap_or_default();
        self.state = State::Starting { pid, ticks, report: starting.report, said: Vec::new() };
        Ok(())
    }

    /// The program's ends of what this keeps.
    fn stdio(&mut self, bundle: &Bundle) -> io::Result<Stdio> {
        if bundle.tty {
            let (ours, theirs) = UnixStream::pair()?;
            self.console = Some(ours);
            return Ok(Stdio::Terminal(theirs));
        }
        let (output_read, output) = pipe_with(PipeFlags::CLOEXEC)?;
        let (error_read, error) = pipe_with(PipeFlags::CLOEXEC)?;
        let input = if bundle.open_stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            self._input = Some(write);
            read
        } else {
            rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?
        };
        for (output, pipe) in self.outputs.iter_mut().zip([output_read, error_read]) {
            rustix::io::ioctl_fionbio(&pipe, true)?;
            output.pipe = Some(pipe);
        }
        Ok(Stdio::Files([input, output, error]))
    }

    /// Takes over the terminal of a program that runs now: all that it prints is one stream.
    fn take_terminal(&mut self) -> io::Result<()> {
        let Some(console) = self.console.take() else { return Ok(()) };
        let terminal = container::receive_terminal(&console)?;
        rustix::io::ioctl_fionbio(&terminal, true)?;
        // Held even when nobody has it open inside, for that would hang it up.
        self._input = Some(terminal.try_clone()?);
        let [output, _] = &mut self.outputs;
        output.pipe = Some(terminal);
        Ok(())
    }

    /// The loop: until process 1 of the container was reaped.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.report
                && let Some(failure) = self.read_report()?
            {
                // Reaped here: its code says nothing.
                self.reap_failed()?;
                return self.finish(None, Some(failure));
            }
            self.read_outputs(ready.outputs);
            self.serve_connections(&ready.connections);
            if ready.accept {
                self.accept();
            }
            if self.kill_at.is_some_and(|at| at <= monotonic()) {
                self.kill_at = None;
                self.signal(SIGKILL);
            }
            self.look_after(ready.probe);
            if ready.signals {
                self.drain_signals();
                self.reap_probe()?;
                if let Some(status) = self.reap()? {
                    let failure = self.read_report()?;
                    return self.finish(Some(status), failure);
                }
            }
        }
    }

    fn wait(&mut self) -> io::Result<Ready> {
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        if let Some(pace) = &mut self.pace {
            pace.look(monotonic(), used());
        }
        // Until then nothing is read that the container prints.
        let pause = self.pace.as_ref().and_then(Pace::pause);
        let probe = self.started.as_ref().and_then(|_| self.care.as_ref()?.deadline());
        let timeout = [self.kill_at, probe, pause].into_iter().flatten().min().map(|at| {
            let left = at.saturating_sub(monotonic());
            Timespec::try_from(left).unwrap_or(none)
        });
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        if let State::Starting { report, .. } = &self.state {
            fds.push(PollFd::new(report, PollFlags::IN));
        }
        let read = pause.is_none();
        for pipe in self.outputs.iter().filter(|_| read).filter_map(|o| o.pipe.as_ref()) {
            fds.push(PollFd::new(pipe, PollFlags::IN));
        }
        let probe = self.care.as_ref().filter(|_| read).and_then(|care| care.pipe());
        if let Some(pipe) = probe {
            fds.push(PollFd::new(pipe, PollFlags::IN));
        }
        for connection in &self.connections {
            fds.push(PollFd::new(&connection.stream, PollFlags::IN));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        // In the order in which they were added.
        let mut events = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || events.next().unwrap_or_default();
        let mut ready = Ready { signals: next(), accept: next(), ..Ready::default() };
        if matches!(self.state, State::Starting { .. }) {
            ready.report = next();
        }
        for (output, ready) in self.outputs.iter().zip(&mut ready.outputs) {
            *ready = read && output.pipe.is_some() && next();
        }
        ready.probe = probe.is_some() && next();
        ready.connections = self.connections.iter().map(|_| next()).collect();
        Ok(ready)
    }

    /// Reads what the starting process says. Its end is either the program's begin or a failure.
    fn read_report(&mut self) -> io::Result<Option<Failure>> {
        let State::Starting { pid, ticks, report, said } = &mut self.state else { return Ok(None) };
        let mut buffer = [0; limits::START_ERROR_MAX_BYTES];
        loop {
            match rustix::io::read(&*report, &mut buffer) {
                Ok(0) => break,
                Ok(count) => said.extend(buffer.iter().take(count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
        let (pid, start_ticks) = (*pid, *ticks);
        if let Some((code, text)) = said.split_first() {
            let text = String::from_utf8_lossy(text).into_owned();
            return Ok(Some(Failure { code: *code, text }));
        }
        // The pipe also ends when that process was killed before exec: then it counts as a
        // program that was killed at once.
        self.state = State::Running { pid };
        if let Err(e) = self.take_terminal() {
            log::debug!("no terminal error={e}");
        }
        if let Some(container) = self.container.clone() {
            let pid = pid.as_raw_nonzero().get();
            let started = Started { container, pid, start_ticks, at: record::wall_clock() };
            record::write_started(&self.dir, &started)?;
            self.started = Some(started.clone());
            if let Some(care) = &mut self.care {
                care.begin(monotonic());
            }
            self.tell_health();
            self.tell(&Event::Started(started));
        }
        if self.care.is_none()
            && let Err(e) = confine::confine()
        {
            log::debug!("rights not given up error={e}");
        }
        // Most of what ran so far will not run again, and this process may live for years.
        if let Err(e) = sys::forget_code() {
            log::debug!("memory of code not given back error={e}");
        }
        Ok(None)
    }

    fn read_outputs(&mut self, ready: [bool; 2]) {
        let mut buffer = [0; limits::LOG_PIECE_MAX_BYTES];
        for (output, ready) in self.outputs.iter_mut().zip(ready) {
            let Some(pipe) = output.pipe.as_ref().filter(|_| ready) else { continue };
            let stream = output.stream;
            let log = &mut self.log;
            let mut append = |line: &[u8]| {
                // A full or broken log must not stop the container; the line is lost. Each line
                // has a time of its own, for `--since` is given one that was shown.
                if let Some(log) = log
                    && let Err(e) = log.append(record::wall_clock(), stream, line)
                {
                    log::debug!("log line lost error={e}");
                }
            };
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => {
                    output.lines.finish(&mut append);
                    output.pipe = None;
                }
                Ok(count) => {
                    output.lines.push(buffer.get(..count).unwrap_or_default(), &mut append);
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                // How a terminal says that nobody has it open.
                Err(_) => {
                    output.lines.finish(&mut append);
                    output.pipe = None;
                }
            }
        }
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if limits::SHIM_CONNECTIONS_MAX <= self.connections.len()
            || stream.set_nonblocking(true).is_err()
        {
            return;
        }
        let mut connection = Connection { stream, decoder: Decoder::default() };
        if let Some(care) = self.care.as_ref().filter(|_| self.started.is_some())
            && !connection.send(&Event::Health(care.health().clone()))
        {
            return;
        }
        if let Some(started) = &self.started
            && !connection.send(&Event::Started(started.clone()))
        {
            return;
        }
        self.connections.push(connection);
    }

    fn serve_connections(&mut self, ready: &[bool]) {
        let mut requests = Vec::new();
        let mut ready = ready.iter();
        self.connections.retain_mut(|connection| {
            !ready.next().copied().unwrap_or_default() || connection.receive(&mut requests)
        });
        for request in requests {
            match request {
                Request::Stop { signal, grace } => self.stop(signal, grace),
                Request::Kill => self.signal(SIGKILL),
            }
        }
    }

    /// Begins and ends health probes as they are due, and tells what they say.
    fn look_after(&mut self, readable: bool) {
        let (State::Running { pid }, Some(care), Some(cgroup)) =
            (&self.state, &mut self.care, &self.cgroup)
        else {
            return;
        };
        if care.look_after(cgroup, *pid, readable, monotonic()) {
            self.tell_health();
        }
    }

    fn reap_probe(&mut self) -> io::Result<()> {
        if let (State::Running { pid }, Some(care)) = (&self.state, &mut self.care)
            && care.reap(*pid, monotonic())?
        {
            self.tell_health();
        }
        Ok(())
    }

    fn tell_health(&mut self) {
        if let Some(care) = &self.care {
            let health = care.health().clone();
            self.tell(&Event::Health(health));
        }
    }

    fn stop(&mut self, signal: i32, grace: Option<u32>) {
        if let Some(care) = &mut self.care {
            care.stop();
        }
        match self.state {
            // It has no program yet that could end well.
            State::Idle | State::Starting { .. } => self.signal(SIGKILL),
            State::Running { .. } => {
                self.signal(signal);
                let at = grace.map(|s| monotonic() + Duration::from_secs(s.into()));
                // A second stop may only shorten the wait.
                self.kill_at = match (self.kill_at, at) {
                    (Some(old), Some(new)) => Some(old.min(new)),
                    (old, new) => old.or(new),
                };
            }
        }
    }

    fn signal(&self, signal: i32) {
        if let Some(pid) = self.state.pid()
            && let Err(e) = sys::kill(pid, signal)
        {
            log::debug!("signal not sent signal={signal} error={e}");
        }
    }

    fn tell(&mut self, event: &Event) {
        self.connections.retain_mut(|connection| connection.send(event));
    }

    fn drain_signals(&self) {
        let mut buffer = [0; 1024];
        while rustix::io::read(&self.signals, &mut buffer).is_ok_and(|n| n != 0) {}
    }

    fn reap(&self) -> io::Result<Option<WaitStatus>> {
        let found = rustix::process::waitpid(self.state.pid(), WaitOptions::NOHANG)?;
        Ok(found.map(|(_, status)| status))
    }

    /// It is about to end by itself; killing it makes the wait short for certain.
    fn reap_failed(&self) -> io::Result<()> {
        self.signal(SIGKILL);
        rustix::process::waitpid(self.state.pid(), WaitOptions::empty())?;
        Ok(())
    }

    /// Reads the last output, leaves the exit record, and clears away.
    fn finish(&mut self, status: Option<WaitStatus>, failure: Option<Failure>) -> io::Result<()> {
        let at = record::wall_clock();
        self.drain_outputs()?;
        let oom_killed = self.cgroup.as_ref().is_some_and(Cgroup::oom_killed);
        let code = failure.as_ref().map_or_else(
            || status.and_then(container::exit_code).unwrap_or_else(|| CODE_NOT_STARTED.into()),
            |f| i32::from(f.code),
        );
        let start_error = failure.map(|f| f.text);
        record::write_exit(
            &self.dir,
            &Exit { code, at, oom_killed, start_error: start_error.clone() },
        )?;
        // Whoever connected meanwhile waits for an answer.
        self.accept();
        if let Some(message) = start_error {
            self.tell(&Event::StartFailed { message });
        }
        if let Some(cgroup) = &self.cgroup {
            // What fails here is done again when the task is removed.
            if let Err(e) = cgroup.kill().and_then(|()| cgroup.remove()) {
                log::debug!("cgroup not removed error={e}");
            }
        }
        Ok(())
    }

    fn drain_outputs(&mut self) -> io::Result<()> {
        let end = monotonic() + limits::DRAIN_TIME;
        while self.outputs.iter().any(|o| o.pipe.is_some()) && monotonic() < end {
            let ready = self.wait_for_output(end)?;
            self.read_outputs(ready);
        }
        Ok(())
    }

    fn wait_for_output(&self, end: Duration) -> io::Result<[bool; 2]> {
        let pipes = self.outputs.iter().filter_map(|o| o.pipe.as_ref());
        let mut fds: Vec<PollFd<'_>> = pipes.map(|p| PollFd::new(p, PollFlags::IN)).collect();
        let left = Timespec::try_from(end.saturating_sub(monotonic())).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut events = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut ready = [false; 2];
        for (output, ready) in self.outputs.iter().zip(&mut ready) {
            *ready = output.pipe.is_some() && events.next().unwrap_or_default();
        }
        Ok(ready)
    }
}

impl Connection {
    /// Sends at once or not at all: a peer that does not read is dropped.
    fn send(&mut self, event: &Event) -> bool {
        frame::encode(event).is_ok_and(|bytes| self.stream.write_all(&bytes).is_ok())
    }

    /// Reads what is there; false when the connection is of no more use.
    fn receive(&mut self, requests: &mut Vec<Request>) -> bool {
        let mut buffer = [0; 256];
        match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => self.decoder.push(buffer.get(..count).unwrap_or_default()),
            Err(e) => {
                return matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            }
        }
        loop {
            match self.decoder.next() {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => return true,
                Err(frame::BadFrame) => return false,
            }
        }
    }
}
