//! The unit files and init scripts, as far as their own tools can judge them here.

use std::{fs, process::Command};

use super::{Folder, done, root, run};

/// Exposure that `systemd-analyze security` may find, in tenths; targets/README.md has the reasons.
const EXPOSURE: u32 = 81;

#[test]
#[cfg_attr(not(program = "systemd-analyze"), ignore = "needs the program systemd-analyze")]
fn systemd_understands_every_unit() {
    let folder = Folder::new();
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify");
    for unit in ["edgeagent.service", "edgeagent-join.path", "edgeagent-join.service"] {
        // The program is not installed here.
        let text = fs::read_to_string(root().join("systemd").join(unit)).unwrap();
        let text = text.replace("/usr/bin/edgeagent", "/bin/true");
        let text = text.replace("/usr/bin/systemctl", "/bin/true");
        fs::write(folder.path(unit), text).unwrap();
        verify.arg(folder.path(unit));
    }
    let said = done(verify.env("SYSTEMD_LOG_LEVEL", "warning"));
    let ours: Vec<_> = said.lines().filter(|line| line.contains("edgeagent")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
#[cfg_attr(not(program = "systemd-analyze"), ignore = "needs the program systemd-analyze")]
fn the_sandbox_is_no_weaker_than_it_was() {
    let mut security = Command::new("systemd-analyze");
    let threshold = format!("--threshold={EXPOSURE}");
    security.args(["security", "--offline=yes", "--no-pager", &threshold]);
    let (code, said) = run(security.arg(root().join("systemd/edgeagent.service")));
    assert_eq!(code, 0, "{}", said.lines().last().unwrap_or_default());
}

#[test]
fn shell_scripts_and_recipes_are_shell() {
    for script in [
        "targets/build",
        "targets/zig",
        "targets/pack",
        "targets/licences",
        "targets/sbom",
        "targets/twice",
        "targets/tarball/install.sh",
        "targets/init/edgeagent.openrc",
        "targets/init/S90edgeagent",
        "targets/recipes/alpine/APKBUILD",
        "tests/install-packages",
        "tests/live/systemd/boot.sh",
    ] {
        done(Command::new("sh").arg("-n").arg(root().join(script)));
    }
}
