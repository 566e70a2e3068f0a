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
    let seconds = at.seconds();
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days are counted from 1 March of year 0, in cycles of 400 years: leap days come last.
    let days = days + 719_468;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let day = day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = cycle * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let nanos = at.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
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
