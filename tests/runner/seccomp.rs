//! Seccomp profiles of operators: the kernel does what they say, to the program and its probes.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use edgeagent::model::{
    HealthCheck, HealthStatus, Seccomp, SeccompAction, SeccompComparison, SeccompCondition,
    SeccompProfile, SeccompRule,
};

use crate::bench::{Bench, check};

fn profile(default: SeccompAction, rules: &[(&str, SeccompAction)]) -> SeccompProfile {
    let rule = |(names, action): &(&str, SeccompAction)| SeccompRule {
        names: (*names).to_owned(),
        action: *action,
        conditions: Vec::new(),
    };
    let rules = rules.iter().map(rule).collect();
    SeccompProfile { default, architectures: Vec::new(), rules, log: false, speculation: false }
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn what_a_profile_refuses_fails_as_it_says() {
    let bench = Bench::new("profile");
    fs::set_permissions(bench.base.join("out"), fs::Permissions::from_mode(0o777)).unwrap();
    let full = SeccompAction::Errno(28);
    let mut list = profile(
        SeccompAction::Allow,
        &[
            ("mkdir mkdirat", full),
            ("kill", SeccompAction::KillProcess),
            ("no_such_call", SeccompAction::KillProcess),
        ],
    );
    // `chmod` of busybox is `chmod` or `fchmodat`; 0600 fails and 0640 does not.
    for (name, argument) in [("chmod", 1), ("fchmodat", 2)] {
        let comparison = SeccompComparison::Masked(0o777);
        list.rules.push(SeccompRule {
            names: name.to_owned(),
            action: SeccompAction::Errno(13),
            conditions: vec![SeccompCondition { argument, comparison, value: 0o600 }],
        });
    }
    let look = "mkdir /out/no; echo > /out/file; chmod 640 /out/file && echo done; \
        chmod 600 /out/file; (kill -0 $$; echo not killed); \
        grep Seccomp: /proc/self/status; grep CapEff /proc/self/status";
    for (user, no_new_privileges, log) in
        [("", false, true), ("bob", false, false), ("bob", true, false)]
    {
        list.log = log;
        let mut bundle = bench.bundle(&[]);
        bundle.user = user.to_owned();
        bundle.no_new_privileges = no_new_privileges;
        bundle.seccomp = Seccomp::Custom(list.clone());
        let text = bench.output(&mut bundle, look);
        assert!(text.contains("mkdir: can't create directory '/out/no': No space left"), "{text}");
        assert!(text.contains("done\nchmod: /out/file: Permission denied"), "{text}");
        assert!(!text.contains("not killed"), "{text}");
        assert!(text.contains("Seccomp:\t2\n"), "{text}");
        let rights = if user.is_empty() { "00000000a80425fb" } else { "0000000000000000" };
        assert!(text.contains(&format!("CapEff:\t{rights}\n")), "{text}");
        for file in ["text", "file"] {
            fs::remove_file(bench.base.join("out").join(file)).unwrap();
        }
    }
    // A probe has the same profile.
    let mut bundle = bench.shell("exec sleep 1000");
    bundle.seccomp = Seccomp::Custom(list);
    bundle.health = Some(HealthCheck {
        timeout: Duration::from_secs(10),
        ..check(&["/bin/sh", "-c", "mkdir /out/no"], 20)
    });
    let shim = bench.start(&bundle);
    let told = std::cell::RefCell::new(String::new());
    let note = |health: &edgeagent::model::Health| {
        health.output.clone_into(&mut told.borrow_mut());
    };
    smol::block_on(shim.health(&[HealthStatus::Unhealthy], &note));
    assert!(told.borrow().contains("No space left"), "{told:?}");
    smol::block_on(shim.kill());
    smol::block_on(shim.wait());
    bench.remove(&bundle);
    bench.nothing_is_left();
}

/// A profile was written for a program: it needs to allow no more of ours than `capset` and what
/// any start of a program takes.
#[test]
#[cfg_attr(not(root), ignore = "needs root")]
#[cfg(target_arch = "x86_64")]
fn a_profile_has_to_allow_little_more_than_its_program_needs() {
    let bench = Bench::new("narrow");
    let needed = "capset execve arch_prctl brk exit_group getuid mprotect prctl prlimit64 readlink \
        readlinkat getrandom rseq set_robust_list set_tid_address uname rt_sigprocmask \
        rt_sigaction newfstatat getgid setgid setuid";
    for user in ["", "bob"] {
        let mut bundle = bench.bundle(&["/bin/true"]);
        bundle.user = user.to_owned();
        let list = profile(SeccompAction::KillProcess, &[(needed, SeccompAction::Allow)]);
        bundle.seccomp = Seccomp::Custom(list);
        let exit = bench.run(&bundle);
        assert_eq!((exit.code, exit.start_error), (0, None));
        let list = profile(SeccompAction::KillProcess, &[("capset execve", SeccompAction::Allow)]);
        bundle.seccomp = Seccomp::Custom(list);
        assert_eq!(bench.run(&bundle).code, 128 + 31, "SIGSYS");
    }
    bench.nothing_is_left();
}
