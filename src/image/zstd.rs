//! Decodes zstd (RFC 8878) in little memory, whatever window the packer chose.
//!
//! Images are packed with windows of 8 MiB as a rule (BuildKit, containers/image), of up to 128 MiB
//! at high levels, and a decoder that holds one in memory is too large for a fetch. Here the oldest
//! part of it is in a file
//! ([`Window`]). Checksums of frames are passed over, for the digests of a layer are stronger, and
//! dictionaries are refused: no image can name one.

use std::{
    io::{self, BufRead, Read},
    path::Path,
};

use super::{
    entropy::{Backward, Fse, Huffman, Malformed},
    window::{BLOCK_MAX_BYTES, Window},
};

/// Largest window, in bytes: what the programs of the format's authors read without being told to
/// (`zstd -20`, `--long`), and what containerd reads. A larger one fails the pull.
const WINDOW_MAX_BYTES: u64 = 128 << 20;

/// How a frame begins.
const MAGIC: u32 = 0xfd2f_b528;

/// Decodes frames in a row.
pub struct Zstd<S> {
    source: S,
    window: Window,
    frame: Frame,
    /// A packed block, and the literals of one.
    block: Vec<u8>,
    literals: Vec<u8>,
}

/// What blocks of one frame share.
struct Frame {
    is_open: bool,
    checksum: bool,
    huffman: Option<Huffman>,
    /// Of literal lengths, offsets and match lengths.
    tables: [Option<Fse>; 3],
    offsets: [u64; 3],
}

/// One of the three kinds of numbers in a sequence.
struct Kind {
    max_log: u32,
    max_symbol: usize,
    log: u32,
    shares: &'static [i16],
}

/// In the order of their tables: literal lengths, offsets, match lengths (§3.1.1.3.2.2).
const KINDS: [Kind; 3] = [
    Kind {
        max_log: 9,
        max_symbol: 35,
        log: 6,
        shares: &[
            4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1,
            1, 1, 1, -1, -1, -1, -1,
        ],
    },
    Kind {
        max_log: 8,
        max_symbol: 31,
        log: 5,
        shares: &[
            1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1,
            -1,
        ],
    },
    Kind {
        max_log: 9,
        max_symbol: 52,
        log: 6,
        shares: &[
            1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
        ],
    },
];

