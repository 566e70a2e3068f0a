//! A blob on its way, from what is here already and then from the registry.
//!
//! A broken connection is taken up again where it broke: within this process nobody notices, and
//! for the next one the bytes are in a [`Partial`]. There is no `If-Range`: a blob's address is its
//! digest, so it can not have changed, and a registry that sends something else is found out by
//! the digest of the whole.

use std::{
    io::{self, Read},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    digest::Digest,
    partial::Partial,
    pull::PullError,
    registry::{Part, Registry, pause_after},
};
use crate::limits::{FETCH_READ_BYTES, REGISTRY_PROGRESS_BYTES, REGISTRY_RETRIES};

/// What all blobs of one pull share: the pace, and how far they are.
#[derive(Debug)]
pub(super) struct Flow {
    start: Instant,
    bytes_per_second: Option<u64>,
    /// Microseconds after the start when the rate allows further bytes.
    free_at: AtomicU64,
    done: AtomicU64,
    total: AtomicU64,
    stopped: AtomicBool,
}

impl Flow {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            start: now(),
            bytes_per_second,
            free_at: AtomicU64::new(0),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// The same pace, and nothing counted yet.
    pub(super) fn again(&self) -> Self {
        let free_at = AtomicU64::new(self.free_at.load(Ordering::Relaxed));
        Self { start: self.start, free_at, ..Self::new(self.bytes_per_second) }
    }

    /// Since the start.
    pub(super) fn elapsed(&self) -> Duration {
        now().saturating_duration_since(self.start)
    }

    /// So many bytes are to come.
    pub(super) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes came.
    pub(super) fn came(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes must come again.
    fn lost(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that are here, and those in all.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Nobody wants the rest.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Waits until the rate allows for `bytes` that came.
    fn pace(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else { return };
        let cost = (bytes as u64).saturating_mul(1_000_000) / rate.max(1);
        let elapsed = u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.free_at.fetch_max(elapsed, Ordering::Relaxed);
        let free = self.free_at.fetch_add(cost, Ordering::Relaxed).saturating_add(cost);
        thread::sleep(Duration::from_micros(free.saturating_sub(elapsed)));
    }
}

#[expect(clippy::disallowed_methods, reason = "a fetch child is a driver of its own")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// The stream of one blob. It ends after `size` bytes, whatever the registry sends.
pub(super) struct Blob<'a> {
    registry: &'a mut Registry,
    flow: &'a Flow,
    digest: &'a Digest,
    size: u64,
    partial: &'a mut Partial,
    /// Bytes that were read by our reader.
    at: u64,
    /// Bytes that came, now or before.
    here: u64,
    part: Option<Connection>,
    failures: u32,
    /// The registry's ranges are of no use.
    no_ranges: bool,
    spliced: bool,
    failure: Option<PullError>,
}

struct Connection {
    body: Box<dyn Read + Send>,
    /// Bytes that came over it and are here already.
    skip: u64,
    brought: u64,
}

impl<'a> Blob<'a> {
    pub(super) fn new(
        registry: &'a mut Registry,
        flow: &'a Flow,
        digest: &'a Digest,
        size: u64,
        partial: &'a mut Partial,
    ) -> Self {
        let here = partial.len();
        Self {
            registry,
            flow,
            digest,
            size,
            partial,
            at: 0,
            here,
            part: None,
            failures: 0,
            no_ranges: false,
            spliced: 0 < here,
            failure: None,
        }
    }

    /// Why the stream broke off, when it did.
    pub(super) fn take_failure(&mut self) -> Option<PullError> {
        self.failure.take()
    }

    /// Whether it was put together of several parts: one of them may be wrong.
    pub(super) const fn is_spliced(&self) -> bool {
        self.spliced
    }

    /// The bytes are wrong: none of them counts.
    pub(super) fn discard(self) {
        self.flow.lost(self.here);
        self.partial.remove();
    }

    /// Fetches all that is missing into the partial file.
    pub(super) fn store(&mut self) -> io::Result<()> {
        let mut buffer = [0; FETCH_READ_BYTES];
        while self.here < self.size && self.partial.keeps() {
            self.fetch(&mut buffer)?;
        }
        Ok(())
    }

    /// Reads what follows from the registry, at most what there must be.
    fn fetch(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.here < self.size {
            if self.flow.is_stopped() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let mut part = match self.part.take() {
                Some(part) => part,
                None => match self.connect() {
                    Ok(part) => part,
                    Err(e) => {
                        self.broke(e)?;
                        continue;
                    }
                },
            };
            let left = if 0 < part.skip { part.skip } else { self.size - self.here };
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let most = most.min(buffer.len()).min(FETCH_READ_BYTES);
            let chunk = buffer.get_mut(..most).unwrap_or_default();
            let n = match part.body.read(chunk) {
                Ok(0) => {
                    self.broke_off(&part, io::ErrorKind::UnexpectedEof.into())?;
                    continue;
                }
                Ok(n) => n,
                Err(e) => {
                    self.broke_off(&part, e)?;
                    continue;
                }
            };
            self.flow.pace(n);
            let count = n as u64;
            if 0 < part.skip {
                part.skip = part.skip.saturating_sub(count);
                self.part = Some(part);
                continue;
            }
            part.brought = part.brought.saturating_add(count);
            self.part = Some(part);
            self.here = self.here.saturating_add(count);
            self.partial.append(chunk.get(..n).unwrap_or_default());
            self.flow.came(count);
            return Ok(n);
        }
        Ok(0)
    }

    fn connect(&mut self) -> Result<Connection, PullError> {
        let from = if self.no_ranges { 0 } else { self.here };
        let Part { body, at } = self.registry.blob(self.digest, self.size, from)?;
        self.spliced |= 0 < self.here;
        Ok(Connection { body, skip: self.here - at, brought: 0 })
    }

    fn broke_off(&mut self, part: &Connection, source: io::Error) -> io::Result<()> {
        if REGISTRY_PROGRESS_BYTES <= part.brought {
            self.failures = 0;
        }
        let registry = self.registry.name().to_owned();
        self.broke(PullError::Broken { registry, source })
    }

    /// Waits for another try; fails when there were enough.
    fn broke(&mut self, e: PullError) -> io::Result<()> {
        if matches!(e, PullError::Range { .. }) && !self.no_ranges {
            self.no_ranges = true;
            return Ok(());
        }
        if !e.may_pass() || REGISTRY_RETRIES <= self.failures {
            self.failure = Some(e);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        log::debug!("blob {} goes on at byte {}: {}", self.digest, self.here, e.chain());
        thread::sleep(pause_after(&e, self.failures));
        self.failures += 1;
        Ok(())
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = if self.at < self.partial.len() {
            let left = usize::try_from(self.partial.len() - self.at).unwrap_or(usize::MAX);
            let most = left.min(buffer.len());
            self.partial.read_at(buffer.get_mut(..most).unwrap_or_default(), self.at)?
        } else {
            self.fetch(buffer)?
        };
        self.at = self.at.saturating_add(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept() {
        let flow = Flow::new(Some(1_000_000));
        for _ in 0..10 {
            flow.pace(10_000);
        }
        assert!(Duration::from_millis(99) <= flow.elapsed(), "{:?}", flow.elapsed());
    }
}
