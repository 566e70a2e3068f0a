//! Log lines, and who wants to see them.

use serde::{Deserialize, Serialize};

use super::{NodeId, ServiceId, TaskId, UnixTime};

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line, or a piece of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read from the container.
    pub at: UnixTime,
    /// Where it was written.
    pub stream: LogStream,
    /// The bytes, with the newline; a piece of a long line has none.
    pub data: Vec<u8>,
}

/// A wish for logs, as the LogBroker sends it (behaviour.md §12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSubscription {
    /// Opaque; named in every answer.
    pub id: String,
    /// Stop this subscription; the other fields do not count.
    pub close: bool,
    /// Whose logs.
    pub selector: LogSelector,
    /// Which lines.
    pub options: LogOptions,
}

/// Whose logs: a task matches if any list names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSelector {
    /// By service.
    pub services: Vec<ServiceId>,
    /// By node.
    pub nodes: Vec<NodeId>,
    /// By task.
    pub tasks: Vec<TaskId>,
}

/// Which lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Show standard output.
    pub stdout: bool,
    /// Show standard error.
    pub stderr: bool,
    /// Go on with new lines.
    pub follow: bool,
    /// Only the last so many lines; absent: all.
    pub tail: Option<u64>,
    /// Nothing strictly older than this.
    pub since: Option<UnixTime>,
}
