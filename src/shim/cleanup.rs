//! Clearing away what a task left, whatever happened to its shim.

use core::fmt;
use std::{
    collections::BTreeSet,
    fs, io,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use rustix::mount::{UnmountFlags, unmount};

use super::{
    client::short_name,
    frame::{self, Request},
    record::{self, Resources},
};
use crate::{
    container::Cgroup,
    files::{self, RemoveError, mountinfo},
    limits,
    model::TaskId,
};

/// The tasks that have a folder in `exec_root`, for an agent that begins.
///
/// # Errors
/// When the folder can not be read; none at all is an empty list.
pub fn list(exec_root: &Path) -> io::Result<Vec<TaskId>> {
    let folders = match fs::read_dir(exec_root.join("tasks")) {
        Ok(folders) => folders,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut tasks = Vec::new();
    for folder in folders {
        if let Some(task) = folder?.file_name().to_str().and_then(|n| TaskId::new(n).ok()) {
            tasks.push(task);
        }
    }
    tasks.sort_unstable();
    Ok(tasks)
}

/// Image layers that lie below a container which has not ended: they must stay, whatever their
/// image is called by now.
///
/// # Errors
/// When a folder or a record can not be read; then it is not known.
pub fn layers_in_use(exec_root: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut layers = BTreeSet::new();
    for task in list(exec_root)? {
        let dir = exec_root.join("tasks").join(task.as_str());
        if record::read_exit(&dir)?.is_none()
            && let Some(resources) = record::read_resources(&dir)?
        {
            layers.extend(resources.layers);
        }
    }
    Ok(layers)
}

/// Why something of a container is left; a later [`remove`] tries again.
#[derive(Debug)]
pub enum Left {
    /// It may still run, or hold what it has mounted.
    Alive(io::Error),
    /// It has ended for good; only files stay.
    Files(RemoveError),
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alive(cause) => cause.fmt(f),
            Self::Files(cause) => cause.fmt(f),
        }
    }
}

impl core::error::Error for Left {}

/// Ends a shim and its container when they still run, and removes its groups, mounts, writable layer, anonymous
/// volumes and the task's folder, in an order that allows to begin again after a crash.
///
/// Blocks for as long as the kernel takes to delete the files. Does nothing when all is gone.
///
/// # Errors
/// [`Left`]: what can not be removed does not keep the rest.
pub fn remove(dir: &Path, writable: &Path) -> Result<(), Left> {
    let anonymous_volumes = end(dir, writable).map_err(Left::Alive)?;
    let mut stuck: Option<RemoveError> = None;
    let mut remove = |path: &Path| match (files::remove_tree(path), &mut stuck) {
        (Ok(()), _) => true,
        (Err(error), None) => {
            stuck = Some(error);
            false
        }
        (Err(error), Some(first)) => {
            first.more = first.more.saturating_add(error.more).saturating_add(1);
            false
        }
    };
    let mut gone = true;
    for volume in &anonymous_volumes {
        gone &= remove(volume);
    }
    gone &= remove(&writable.join("upper"));
    gone &= remove(&writable.join("work"));
    // The records last: they are needed until everything that they name is gone.
    if gone && remove(dir) {
        remove(writable);
    }
    stuck.map_or(Ok(()), |error| Err(Left::Files(error)))
}

/// Ends whatever runs, and everything that only the kernel holds. Gives the volumes that go with
/// the container.
fn end(dir: &Path, writable: &Path) -> io::Result<Vec<PathBuf>> {
    end_shim(dir)?;
    // The folder is on tmpfs: after a reboot only the copy beside the writable layer is left.
    let resources = match record::read_resources(dir)? {
        Some(found) => Some(found),
        None => record::read_resources(writable)?,
    };
    if let Some(resources) = &resources {
        kill(resources)?;
    }
    unmount_below(dir)?;
    Ok(resources.map(|resources| resources.anonymous_volumes).unwrap_or_default())
}

/// Asks a living shim to kill its container, and waits until it is gone: one that still starts
/// would go on making what is being removed.
fn end_shim(dir: &Path) -> io::Result<()> {
    let connected = short_name(dir).and_then(|(_held, path)| UnixStream::connect(path));
    // Nobody there; or nothing at all.
    let Ok(mut stream) = connected else { return Ok(()) };
    stream.set_read_timeout(Some(limits::SHIM_EXIT_TIME))?;
    let request = frame::encode(&Request::Kill).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut events = [0; 512];
    let end = stream.write_all(&request).and_then(|()| {
        while stream.read(&mut events)? != 0 {}
        Ok(())
    });
    match end {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
        // It ended meanwhile.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Kills the processes of a container and removes its groups.
pub(super) fn kill(resources: &Resources) -> io::Result<()> {
    let cgroup = Cgroup::of(&resources.cgroup_parent, resources.container.as_str())?;
    cgroup.kill()?;
    cgroup.remove()
}

/// A runner mounts nothing in this namespace; this is for what others put there.
fn unmount_below(dir: &Path) -> io::Result<()> {
    let mounts = mountinfo::mounts()?;
    let places: Vec<&Path> = mountinfo::below(&mounts, dir).collect();
    for place in places.into_iter().rev() {
        unmount(place, UnmountFlags::DETACH)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_what_is_gone_does_nothing() {
        let nowhere = Path::new("/nonexistent/edgeagent");
        remove(nowhere, nowhere).unwrap();
        assert!(list(nowhere).unwrap().is_empty());
        assert!(layers_in_use(nowhere).unwrap().is_empty());
    }
}
