//! The agent's side of a fetch: starts the child, listens, and never leaves it behind.
//!
//! It knows nothing of registries or archives; see `child` for those.

use core::fmt;
use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use smol::{Async, io::AsyncReadExt};

use super::protocol::{FetchEvent, FetchFailure, FetchRequest, request_frame, take_event};

/// The argv\[0\] by which the binary becomes a fetch child.
pub const FETCH_ARGV0: &str = "edgeagent-fetch";

/// Why a fetch child is not started.
#[derive(Debug)]
pub enum FetchError {
    /// The request exceeds its bound; registry credentials are the only part that can be so long.
    TooLarge,
    /// The child can not be started or spoken to.
    Start(io::Error),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "registry credentials are too long",
            Self::Start(_) => "can not start a process to fetch the image",
        })
    }
}

impl core::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Start(cause) => Some(cause),
            Self::TooLarge => None,
        }
    }
}

/// A running fetch. Dropping it kills the child; the packed bytes that it has are kept for the next one.
#[derive(Debug)]
pub struct Fetch {
    child: Option<Child>,
    out: Async<ChildStdout>,
    buffer: Vec<u8>,
    ended: bool,
}

/// Starts `program`, this very binary, as a fetch child. Call it on the main thread: the child
/// dies with the thread that started it.
///
/// # Errors
/// [`FetchError`] when there is no child.
pub fn fetch(program: &Path, request: &FetchRequest) -> Result<Fetch, FetchError> {
    let frame = request_frame(request).map_err(|_| FetchError::TooLarge)?;
    let frame = zeroize::Zeroizing::new(frame);
    let mut child = Command::new(program)
        .arg0(FETCH_ARGV0)
        // Only the agent itself speaks for its service.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(FetchError::Start)?;
    let gone = || FetchError::Start(io::ErrorKind::BrokenPipe.into());
    let (input, out) = (child.stdin.take(), child.stdout.take());
    let started = input
        .ok_or_else(gone)
        // The pipe is empty and larger than any request, so this does not wait.
        .and_then(|mut input| input.write_all(&frame).map_err(FetchError::Start))
        .and_then(|()| out.ok_or_else(gone))
        .and_then(|out| Async::new(out).map_err(FetchError::Start));
    match started {
        Ok(out) => Ok(Fetch { child: Some(child), out, buffer: Vec::new(), ended: false }),
        Err(e) => {
            end(child);
            Err(e)
        }
    }
}

impl Fetch {
    /// The next event; none after the last one. A child that dies first counts as
    /// [`FetchFailure::Interrupted`]. May be cancelled and called again.
    pub async fn next(&mut self) -> Option<FetchEvent> {
        while !self.ended {
            match take_event(&mut self.buffer) {
                Ok(Some(event)) => {
                    self.ended = !matches!(event, FetchEvent::Progress { .. });
                    return Some(event);
                }
                Ok(None) => {}
                Err(_) => return Some(self.interrupted()),
            }
            let mut chunk = [0; 4096];
            match self.out.read(&mut chunk).await {
                Ok(0) | Err(_) => return Some(self.interrupted()),
                Ok(n) => self.buffer.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            }
        }
        None
    }

    fn interrupted(&mut self) -> FetchEvent {
        self.ended = true;
        FetchEvent::Failed {
            kind: FetchFailure::Interrupted,
            message: "the process that fetched the image died; see the log".to_owned(),
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            end(child);
        }
    }
}

/// Kills and reaps. A child deep in a disk write can take its time to die, so the waiting is
/// left to a thread then.
fn end(mut child: Child) {
    if let Err(e) = child.kill() {
        log::warn!("fetch child can not be killed error={e}");
    }
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    let wait = std::thread::Builder::new().name("reaper".to_owned()).stack_size(64 << 10);
    if let Err(e) = wait.spawn(move || child.wait()) {
        log::warn!("fetch child stays a zombie error={e}");
    }
}