/// Bits that follow the codes of literal lengths from 16 on; smaller codes are the length.
const LITERAL_BITS: [u8; 20] = [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// Bits that follow the codes of match lengths from 32 on; smaller codes are the length less 3.
const MATCH_BITS: [u8; 21] = [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

impl<S: BufRead> Zstd<S> {
    /// Reads from the start of a frame. A large window keeps a file in `folder`.
    pub fn new(source: S, folder: &Path) -> Self {
        let frame = Frame {
            is_open: false,
            checksum: false,
            huffman: None,
            tables: [None, None, None],
            offsets: [1, 4, 8],
        };
        let (block, literals) = (Vec::new(), Vec::new());
        Self { source, window: Window::new(folder), frame, block, literals }
    }

    /// Begins the next frame; false at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            let magic = u32::from_le_bytes(self.bytes()?);
            if (0x184d_2a50..=0x184d_2a5f).contains(&magic) {
                let length = u64::from(u32::from_le_bytes(self.bytes()?));
                let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                if skipped < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            if magic != MAGIC {
                return Err(invalid("a zstd frame does not begin as one"));
            }
            self.frame_header()?;
            return Ok(true);
        }
        Ok(false)
    }

    fn frame_header(&mut self) -> io::Result<()> {
        let [flags] = self.bytes()?;
        let single = flags & 0x20 != 0;
        let mut window = 0;
        if !single {
            let [byte] = self.bytes()?;
            let base = 1_u64 << (10 + (byte >> 3));
            window = base + base / 8 * u64::from(byte & 7);
        }
        let dictionary = self.number([0, 1, 2, 4].get(usize::from(flags & 3)))?;
        let size = match (flags >> 6, single) {
            (0, false) => 0,
            (0, true) => self.number(Some(&1))?,
            (1, _) => self.number(Some(&2))? + 256,
            (2, _) => self.number(Some(&4))?,
            (_, _) => self.number(Some(&8))?,
        };
        if single {
            window = size;
        }
        if flags & 8 != 0 || dictionary != 0 {
            return Err(invalid("a zstd frame wants what no image can have"));
        }
        if WINDOW_MAX_BYTES < window {
            return Err(invalid(&format!(
                "it is packed with a zstd window of {window} bytes, at most {WINDOW_MAX_BYTES} \
                 are allowed; pack it with --long=27 or less, or without --ultra"
            )));
        }
        self.window.begin(window);
        self.frame = Frame {
            is_open: true,
            checksum: flags & 4 != 0,
            huffman: None,
            tables: [None, None, None],
            offsets: [1, 4, 8],
        };
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A number of so many bytes.
    fn number(&mut self, length: Option<&usize>) -> io::Result<u64> {
        let mut bytes = [0; 8];
        let length = length.copied().unwrap_or_default();
        self.source.read_exact(bytes.get_mut(..length).unwrap_or_default())?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn next_block(&mut self) -> io::Result<()> {
        let [a, b, c] = self.bytes()?;
        let head = u32::from_le_bytes([a, b, c, 0]);
        let size = (head >> 3) as usize;
        self.window.make_room()?;
        if BLOCK_MAX_BYTES < size {
            return Err(invalid("a zstd block is too large"));
        }
        match (head >> 1) & 3 {
            0 => {
                self.fill(size)?;
                self.window.push(&self.block);
            }
            1 => {
                let [byte] = self.bytes()?;
                self.block.clear();
                self.block.resize(size, byte);
                self.window.push(&self.block);
            }
            2 => {
                self.fill(size)?;
                let block = core::mem::take(&mut self.block);
                let done = self.unpack(&block);
                self.block = block;
                if !done? {
                    return Err(invalid("a zstd block is malformed"));
                }
            }
            _ => return Err(invalid("a zstd block has an unknown type")),
        }
        if head & 1 != 0 {
            self.frame.is_open = false;
            if self.frame.checksum {
                self.bytes::<4>()?;
            }
        }
        Ok(())
    }

    fn fill(&mut self, size: usize) -> io::Result<()> {
        self.block.resize(size, 0);
        self.source.read_exact(&mut self.block)
    }

    /// Unpacks a block into the window; false when it is malformed.
    fn unpack(&mut self, block: &[u8]) -> io::Result<bool> {
        let sequences = self
            .frame
            .read_literals(block, &mut self.literals)
            .map_err(|Malformed| invalid("the literals of a zstd block are malformed"))?;
        let (count, stream) = self
            .frame
            .read_tables(sequences)
            .map_err(|Malformed| invalid("the tables of a zstd block are malformed"))?;
        if count == 0 {
            self.window.push(&self.literals);
            return Ok(stream.is_empty());
        }
        self.copy(count, stream)
    }

    fn copy(&mut self, count: usize, stream: &[u8]) -> io::Result<bool> {
        let Self { frame, window, literals, .. } = self;
        let [Some(lengths), Some(offsets), Some(matches)] = &frame.tables else {
            return Ok(false);
        };
        let Ok(mut bits) = Backward::new(stream) else { return Ok(false) };
        let mut length_state = lengths.begin(&mut bits);
        let mut offset_state = offsets.begin(&mut bits);
        let mut match_state = matches.begin(&mut bits);
        let mut literals = literals.as_slice();
        let mut room = BLOCK_MAX_BYTES;
        for n in 1..=count {
            let code = offsets.symbol(&offset_state);
            let offset = (1_u64 << code.min(31)) + bits.take(code.min(31).into()) as u64;
            let matched = value(matches.symbol(&match_state), 32, &MATCH_BITS, &mut bits) + 3;
            let length = value(lengths.symbol(&length_state), 16, &LITERAL_BITS, &mut bits);
            let offset = real_offset(&mut frame.offsets, offset, length);
            let Some((head, tail)) = literals.split_at_checked(length) else { return Ok(false) };
            if room < length + matched {
                return Ok(false);
            }
            room -= length + matched;
            window.push(head);
            literals = tail;
            if !window.repeat(offset, matched)? {
                return Ok(false);
            }
            if n < count {
                lengths.advance(&mut length_state, &mut bits);
                matches.advance(&mut match_state, &mut bits);
                offsets.advance(&mut offset_state, &mut bits);
            }
        }
        if room < literals.len() {
            return Ok(false);
        }
        window.push(literals);
        Ok(bits.is_spent())
    }
}

/// The number that a code and the bits after it say; codes below `first` say themselves.
fn value(code: u8, first: u8, extra: &[u8], bits: &mut Backward<'_>) -> usize {
    let Some(n) = code.checked_sub(first) else { return code.into() };
    let n = usize::from(n);
    let own = extra.get(n).copied().unwrap_or_default();
    let before: usize = extra.iter().take(n).map(|bits| 1_usize << bits).sum();
    usize::from(first) + before + bits.take(own.into())
}

/// The offset that is meant: the first three values name one of the last ones (§3.1.1.5).
fn real_offset(last: &mut [u64; 3], value: u64, literals: usize) -> u64 {
    let [first, second, third] = *last;
    let which = if literals == 0 { value + 1 } else { value };
    let (offset, rest) = match (value, which) {
        (4.., _) => (value - 3, [first, second]),
        (_, 1) => return first,
        (_, 2) => (second, [first, third]),
        (_, 3) => (third, [first, second]),
        (_, _) => (first.saturating_sub(1), [first, second]),
    };
    *last = [offset, rest[0], rest[1]];
    offset
}

impl Frame {
    /// Unpacks the literals at the start of a block; gives what follows them.
    fn read_literals<'a>(
        &mut self,
        block: &'a [u8],
        literals: &mut Vec<u8>,
    ) -> Result<&'a [u8], Malformed> {
        let head = |bytes: usize| {
            let head = block.get(..bytes)?;
            let word = head.iter().rev().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
            Some((word, block.get(bytes..)?))
        };
        let first = *block.first().ok_or(Malformed)?;
        let (kind, format) = (first & 3, (first >> 2) & 3);
        literals.clear();
        if kind < 2 {
            let (bytes, shift) = match format {
                1 => (2, 4),
                3 => (3, 4),
                _ => (1, 3),
            };
            let (word, rest) = head(bytes).ok_or(Malformed)?;
            let size = word >> shift;
            if BLOCK_MAX_BYTES < size {
                return Err(Malformed);
            }
            let plain = if kind == 0 { size } else { 1 };
            let (plain, rest) = rest.split_at_checked(plain).ok_or(Malformed)?;
            match plain {
                [byte] => literals.resize(size, *byte),
                bytes => literals.extend_from_slice(bytes),
            }
            return Ok(rest);
        }
        let (bytes, width) = match format {
            2 => (4, 14),
            3 => (5, 18),
            _ => (3, 10),
        };
        // Both sizes and four bits before them; in two parts, for a word may have 32 bits.
        let (_, rest) = head(bytes).ok_or(Malformed)?;
        let mut word = [0; 8];
        word.iter_mut().zip(block.iter().take(bytes)).for_each(|(to, byte)| *to = *byte);
        let word = u64::from_le_bytes(word) >> 4;
        let part = |word: u64| usize::try_from(word & ((1 << width) - 1)).map_err(|_| Malformed);
        let (size, packed) = (part(word)?, part(word >> width)?);
        let (packed, rest) = rest.split_at_checked(packed).ok_or(Malformed)?;
        if BLOCK_MAX_BYTES < size {
            return Err(Malformed);
        }
        let streams = if kind == 2 {
            let (code, streams) = Huffman::read(packed)?;
            self.huffman = Some(code);
            streams
        } else {
            packed
        };
        let code = self.huffman.as_ref().ok_or(Malformed)?;
        literals.resize(size, 0);
        if format == 0 {
            code.decode(streams, literals)?;
        } else {
            decode_four(code, streams, literals)?;
        }
        Ok(rest)
    }

    /// Reads how many sequences there are and their tables; gives what follows.
    fn read_tables<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, &'a [u8]), Malformed> {
        let (count, rest) = match *bytes {
            [n @ 0..=127, ref rest @ ..] => (n.into(), rest),
            [n @ 128..=254, low, ref rest @ ..] => {
                ((usize::from(n) - 128) * 256 + usize::from(low), rest)
            }
            [255, low, high, ref rest @ ..] => {
                (usize::from(low) + usize::from(high) * 256 + 0x7f00, rest)
            }
            _ => return Err(Malformed),
        };
        if count == 0 {
            return Ok((0, rest));
        }
        let (modes, mut rest) = rest.split_first().ok_or(Malformed)?;
        for ((kind, table), shift) in KINDS.iter().zip(&mut self.tables).zip([6, 4, 2]) {
            match (modes >> shift) & 3 {
                0 => *table = Some(Fse::of(kind.shares, kind.log)?),
                1 => {
                    let (symbol, after) = rest.split_first().ok_or(Malformed)?;
                    if kind.max_symbol < usize::from(*symbol) {
                        return Err(Malformed);
                    }
                    *table = Some(Fse::of_one(*symbol));
                    rest = after;
                }
                2 => {
                    let (read, after) = Fse::read(rest, kind.max_log, kind.max_symbol)?;
                    *table = Some(read);
                    rest = after;
                }
                _ if table.is_some() => {}
                _ => return Err(Malformed),
            }
        }
        if modes & 3 == 0 { Ok((count, rest)) } else { Err(Malformed) }
    }
}

