//! Health probes as processes: begun when they are due, killed when they take too long.

use std::{fs, io, os::fd::OwnedFd, time::Duration};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid},
};

use super::{
    health::{Monitor, Output},
    stat,
};
use crate::{
    container::{self, Cgroup},
    limits::{PROBE_OUTPUT_MAX_BYTES, PROBE_READS_MAX},
    model::{Bundle, Health},
};

/// A probe that runs.
#[derive(Debug)]
struct Probe {
    pid: Pid,
    /// It still prepares, and another child will be the program.
    entering: bool,
    began: Duration,
    /// When it is killed; absent once it was.
    deadline: Option<Duration>,
    /// Absent once it was closed at the other end.
    pipe: Option<OwnedFd>,
    output: Output,
}

/// The health of a container with a check: what a probe needs to become a process of the
/// container, and the one that runs.
#[derive(Debug)]
pub(super) struct Care {
    monitor: Monitor,
    /// Without secrets, and with the probe's arguments.
    bundle: Bundle,
    probe: Option<Probe>,
    /// The container is being stopped: nothing is probed any more.
    stopping: bool,
}

impl Care {
    /// What probes need of a bundle, when it has a check; its secrets end here.
    pub(super) fn of(bundle: Bundle, now: Duration) -> Option<Box<Self>> {
        let check = bundle.health.clone()?;
        let mut env = bundle.env;
        // A probe has no terminal, and the word that came with it means nothing to it.
        env.retain(|variable| !bundle.tty || variable != "TERM=xterm");
        let bundle = Bundle {
            env,
            argv: check.argv.clone(),
            files: Vec::new(),
            mounts: Vec::new(),
            hosts: Vec::new(),
            init: false,
            tty: false,
            ..bundle
        };
        let monitor = Monitor::new(check, now);
        Some(Box::new(Self { monitor, bundle, probe: None, stopping: false }))
    }

    /// The container's program begins.
    pub(super) fn begin(&mut self, now: Duration) {
        self.monitor.begin(now);
    }

    pub(super) const fn health(&self) -> &Health {
        self.monitor.health()
    }

    /// When to look after it at the latest.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match &self.probe {
            Some(probe) => probe.deadline,
            None => (!self.stopping).then(|| self.monitor.next()),
        }
    }

    /// What the probe that runs prints to.
    pub(super) fn pipe(&self) -> Option<&OwnedFd> {
        self.probe.as_ref()?.pipe.as_ref()
    }

    /// Begins the next probe when it is time, reads what the one that runs prints, and kills one
    /// that takes too long. True when there is something to tell.
    pub(super) fn look_after(
        &mut self,
        cgroup: &Cgroup,
        init: Pid,
        readable: bool,
        now: Duration,
    ) -> bool {
        if let Some(probe) = &mut self.probe {
            if readable {
                probe.read();
            }
            if probe.deadline.is_some_and(|at| at <= now) {
                probe.kill();
            }
            return false;
        }
        if self.stopping || now < self.monitor.next() {
            return false;
        }
        match Probe::begin(&self.bundle, self.monitor.timeout(), cgroup, init, now) {
            Ok(probe) => {
                self.probe = Some(probe);
                false
            }
            Err(e) => self.monitor.probed(now, None, format!("cannot start the probe: {e}"), now),
        }
    }

    /// Takes the end of a probe in; the container itself can not end before that. True when there
    /// is something to tell.
    pub(super) fn reap(&mut self, init: Pid, now: Duration) -> io::Result<bool> {
        let Some(probe) = &mut self.probe else { return Ok(false) };
        let Some((_, mut status)) = waitpid(Some(probe.pid), WaitOptions::NOHANG)? else {
            return Ok(false);
        };
        if probe.entering
            && let Some(program) = other_child(init)
        {
            probe.pid = program;
            probe.entering = false;
            if probe.deadline.is_none() {
                probe.kill();
            }
            match waitpid(Some(program), WaitOptions::NOHANG)? {
                Some((_, ended)) => status = ended,
                None => return Ok(false),
            }
        }
        probe.read();
        let (code, before) = match probe.deadline {
            Some(_) => (container::exit_code(status), ""),
            None => (None, "Health check exceeded timeout"),
        };
        let (began, text) = (probe.began, probe.output.text(before));
        self.probe = None;
        Ok(!self.stopping && self.monitor.probed(began, code, text, now))
    }

    /// Probes no more.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        if let Some(probe) = &mut self.probe {
            probe.kill();
        }
    }
}

/// A child of ours besides the container's first process, also one that has ended.
fn other_child(init: Pid) -> Option<Pid> {
    let own = rustix::process::getpid();
    let processes = fs::read_dir("/proc").ok()?;
    let mut pids = processes
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let parent = |pid| stat::number(pid, stat::PARENT).and_then(Pid::from_raw);
    pids.find(|pid| *pid != init && parent(*pid) == Some(own))
}

impl Probe {
    fn begin(
        bundle: &Bundle,
        timeout: Duration,
        cgroup: &Cgroup,
        init: Pid,
        now: Duration,
    ) -> io::Result<Self> {
        let (pipe, output) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let pid = container::probe(bundle, cgroup, init, output)?;
        let deadline = Some(now.saturating_add(timeout));
        let entering = container::enters_in_two_steps(bundle);
        Ok(Self {
            pid,
            entering,
            began: now,
            deadline,
            pipe: Some(pipe),
            output: Output::default(),
        })
    }

    /// Reads no more than a pipe holds, for a child of it may go on writing.
    fn read(&mut self) {
        let mut buffer = [0; PROBE_OUTPUT_MAX_BYTES];
        for _ in 0..PROBE_READS_MAX {
            let Some(pipe) = &self.pipe else { return };
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.output.push(buffer.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// With all that it started and that is still in its group.
    fn kill(&mut self) {
        self.deadline = None;
        // It may have no group of its own yet, or have ended.
        let _no_group = kill_process_group(self.pid, Signal::KILL);
        let _ended = kill_process(self.pid, Signal::KILL);
    }
}
