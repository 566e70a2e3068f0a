//! Compression of layers and archives: gzip, zstd or none, told by the first bytes.
//!
//! Media types are not asked, for they are wrong in practice (Docker does the same, moby
//! `pkg/archive`, `DetectCompression`). A wrong guess can not pass: the diff id would differ.

use std::{
    io::{self, BufReader, Chain, Cursor, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;

use super::zstd::Zstd;

const BUFFER_BYTES: usize = 32 << 10;

/// Packings that are known and not read: how they begin, their name, and what unpacks them.
const UNREAD: [(&[u8], &str, &str); 5] = [
    (b"\xfd7zXZ\0", "xz", "xz -d"),
    (b"BZh", "bzip2", "bzip2 -d"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -d"),
    (b"\x5d\0\0", "lzma", "xz -d"),
    (b"PK\x03\x04", "zip", "unzip"),
];

type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// The plain bytes of a stream that may be packed.
pub(super) enum Unpacked<R: Read> {
    /// As it came.
    Plain(Source<R>),
    /// One or more gzip members.
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    /// One or more zstd frames.
    Zstd(Box<Zstd<Source<R>>>),
}

impl<R: Read> core::fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}

impl<R: Read> Unpacked<R> {
    /// Looks at the first bytes of `source`. A decoder that needs a file makes one in `folder`.
    ///
    /// # Errors
    /// Those of reading it.
    pub(super) fn new(mut source: R, folder: &Path) -> io::Result<Self> {
        let mut head = Vec::with_capacity(6);
        source.by_ref().take(6).read_to_end(&mut head)?;
        let gzip = head.starts_with(&[0x1f, 0x8b]);
        let zstd = head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable(&head);
        let unread = UNREAD.iter().find(|(start, ..)| head.starts_with(start));
        if let Some((_, name, program)) = unread {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "it is packed with {name}, which is not read: unpack it first with \
                     `{program}`, or pack it with gzip or zstd"
                ),
            ));
        }
        let source = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(head).chain(source));
        Ok(if gzip {
            Self::Gzip(Box::new(MultiGzDecoder::new(source)))
        } else if zstd {
            Self::Zstd(Box::new(Zstd::new(source, folder)))
        } else {
            Self::Plain(source)
        })
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Frames that decoders pass over begin with `5? 2a 4d 18` (RFC 8878 §3.1.2).
fn skippable(head: &[u8]) -> bool {
    matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn plain(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Unpacked::new(bytes, &std::env::temp_dir())?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn every_packing_gives_the_plain_bytes() {
        let data: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for (name, bytes) in [
            ("plain", data.clone()),
            ("gzip", gzip(&data)),
            ("zstd", zstd(&data)),
            ("gzip members", [gzip(&data[..1000]), gzip(&data[1000..])].concat()),
            (
                "zstd frames",
                [
                    zstd(&data[..1000]),
                    vec![0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3],
                    zstd(&data[1000..]),
                ]
                .concat(),
            ),
        ] {
            assert!(plain(&bytes).unwrap() == data, "{name}");
        }
        assert_eq!(plain(b"").unwrap(), b"");
        assert_eq!(plain(b"abc").unwrap(), b"abc");
    }

    #[test]
    fn a_packing_that_is_not_read_is_named_with_the_remedy() {
        for (head, name, remedy) in [
            (&b"\xfd7zXZ\0\0\x04"[..], "packed with xz", "`xz -d`"),
            (b"BZh91AY&SY", "packed with bzip2", "`bzip2 -d`"),
            (b"\x04\x22\x4d\x18", "packed with lz4", "`lz4 -d`"),
            (b"\x5d\0\0\x80\0", "packed with lzma", "`xz -d`"),
        ] {
            let error = plain(head).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(remedy), "{error}");
        }
        assert_eq!(plain(b"BZ").unwrap(), b"BZ");
    }

    #[test]
    fn a_cut_stream_and_a_huge_window_are_errors() {
        let data = vec![7; 100_000];
        for packed in [gzip(&data), zstd(&data)] {
            assert!(plain(&packed[..packed.len() - 3]).is_err());
        }
        // A frame header that asks for a window of so many bytes, and an empty last block.
        for (byte, bytes) in [((27 - 10) << 3, Some(1_u64 << 27)), ((27 - 10) << 3 | 1, None)] {
            let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, byte, 1, 0, 0];
            assert_eq!(plain(&frame).is_ok(), bytes.is_some(), "{byte:#x}");
        }
    }
}
