//! The bytes of one connection to a registry, for an HTTP library that never waits itself.
//!
//! A fetch child has a thread for each layer and nothing else to do, so it needs no executor: the
//! library is asked to go on, and when it can not, the thread waits for its one socket with
//! `poll(2)` ([`Line::wait`]). Every such wait has an end.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake},
    time::{Duration, Instant},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use rustls::ClientConnection;

use super::{blob::now, http::Fault};

/// Bytes that are read at a time: a TLS record has as many at most (RFC 8446 §5.1).
const READ_BYTES: usize = 16 << 10;

/// A socket, and what is known of who waits for it.
#[derive(Debug)]
pub(super) struct Line {
    socket: TcpStream,
    /// Something is to be sent that did not go yet.
    sends: AtomicBool,
    /// Whoever uses it was told to go on.
    woken: AtomicBool,
    fault: Noted,
}

#[expect(
    clippy::disallowed_types,
    reason = "the library owns the wire, its user asks why it broke"
)]
type Noted = std::sync::Mutex<Option<io::Error>>;

impl Wake for Line {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
    }
}

impl Line {
    pub(super) fn new(socket: TcpStream) -> io::Result<Arc<Self>> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let (sends, woken) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Arc::new(Self { socket, sends, woken, fault: Noted::default() }))
    }

    /// Whether somebody was told to go on since the last question.
    pub(super) fn take_wake(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    /// Why the wire broke, as the system or TLS said it.
    pub(super) fn take_fault(&self) -> Option<io::Error> {
        self.fault.lock().ok()?.take()
    }

    /// Waits until something came or, when something is to be sent, can be.
    ///
    /// # Errors
    /// [`Fault::Silent`] after `until`.
    pub(super) fn wait(&self, until: Instant) -> io::Result<()> {
        let mut flags = PollFlags::IN;
        if self.sends.load(Ordering::Acquire) {
            flags |= PollFlags::OUT;
        }
        loop {
            let left = time_left(until)?;
            let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
            let left = Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.socket, flags)], Some(&left)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Writes the kind of an error down for the library, and all of it for its user.
    fn note(&self, e: io::Error) -> io::Error {
        let kind = e.kind();
        if let Ok(mut fault) = self.fault.lock() {
            fault.get_or_insert(e);
        }
        kind.into()
    }
}

/// What is left up to `until`.
///
/// # Errors
/// [`Fault::Silent`] when that is nothing.
pub(super) fn time_left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(now());
    if left.is_zero() { Err(Fault::Silent.into()) } else { Ok(left) }
}

/// What is read from and written to a line, in TLS or plainly.
pub(super) struct Wire {
    line: Arc<Line>,
    tls: Option<Box<ClientConnection>>,
    buffer: Box<[u8]>,
}

impl Wire {
    pub(super) fn plain(line: Arc<Line>) -> Self {
        Self { line, tls: None, buffer: vec![0; READ_BYTES].into() }
    }

    /// Agrees on keys with the server, all of it up to `until`.
    ///
    /// # Errors
    /// Those of the system, [`Fault::Silent`], and [`rustls::Error`] inside of an [`io::Error`].
    pub(super) fn secure(
        line: Arc<Line>,
        mut tls: Box<ClientConnection>,
        until: Instant,
    ) -> io::Result<Self> {
        while tls.is_handshaking() || tls.wants_write() {
            line.sends.store(tls.wants_write(), Ordering::Release);
            let result = if tls.wants_write() {
                tls.write_tls(&mut &line.socket)
            } else {
                tls.read_tls(&mut &line.socket)
            };
            match result {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    line.wait(until)?;
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            if let Err(e) = tls.process_new_packets() {
                // The server is told why, if it still listens.
                drop(tls.write_tls(&mut &line.socket));
                return Err(tls_error(io::Error::new(ErrorKind::InvalidData, e)));
            }
        }
        line.sends.store(false, Ordering::Release);
        Ok(Self { tls: Some(tls), ..Self::plain(line) })
    }

    /// Carries a call out that may have to wait.
    fn ready<T>(
        &mut self,
        mut call: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            let result = call(self).map_err(tls_error);
            if let Some(tls) = &self.tls {
                self.line.sends.store(tls.wants_write(), Ordering::Release);
            }
            match result {
                Ok(value) => return Poll::Ready(Ok(value)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Poll::Pending,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Poll::Ready(Err(self.line.note(e))),
            }
        }
    }
}

/// A record that can not be opened, or a server that gives up, is the line's fault or passes; what
/// else is wrong with TLS is wrong for good.
fn tls_error(e: io::Error) -> io::Error {
    let passes = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()).is_some_and(|e| {
        matches!(e, rustls::Error::DecryptError | rustls::Error::AlertReceived(_))
    });
    if passes { io::Error::new(ErrorKind::ConnectionAborted, e) } else { e }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let most = to.remaining().min(READ_BYTES);
        let read = self.ready(|wire| {
            let buffer = wire.buffer.get_mut(..most).unwrap_or_default();
            let mut socket = &wire.line.socket;
            match &mut wire.tls {
                Some(tls) => rustls::Stream::new(tls.as_mut(), &mut socket).read(buffer),
                None => socket.read(buffer),
            }
        });
        read.map_ok(|read| to.put_slice(self.buffer.get(..read).unwrap_or_default()))
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.ready(|wire| {
            let mut socket = &wire.line.socket;
            match &mut wire.tls {
                Some(tls) => rustls::Stream::new(tls.as_mut(), &mut socket).write(bytes),
                None => socket.write(bytes),
            }
        });
        if self.tls.is_none() {
            self.line.sends.store(written.is_pending(), Ordering::Release);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ready(|wire| {
            let mut socket = &wire.line.socket;
            match &mut wire.tls {
                Some(tls) => rustls::Stream::new(tls.as_mut(), &mut socket).flush(),
                None => Ok(()),
            }
        })
    }

    /// Nobody waits for a goodbye: what an answer lacks shows in its length.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
