//! The agent's end: begin a shim, attach to one, ask, wait.
//!
//! Nothing here holds state that matters: a dropped future loses nothing, and a dropped
//! [`Shim`] leaves the container as it is.

use core::fmt;
use std::{
    cell::RefCell,
    fs, io,
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::{
            fs::{DirBuilderExt, PermissionsExt},
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open},
    mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount},
};
use smol::{Async, Timer};
use zeroize::Zeroizing;

use super::{
    cleanup,
    frame::{self, Decoder, Event, Request},
    record::{self, Resources, Started},
};
use crate::{
    limits,
    model::{Bundle, Exit, Health, HealthStatus},
    sys,
};

const SHIM_NAME: &str = "edgeagent-shim";
const CODE_KILLED: i32 = 137;

macro_rules! failure {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            path: PathBuf,
            step: &'static str,
            cause: io::Error,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($what, " {}: could not {}"), self.path.display(), self.step)
            }
        }

        impl core::error::Error for $name {
            fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
                Some(&self.cause)
            }
        }

        impl $name {
            fn at(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> Self {
                move |cause| Self { path: path.to_owned(), step, cause }
            }
        }
    };
}

failure!(
    /// A shim could not be begun; nothing runs. [`remove`](super::remove) clears what there is.
    SpawnError,
    "start the shim of"
);
failure!(
    /// A task's folder can not be used; see the cause.
    AttachError,
    "attach to the shim of"
);

/// The container did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// Why, in Docker's words.
    pub message: String,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for StartError {}

/// Our own executable, as containers may come to see it: never writable.
///
/// It is reached through a read-only mount that only this descriptor holds, so a container that
/// gets hold of a process of ours can not write to the program that it runs (CVE-2019-5736), and
/// nothing of it is left behind when the agent ends. Shims keep what they were started from.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    _mount: OwnedFd,
}

impl Program {
    /// Makes the mount, at a place in `exec_root` that it leaves again at once.
    ///
    /// # Errors
    /// When the file or the mount can not be made.
    pub fn protect(exec_root: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(exec_root)?;
        let place = exec_root.join("edgeagent");
        fs::write(&place, b"")?;
        mount_bind("/proc/self/exe", &place)?;
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
        let held = mount_remount(&place, flags, "")
            .and_then(|()| open(&place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()));
        unmount(&place, UnmountFlags::DETACH)?;
        fs::remove_file(&place)?;
        let mount = held?;
        // By our number: a child that is about to run it has descriptors of its own.
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), mount.as_raw_fd()));
        Ok(Self { path, _mount: mount })
    }

    /// Names the program, in this process and for its children to run.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Begins a shim for `bundle`: makes `bundle.dir`, hands the bundle over in sealed memory, and
/// runs `program` (see [`Program`]) as `edgeagent-shim`. It inherits `held` and keeps them open
/// for as long as it lives, without ever using them; its container does not see them.
///
/// Returns before the container runs; see [`Shim::started`].
///
/// # Errors
/// [`SpawnError`] when the folder, the socket or the process can not be made.
pub fn spawn(program: &Path, bundle: &Bundle, held: &[OwnedFd]) -> Result<Shim, SpawnError> {
    let dir = &bundle.dir;
    let at = |step| SpawnError::at(dir, step);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at("make the folder"))?;
    let writable = &bundle.root.writable;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(writable)
        .map_err(at("make the writable layer"))?;
    let resources = Resources::of(bundle);
    for place in [dir, writable] {
        record::write_resources(place, &resources).map_err(at("write the resource record"))?;
    }
    let memory = sealed(bundle).map_err(at("hand over the bundle"))?;
    let (listener, stream) = listen(dir).map_err(at("make the socket"))?;

    let mut command = Command::new(program);
    command
        .arg0(SHIM_NAME)
        .arg(bundle.task.as_str())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut fds = vec![memory.as_fd(), listener.as_fd()];
    fds.extend(held.iter().map(AsFd::as_fd));
    let child = sys::spawn_with_fds(&mut command, &fds).map_err(at("run the program"))?;
    let stream = Async::new(stream).map_err(at("watch the socket"))?;
    Ok(Shim { dir: dir.clone(), stream: Some(stream), inner: RefCell::new(Inner::of(Some(child))) })
}

fn sealed(bundle: &Bundle) -> io::Result<fs::File> {
    let size = postcard::experimental::serialized_size(bundle).map_err(io::Error::other)?;
    if limits::BUNDLE_MAX_BYTES < size as u64 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the bundle is too large"));
    }
    // One buffer of the right size: growing would leave copies of secrets behind.
    let mut bytes = Zeroizing::new(vec![0; size]);
    postcard::to_slice(bundle, &mut bytes).map_err(io::Error::other)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = fs::File::from(memfd_create("bundle", flags)?);
    file.write_all(&bytes)?;
    io::Seek::rewind(&mut file)?;
    fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file)
}

