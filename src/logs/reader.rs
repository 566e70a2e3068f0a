//! The reading end of a ring: history first, then what is new.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    record::{HEADER_BYTES, Parsed, parse},
    segment,
    select::Select,
};
use crate::{
    limits::LOG_READ_BYTES,
    model::{LogLine, LogOptions},
};

/// Reads a ring, also while it is written.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    select: Select,
    current: Option<Segment>,
    /// Segments after the current one that were there when the ring was opened.
    opened: VecDeque<Segment>,
    /// Number of the newest segment ever opened.
    newest: Option<u64>,
    follow: bool,
    /// Something was lost since the last batch.
    dropped: bool,
}

/// Some lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In the order in which they were written. None: there is nothing (yet).
    pub lines: Vec<LogLine>,
    /// The ring went past this reader: lines right before these are lost.
    pub dropped: bool,
}

impl Reader {
    /// Opens the ring in `dir` and finds where to begin. A ring that does not exist (yet) is
    /// empty. Without `follow`, only what is written before this call is read.
    ///
    /// # Errors
    /// When a file can not be read.
    pub fn open(dir: &Path, options: &LogOptions) -> io::Result<Self> {
        let mut opened = VecDeque::new();
        for number in segment::list(dir)? {
            opened.extend(Segment::open(dir, number)?);
        }
        if !options.follow {
            for segment in &mut opened {
                segment.end = segment.file.metadata()?.len();
            }
        }
        let mut select = Select::new(options);
        if let Some(tail) = options.tail {
            let mut count = select.clone();
            let mut lines = 0_u64;
            for segment in &mut opened {
                // What is written after the count is new, and never part of the tail.
                let end = segment.end;
                segment.end = end.min(segment.file.metadata()?.len());
                while let Next::Line(line) = segment.next()? {
                    lines = lines.saturating_add(u64::from(count.take(&line).1));
                }
                segment.rewind();
                segment.end = end;
            }
            select.skip(lines.saturating_sub(tail));
        }
        let newest = opened.back().map(|segment| segment.number);
        let current = opened.pop_front();
        let follow = options.follow;
        let dir = dir.to_path_buf();
        Ok(Self { dir, select, current, opened, newest, follow, dropped: false })
    }

    /// The next lines: about `max_bytes` of data at most, but at least one line if there is one.
    /// No lines means the end; when following, ask again later.
    ///
    /// # Errors
    /// When a file can not be read; a later call may go on.
    pub fn next_batch(&mut self, max_bytes: usize) -> io::Result<Batch> {
        let mut lines = Vec::new();
        let mut bytes = 0_usize;
        let mut dropped = core::mem::take(&mut self.dropped);
        while bytes < max_bytes.max(1) {
            let next = match &mut self.current {
                Some(segment) => segment.next()?,
                None => Next::End,
            };
            let damaged = match next {
                Next::Line(line) => {
                    if self.select.shows(&line) {
                        bytes = bytes.saturating_add(line.data.len()).saturating_add(HEADER_BYTES);
                        lines.push(line);
                    }
                    continue;
                }
                Next::End => false,
                Next::Damaged => true,
            };
            match self.advance(damaged)? {
                Step::On => {}
                Step::Gap if lines.is_empty() => dropped = true,
                Step::Gap => {
                    self.dropped = true;
                    break;
                }
                Step::Stay => break,
            }
        }
        if lines.is_empty() {
            self.dropped |= dropped;
            dropped = false;
        }
        Ok(Batch { lines, dropped })
    }

    /// Goes on to the next segment, if there is one.
    fn advance(&mut self, damaged: bool) -> io::Result<Step> {
        if let Some(next) = self.opened.pop_front() {
            let gap = next.gap || damaged;
            self.current = Some(next);
            if gap {
                self.select.gap();
                return Ok(Step::Gap);
            }
            return Ok(Step::On);
        }
        if !self.follow {
            return Ok(Step::Stay);
        }
        let expected = self.newest.map_or(0, |newest| newest.saturating_add(1));
        let Some(number) = segment::list(&self.dir)?.into_iter().find(|n| expected <= *n) else {
            return Ok(Step::Stay);
        };
        // It may be gone again already; then the next call finds its successor.
        let Some(mut next) = Segment::open(&self.dir, number)? else {
            return Ok(Step::Stay);
        };
        next.gap = expected < number;
        self.newest = Some(number);
        // The current segment is complete from here on, but may have grown since its end was
        // seen: it is read once more before this one becomes current.
        self.opened.push_back(next);
        Ok(Step::On)
    }
}

