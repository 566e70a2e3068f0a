//! Tells the tests what this machine offers, as `cfg(root)` and `cfg(program = "…")`, so that what
//! can not run here is `#[ignore]`d with its reason and counted as such.
//!
//! A release gets none of it: its bytes must not depend on who builds them.

use std::{env, fs, os::unix::fs::MetadataExt as _, path::PathBuf};

/// Programs that some test needs and a machine may lack.
const PROGRAMS: &[&str] = &[
    "cargo-cyclonedx",
    "dockerd",
    "openssl",
    "strace",
    "swtpm",
    "systemd",
    "systemd-analyze",
    "zstd",
];

fn main() {
    println!("cargo::rerun-if-changed=tests/support/build.rs");
    println!("cargo::rustc-check-cfg=cfg(root, machine_id)");
    let names: Vec<String> = PROGRAMS.iter().map(|name| format!("{name:?}")).collect();
    println!("cargo::rustc-check-cfg=cfg(program, values({}))", names.join(", "));
    if env::var("PROFILE").as_deref() != Ok("debug") {
        return;
    }
    // Who builds, and what is installed. A test that is told wrongly fails.
    for name in ["USER", "HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    // The folder is its process's effective user's.
    if fs::metadata("/proc/self").is_ok_and(|of| of.uid() == 0) {
        println!("cargo::rustc-cfg=root");
    }
    if MACHINE_IDS.iter().any(|id| fs::metadata(id).is_ok_and(|file| file.len() != 0)) {
        println!("cargo::rustc-cfg=machine_id");
    }
    let folders = folders();
    for folder in &folders {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    for program in PROGRAMS {
        if folders.iter().any(|folder| folder.join(program).is_file()) {
            println!("cargo::rustc-cfg=program={program:?}");
        }
    }
}

/// Where programs are, whatever PATH says: `tests/install-packages` puts them there, and
/// `targets/build` its tools below the target folder.
fn folders() -> Vec<PathBuf> {
    let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/usr/lib/systemd"];
    let mut folders: Vec<PathBuf> = system.iter().map(PathBuf::from).collect();
    // …/target/debug/build/edgeagent-…/out
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let tools = out.ancestors().nth(4).map(|target| target.join("dist-tools"));
    let tools = tools.and_then(|tools| fs::read_dir(tools).ok()).into_iter().flatten().flatten();
    folders.extend(tools.map(|tool| tool.path().join("bin")));
    folders.retain(|folder| folder.is_dir());
    folders
}

/// What tells one machine from another.
const MACHINE_IDS: &[&str] =
    &["/sys/class/dmi/id/product_uuid", "/proc/device-tree/serial-number", "/etc/machine-id"];
