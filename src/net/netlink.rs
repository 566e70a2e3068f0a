//! Netlink: messages to the kernel, and its answers (`linux/netlink.h`; RFC 3549).
//!
//! A message is built in memory and sent whole; the kernel answers before `send` returns, so
//! reading never waits. Answers are the kernel's own, but they are parsed as if they were not.

use std::{io, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, connect,
    netlink::{self, SocketAddrNetlink},
    recv, send, socket_with,
};

use crate::limits::NETLINK_ANSWER_MAX_BYTES;

/// `NLM_F_*`.
pub(super) const REQUEST: u16 = 0x01;
pub(super) const ACK: u16 = 0x04;
pub(super) const EXCLUSIVE: u16 = 0x200;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;
const DUMP: u16 = 0x300;

/// `NLMSG_ERROR`, `NLMSG_DONE`.
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;

const HEADER_BYTES: usize = 16;
const NESTED: u16 = 0x8000;

/// One or several messages on their way to the kernel.
#[derive(Debug, Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
    /// Where the last message begins.
    begin: usize,
}

impl Message {
    /// A message of `kind` with its family's fixed `header`.
    pub(super) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut message = Self::default();
        message.next(kind, flags, header);
        message
    }

    /// Begins another message behind the last one.
    pub(super) fn next(&mut self, kind: u16, flags: u16, header: &[u8]) {
        self.begin = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        // Sequence and sender: one request is under way on a socket at any time.
        self.bytes.extend([0; 8]);
        self.bytes.extend(header);
        self.finish();
    }

    /// Adds an attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let begin = self.open(kind);
        self.bytes.extend(value);
        self.close(begin);
    }

    /// Adds a text, with the NUL that the kernel expects.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let begin = self.open(kind);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
        self.close(begin);
    }

    /// Begins an attribute that holds others, until [`Message::close`].
    pub(super) fn nest(&mut self, kind: u16) -> usize {
        self.open(kind | NESTED)
    }

    fn open(&mut self, kind: u16) -> usize {
        let begin = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        begin
    }

    /// Adds bytes that are no attribute: the fixed header inside a nested one.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Ends what [`Message::nest`] began.
    pub(super) fn close(&mut self, begin: usize) {
        // One that is too long gets a length that the kernel refuses.
        let length = u16::try_from(self.bytes.len().saturating_sub(begin)).unwrap_or(0);
        if let Some(place) = self.bytes.get_mut(begin..begin.saturating_add(2)) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self.finish();
    }

    /// Pads, and writes the length of the last message.
    fn finish(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let length = u32::try_from(self.bytes.len().saturating_sub(self.begin)).unwrap_or(0);
        if let Some(place) = self.bytes.get_mut(self.begin..self.begin.saturating_add(4)) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }
}