/// Whether an agent died while it began the shim of this task's folder: no shim lives there and
/// none left a record, so its program never ran and the task may be begun again.
///
/// # Errors
/// When the folder can not be read.
pub fn never_began(dir: &Path) -> io::Result<bool> {
    let (_held, path) = short_name(dir)?;
    // The socket first: a shim leaves its records before it goes.
    match UnixStream::connect(path) {
        Ok(_) => return Ok(false),
        Err(e)
            if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {}
        Err(e) => return Err(e),
    }
    Ok(record::read_started(dir)?.is_none() && record::read_exit(dir)?.is_none())
}

/// A path that fits into a socket address however deep the folder is.
pub(super) fn short_name(dir: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = open(dir, flags, Mode::empty())?;
    let number = fd.as_raw_fd();
    Ok((fd, PathBuf::from(format!("/proc/self/fd/{number}/{}", record::SOCKET))))
}

/// The socket for the shim, and our own connection to it, which waits for the shim to accept.
fn listen(dir: &Path) -> io::Result<(UnixListener, UnixStream)> {
    let (_held, path) = short_name(dir)?;
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let stream = UnixStream::connect(&path)?;
    Ok((listener, stream))
}

/// A task's shim, as the agent sees it.
#[derive(Debug)]
pub struct Shim {
    dir: PathBuf,
    /// Absent when there is no shim any more; then the files say it all.
    stream: Option<Async<UnixStream>>,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Absent after attaching: then the shim is not our child.
    child: Option<Child>,
    decoder: Decoder,
    outcome: Option<Result<Started, StartError>>,
    health: Option<Health>,
    /// That it was told, and not yet taken notice of.
    news: bool,
    ended: bool,
}

impl Inner {
    const fn of(child: Option<Child>) -> Self {
        Self {
            child,
            decoder: Decoder::new(),
            outcome: None,
            health: None,
            news: false,
            ended: false,
        }
    }
}

