//! Log lines as a person reads them.

use crate::model::{LogLine, LogStream, UnixTime};

/// Turns lines into text, with or without timestamps.
#[derive(Clone, Debug)]
pub struct Text {
    timestamps: bool,
    /// Whether stdout and stderr are within a line.
    open: [bool; 2],
}

impl Text {
    /// Begins; `timestamps` puts one before every line.
    #[must_use]
    pub const fn new(timestamps: bool) -> Self {
        Self { timestamps, open: [false; 2] }
    }

    /// Appends `line` to `out`; a piece that continues a line gets no timestamp of its own.
    pub fn push(&mut self, line: &LogLine, out: &mut Vec<u8>) {
        let [stdout, stderr] = &mut self.open;
        let open = match line.stream {
            LogStream::Stdout => stdout,
            LogStream::Stderr => stderr,
        };
        if self.timestamps && !*open {
            out.extend_from_slice(timestamp(line.at).as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(&line.data);
        *open = !line.data.ends_with(b"\n");
    }
}

/// RFC 3339 in UTC with nine digits of a second, as `docker logs -t` shows it.
#[must_use]
pub fn timestamp(at: UnixTime) -> String {
    let seconds = at.to_string();
    let seconds = seconds.trim_end_matches('Z');
    format!("{seconds}.{:09}Z", at.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_dockers() {
        let table = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199_999_000_000, "2024-02-29T23:59:59.999000000Z"),
            (1_709_251_200_000_000_001, "2024-03-01T00:00:00.000000001Z"),
            (4_102_444_799_000_000_000, "2099-12-31T23:59:59.000000000Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ];
        for (nanos, text) in table {
            assert_eq!(timestamp(UnixTime::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn only_a_lines_first_piece_gets_a_timestamp() {
        let mut text = Text::new(true);
        let mut out = Vec::new();
        for data in ["a", "b\n", "c\n"] {
            let line = LogLine {
                at: UnixTime::default(),
                stream: LogStream::Stdout,
                data: data.as_bytes().to_vec(),
            };
            text.push(&line, &mut out);
        }
        let zero = "1970-01-01T00:00:00.000000000Z";
        assert_eq!(String::from_utf8(out).unwrap(), format!("{zero} ab\n{zero} c\n"));
    }
}