/// Where [`Reader::advance`] leads.
enum Step {
    /// Reading again may give more.
    On,
    /// The same, but something between is lost.
    Gap,
    /// There is nothing more at the moment.
    Stay,
}

/// What comes next in a segment.
enum Next {
    Line(LogLine),
    /// Nothing yet; a half-written record counts as nothing.
    End,
    /// Something that no writer made.
    Damaged,
}

/// A segment file held open, and the place in it.
#[derive(Debug)]
struct Segment {
    number: u64,
    file: File,
    /// Place of `chunk` in the file.
    offset: u64,
    chunk: Vec<u8>,
    /// Bytes of `chunk` that are read already.
    start: usize,
    /// Nothing at or after this is read.
    end: u64,
    /// Something is missing between this segment and the one before.
    gap: bool,
}

impl Segment {
    /// Nothing when the file is gone.
    fn open(dir: &Path, number: u64) -> io::Result<Option<Self>> {
        let file = match File::open(segment::path(dir, number)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let chunk = Vec::new();
        Ok(Some(Self { number, file, offset: 0, chunk, start: 0, end: u64::MAX, gap: false }))
    }

    fn next(&mut self) -> io::Result<Next> {
        loop {
            match parse(self.chunk.get(self.start..).unwrap_or_default()) {
                Parsed::Record { line, bytes } => {
                    self.start = self.start.saturating_add(bytes);
                    return Ok(Next::Line(line));
                }
                Parsed::Damaged => return Ok(Next::Damaged),
                Parsed::Incomplete => {
                    if !self.fill()? {
                        return Ok(Next::End);
                    }
                }
            }
        }
    }

    /// Reads on behind the chunk. At the end of the file the chunk is given up, for a writer that
    /// comes back replaces half a record.
    fn fill(&mut self) -> io::Result<bool> {
        self.chunk.drain(..self.start.min(self.chunk.len()));
        self.offset = self.offset.saturating_add(self.start as u64);
        self.start = 0;
        let have = self.chunk.len();
        let from = self.offset.saturating_add(have as u64);
        let left = usize::try_from(self.end.saturating_sub(from)).unwrap_or(usize::MAX);
        self.chunk.resize(have.saturating_add(left.min(LOG_READ_BYTES.saturating_sub(have))), 0);
        let count = match self.chunk.get_mut(have..) {
            Some(room) => self.file.read_at(room, from)?,
            None => 0,
        };
        if count == 0 {
            self.chunk = Vec::new();
            return Ok(false);
        }
        self.chunk.truncate(have.saturating_add(count));
        Ok(true)
    }

    fn rewind(&mut self) {
        self.offset = 0;
        self.start = 0;
        self.chunk = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        logs::Writer,
        model::{LogStream, UnixTime},
    };

    struct Ring(PathBuf);

    impl Ring {
        fn new(name: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("edgeagent-logs-{}-{name}", std::process::id()));
            drop(fs::remove_dir_all(&dir));
            Self(dir)
        }

        fn bytes(&self) -> u64 {
            segment::list(&self.0)
                .unwrap()
                .into_iter()
                .map(|number| fs::metadata(segment::path(&self.0, number)).unwrap().len())
                .sum()
        }

        fn all(&self, options: &LogOptions) -> Vec<LogLine> {
            drain(&mut Reader::open(&self.0, options).unwrap()).0
        }
    }

    impl Drop for Ring {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    const ALL: LogOptions =
        LogOptions { stdout: true, stderr: true, follow: false, tail: None, since: None };
    const FOLLOW: LogOptions = LogOptions { follow: true, ..ALL };

    fn drain(reader: &mut Reader) -> (Vec<LogLine>, usize) {
        let (mut lines, mut gaps) = (Vec::new(), 0);
        loop {
            let batch = reader.next_batch(100).unwrap();
            if batch.lines.is_empty() {
                assert!(!batch.dropped);
                return (lines, gaps);
            }
            gaps += usize::from(batch.dropped);
            lines.extend(batch.lines);
        }
    }

