//! The log sink: standard error, with journal priorities when systemd listens.

use std::io::Write as _;

use log::{Level, LevelFilter, Log, Metadata, Record};

struct Sink {
    /// Standard error is connected to the journal, which reads `<3>` in front of a line.
    journal: bool,
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries speak only when they have something to complain about.
        metadata.target().starts_with("edgeagent") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (priority, word) = match record.level() {
            Level::Error => (3, "error"),
            Level::Warn => (4, "warn"),
            Level::Info => (6, "info"),
            Level::Debug | Level::Trace => (7, "debug"),
        };
        let mut line = if self.journal {
            format!("<{priority}>{}", record.args())
        } else {
            format!("{word}: {}", record.args())
        };
        // One record is one line and nothing else, whatever text of a manager or registry it quotes.
        line = line.replace(char::is_control, " ");
        line.push('\n');
        // A log line that can not be written has nowhere else to go.
        let _lost = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Installs the sink. Later calls change nothing.
pub(super) fn init(level: LevelFilter) {
    let sink = Sink { journal: std::env::var_os("JOURNAL_STREAM").is_some() };
    if log::set_boxed_logger(Box::new(sink)).is_ok() {
        log::set_max_level(level);
    }
}
