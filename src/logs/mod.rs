//! Logs of tasks: a bounded ring on tmpfs, written by the shim, read by the agent.
//!
//! A ring is a folder with at most two segment files, named by rising numbers. Each holds whole
//! records ([`parse`]) and at most half of the ring's bytes. A full segment is closed for ever:
//! the older one is deleted and a new one begun, so the newest half is always there. A reader
//! holds the files that it has begun open, and so never loses its place within one.
//!
//! Nothing here is async, watches files or knows the LogBroker: whoever follows a ring polls
//! [`Reader::next_batch`].

mod reader;
mod record;
mod segment;
mod select;
mod text;
mod writer;

pub use reader::{Batch, Reader};
pub use record::{Parsed, parse};
pub use select::selects;
pub use text::{Text, timestamp};
pub use writer::Writer;
