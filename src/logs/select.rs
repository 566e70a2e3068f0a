//! Which tasks and which lines a wish for logs means.

use crate::model::{LogLine, LogOptions, LogSelector, LogStream, Task, UnixTime};

/// Whether `selector` means `task`: any list that names it is enough
/// (swarmkit `agent/worker.go`, `Subscribe`).
#[must_use]
pub fn selects(selector: &LogSelector, task: &Task) -> bool {
    selector.tasks.contains(&task.id)
        || selector.services.contains(&task.service_id)
        || selector.nodes.contains(&task.node_id)
}

/// Decides record by record what is shown. A line's pieces follow its first one, also when the
/// other stream writes in between.
#[derive(Clone, Debug)]
pub(super) struct Select {
    stdout: bool,
    stderr: bool,
    since: Option<UnixTime>,
    /// Lines still to skip, so that only the last ones are shown.
    skip: u64,
    /// Each stream's line under way, if the last piece had no newline: is it shown?
    open: [Option<bool>; 2],
}

impl Select {
    /// Shows what `options` say, all of its history.
    pub(super) const fn new(options: &LogOptions) -> Self {
        Self {
            stdout: options.stdout,
            stderr: options.stderr,
            since: options.since,
            skip: 0,
            open: [None; 2],
        }
    }

    /// Leaves the first `lines` lines out.
    pub(super) const fn skip(&mut self, lines: u64) {
        self.skip = lines;
    }

    /// Forgets the lines under way: what follows does not continue them.
    pub(super) const fn gap(&mut self) {
        self.open = [None; 2];
    }

    /// Whether to show this record.
    pub(super) fn shows(&mut self, line: &LogLine) -> bool {
        self.take(line).0
    }

    /// Whether to show this record, and whether it begins a line that may be shown.
    pub(super) fn take(&mut self, line: &LogLine) -> (bool, bool) {
        let [stdout, stderr] = &mut self.open;
        let (wanted, open) = match line.stream {
            LogStream::Stdout => (self.stdout, stdout),
            LogStream::Stderr => (self.stderr, stderr),
        };
        if !wanted {
            return (false, false);
        }
        let (shown, begins) = match *open {
            Some(shown) => (shown, false),
            None if self.since.is_some_and(|since| line.at < since) => (false, false),
            None if 0 < self.skip => {
                self.skip -= 1;
                (false, true)
            }
            None => (true, true),
        };
        *open = if line.data.ends_with(b"\n") { None } else { Some(shown) };
        (shown, begins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stream: LogStream, at: i64, data: &str) -> LogLine {
        LogLine { at: UnixTime::from_nanos(at), stream, data: data.as_bytes().to_vec() }
    }

    #[test]
    fn pieces_follow_their_line_across_the_other_stream() {
        use LogStream::{Stderr, Stdout};
        let options =
            LogOptions { stdout: true, stderr: true, follow: false, tail: None, since: None };
        let mut select = Select::new(&options);
        select.skip(2);
        let shown = [
            (line(Stdout, 0, "first "), false),
            (line(Stderr, 1, "second\n"), false),
            (line(Stderr, 2, "third "), true),
            (line(Stdout, 3, "line\n"), false),
            (line(Stdout, 4, "fourth\n"), true),
            (line(Stderr, 5, "line\n"), true),
        ];
        for (line, expected) in shown {
            assert_eq!(select.shows(&line), expected, "{line:?}");
        }
    }

    #[test]
    fn since_leaves_out_only_what_is_strictly_older() {
        let since = Some(UnixTime::from_nanos(5));
        let options = LogOptions { stdout: true, stderr: false, follow: false, tail: None, since };
        let mut select = Select::new(&options);
        assert!(!select.shows(&line(LogStream::Stdout, 4, "old\n")));
        assert!(select.shows(&line(LogStream::Stdout, 5, "new\n")));
        assert!(!select.shows(&line(LogStream::Stderr, 6, "other\n")));
    }
}
