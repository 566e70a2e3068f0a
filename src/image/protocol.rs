//! What agent and fetch child say to each other: one request, then events, as frames.
//!
//! A frame is a length (four bytes, little-endian) and so many bytes of postcard. The request goes
//! to the child's standard input, never to argv, for it holds registry credentials.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    limits::{FETCH_EVENT_MAX_BYTES, FETCH_MESSAGE_MAX_BYTES, FETCH_REQUEST_MAX_BYTES},
    model::{Platform, RegistrySettings, SecretBytes},
};

/// What a fetch child shall do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRequest {
    /// Root of the store, such as `/var/lib/edgeagent/images`.
    pub store: PathBuf,
    /// Read-only stores below it, and OCI layouts that may have the image.
    pub additional_stores: Vec<PathBuf>,
    /// Most unpacked bytes of all layers of the store.
    pub quota_bytes: Option<u64>,
    /// Bytes that stay free beside the store, and inodes in proportion.
    pub min_free_bytes: u64,
    /// Images whose configuration names another platform are taken, too.
    pub any_platform: bool,
    /// The platform that images must run on.
    pub platform: Platform,
    /// Where the image comes from.
    pub what: What,
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// From a registry.
    Pull {
        /// The image reference.
        reference: String,
        /// Docker's base64url JSON of credentials; empty: anonymous.
        auth: SecretBytes,
        /// How registries are spoken to.
        registries: RegistrySettings,
    },
    /// From an archive of `docker save` or in OCI layout, packed or not. It is read once from
    /// start to end, so `/proc/<pid>/fd/0` of a waiting process will do.
    Load {
        /// The archive.
        archive: PathBuf,
    },
}

/// What a fetch child tells. The last one is [`Self::Done`] or [`Self::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchEvent {
    /// An image is coming.
    Progress {
        /// Packed bytes of its layers that are here, those kept from earlier included.
        done: u64,
        /// Packed bytes of all layers that were missing.
        total: u64,
    },
    /// The images are complete in the store.
    Done {
        /// Their references in familiar form; an image id for one without a name.
        images: Vec<String>,
        /// Digest of the last one's manifest.
        manifest: String,
    },
    /// Nothing was added under any name.
    Failed {
        /// What to do about it.
        kind: FetchFailure,
        /// For a person; it stands in `docker service ps`.
        message: String,
    },
}

/// Why a fetch failed, by what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchFailure {
    /// There is no such image: correct the name.
    NotFound,
    /// The credentials do not suffice: correct them.
    Denied,
    /// The registry does not answer, or not as it should: try again later.
    Unreachable,
    /// The image does not run on this device: build it for its platform.
    WrongPlatform,
    /// The image or archive is malformed, hostile or damaged, or its name is: make it again.
    Invalid,
    /// The local store can not be used or is full: see to the disk.
    Storage,
    /// The child died or was killed: try again.
    Interrupted,
}

/// Why a frame is not one.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The stream failed or ended: the other side is gone.
    Io,
    /// It exceeds its bound.
    TooLarge,
    /// Its content is malformed.
    Malformed,
}

/// The frame of a request.
pub(super) fn request_frame(request: &FetchRequest) -> Result<Vec<u8>, FrameError> {
    frame(request, FETCH_REQUEST_MAX_BYTES)
}

/// Writes an event; a long message or list is cut to fit.
pub(super) fn write_event(out: &mut impl io::Write, event: FetchEvent) -> Result<(), FrameError> {
    let event = match event {
        FetchEvent::Failed { kind, message } => FetchEvent::Failed { kind, message: cut(message) },
        FetchEvent::Done { mut images, manifest } => {
            let mut room = FETCH_EVENT_MAX_BYTES / 2;
            images.retain(|name| {
                let fits = name.len() + 8 <= room;
                room = room.saturating_sub(name.len() + 8);
                fits
            });
            FetchEvent::Done { images, manifest }
        }
        FetchEvent::Progress { .. } => event,
    };
    let frame = frame(&event, FETCH_EVENT_MAX_BYTES)?;
    out.write_all(&frame).and_then(|()| out.flush()).map_err(|_| FrameError::Io)
}

/// Reads the one request.
pub(super) fn read_request(input: &mut impl io::Read) -> Result<FetchRequest, FrameError> {
    let mut length = [0; 4];
    input.read_exact(&mut length).map_err(|_| FrameError::Io)?;
    let length = u32::from_le_bytes(length) as usize;
    if FETCH_REQUEST_MAX_BYTES < length {
        return Err(FrameError::TooLarge);
    }
    let mut body = zeroize::Zeroizing::new(vec![0; length]);
    input.read_exact(&mut body).map_err(|_| FrameError::Io)?;
    postcard::from_bytes(&body).map_err(|_| FrameError::Malformed)
}

/// Takes the first whole event out of `buffer`; none when there is not one yet.
pub(super) fn take_event(buffer: &mut Vec<u8>) -> Result<Option<FetchEvent>, FrameError> {
    take(buffer, FETCH_EVENT_MAX_BYTES)
}

fn take<T: DeserializeOwned>(buffer: &mut Vec<u8>, max: usize) -> Result<Option<T>, FrameError> {
    let Some((length, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if max < length {
        return Err(FrameError::TooLarge);
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let value = postcard::from_bytes(body).map_err(|_| FrameError::Malformed)?;
    buffer.drain(..4 + length);
    Ok(Some(value))
}

fn frame<T: Serialize>(value: &T, max: usize) -> Result<Vec<u8>, FrameError> {
    let body =
        zeroize::Zeroizing::new(postcard::to_stdvec(value).map_err(|_| FrameError::Malformed)?);
    let length = u32::try_from(body.len()).map_err(|_| FrameError::TooLarge)?;
    if max < body.len() {
        return Err(FrameError::TooLarge);
    }
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

fn cut(mut message: String) -> String {
    let mut end = FETCH_MESSAGE_MAX_BYTES.min(message.len());
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_any_cut_of_the_stream() {
        let events = [
            FetchEvent::Progress { done: 2, total: 3 },
            FetchEvent::Failed { kind: FetchFailure::NotFound, message: "No such image".into() },
        ];
        let mut bytes = Vec::new();
        for event in &events {
            write_event(&mut bytes, event.clone()).unwrap();
        }
        let (mut buffer, mut seen) = (Vec::new(), Vec::new());
        for byte in bytes {
            buffer.push(byte);
            seen.extend(take_event(&mut buffer).unwrap());
        }
        assert_eq!(seen, events);
        assert!(take_event(&mut vec![0xff; 8]).is_err());
    }

    #[test]
    fn long_messages_and_lists_are_cut_to_the_bound() {
        let mut bytes = Vec::new();
        let message = "ä".repeat(FETCH_MESSAGE_MAX_BYTES);
        write_event(&mut bytes, FetchEvent::Failed { kind: FetchFailure::Invalid, message })
            .unwrap();
        let images = vec!["x".repeat(300); 10_000];
        write_event(&mut bytes, FetchEvent::Done { images, manifest: String::new() }).unwrap();
        assert!(take_event(&mut bytes).unwrap().is_some());
        assert!(take_event(&mut bytes).unwrap().is_some());
        assert!(bytes.is_empty());
    }
}
