//! The files of a task's folder. With the end of the socket they are the only truth about a
//! container: what they say holds after any crash of agent or shim.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    limits::SHIM_RECORD_MAX_BYTES,
    model::{Bundle, ContainerId, Exit, MountKind, UnixTime},
};

/// Name of the socket.
pub(super) const SOCKET: &str = "shim.sock";
const STARTED: &str = "started";
const EXIT: &str = "exit";
const RESOURCES: &str = "resources";

/// That a container runs; the content of the `started` file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The container.
    pub container: ContainerId,
    /// Its process 1, as the host numbers it.
    pub pid: i32,
    /// When that process was made, in clock ticks since boot (`/proc/<pid>/stat`, field 22):
    /// with the number it names the process for ever.
    pub start_ticks: u64,
    /// When the program began.
    pub at: UnixTime,
}

/// What must be cleared away after a container, whatever became of its shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resources {
    pub(super) container: ContainerId,
    pub(super) cgroup_parent: String,
    pub(super) anonymous_volumes: Vec<PathBuf>,
    /// Image layers that its root file system lies on.
    pub(super) layers: Vec<PathBuf>,
}

impl Resources {
    pub(super) fn of(bundle: &Bundle) -> Self {
        let anonymous = bundle.mounts.iter().filter_map(|m| match &m.kind {
            MountKind::Volume { source, anonymous: true, .. } => Some(source.clone()),
            MountKind::Volume { .. } | MountKind::Bind { .. } | MountKind::Tmpfs { .. } => None,
        });
        Self {
            container: bundle.container.clone(),
            cgroup_parent: bundle.cgroup_parent.clone(),
            anonymous_volumes: anonymous.collect(),
            layers: bundle.root.layers.clone(),
        }
    }
}

fn write<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<()> {
    let bytes = postcard::to_stdvec(value).map_err(io::Error::other)?;
    let new = dir.join(format!("{name}.new"));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    fs::rename(new, dir.join(name))
}

fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> io::Result<Option<T>> {
    let file = match fs::File::open(dir.join(name)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(SHIM_RECORD_MAX_BYTES).read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other)
}

pub(super) fn write_started(dir: &Path, started: &Started) -> io::Result<()> {
    write(dir, STARTED, started)
}

pub(super) fn read_started(dir: &Path) -> io::Result<Option<Started>> {
    read(dir, STARTED)
}

pub(super) fn write_exit(dir: &Path, exit: &Exit) -> io::Result<()> {
    write(dir, EXIT, exit)
}

pub(super) fn read_exit(dir: &Path) -> io::Result<Option<Exit>> {
    read(dir, EXIT)
}

pub(super) fn write_resources(dir: &Path, resources: &Resources) -> io::Result<()> {
    write(dir, RESOURCES, resources)
}

pub(super) fn read_resources(dir: &Path) -> io::Result<Option<Resources>> {
    read(dir, RESOURCES)
}

/// The wall clock.
pub(super) fn wall_clock() -> UnixTime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    UnixTime::from_nanos(now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec))
}