/// A socket to one part of the kernel, in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// To the part that keeps interfaces, addresses and routes.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(None)
    }

    /// To the part that keeps filters and connections.
    pub(super) fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let family = AddressFamily::NETLINK;
        let fd = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        // Connected to the kernel, it takes messages from nobody else.
        connect(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self(fd))
    }

    /// The number of an interface in this socket's namespace.
    pub(super) fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.0, name)?)
    }

    /// Sends one message, or a whole batch, and reads what the kernel says of it.
    pub(super) fn request(&self, message: &Message) -> io::Result<()> {
        self.send(message)?;
        let mut refusal = None;
        self.answers(&mut |kind, payload| {
            if kind == KIND_ERROR && refusal.is_none() {
                refusal = error_of(payload);
            }
            false
        })?;
        refusal.map_or(Ok(()), Err)
    }

    /// Asks for a list, and hands each entry to `each`.
    pub(super) fn dump(
        &self,
        kind: u16,
        header: &[u8],
        filter: &[(u16, &str)],
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut message = Message::new(kind, DUMP, header);
        for (kind, value) in filter {
            message.text(*kind, value);
        }
        self.send(&message)?;
        let mut refusal = None;
        self.answers(&mut |kind, payload| {
            match kind {
                KIND_DONE => return true,
                KIND_ERROR => {
                    refusal = error_of(payload);
                    return true;
                }
                _ => each(payload),
            }
            false
        })?;
        refusal.map_or(Ok(()), Err)
    }

    fn send(&self, message: &Message) -> io::Result<()> {
        let sent = send(&self.0, &message.bytes, SendFlags::empty())?;
        if sent == message.bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Hands kind and payload of each message that is there to `each`, until it says enough.
    fn answers(&self, each: &mut dyn FnMut(u16, &[u8]) -> bool) -> io::Result<()> {
        let mut buffer = vec![0; NETLINK_ANSWER_MAX_BYTES];
        loop {
            match recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    let got = buffer.get(..length).unwrap_or_default();
                    if messages(got, each) {
                        return Ok(());
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What an error message says; none is the confirmation.
fn error_of(payload: &[u8]) -> Option<io::Error> {
    let code = payload.first_chunk().map_or(-libc_eproto(), |bytes| i32::from_ne_bytes(*bytes));
    (code != 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()))
}

const fn libc_eproto() -> i32 {
    rustix::io::Errno::PROTO.raw_os_error()
}

/// Walks the messages of one datagram; true when `each` has had enough.
fn messages(mut bytes: &[u8], each: &mut dyn FnMut(u16, &[u8]) -> bool) -> bool {
    while let Some(([a, b, c, d, kind, more, ..], _)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let length = u32::from_ne_bytes([*a, *b, *c, *d]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(payload) = bytes.get(HEADER_BYTES..length) else { return false };
        if each(u16::from_ne_bytes([*kind, *more]), payload) {
            return true;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// The value of the first attribute of `kind`; nothing when there is none or they are broken.
pub(super) fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    while let Some(([a, b, c, d], _)) = bytes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let value = bytes.get(4..length)?;
        if u16::from_ne_bytes([*c, *d]) & !NESTED == kind {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

/// For the fuzzer: walks any bytes as an answer, and what is in them.
pub fn fuzz(bytes: &[u8]) {
    messages(bytes, &mut |kind, payload| {
        assert!(payload.len() <= bytes.len());
        if kind == KIND_ERROR {
            drop(error_of(payload));
        }
        for kind in 0..16 {
            let found = attribute(payload.get(4..).unwrap_or_default(), kind);
            if let Some(inner) = found.and_then(|value| attribute(value, kind)) {
                assert!(inner.len() <= payload.len());
            }
        }
        false
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_counted_and_found_again() {
        let mut message = Message::new(7, ACK, &[9; 4]);
        message.text(1, "ab");
        let nest = message.nest(2);
        message.attribute(3, &[5]);
        message.close(nest);
        let bytes = &message.bytes;
        assert_eq!(bytes.len(), 16 + 4 + 8 + 12);
        let mut seen = Vec::new();
        messages(bytes, &mut |kind, payload| {
            seen.push((kind, payload.to_vec()));
            false
        });
        let [(7, payload)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!(attribute(&payload[4..], 1), Some(&b"ab\0"[..]));
        let nested = attribute(&payload[4..], 2).unwrap();
        assert_eq!(attribute(nested, 3), Some(&[5][..]));
        assert_eq!(attribute(nested, 1), None);
    }

    #[test]
    fn broken_answers_end_the_walk() {
        for bytes in [&[0_u8; 15][..], &[0; 64], &[255; 64], &[17, 0, 0, 0, 1, 0, 0, 0]] {
            let mut count = 0;
            messages(bytes, &mut |_, _| {
                count += 1;
                false
            });
            assert_eq!(count, 0, "{bytes:?}");
            let _whatever = attribute(bytes, 1);
        }
        assert_eq!(attribute(&[3, 0, 1, 0], 1), None, "shorter than its own head");
        assert_eq!(attribute(&[4, 0, 1, 0], 1), Some(&[][..]));
        assert_eq!(error_of(&[]).unwrap().raw_os_error(), Some(libc_eproto()));
        assert!(error_of(&[0; 4]).is_none());
    }
}
