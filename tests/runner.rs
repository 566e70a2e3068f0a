//! The real runner on the real kernel: containers made of a static busybox, as root.
//!
//! The program under test is the built binary, which acts as shim. What a test needs from inside
//! a container is written by the container into a folder that is mounted from outside.

#[path = "runner/bench.rs"]
mod bench;

use std::{fs, path::Path, time::Duration};

use bench::{Bench, or_skip, until};
use edgeagent::{
    model::{BundleFile, BundleMount, MountKind, NetworkMode, Propagation, Rlimit, SecretBytes},
    shim::{self, Shim},
};

#[test]
fn a_container_runs_and_ends_with_its_code() {
    or_skip!();
    let bench = Bench::new("code");
    for code in [0, 3, 255] {
        let exit = bench.run(&bench.shell(&format!("exit {code}")));
        assert_eq!((exit.code, exit.start_error, exit.oom_killed), (code, None, false));
    }
    bench.nothing_is_left();
}