/// Four streams, each of a quarter of the literals.
fn decode_four(code: &Huffman, streams: &[u8], literals: &mut [u8]) -> Result<(), Malformed> {
    let (sizes, mut streams) = streams.split_first_chunk::<6>().ok_or(Malformed)?;
    let quarter = literals.len().div_ceil(4);
    let mut sizes =
        sizes.chunks(2).map(|two| two.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)));
    let mut parts = literals.chunks_mut(quarter.max(1));
    for _ in 0..4 {
        let size = sizes.next().unwrap_or(streams.len());
        let (stream, rest) = streams.split_at_checked(size).ok_or(Malformed)?;
        code.decode(stream, parts.next().ok_or(Malformed)?)?;
        streams = rest;
    }
    Ok(())
}

impl<S> core::fmt::Debug for Zstd<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Zstd").finish_non_exhaustive()
    }
}

impl<S: BufRead> Read for Zstd<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.window.unread() == 0 {
            if self.frame.is_open {
                self.next_block()?;
            } else if !self.next_frame()? {
                return Ok(0);
            }
        }
        Ok(self.window.read(buffer))
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        process::{Command, Stdio},
        thread,
    };

    fn plain(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Zstd::new(packed, &std::env::temp_dir()).read_to_end(&mut out)?;
        Ok(out)
    }

    /// Packs with the program of the format's authors.
    fn packed(data: &[u8], args: &[&str]) -> Vec<u8> {
        let mut command = Command::new("zstd");
        command.args(["-q", "-c"]).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let data = data.to_vec();
        // It may end early and not want the rest.
        let writer = thread::spawn(move || drop(input.write_all(&data)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success(), "zstd {args:?}");
        output.stdout
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }

    fn text(lines: u32) -> Vec<u8> {
        let words = ["layer", "of", "an image", "that", "is", "packed", "\n"];
        let word = |n: u32| format!("{} {} ", words[n as usize % words.len()], n / 3 % 977);
        (0..lines).map(word).collect::<String>().into_bytes()
    }

    #[test]
    #[cfg_attr(not(program = "zstd"), ignore = "needs the program zstd")]
    fn what_zstd_packs_comes_back() {
        let noise = noise(7 << 20);
        // It repeats what came 7.5 MiB ago.
        let far = [&noise[..], &text(60_000)[..512 << 10], &noise[..6 << 20]].concat();
        let near = [&noise[..70_000], &noise[3..60_000], &[7; 200_000], &text(9000)].concat();
        let levels = ["-1", "-3", "-9", "-19", "--fast=9", "-3 --no-check", "-3 --zstd=wlog=10"];
        let large = ["-3 --zstd=wlog=23"];
        let cases = [
            (&b""[..], &levels[..]),
            (b"a", &levels),
            (&text(30_000), &levels),
            (&near, &levels),
            (&noise[..300_000], &levels[..2]),
            (&far, &large),
        ];
        for (data, ways) in cases {
            for way in ways {
                let args: Vec<&str> = way.split(' ').collect();
                let bytes = packed(data, &args);
                assert!(plain(&bytes).unwrap() == data, "{} bytes with {way}", data.len());
            }
        }
        let far_packed = packed(&far, &["-3", "--zstd=wlog=23"]);
        assert!(far_packed.len() < 9 << 20, "this case must reach back: {}", far_packed.len());
    }

    #[test]
    #[cfg_attr(not(program = "zstd"), ignore = "needs the program zstd")]
    fn damage_is_an_error_or_other_bytes_and_never_more() {
        let data = [text(90), noise(100), vec![7; 900]].concat();
        for args in [["-19"], ["-1"]] {
            let good = packed(&data, &args);
            for cut in 0..good.len() - 1 {
                assert!(plain(&good[..cut]).is_err() || cut == 0, "cut at {cut}");
            }
            for at in 0..good.len() {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[at] ^= 1 << bit;
                    if let Ok(bytes) = plain(&bad) {
                        assert!(bytes.len() <= 64 * BLOCK_MAX_BYTES, "byte {at}, bit {bit}");
                    }
                }
            }
        }
    }
}
