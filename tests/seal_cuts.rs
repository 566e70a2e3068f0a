//! A power cut, an I/O error, a full disk and a read-only remount at each system call of the
//! sealed store. `strace` brings them about, in a process of its own.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        path::{Path, PathBuf},
        process::{Command, ExitStatus},
    };

    use edgeagent::{
        model::{Identity, TaskId},
        seal::{IdentityStore, OpenError, Sealer, TaskStore},
    };

    use super::support::{identity, task_record};

    /// Names the folder for the process that is disturbed.
    const FOLDER: &str = "EDGEAGENT_SEAL_CUTS";
    /// Every way in which the store touches a disk.
    const CALLS: [&str; 8] =
        ["openat", "read", "write", "fsync", "rename", "unlink", "mkdir", "close"];
    /// More calls than the writer makes after its start.
    const CALLS_MAX: usize = 400;

    fn stores(root: &Path) -> (IdentityStore, TaskStore) {
        let sealer = Sealer::on_hardware(root, &[b"serial-number=1".to_vec()]).unwrap();
        (IdentityStore::new(root, sealer.clone()), TaskStore::open(root, sealer).unwrap())
    }

    fn with_seed(seed: &str) -> Identity {
        Identity { seeds: vec![seed.into()], ..identity() }
    }

    /// What is done while it is disturbed. Errors are its to take, and nothing is to be lost.
    #[test]
    #[ignore = "the other tests run it, with a folder"]
    fn writer() {
        let Some(root) = env::var_os(FOLDER).map(PathBuf::from) else { return };
        let sealer = Sealer::on_hardware(&root, &[b"serial-number=1".to_vec()]);
        let Ok(sealer) = sealer else { return };
        let Ok(tasks) = TaskStore::open(&root, sealer.clone()) else { return };
        drop(IdentityStore::new(&root, sealer).save(&with_seed("three")));
        drop(tasks.save(&task_record("c")));
        drop(tasks.erase(&TaskId::new("a").unwrap()));
    }

    /// A folder with two identities and the tasks a and b.
    fn before(root: &Path) {
        if root.exists() {
            fs::remove_dir_all(root).unwrap();
        }
        let (identities, tasks) = stores(root);
        identities.save(&with_seed("one")).unwrap();
        identities.save(&with_seed("two")).unwrap();
        tasks.save(&task_record("a")).unwrap();
        tasks.save(&task_record("b")).unwrap();
    }

    /// Whatever happened, what was there is there, or what replaces it.
    fn nothing_is_lost(root: &Path, at: &str) {
        let (identities, tasks) = stores(root);
        let seed = identities.load().unwrap().unwrap().seeds.swap_remove(0);
        assert!(["two", "three"].contains(&seed.as_str()), "{at}: {seed}");
        let loaded = tasks.load_all().unwrap();
        assert!(loaded.damaged.is_empty(), "{at}: {:?}", loaded.damaged);
        let ids: Vec<&str> = loaded.records.iter().map(|record| record.task.id.as_str()).collect();
        assert!(
            [&["a", "b"][..], &["a", "b", "c"], &["b", "c"], &["b"]].contains(&&*ids),
            "{at}: {ids:?}"
        );
        // And it goes on.
        identities.save(&with_seed("four")).unwrap();
        assert_eq!(identities.load().unwrap().unwrap().seeds, ["four"], "{at}");
    }

    /// Runs the writer with a fault at the `number`th `call` of that name. Gives how it ended, and whether the
    /// fault came.
    fn disturbed(root: &Path, call: &str, fault: &str, number: usize) -> (ExitStatus, bool) {
        let trace = root.with_extension("trace");
        let status = Command::new("strace")
            .args(["-f", "-qq", "-e", "signal=none", "-o"])
            .arg(&trace)
            .args(["-e", &format!("trace={}", CALLS.join(","))])
            .args(["-e", &format!("inject={call}:{fault}:when={number}"), "-P"])
            .arg(root)
            .args(paths(root))
            .arg(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "tests::writer", "--test-threads=1"])
            .env(FOLDER, root)
            .output()
            .unwrap()
            .status;
        let trace = fs::read_to_string(trace).unwrap();
        (status, trace.contains("INJECTED") || !status.success())
    }

    /// Only calls on these are disturbed, not those of the loader and the test's frame.
    fn paths(root: &Path) -> Vec<String> {
        let names = [
            "identity.a",
            "identity.b",
            ".identity.a.new",
            ".identity.b.new",
            "host.key",
            "tasks",
            "tasks/a",
            "tasks/c",
            "tasks/.a.new",
            "tasks/.c.new",
        ];
        let path = |name: &&str| ["-P".to_owned(), root.join(name).display().to_string()];
        names.iter().flat_map(path).collect()
    }

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("seal-cuts").join(name)
    }

    fn at_each_call(name: &str, fault: &str) {
        let root = folder(name);
        let mut calls = 0;
        for call in CALLS {
            for number in 1..CALLS_MAX {
                before(&root);
                let (status, came) = disturbed(&root, call, fault, number);
                if !came {
                    assert!(status.success());
                    break;
                }
                calls += 1;
                nothing_is_lost(&root, &format!("{name} at {call} {number}"));
            }
        }
        assert!((30..CALLS_MAX).contains(&calls), "{calls} calls");
    }

    #[test]
    #[cfg_attr(not(program = "strace"), ignore = "needs the program strace")]
    fn a_power_cut_at_any_call_leaves_what_was_or_what_is_new() {
        at_each_call("cut", "signal=SIGKILL");
    }

    #[test]
    #[cfg_attr(not(program = "strace"), ignore = "needs the program strace")]
    fn an_io_error_at_any_call_loses_nothing() {
        at_each_call("io", "error=EIO");
    }

    #[test]
    #[cfg_attr(not(program = "strace"), ignore = "needs the program strace")]
    fn a_disk_that_is_full_or_read_only_at_any_call_loses_nothing() {
        at_each_call("full", "error=ENOSPC");
        at_each_call("read-only", "error=EROFS");
    }

    /// A killed process loses nothing that it has written, but a power cut does: what the kernel
    /// had not been made to write. So the order counts.
    #[test]
    #[cfg_attr(not(program = "strace"), ignore = "needs the program strace")]
    fn what_is_renamed_was_flushed_and_the_folder_is_flushed_after() {
        let root = folder("order");
        before(&root);
        disturbed(&root, "mkdir", "retval=0", CALLS_MAX);
        let trace = fs::read_to_string(root.with_extension("trace")).unwrap();
        let calls: Vec<&str> = trace
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(_, call)| call.trim())
            .collect();
        let renames: Vec<usize> =
            (0..calls.len()).filter(|at| calls[*at].starts_with("rename")).collect();
        assert_eq!(renames.len(), 2, "{trace}");
        for at in renames {
            let written = calls[..at].iter().rposition(|call| call.starts_with("write(")).unwrap();
            let flushed = calls[..at].iter().rposition(|call| call.starts_with("fsync(")).unwrap();
            assert!(written < flushed, "renamed before it was on the disk:\n{trace}");
            let next = calls[at + 1..].iter().find(|call| {
                ["fsync(", "rename", "unlink", "write("].iter().any(|name| call.starts_with(name))
            });
            assert!(next.unwrap().starts_with("fsync("), "the folder was not flushed:\n{trace}");
        }
        let erased = calls.iter().rposition(|call| call.starts_with("unlink")).unwrap();
        assert!(calls[erased..].iter().any(|call| call.starts_with("fsync(")), "{trace}");
    }

    #[test]
    #[cfg_attr(not(root), ignore = "needs root")]
    fn a_medium_that_became_read_only_still_opens() {
        let root = folder("remount");
        drop(Command::new("umount").arg(&root).output());
        fs::create_dir_all(&root).unwrap();
        let mount = |words: &[&str]| {
            let done = Command::new("mount").args(words).arg(&root).output();
            done.is_ok_and(|done| done.status.success())
        };
        assert!(mount(&["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs"]));
        let outcome = std::panic::catch_unwind(|| {
            let (identities, tasks) = stores(&root);
            identities.save(&with_seed("before")).unwrap();
            tasks.save(&task_record("a")).unwrap();
            fs::write(root.join("tasks/.b.new"), b"cut off").unwrap();
            assert!(mount(&["-o", "remount,ro"]));
            let error = identities.save(&with_seed("after")).unwrap_err().to_string();
            assert!(error.contains("writable"), "{error}");
            assert!(tasks.save(&task_record("b")).is_err());
            // A start of the agent on it.
            let (identities, tasks) = stores(&root);
            assert_eq!(identities.load().unwrap().unwrap().seeds, ["before"]);
            assert_eq!(tasks.load_all().unwrap().records, [task_record("a")]);
            assert!(mount(&["-o", "remount,rw"]));
            identities.save(&with_seed("after")).unwrap();
            assert_eq!(tasks.load_all().unwrap().records, [task_record("a")]);
            assert!(!root.join("tasks/.b.new").exists());
        });
        assert!(Command::new("umount").arg(&root).status().unwrap().success());
        outcome.unwrap();
    }

    /// Two machines that differ in nothing but what names the hardware, and one disk.
    #[test]
    fn a_moved_or_copied_disk_never_opens_where_the_hardware_has_a_name() {
        let root = folder("copied");
        before(&root);
        let hardware: [&[&[u8]]; 4] =
            [&[b"serial-number=2"], &[b"cid=other", b"serial-number=1"], &[b"machine-id=1"], &[]];
        for machine in hardware {
            let identifiers: Vec<Vec<u8>> = machine.iter().map(|id| id.to_vec()).collect();
            let sealer = Sealer::on_hardware(&root, &identifiers).unwrap();
            let store = IdentityStore::new(&root, sealer);
            assert!(matches!(store.load(), Err(OpenError::Foreign { .. })), "{machine:?}");
            assert!(store.save(&with_seed("thief")).is_err());
        }
        // The policy for machines without a name, as seal::hardware says: a copy opens.
        let plain = folder("plain");
        drop(fs::remove_dir_all(&plain));
        let open = || IdentityStore::new(&plain, Sealer::on_hardware(&plain, &[]).unwrap());
        open().save(&with_seed("here")).unwrap();
        assert_eq!(open().load().unwrap().unwrap().seeds, ["here"]);
        nothing_is_lost(&root, "in its own machine");
    }
}
