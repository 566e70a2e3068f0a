//! What a worker's processes cost: those of one cgroup, short-lived children included.

use std::{fs, path::PathBuf};

use crate::fixture::{Host, prefix};

/// A cgroup around a daemon and all its children that do not move themselves elsewhere.
#[derive(Debug)]
pub(crate) struct Group {
    folder: PathBuf,
    v1: bool,
}

impl Group {
    /// Makes it and puts a process in; later children follow.
    pub(crate) fn around(name: &str, pid: u32) -> Self {
        let v1 = PathBuf::from("/sys/fs/cgroup/cpuacct").exists();
        let base = if v1 { "/sys/fs/cgroup/cpuacct" } else { "/sys/fs/cgroup" };
        let folder = PathBuf::from(base).join(format!("{}-bench-{name}", prefix()));
        fs::create_dir_all(&folder).unwrap();
        let group = Self { folder, v1 };
        // A child may already be there; move what can be seen.
        for pid in with_children(pid) {
            drop(fs::write(group.folder.join("cgroup.procs"), pid.to_string()));
        }
        group
    }

    fn pids(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|l| l.parse().ok()).collect()
    }

    /// CPU seconds so far.
    pub(crate) fn cpu(&self) -> f64 {
        if self.v1 {
            let text = fs::read_to_string(self.folder.join("cpuacct.usage")).unwrap();
            return float(text.trim().parse().unwrap()) / 1e9;
        }
        let text = fs::read_to_string(self.folder.join("cpu.stat")).unwrap();
        let usage = text.lines().find_map(|l| l.strip_prefix("usage_usec ")).unwrap();
        float(usage.parse().unwrap()) / 1e6
    }

    /// Proportional set size in bytes.
    pub(crate) fn pss(&self) -> u64 {
        self.pids().into_iter().map(pss_of).sum()
    }

    /// How many processes there are.
    pub(crate) fn processes(&self) -> usize {
        self.pids().len()
    }

    fn switches(&self) -> u64 {
        let mut sum = 0;
        for pid in self.pids() {
            for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten()
            {
                let status = thread.path().join("status");
                let status = status.to_str().unwrap();
                sum += field(status, "voluntary_ctxt_switches:")
                    + field(status, "nonvoluntary_ctxt_switches:");
            }
        }
        sum
    }

    fn written(&self) -> u64 {
        self.pids().iter().map(|pid| field(&format!("/proc/{pid}/io"), "write_bytes:")).sum()
    }
}

fn with_children(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in text.split_whitespace().filter_map(|c| c.parse().ok()) {
        all.extend(with_children(child));
    }
    all
}

/// Proportional set size of one process, in bytes.
pub(crate) fn pss_of(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:") * 1024
}

/// First number of the line that begins with `name`; 0 when the process is gone.
fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Counters at one moment, or between two.
#[derive(Debug)]
pub(crate) struct Sample {
    /// CPU seconds.
    pub(crate) cpu: f64,
    /// Context switches of the processes that live.
    pub(crate) switches: u64,
    /// Bytes sent, with link headers.
    pub(crate) sent: u64,
    /// Bytes received, with link headers.
    pub(crate) received: u64,
    /// Bytes that went to storage.
    pub(crate) written: u64,
}

impl Sample {
    /// The counters of a worker.
    pub(crate) fn of(group: &Group, host: &Host) -> Self {
        let (sent, received) = host.bytes();
        Self {
            cpu: group.cpu(),
            switches: group.switches(),
            sent,
            received,
            written: group.written(),
        }
    }

    /// The difference to an earlier sample.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu: self.cpu - earlier.cpu,
            switches: self.switches.saturating_sub(earlier.switches),
            sent: self.sent - earlier.sent,
            received: self.received - earlier.received,
            written: self.written.saturating_sub(earlier.written),
        }
    }
}

/// The middle of the values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A count as a number to divide; counts here are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counters far below 2^53")]
pub(crate) fn float(n: u64) -> f64 {
    n as f64
}
