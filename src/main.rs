//! Becomes the shim, or nothing yet.

use std::{env, os::unix::ffi::OsStrExt, process::ExitCode};

fn main() -> ExitCode {
    match env::args_os().next() {
        Some(name) if name.as_bytes() == b"edgeagent-shim" => edgeagent::shim::main(),
        Some(_) | None => ExitCode::from(2),
    }
}
