//! As much of DER (X.690) as certificates and their requests need.
//!
//! The reader hands out slices of its input and copies nothing; it takes definite, minimal lengths
//! of at most three bytes and tags of one byte, which covers everything in X.509.

/// The bytes are not the DER that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotDer;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const PRINTABLE_STRING: u8 = 0x13;
pub(super) const IA5_STRING: u8 = 0x16;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(super) const CONTEXT_0: u8 = 0xa0;
/// `[3]`, constructed.
pub(super) const CONTEXT_3: u8 = 0xa3;

/// One element: its tag, and slices of the input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// With tag and length.
    pub(super) raw: &'a [u8],
    /// Without.
    pub(super) content: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element, which stays unread.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever it is.
    pub(super) fn element(&mut self) -> Result<Element<'a>, NotDer> {
        let (&tag, rest) = self.rest.split_first().ok_or(NotDer)?;
        if tag & 0x1f == 0x1f {
            return Err(NotDer);
        }
        let (length, rest) = length(rest)?;
        let (content, rest) = rest.split_at_checked(length).ok_or(NotDer)?;
        let raw = self.rest.get(..self.rest.len() - rest.len()).ok_or(NotDer)?;
        self.rest = rest;
        Ok(Element { tag, raw, content })
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Element<'a>, NotDer> {
        let element = self.element()?;
        if element.tag == tag { Ok(element) } else { Err(NotDer) }
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), NotDer> {
        if self.is_empty() { Ok(()) } else { Err(NotDer) }
    }
}

fn length(bytes: &[u8]) -> Result<(usize, &[u8]), NotDer> {
    match bytes {
        [short @ 0..=0x7f, rest @ ..] => Ok((usize::from(*short), rest)),
        [0x81, a @ 0x80..=0xff, rest @ ..] => Ok((usize::from(*a), rest)),
        [0x82, a @ 0x01..=0xff, b, rest @ ..] => Ok((usize::from(*a) << 8 | usize::from(*b), rest)),
        [0x83, a @ 0x01..=0xff, b, c, rest @ ..] => {
            Ok((usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c), rest))
        }
        _ => Err(NotDer),
    }
}

/// An element with this tag around the parts.
pub(super) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 5);
    out.push(tag);
    let bytes = length.to_be_bytes();
    let skip = bytes.iter().take_while(|byte| **byte == 0).count();
    let significant = bytes.get(skip..).unwrap_or_default();
    match significant {
        [] => out.push(0),
        [short @ 0..=0x7f] => out.push(*short),
        long => {
            // At most eight bytes of length.
            out.push(0x80 | u8::try_from(long.len()).unwrap_or_default());
            out.extend_from_slice(long);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for size in [0, 1, 127, 128, 255, 256, 65_535, 65_536, 70_000] {
            let content = vec![7; size];
            let der = write(OCTET_STRING, &[&content]);
            let mut reader = Reader::new(&der);
            let element = reader.expect(OCTET_STRING).unwrap();
            assert_eq!((element.content, element.raw), (&content[..], &der[..]));
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn lengths_that_der_forbids_are_refused() {
        for bad in [
            &[0x30][..],
            &[0x30, 0x01],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 0x01, 0],
            &[0x30, 0x82, 0x00, 0x80],
            &[0x30, 0x84, 0, 0, 0, 1, 0],
            &[0x30, 0xff],
            &[0x1f, 0x01, 0x00],
        ] {
            assert_eq!(Reader::new(bad).element().err(), Some(NotDer), "{bad:?}");
        }
    }
}
