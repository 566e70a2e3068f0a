//! The program: the fetch child, by its argv[0].

use std::process::ExitCode;

use edgeagent::image::{FETCH_ARGV0, fetch_main};

fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| name == FETCH_ARGV0) {
        return fetch_main();
    }
    ExitCode::FAILURE
}