impl Shim {
    /// Finds the shim of the task whose folder is `dir`. When it died without an exit record, the
    /// container's processes are killed and a record is written in its place.
    ///
    /// # Errors
    /// [`AttachError`] when there is no such folder, or it can not be read.
    pub fn attach(dir: &Path) -> Result<Self, AttachError> {
        let at = |step| AttachError::at(dir, step);
        let (_held, path) = short_name(dir).map_err(at("open the folder"))?;
        let stream = match UnixStream::connect(&path) {
            Ok(stream) => Some(Async::new(stream).map_err(at("watch the socket"))?),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                ) =>
            {
                None
            }
            Err(e) => return Err(at("connect to the socket")(e)),
        };
        let shim = Self { dir: dir.to_owned(), stream, inner: RefCell::new(Inner::of(None)) };
        if shim.stream.is_none() {
            shim.exit_record().map_err(at("settle the exit record"))?;
        }
        Ok(shim)
    }

    /// The task's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until the program runs, or it is clear that it never will.
    ///
    /// # Errors
    /// [`StartError`] with the reason, as in the exit record.
    pub async fn started(&self) -> Result<Started, StartError> {
        loop {
            self.read_now();
            if let Some(outcome) = &self.inner.borrow().outcome {
                return outcome.clone();
            }
            if self.at_end() {
                return self.outcome_of_files();
            }
            self.readable().await;
        }
    }

    /// Waits until the container's health is one of `wanted`, which it gives, or the container has
    /// ended. Gives what it hears to `told`. For a container without a check it waits for the end.
    pub async fn health(
        &self,
        wanted: &[HealthStatus],
        told: &dyn Fn(&Health),
    ) -> Option<HealthStatus> {
        loop {
            self.read_now();
            let health = {
                let mut inner = self.inner.borrow_mut();
                let news = std::mem::take(&mut inner.news);
                inner.health.clone().filter(|health| news || wanted.contains(&health.status))
            };
            if let Some(health) = health {
                told(&health);
                if wanted.contains(&health.status) {
                    return Some(health.status);
                }
            }
            if self.at_end() {
                return None;
            }
            self.readable().await;
        }
    }

    /// Whether the container has a health check. Known from [`Shim::started`] on.
    #[must_use]
    pub fn has_check(&self) -> bool {
        self.inner.borrow().health.is_some()
    }

    /// Waits for the end of the container and of its shim.
    pub async fn wait(&self) -> Exit {
        while !self.at_end() {
            self.readable().await;
            self.read_now();
        }
        self.reap().await;
        self.exit_record().unwrap_or_else(|e| Exit {
            code: CODE_KILLED,
            at: record::wall_clock(),
            oom_killed: false,
            start_error: Some(format!("no exit record: {e}")),
        })
    }

    /// Sends `signal` to the container's process 1, and SIGKILL after `grace` seconds (0: at
    /// once; absent: never). A container that still starts is killed. Done when the shim was
    /// told; see [`Shim::wait`]. An ended container is success.
    pub async fn stop(&self, signal: i32, grace: Option<u32>) {
        self.request(Request::Stop { signal, grace }).await;
    }

    /// Sends SIGKILL; else like [`Shim::stop`].
    pub async fn kill(&self) {
        self.request(Request::Kill).await;
    }

    /// A frame is far smaller than a socket's buffer: it goes whole or, when the shim does not
    /// read, after the loop has come round.
    async fn request(&self, request: Request) {
        let Some(stream) = self.stream.as_ref() else { return };
        let Ok(bytes) = frame::encode(&request) else { return };
        // A closed socket is an ended container.
        match stream.write_with(|mut s| s.write(&bytes)).await {
            Ok(_) | Err(_) => {}
        }
    }

    fn at_end(&self) -> bool {
        self.stream.is_none() || self.inner.borrow().ended
    }

    async fn readable(&self) {
        if let Some(stream) = &self.stream
            && stream.readable().await.is_err()
        {
            self.inner.borrow_mut().ended = true;
        }
    }

    /// Takes what the shim has said so far; never waits.
    fn read_now(&self) {
        let Some(stream) = &self.stream else { return };
        let mut inner = self.inner.borrow_mut();
        let mut buffer = [0; 512];
        while !inner.ended {
            match stream.get_ref().read(&mut buffer) {
                Ok(0) => inner.ended = true,
                Ok(count) => {
                    inner.decoder.push(buffer.get(..count).unwrap_or_default());
                    inner.understand();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => inner.ended = true,
            }
        }
    }

    fn outcome_of_files(&self) -> Result<Started, StartError> {
        let refuse = |message: String| Err(StartError { message });
        let exit = match self.exit_record() {
            Ok(exit) => exit,
            Err(e) => return refuse(format!("no exit record: {e}")),
        };
        if let Some(message) = exit.start_error {
            return refuse(message);
        }
        match record::read_started(&self.dir) {
            Ok(Some(started)) => Ok(started),
            Ok(None) => refuse("the shim was killed".to_owned()),
            Err(e) => refuse(format!("no start record: {e}")),
        }
    }

    /// The shim closes its socket by ending, so this is short.
    async fn reap(&self) {
        let pause = Duration::from_millis(1);
        let mut left = limits::SHIM_EXIT_TIME;
        loop {
            {
                let mut inner = self.inner.borrow_mut();
                let Some(child) = inner.child.as_mut() else { return };
                match child.try_wait() {
                    Ok(Some(_)) | Err(_) => {
                        inner.child = None;
                        return;
                    }
                    Ok(None) if left.is_zero() => match child.kill() {
                        Ok(()) | Err(_) => {}
                    },
                    Ok(None) => {}
                }
            }
            left = left.saturating_sub(pause);
            Timer::after(pause).await;
        }
    }

    /// The exit record; when the dead shim left none, kills what is left and writes one.
    fn exit_record(&self) -> io::Result<Exit> {
        if let Some(exit) = record::read_exit(&self.dir)? {
            return Ok(exit);
        }
        if let Some(resources) = record::read_resources(&self.dir)? {
            cleanup::kill(&resources)?;
        }
        let began = record::read_started(&self.dir)?.is_some();
        let exit = Exit {
            code: CODE_KILLED,
            at: record::wall_clock(),
            oom_killed: false,
            start_error: (!began).then(|| "the shim was killed".to_owned()),
        };
        record::write_exit(&self.dir, &exit)?;
        Ok(exit)
    }
}

impl Inner {
    fn understand(&mut self) {
        loop {
            match self.decoder.next() {
                Ok(Some(Event::Started(started))) => self.outcome = Some(Ok(started)),
                Ok(Some(Event::StartFailed { message })) => {
                    self.outcome = Some(Err(StartError { message }));
                }
                Ok(Some(Event::Health(health))) => {
                    self.health = Some(health);
                    self.news = true;
                }
                Ok(None) => return,
                // Not our shim's doing; the files still tell the truth.
                Err(frame::BadFrame) => {
                    self.ended = true;
                    return;
                }
            }
        }
    }
}
