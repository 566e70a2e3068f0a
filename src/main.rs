//! One binary, three programs: the command line with the agent, the shim of a task, and the
//! child that fetches images. The agent starts the latter two as itself under another name.

use std::{os::unix::ffi::OsStrExt as _, process::ExitCode};

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    match name.as_bytes() {
        b"edgeagent-shim" => edgeagent::shim::main(),
        b"edgeagent-fetch" => edgeagent::cli::fetch_main(),
        _ => edgeagent::cli::main(),
    }
}
