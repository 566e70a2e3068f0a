//! Containers with a terminal.

use std::{fs, os::unix::fs::symlink};

use edgeagent::{
    logs::Reader,
    model::{LogOptions, LogStream},
};

use crate::bench::{Bench, until};

/// All that a task has printed, and on which streams.
fn printed(dir: &std::path::Path) -> (String, bool) {
    let options = LogOptions { stdout: true, stderr: true, follow: false, tail: None, since: None };
    let mut reader = Reader::open(&dir.join("log"), &options).unwrap();
    let (mut text, mut error) = (Vec::new(), false);
    loop {
        let batch = reader.next_batch(1 << 20).unwrap();
        if batch.lines.is_empty() {
            break;
        }
        for line in batch.lines {
            error |= line.stream == LogStream::Stderr;
            text.extend(line.data);
        }
    }
    (String::from_utf8(text).unwrap(), error)
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_terminal_is_the_containers_own() {
    let bench = Bench::new("terminal");
    for (init, user) in [(false, ""), (true, ""), (false, "bob")] {
        let mut bundle = bench.shell(
            "tty; for n in 0 1 2; do [ -t $n ] && echo fd $n; done; echo error >&2; \
             stat -c '%u %g %a' $(tty); stat -c %t,%T /dev/console; \
             (: < /dev/tty) && echo controlled; grep -c /dev/console /proc/mounts; \
             ls /proc/self/fd | wc -l; printf unfinished",
        );
        bundle.tty = true;
        bundle.init = init;
        bundle.user = user.to_owned();
        let shim = bench.start(&bundle);
        let exit = smol::block_on(shim.wait());
        assert_eq!((exit.code, exit.start_error), (0, None));
        let (text, error) = printed(&bundle.dir);
        let owner = if user.is_empty() { "0" } else { "1000" };
        let expected = format!(
            "/dev/pts/0\r\nfd 0\r\nfd 1\r\nfd 2\r\nerror\r\n{owner} 5 620\r\n88,0\r\n\
             controlled\r\n1\r\n4\r\nunfinished"
        );
        assert_eq!(text, expected, "init {init}");
        assert!(!error, "one stream");
        bench.remove(&bundle);
    }
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_terminal_stays_open_and_its_output_does_not_stop() {
    let bench = Bench::new("console");
    // Closes all its ends for a while, and is not hung up.
    let mut bundle = bench.shell(
        "t=$(tty); exec 0<&- 1>&- 2>&-; sleep 0.1; exec > /out/after 2>&1; echo alive; \
         i=0; while [ $i -lt 3000 ]; do echo line $i > /out/x; i=$((i+1)); done; read x < $t; echo no",
    );
    bundle.tty = true;
    bundle.open_stdin = true;
    let shim = bench.start(&bundle);
    let after = bench.base.join("out/after");
    until("life", || fs::read_to_string(&after).is_ok_and(|t| t == "alive\n"));
    smol::block_on(shim.kill());
    assert_eq!(smol::block_on(shim.wait()).code, 137);
    bench.remove(&bundle);
    let mut bundle = bench.shell("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done");
    bundle.tty = true;
    let shim = bench.start(&bundle);
    assert_eq!(smol::block_on(shim.wait()).code, 0);
    let (text, _) = printed(&bundle.dir);
    assert_eq!(text.lines().count(), 5000);
    bench.remove(&bundle);
    // A program that is not there.
    let mut bundle = bench.bundle(&["/nope"]);
    bundle.tty = true;
    assert_eq!(bench.run(&bundle).code, 127);
    bench.nothing_is_left();
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn cve_2025_52565_a_console_that_is_a_link_leads_nowhere() {
    let bench = Bench::new("consoles");
    let outside = bench.base.join("outside");
    fs::write(&outside, "untouched").unwrap();
    // The image's /dev lies below our tmpfs, so its links are never met …
    fs::create_dir_all(bench.base.join("image/dev/pts")).unwrap();
    symlink(&outside, bench.base.join("image/dev/console")).unwrap();
    symlink(&outside, bench.base.join("image/dev/ptmx")).unwrap();
    let mut bundle = bench.shell("[ -t 0 ] && [ -c /dev/console ] && [ ! -L /dev/console ]");
    bundle.tty = true;
    assert_eq!(bench.run(&bundle).code, 0);
    // … and a /dev or /dev/pts that the user brings is left alone or refused.
    let host = bench.base.join("dev");
    fs::create_dir_all(host.join("pts")).unwrap();
    symlink(&outside, host.join("pts/ptmx")).unwrap();
    for target in ["/dev/pts", "/dev"] {
        let mut bundle = bench.bundle(&["true"]);
        bundle.tty = true;
        let source = if target == "/dev" { host.clone() } else { host.join("pts") };
        bundle.mounts.push(crate::bind(source.to_str().unwrap(), target, false));
        let exit = bench.run(&bundle);
        assert!(exit.start_error.is_some(), "{target}");
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
    bench.nothing_is_left();
}