    fn text(lines: &[LogLine]) -> String {
        lines.iter().map(|line| String::from_utf8_lossy(&line.data).into_owned()).collect()
    }

    fn numbers(lines: &[LogLine]) -> Vec<i64> {
        lines.iter().map(|line| line.at.nanos()).collect()
    }

    fn write(writer: &mut Writer, number: i64) {
        let stream = if number % 3 == 0 { LogStream::Stderr } else { LogStream::Stdout };
        let data = format!("{number:>width$}\n", width = usize::try_from(number * 7 % 90).unwrap());
        writer.append(UnixTime::from_nanos(number), stream, data.as_bytes()).unwrap();
    }

    #[test]
    fn a_follower_that_keeps_up_sees_every_line_once_whatever_rotates() {
        for (pace, bound) in [(1, 300), (2, 400), (3, 2000), (2, 5000)] {
            let ring = Ring::new(&format!("pace-{pace}-{bound}"));
            let mut reader = Reader::open(&ring.0, &FOLLOW).unwrap();
            let mut writer = Writer::open(&ring.0, bound).unwrap();
            let mut seen = Vec::new();
            for number in 0..500 {
                write(&mut writer, number);
                assert!(ring.bytes() <= bound);
                if number % pace == 0 {
                    let (lines, gaps) = drain(&mut reader);
                    assert_eq!(gaps, 0);
                    seen.extend(numbers(&lines));
                }
            }
            seen.extend(numbers(&drain(&mut reader).0));
            assert_eq!(seen, (0..500).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_slow_follower_is_told_of_every_gap_and_never_sees_a_line_twice() {
        for pace in [10, 37, 100, 499] {
            let ring = Ring::new(&format!("slow-{pace}"));
            let mut writer = Writer::open(&ring.0, 1000).unwrap();
            let mut reader = Reader::open(&ring.0, &FOLLOW).unwrap();
            let mut next = 0;
            for number in 0..1000 {
                write(&mut writer, number);
                if number % pace != 0 {
                    continue;
                }
                loop {
                    let batch = reader.next_batch(200).unwrap();
                    let Some(first) = batch.lines.first() else { break };
                    assert_eq!(batch.dropped, first.at.nanos() != next, "{number}");
                    for line in &batch.lines {
                        assert!(next <= line.at.nanos());
                        next = line.at.nanos() + 1;
                    }
                    let end = next - batch.lines.first().unwrap().at.nanos();
                    assert_eq!(end, i64::try_from(batch.lines.len()).unwrap(), "no gap inside");
                }
                assert_eq!(next, number + 1, "the newest line is never lost");
            }
        }
    }

    #[test]
    fn the_ring_keeps_the_newest_lines_across_writers() {
        let ring = Ring::new("reopen");
        for number in 0..300 {
            write(&mut Writer::open(&ring.0, 4000).unwrap(), number);
            assert!(ring.bytes() <= 4000);
        }
        let kept = numbers(&ring.all(&ALL));
        assert_eq!(kept, (300 - i64::try_from(kept.len()).unwrap()..300).collect::<Vec<_>>());
        assert!(2000 - 110 <= ring.bytes(), "about half is always there");
        drop(Writer::open(&ring.0, 1000).unwrap());
        assert!(ring.bytes() <= 1000, "a smaller bound holds at once");
    }

    #[test]
    fn tail_counts_lines_and_not_pieces_over_segments() {
        let ring = Ring::new("tail");
        let mut writer = Writer::open(&ring.0, 8000).unwrap();
        for number in 0..200 {
            let at = UnixTime::from_nanos(number);
            writer.append(at, LogStream::Stdout, b"a ").unwrap();
            writer.append(at, LogStream::Stdout, format!("{number}\n").as_bytes()).unwrap();
        }
        assert_eq!(segment::list(&ring.0).unwrap().len(), 2);
        for tail in [0, 1, 2, 50, 130] {
            let shown = ring.all(&LogOptions { tail: Some(tail), ..ALL });
            let expected: String =
                (200 - tail..200).map(|number| format!("a {number}\n")).collect();
            assert_eq!(text(&shown), expected);
        }
        let all = ring.all(&ALL).len();
        assert_eq!(ring.all(&LogOptions { tail: Some(9999), ..ALL }).len(), all);
    }

    #[test]
    fn a_follower_with_a_tail_sees_all_that_is_new() {
        let ring = Ring::new("follow-tail");
        let mut writer = Writer::open(&ring.0, 8000).unwrap();
        let (at, stream) = (UnixTime::default(), LogStream::Stdout);
        writer.append(at, stream, b"old\nhalf ").unwrap();
        let mut none = Reader::open(&ring.0, &LogOptions { tail: Some(0), ..FOLLOW }).unwrap();
        let mut one = Reader::open(&ring.0, &LogOptions { tail: Some(1), ..FOLLOW }).unwrap();
        writer.append(at, stream, b"line\n").unwrap();
        writer.append(at, stream, b"new\n").unwrap();
        assert_eq!(text(&drain(&mut none).0), "new\n");
        assert_eq!(text(&drain(&mut one).0), "old\nhalf line\nnew\n");
    }

    #[test]
    fn a_reader_that_does_not_follow_stops_where_the_ring_ended() {
        let ring = Ring::new("still");
        let mut writer = Writer::open(&ring.0, 8000).unwrap();
        write(&mut writer, 1);
        let mut reader = Reader::open(&ring.0, &ALL).unwrap();
        write(&mut writer, 2);
        assert_eq!(numbers(&drain(&mut reader).0), [1]);
        assert!(ring.all(&LogOptions { stdout: false, stderr: false, ..ALL }).is_empty());
        assert!(Reader::open(&ring.0.join("none"), &ALL).is_ok());
    }

    #[test]
    fn half_a_record_is_never_shown_and_replaced_by_the_next_writer() {
        for torn in 1..=18 {
            let ring = Ring::new(&format!("torn-{torn}"));
            let mut writer = Writer::open(&ring.0, 8000).unwrap();
            let (at, stream) = (UnixTime::default(), LogStream::Stdout);
            writer.append(at, stream, b"whole\n").unwrap();
            writer.append(at, stream, b"torn!\n").unwrap();
            drop(writer);
            let file = File::options().write(true).open(segment::path(&ring.0, 0)).unwrap();
            file.set_len(19 + 19 - torn).unwrap();
            let mut reader = Reader::open(&ring.0, &FOLLOW).unwrap();
            assert_eq!(text(&drain(&mut reader).0), "whole\n");
            let mut writer = Writer::open(&ring.0, 8000).unwrap();
            writer.append(at, stream, b"next\n").unwrap();
            assert_eq!(text(&drain(&mut reader).0), "next\n", "{torn}");
        }
    }

    #[test]
    fn damage_costs_the_rest_of_its_segment_only() {
        let ring = Ring::new("damage");
        let mut writer = Writer::open(&ring.0, 100).unwrap();
        let (at, stream) = (UnixTime::default(), LogStream::Stdout);
        for data in ["one\n", "two\n", "three\n"] {
            writer.append(at, stream, data.as_bytes()).unwrap();
        }
        let file = File::options().write(true).open(segment::path(&ring.0, 0)).unwrap();
        file.write_all_at(&[9], 17 + 12).unwrap();
        let mut reader = Reader::open(&ring.0, &ALL).unwrap();
        let first = reader.next_batch(9999).unwrap();
        assert_eq!((text(&first.lines).as_str(), first.dropped), ("one\n", false));
        let second = reader.next_batch(9999).unwrap();
        assert_eq!((text(&second.lines).as_str(), second.dropped), ("three\n", true));
    }

    #[test]
    fn long_data_is_cut_into_pieces_and_no_byte_is_lost() {
        let ring = Ring::new("long");
        let mut writer = Writer::open(&ring.0, 400_000).unwrap();
        let data: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).take(150_000).collect();
        writer.append(UnixTime::default(), LogStream::Stderr, &data).unwrap();
        let lines = ring.all(&ALL);
        assert_eq!(lines.len(), 10);
        assert_eq!(lines.into_iter().flat_map(|line| line.data).collect::<Vec<_>>(), data);
        assert!(Writer::open(&ring.0, 20).is_err());
    }
}
