//! edgeagent as a worker of real dockerd managers, driven with the `docker` command.
//!
//! Needs root and the packages of `tests/install-packages`; without root or dockerd every test is ignored.
//! The tests share one manager and take turns.
//!
//! | variable | meaning |
//! |---|---|
//! | `EDGEAGENT_BIN` | examine this program and not the one that cargo has built |
//! | `EA_KEEP` | keep the folder with all logs, `/tmp/ea-<pid>` |

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(clippy::disallowed_methods, reason = "the tests measure with the real clock")]
#![expect(clippy::disallowed_types, reason = "the harness shares one world between threads")]
#![expect(clippy::print_stdout, reason = "what is printed is shown when a test fails")]

#[path = "../bench/mod.rs"]
mod bench;
#[path = "../images/debian.rs"]
mod debian;
mod engines;
mod faults;
mod fixture;
mod harness;
mod health;
mod joining;
mod logs;
mod network;
mod owner;
mod power;
mod probe;
mod pulls;
mod services;
mod stack;
mod store;
mod systemd;
mod tasks;
mod trust;
mod vm;
