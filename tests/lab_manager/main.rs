//! The lab manager (`tests/lab`) with edgeagent, and with a real dockerd as a witness that the two
//! do not merely agree with each other.
//!
//! Everything is on loopback and below one folder, `/tmp/ea-<pid>`, which `sweep.sh` takes away
//! when this process is gone. What runs containers needs root and says so otherwise.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests measure with the real clock")]
#![expect(clippy::print_stdout, reason = "what is printed is shown when a test fails")]

mod engine;
mod evil;
mod long_life;
mod machine;
mod operator;
mod provisioning;
mod secrets;
mod services;
mod story;
mod wire;
