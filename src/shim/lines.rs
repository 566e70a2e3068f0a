//! Cuts a container's output into lines.

use crate::limits::LOG_PIECE_BYTES;

/// One stream's unfinished line; holds at most [`LOG_PIECE_BYTES`], and no memory while there
/// is none.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes what was read and hands on every whole line with its newline, and pieces of lines
    /// that are too long.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = LOG_PIECE_BYTES.saturating_sub(self.rest.len());
            let end = bytes.iter().take(room).position(|b| *b == b'\n').map(|at| at + 1);
            let (now, later) = bytes.split_at(end.unwrap_or(room).min(bytes.len()));
            let whole = end.is_some() || now.len() == room;
            if whole && self.rest.is_empty() {
                line(now);
            } else {
                self.rest.extend_from_slice(now);
                if whole {
                    line(&std::mem::take(&mut self.rest));
                }
            }
            bytes = later;
        }
    }

    /// The stream ended: hands on what is left, without a newline.
    pub(super) fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            line(&std::mem::take(&mut self.rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(input: &[u8], size: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for piece in input.chunks(size) {
            lines.push(piece, |l| got.push(l.to_vec()));
        }
        lines.finish(|l| got.push(l.to_vec()));
        got
    }

    #[test]
    fn lines_are_the_same_however_they_are_read() {
        for size in 1..12 {
            assert_eq!(cut(b"one\n\ntwo\nthree", size), [&b"one\n"[..], b"\n", b"two\n", b"three"]);
        }
    }

    #[test]
    fn a_long_line_comes_in_pieces_and_nothing_is_lost() {
        let mut input = vec![b'x'; 3 * LOG_PIECE_BYTES + 5];
        input.push(b'\n');
        for size in [1000, LOG_PIECE_BYTES, LOG_PIECE_BYTES + 1, input.len()] {
            let got = cut(&input, size);
            assert_eq!(got.len(), 4, "{size}");
            assert!(got.iter().take(3).all(|l| l.len() == LOG_PIECE_BYTES));
            assert_eq!(got.concat(), input);
        }
    }
}
