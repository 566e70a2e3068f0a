//! Pulling: from the real `docker-registry`, from registries that lie, and over links that break.
//!
//! The fetch child is the real binary. What needs root says so and passes; what needs an address
//! that is not loopback, where every registry counts as insecure, runs in namespaces of its own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(clippy::disallowed_methods, reason = "the tests measure with the real clock")]
#![expect(clippy::disallowed_types, reason = "a server's threads share what they saw")]
#![expect(clippy::print_stdout, reason = "what is printed is shown when a test fails")]

mod bombs;
mod confined;
mod full;
mod hostile;
mod link;
mod manners;
mod proxy;
mod real;
mod resume;
mod server;
mod support;
