//! What agent and shim say to each other: a length (u32, little-endian), then postcard.
//!
//! Both sides are ours, yet neither trusts the other's lengths.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::record::Started;
use crate::{limits::SHIM_FRAME_MAX_BYTES, model::Health};

/// Agent to shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Send `signal`, and SIGKILL after `grace` seconds; absent: never.
    Stop {
        /// Number of the signal.
        signal: i32,
        /// Seconds; 0: at once.
        grace: Option<u32>,
    },
    /// SIGKILL.
    Kill,
}

/// Shim to agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    /// The program runs.
    Started(Started),
    /// It never will; the exit record says the same.
    StartFailed {
        /// Why not.
        message: String,
    },
    /// What health probes say. The first one comes before `Started`, when there is a check.
    Health(Health),
}

/// The other side sent something that is no frame of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadFrame;

/// `message` as a frame. A message too long for one is [`BadFrame`].
pub(super) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, BadFrame> {
    let body = postcard::to_stdvec(message).map_err(|_| BadFrame)?;
    if SHIM_FRAME_MAX_BYTES < body.len() {
        return Err(BadFrame);
    }
    let length = u32::try_from(body.len()).map_err(|_| BadFrame)?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(body);
    Ok(frame)
}

/// Collects bytes and gives whole frames. Holds at most one frame and one read.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// Holds nothing.
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Takes what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one. After [`BadFrame`] the connection is of no use.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, BadFrame> {
        let Some((length, body)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| BadFrame)?;
        if SHIM_FRAME_MAX_BYTES < length {
            return Err(BadFrame);
        }
        let Some(body) = body.get(..length) else { return Ok(None) };
        let (message, rest) = postcard::take_from_bytes(body).map_err(|_| BadFrame)?;
        if !rest.is_empty() {
            return Err(BadFrame);
        }
        self.bytes.drain(..length + 4);
        Ok(Some(message))
    }
}

/// For the fuzzer: reads `data` as both sides would, in pieces, and checks that what was
/// understood survives a round trip.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    fn side<T: Serialize + DeserializeOwned + PartialEq + core::fmt::Debug>(data: &[u8]) {
        let mut decoder = Decoder::default();
        for piece in data.chunks(7) {
            decoder.push(piece);
            loop {
                match decoder.next::<T>() {
                    Ok(Some(message)) => {
                        let frame = encode(&message).unwrap_or_default();
                        let mut again = Decoder::default();
                        again.push(&frame);
                        assert_eq!(again.next::<T>(), Ok(Some(message)), "round trip");
                    }
                    Ok(None) => break,
                    Err(BadFrame) => return,
                }
            }
            assert!(decoder.bytes.len() <= SHIM_FRAME_MAX_BYTES + 4 + 7, "a frame is bounded");
        }
    }
    side::<Request>(data);
    side::<Event>(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_whole_however_they_are_cut() {
        let wanted = [Request::Stop { signal: 15, grace: Some(10) }, Request::Kill];
        let bytes: Vec<u8> = wanted.iter().flat_map(|r| encode(r).unwrap()).collect();
        for size in 1..=bytes.len() {
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(request) = decoder.next::<Request>().unwrap() {
                    got.push(request);
                }
            }
            assert_eq!(got, wanted, "pieces of {size}");
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_before_it_is_read() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert_eq!(decoder.next::<Request>(), Err(BadFrame));
        let long = Event::StartFailed { message: "x".repeat(SHIM_FRAME_MAX_BYTES + 1) };
        assert_eq!(encode(&long), Err(BadFrame));
    }

    #[test]
    fn bytes_after_the_message_are_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&[2, 0, 0, 0, 1, 1]);
        assert_eq!(decoder.next::<Request>(), Err(BadFrame));
    }
}
