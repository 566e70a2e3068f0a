//! The seal's tiers: a software TPM (swtpm) behind a socket, systemd credentials, and what happens
//! when one of them goes, comes or is asked for.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        collections::VecDeque,
        fs,
        io::{self, Read, Write},
        os::unix::net::UnixStream,
        path::{Path, PathBuf},
        process::{Child, Command, Stdio},
        rc::Rc,
        thread,
        time::Duration,
    };

    use edgeagent::{
        model::{Identity, SealChoice, SealSettings, chain},
        seal::{
            CredentialError, IdentityStore, Lock, Machine, OpenError, SealError, Sealer, TaskStore,
            Tier, Tpm, TpmError, TpmKeyError, discard, is_sealed,
        },
    };

    use super::support::{identity, task_record};

    const TASKS: [&str; 3] = ["task1", "task2", "task3"];

    /// Short, for a socket's path has 107 bytes at most.
    fn folder(name: &str) -> PathBuf {
        let path = PathBuf::from(format!("/tmp/edgeagent-tpm-{}-{name}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A node's place, with a software TPM that is on or off.
    struct Device {
        root: PathBuf,
        tpm: Option<Child>,
        identifiers: Vec<Vec<u8>>,
    }

    impl Device {
        fn new(name: &str) -> Self {
            let root = folder(name);
            Self { root, tpm: None, identifiers: vec![b"serial-number=1000".to_vec()] }
        }

        /// With a TPM.
        fn with_tpm(name: &str) -> Self {
            let mut device = Self::new(name);
            device.plug("state");
            device
        }

        fn data(&self) -> PathBuf {
            self.root.join("data")
        }

        fn socket(&self) -> PathBuf {
            self.root.join("tpm.sock")
        }

        /// Starts the TPM that has its seeds in `state`.
        fn plug(&mut self, state: &str) {
            self.unplug();
            let state = self.root.join(state);
            fs::create_dir_all(&state).unwrap();
            let started = Command::new("swtpm")
                .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
                .arg(format!("--tpmstate=dir={}", state.display()))
                .arg(format!("--server=type=unixio,path={}", self.socket().display()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            self.tpm = Some(started.unwrap());
            for _ in 0..500 {
                // Bound is not listening.
                if UnixStream::connect(self.socket()).is_ok() {
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
            panic!("swtpm makes no socket");
        }

        fn unplug(&mut self) {
            if let Some(mut child) = self.tpm.take() {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            if self.socket().exists() {
                fs::remove_file(self.socket()).unwrap();
            }
        }

        fn credential(&self, key: Option<&[u8]>) {
            fs::create_dir_all(self.root.join("creds")).unwrap();
            let path = self.root.join("creds/edgeagent-seal-key");
            match key {
                Some(key) => fs::write(path, key).unwrap(),
                None if path.exists() => fs::remove_file(path).unwrap(),
                None => {}
            }
        }

        fn machine(&self) -> Machine {
            let credentials = Some(self.root.join("creds")).filter(|path| path.exists());
            Machine { identifiers: self.identifiers.clone(), credentials }
        }

        fn settings(&self, choice: SealChoice) -> SealSettings {
            SealSettings { choice, tpm: self.socket() }
        }

        fn open(&self, choice: SealChoice) -> Result<Sealer, SealError> {
            Sealer::open(&self.data(), &self.machine(), &self.settings(choice))
        }

        fn settle(&self, choice: SealChoice) -> Result<Sealer, SealError> {
            Sealer::settle(&self.data(), &self.machine(), &self.settings(choice))
        }

        /// A member with three tasks.
        fn fill(&self, choice: SealChoice) {
            let sealer = self.open(choice).unwrap();
            let store = IdentityStore::new(&self.data(), sealer.clone());
            store.save(&with_seed("older")).unwrap();
            store.save(&identity()).unwrap();
            let tasks = TaskStore::open(&self.data(), sealer).unwrap();
            for id in TASKS {
                tasks.save(&task_record(id)).unwrap();
            }
        }

        /// Asserts that everything opens, and says with which tier.
        fn whole(&self, choice: SealChoice) -> Tier {
            let sealer = self.settle(choice).unwrap();
            let loaded = IdentityStore::new(&self.data(), sealer.clone()).load().unwrap();
            assert_eq!(loaded, Some(identity()));
            let tasks = TaskStore::open(&self.data(), sealer.clone()).unwrap().load_all().unwrap();
            assert_eq!(tasks.damaged, []);
            assert_eq!(tasks.records, TASKS.map(task_record));
            sealer.tier()
        }

        /// Tier numbers of all records, in the headers.
        fn tiers(&self) -> Vec<u8> {
            let data = self.data();
            let mut paths = vec![data.join("identity.a"), data.join("identity.b")];
            paths.extend(TASKS.map(|id| data.join("tasks").join(id)));
            paths.iter().map(|path| fs::read(path).unwrap()[9]).collect()
        }
    }

    impl Drop for Device {
        fn drop(&mut self) {
            self.unplug();
            let _removed = fs::remove_dir_all(&self.root);
        }
    }

    fn with_seed(seed: &str) -> Identity {
        Identity { seeds: vec![seed.into()], ..identity() }
    }

    fn copy(from: &Path, to: &Path) {
        if to.exists() {
            fs::remove_dir_all(to).unwrap();
        }
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    }

    #[test]
    #[cfg_attr(not(program = "swtpm"), ignore = "needs the program swtpm")]
    fn a_tpm_opens_what_it_sealed_after_it_was_switched_off() {
        let mut device = Device::with_tpm("again");
        device.fill(SealChoice::Auto);
        assert_eq!(device.tiers(), [3; 5]);
        assert!(!device.data().join("host.key").exists());
        for _ in 0..5 {
            assert_eq!(device.whole(SealChoice::Auto), Tier::Tpm2);
        }
        device.plug("state");
        assert_eq!(device.whole(SealChoice::Auto), Tier::Tpm2);
        assert_eq!(device.whole(SealChoice::Tpm2).name(), "tpm2");
        assert!(fs::metadata(device.data().join("tpm.key")).unwrap().len() < 400);
    }

    #[test]
    #[cfg_attr(not(program = "swtpm"), ignore = "needs the program swtpm")]
    fn another_tpm_is_foreign_and_changes_nothing() {
        let mut device = Device::with_tpm("other");
        device.fill(SealChoice::Auto);
        let key = fs::read(device.data().join("tpm.key")).unwrap();
        device.plug("another");
        for choice in [SealChoice::Auto, SealChoice::Tpm2, SealChoice::Host] {
            let error = device.settle(choice).unwrap_err();
            assert!(matches!(error, SealError::TpmKey(TpmKeyError::Foreign)), "{error:?}");
            let text = chain(&error);
            assert!(text.contains("another TPM") && text.contains("leave"), "{text}");
        }
        assert_eq!(fs::read(device.data().join("tpm.key")).unwrap(), key);
        device.plug("state");
        assert_eq!(device.whole(SealChoice::Auto), Tier::Tpm2);

        // The way out: forget, and join this machine; the useless key is made anew.
        device.plug("another");
        discard(&device.data()).unwrap();
        device.fill(SealChoice::Auto);
        assert_eq!(device.whole(SealChoice::Auto), Tier::Tpm2);
    }

    #[test]
    #[cfg_attr(not(program = "swtpm"), ignore = "needs the program swtpm")]
    fn the_same_tpm_on_other_hardware_is_foreign() {
        let mut device = Device::with_tpm("hardware");
        device.fill(SealChoice::Auto);
        device.identifiers = vec![b"serial-number=1001".to_vec()];
        let sealer = device.settle(SealChoice::Auto).unwrap();
        let opened = IdentityStore::new(&device.data(), sealer).load();
        let Err(error @ OpenError::Foreign { tier: Tier::Tpm2, .. }) = opened else {
            panic!("{opened:?}")
        };
        assert!(error.to_string().contains("running tasks go on"), "{error}");
    }

    #[test]
    #[cfg_attr(not(program = "swtpm"), ignore = "needs the program swtpm")]
    fn every_damage_to_the_key_file_is_damage() {
        let device = Device::with_tpm("damage");
        device.fill(SealChoice::Auto);
        let path = device.data().join("tpm.key");
        let sound = fs::read(&path).unwrap();
        let refused = |content: &[u8], expected: TpmKeyError| {
            fs::write(&path, content).unwrap();
            let error = device.settle(SealChoice::Auto).unwrap_err();
            assert!(matches!(&error, SealError::TpmKey(got) if *got == expected), "{error:?}");
            assert_eq!(fs::read(&path).unwrap(), content, "the file is left alone");
        };
        for at in 0..sound.len() {
            let mut flipped = sound.clone();
            flipped[at] ^= 1 << (at % 8);
            refused(&flipped, TpmKeyError::Damaged);
            refused(&sound[..at], TpmKeyError::Damaged);
        }
        fs::write(&path, &sound).unwrap();
        assert_eq!(device.whole(SealChoice::Auto), Tier::Tpm2);
        fs::remove_file(&path).unwrap();
        let error = device.settle(SealChoice::Auto).unwrap_err();
        assert!(matches!(error, SealError::TpmKey(TpmKeyError::Missing)), "{error:?}");
        assert!(!path.exists(), "no new key in place of one that is needed");
    }

    #[test]
    #[cfg_attr(not(program = "swtpm"), ignore = "needs the program swtpm")]
    fn a_tpm_that_went_away_is_told_and_comes_back() {
        let mut device = Device::with_tpm("away");
        device.fill(SealChoice::Auto);
        device.unplug();
        for choice in [SealChoice::Auto, SealChoice::Tpm2, SealChoice::Host] {
            let error = device.settle(choice).unwrap_err();
            assert!(matches!(error, SealError::Tpm(TpmError::Absent { .. })), "{error:?}");
            assert!(chain(&error).contains("agent.json"), "{}", chain(&error));
        }
        assert_eq!(device.tiers(), [3; 5]);
        assert!(!device.data().join("host.key").exists(), "no weaker tier steps in");
        device.plug("state");
        assert_eq!(device.whole(SealChoice::Auto), Tier::Tpm2);
    }

    #[test]
    #[cfg_attr(not(program = "swtpm"), ignore = "needs the program swtpm")]
    fn a_new_node_takes_the_best_that_there_is() {
        let mut device = Device::new("best");
        assert_eq!(device.open(SealChoice::Auto).unwrap().tier(), Tier::Host);
        device.credential(Some(&[7; 32]));
        assert_eq!(device.open(SealChoice::Auto).unwrap().tier(), Tier::Credential);
        device.plug("state");
        assert_eq!(device.open(SealChoice::Auto).unwrap().tier(), Tier::Tpm2);
        assert_eq!(device.open(SealChoice::Host).unwrap().tier(), Tier::Host);
    }

    #[test]
    #[cfg_attr(not(program = "swtpm"), ignore = "needs the program swtpm")]
    fn a_better_tier_that_appears_takes_nothing_over() {
        let mut device = Device::new("appears");
        device.fill(SealChoice::Auto);
        device.credential(Some(&[7; 32]));
        device.plug("state");
        assert_eq!(device.whole(SealChoice::Auto), Tier::Host);
        assert_eq!(device.tiers(), [1; 5]);
        // A command by hand does not change it either, whatever the configuration says.
        assert_eq!(device.open(SealChoice::Credential).unwrap().tier(), Tier::Host);
        assert_eq!(device.tiers(), [1; 5]);
    }

    #[test]
    fn a_credential_is_absent_short_long_or_right() {
        let device = Device::new("credential");
        let refused = |bytes: Option<&[u8]>| {
            device.credential(bytes);
            let error = device.open(SealChoice::Credential).unwrap_err();
            assert!(chain(&error).contains("edgeagent-seal-key"), "{}", chain(&error));
            let SealError::Credential(error) = error else { panic!("{error:?}") };
            error
        };
        let nowhere = device.open(SealChoice::Credential).unwrap_err();
        assert!(matches!(nowhere, SealError::Credential(CredentialError::Missing)));
        assert!(matches!(refused(None), CredentialError::Missing));
        assert!(matches!(refused(Some(&[])), CredentialError::Size { bytes: 0, .. }));
        assert!(matches!(refused(Some(&[7; 31])), CredentialError::Size { bytes: 31, .. }));
        assert!(matches!(refused(Some(&[7; 4097])), CredentialError::Size { bytes: 4097, .. }));
        // It was meant to be used: no other tier steps in.
        assert!(matches!(device.open(SealChoice::Auto), Err(SealError::Credential(_))));

        device.credential(Some(&[7; 32]));
        device.fill(SealChoice::Credential);
        assert_eq!(device.tiers(), [2; 5]);
        assert_eq!(device.whole(SealChoice::Auto), Tier::Credential);
        assert!(matches!(refused(None), CredentialError::Missing));
        device.credential(Some(&[8; 32]));
        let other = device.open(SealChoice::Auto).unwrap();
        let opened = IdentityStore::new(&device.data(), other).load();
        assert!(matches!(opened, Err(OpenError::Foreign { tier: Tier::Credential, .. })));
        device.credential(Some(&[7; 32]));
        assert_eq!(device.whole(SealChoice::Auto), Tier::Credential);
    }

    #[test]
    #[cfg_attr(not(program = "swtpm"), ignore = "needs the program swtpm")]
    fn a_change_of_tier_reseals_everything_both_ways() {
        let mut device = Device::new("change");
        device.credential(Some(&[7; 32]));
        device.plug("state");
        device.fill(SealChoice::Host);
        let ways = [
            (SealChoice::Credential, Tier::Credential, 2, ["host.key", "tpm.key"]),
            (SealChoice::Host, Tier::Host, 1, ["tpm.key", "tpm.key"]),
            (SealChoice::Tpm2, Tier::Tpm2, 3, ["host.key", "host.key"]),
            (SealChoice::Credential, Tier::Credential, 2, ["host.key", "tpm.key"]),
            (SealChoice::Tpm2, Tier::Tpm2, 3, ["host.key", "host.key"]),
            (SealChoice::Host, Tier::Host, 1, ["tpm.key", "tpm.key"]),
        ];
        for (choice, tier, number, gone) in ways {
            assert_eq!(device.settle(choice).unwrap().tier(), tier);
            assert_eq!(device.tiers(), [number; 5]);
            for key in gone {
                assert!(!device.data().join(key).exists(), "{key} stays after {tier:?}");
            }
            assert_eq!(device.whole(SealChoice::Auto), tier);
        }
    }

    /// Between two steps a power cut leaves a prefix of the writes: tasks in their order, then
    /// the slot that was not current, then the other. Every prefix is put together and started.
    #[test]
    #[cfg_attr(not(program = "swtpm"), ignore = "needs the program swtpm")]
    fn a_power_cut_at_any_step_of_a_change_loses_nothing() {
        let mut device = Device::new("cut");
        device.plug("state");
        device.credential(Some(&[7; 32]));
        let better = SealChoice::Tpm2;
        for (from, to) in [(SealChoice::Host, better), (better, SealChoice::Host)] {
            let _cleared = fs::remove_dir_all(device.data());
            device.fill(from);
            let (before, after) = (device.root.join("before"), device.root.join("after"));
            copy(&device.data(), &before);
            device.settle(to).unwrap();
            copy(&device.data(), &after);
            // `identity.b` holds the newest; so `identity.a` is written first.
            let steps = ["tasks/task1", "tasks/task2", "tasks/task3", "identity.a", "identity.b"];
            for done in 0..=steps.len() {
                for next in [to, SealChoice::Auto, from] {
                    copy(&before, &device.data());
                    // Both keys are there until every record has moved.
                    for key in ["host.key", "tpm.key"] {
                        if after.join(key).exists() {
                            fs::copy(after.join(key), device.data().join(key)).unwrap();
                        }
                    }
                    for step in &steps[..done] {
                        fs::copy(after.join(step), device.data().join(step)).unwrap();
                    }
                    device.whole(next);
                    let tiers = device.tiers();
                    assert!(
                        tiers.iter().all(|tier| *tier == tiers[0]),
                        "{done} {next:?} {tiers:?}"
                    );
                    device.whole(SealChoice::Auto);
                }
            }
        }
    }

    /// The same with the real writes: one of them is refused, and those before it are done.
    #[test]
    #[cfg_attr(not(program = "swtpm"), ignore = "needs the program swtpm")]
    fn a_change_that_stops_half_way_goes_on_at_the_next_start() {
        let mut device = Device::new("halfway");
        device.plug("state");
        device.credential(Some(&[7; 32]));
        let (better, number) = (SealChoice::Tpm2, 3);
        let steps = [
            // What is in the way, and the tiers of both slots and the tasks then.
            ("tasks/.task1.new", [1, 1, 1, 1, 1]),
            ("tasks/.task3.new", [1, 1, number, number, 1]),
            (".identity.a.new", [1, 1, number, number, number]),
            (".identity.b.new", [number, 1, number, number, number]),
        ];
        for (obstacle, tiers) in steps {
            for next in [better, SealChoice::Auto, SealChoice::Host] {
                let _cleared = fs::remove_dir_all(device.data());
                device.fill(SealChoice::Host);
                let obstacle = device.data().join(obstacle);
                fs::create_dir_all(obstacle.join("full")).unwrap();
                let refused = device.settle(better);
                assert!(matches!(refused, Err(SealError::File(_))), "{refused:?}");
                assert_eq!(device.tiers(), tiers, "{}", obstacle.display());
                assert!(device.data().join("host.key").exists(), "a key that is needed went");
                fs::remove_dir_all(&obstacle).unwrap();
                device.whole(next);
                let tiers = device.tiers();
                assert!(tiers.iter().all(|tier| *tier == tiers[0]), "{next:?} {tiers:?}");
            }
        }
    }

    #[test]
    fn a_change_that_fails_leaves_everything_as_it_was() {
        let device = Device::new("refused");
        device.fill(SealChoice::Host);
        let before = device.tiers();
        assert!(matches!(device.settle(SealChoice::Tpm2), Err(SealError::Tpm(_))));
        assert!(matches!(device.settle(SealChoice::Credential), Err(SealError::Credential(_))));
        assert_eq!(device.tiers(), before);
        device.credential(Some(&[7; 32]));
        let lock = Lock::exclusive(&device.data()).unwrap();
        assert!(matches!(device.settle(SealChoice::Credential), Err(SealError::Held)));
        assert_eq!(device.tiers(), before);
        drop(lock);
        assert_eq!(device.whole(SealChoice::Auto), Tier::Host);
        assert_eq!(device.whole(SealChoice::Credential), Tier::Credential);
    }

    #[test]
    fn a_task_whose_tier_is_gone_keeps_the_agent_from_starting() {
        // Started without it, the agent would take the task for none and stop its container.
        let device = Device::new("stray");
        device.credential(Some(&[7; 32]));
        device.fill(SealChoice::Credential);
        let task = fs::read(device.data().join("tasks/task2")).unwrap();
        device.settle(SealChoice::Host).unwrap();
        // What an interrupted write left is no task, of whatever tier.
        fs::write(device.data().join("tasks/.task2.new"), &task).unwrap();
        device.credential(None);
        assert_eq!(device.settle(SealChoice::Auto).unwrap().tier(), Tier::Host);
        fs::write(device.data().join("tasks/task2"), task).unwrap();
        device.credential(None);
        assert!(matches!(device.settle(SealChoice::Auto), Err(SealError::Credential(_))));
        device.credential(Some(&[7; 32]));
        assert_eq!(device.whole(SealChoice::Auto), Tier::Host);
    }

    #[test]
    fn the_agent_follows_an_identity_that_another_process_stored() {
        let device = Device::new("follow");
        device.credential(Some(&[7; 32]));
        let agent = device.open(SealChoice::Auto).unwrap();
        assert_eq!(agent.tier(), Tier::Credential);
        // `join` by hand has no credentials.
        let by_hand = Machine { credentials: None, ..device.machine() };
        let settings = device.settings(SealChoice::Auto);
        let join = Sealer::open(&device.data(), &by_hand, &settings).unwrap();
        let agent = agent.follow(&device.data(), &device.machine(), &settings).unwrap();
        assert_eq!(agent.tier(), Tier::Credential);
        IdentityStore::new(&device.data(), join).save(&identity()).unwrap();
        let agent = agent.follow(&device.data(), &device.machine(), &settings).unwrap();
        assert_eq!(agent.tier(), Tier::Host);
        let loaded = IdentityStore::new(&device.data(), agent).load().unwrap();
        assert_eq!(loaded, Some(identity()));
    }

    #[test]
    fn what_does_not_open_can_still_be_discarded() {
        let device = Device::new("discard");
        assert!(!is_sealed(&device.data()));
        discard(&device.data()).unwrap();
        device.credential(Some(&[7; 32]));
        device.fill(SealChoice::Credential);
        device.credential(None);
        assert!(is_sealed(&device.data()));
        discard(&device.data()).unwrap();
        assert!(!is_sealed(&device.data()));
        assert_eq!(fs::read_dir(device.data().join("tasks")).unwrap().count(), 0);
        device.fill(SealChoice::Auto);
        assert_eq!(device.whole(SealChoice::Auto), Tier::Host);
    }

    #[test]
    #[cfg_attr(not(program = "swtpm"), ignore = "needs the program swtpm")]
    fn a_lost_seal_stops_the_agent_and_no_task() {
        let mut device = Device::with_tpm("lost");
        device.identifiers = Machine::this().identifiers;
        device.fill(SealChoice::Auto);
        let config = device.root.join("agent.json");
        let text = format!(
            r#"{{"data-root": {:?}, "exec-root": {:?}, "tpm": {:?}}}"#,
            device.data(),
            device.root.join("exec"),
            device.socket()
        );
        fs::write(&config, text).unwrap();
        let edgeagent = |arguments: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_edgeagent"))
                .env_remove("CREDENTIALS_DIRECTORY")
                .arg("--config")
                .arg(&config)
                .args(arguments)
                .output()
                .unwrap();
            let text = [output.stdout, output.stderr].concat();
            (output.status.code().unwrap(), String::from_utf8(text).unwrap())
        };
        let (code, text) = edgeagent(&["status", "--json"]);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains(r#""seal": "tpm2""#) || text.contains(r#""seal":"tpm2""#), "{text}");

        // What a running task has: were it swept, its folder would go.
        let task = device.root.join("exec/tasks").join(TASKS[0]);
        fs::create_dir_all(&task).unwrap();
        for (state, told) in [(None, "tpm.sock"), (Some("another"), "another TPM")] {
            match state {
                Some(state) => device.plug(state),
                None => device.unplug(),
            }
            let (code, text) = edgeagent(&["run"]);
            assert_eq!(code, 4, "{text}");
            assert!(text.contains(told), "{text}");
            assert!(task.exists(), "the agent touched a task: {text}");
            assert_eq!(edgeagent(&["status"]).0, 4);
            assert!(is_sealed(&device.data()));
        }
        // The way out needs no seal.
        let (code, text) = edgeagent(&["leave"]);
        assert_eq!(code, 0, "{text}");
        assert!(!is_sealed(&device.data()));
        assert_eq!(edgeagent(&["leave"]).0, 5);
    }

    /// A TPM that gives these answers, one per command, and remembers what it was asked.
    #[derive(Clone, Default)]
    struct Script {
        answers: Rc<RefCell<VecDeque<Vec<u8>>>>,
        asked: Rc<RefCell<Vec<Vec<u8>>>>,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(answer) = self.answers.borrow_mut().pop_front() else { return Ok(0) };
            let given = answer.len().min(buffer.len());
            buffer[..given].copy_from_slice(&answer[..given]);
            Ok(given)
        }
    }

    impl Write for Script {
        fn write(&mut self, command: &[u8]) -> io::Result<usize> {
            self.asked.borrow_mut().push(command.to_vec());
            Ok(command.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answered(answers: &[&[u8]]) -> (TpmError, usize) {
        let script = Script::default();
        script.answers.borrow_mut().extend(answers.iter().map(|answer| answer.to_vec()));
        let mut tpm = Tpm::over(Box::new(script.clone()), Duration::from_micros(1));
        let error = tpm.seal(&[1; 32]).unwrap_err();
        let asked = script.asked.borrow().len();
        (error, asked)
    }

    fn code(code: u32) -> Vec<u8> {
        [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat()
    }

    #[test]
    fn nothing_in_the_tpm_has_a_password_or_can_be_locked_out() {
        let script = Script::default();
        let mut answers = &include_bytes!("fuzz/corpus/tpm_response/seal")[..];
        while let Some((size, rest)) = answers.split_first_chunk::<2>() {
            let (answer, rest) = rest.split_at(usize::from(u16::from_be_bytes(*size)));
            script.answers.borrow_mut().push_back(answer.to_vec());
            answers = rest;
        }
        Tpm::over(Box::new(script.clone()), Duration::ZERO).seal(&[7; 32]).unwrap();
        let asked = script.asked.borrow();
        let [root, create, flush] = &asked[..] else { panic!("{asked:?}") };
        let password = [0x40, 0, 0, 9, 0, 0, 0, 0, 0];
        // Attributes with noDA (bit 10), then an empty policy.
        let ecc = [0, 0x23, 0, 0x0b, 0, 3, 4, 0x72, 0, 0];
        let sealed = [0, 8, 0, 0x0b, 0, 0, 4, 0x52, 0, 0];
        let has = |command: &[u8], part: &[u8]| command.windows(part.len()).any(|at| at == part);
        assert!(has(root, &password) && has(root, &ecc), "{root:x?}");
        assert!(has(create, &password) && has(create, &sealed), "{create:x?}");
        // No password, then the key.
        assert!(has(create, &[&[0, 36, 0, 0, 0, 32][..], &[7; 32]].concat()), "{create:x?}");
        assert_eq!(flush[10..], [0x80, 0, 0, 0], "the root key does not stay in the TPM");
    }

    #[test]
    fn a_busy_tpm_is_asked_again_with_a_bound() {
        for busy in [0x908, 0x90a, 0x920, 0x922] {
            let answers = vec![code(busy); 20];
            let answers: Vec<&[u8]> = answers.iter().map(Vec::as_slice).collect();
            let (error, asked) = answered(&answers);
            assert!(matches!(error, TpmError::Refused { code, .. } if code == busy), "{error:?}");
            assert_eq!(asked, 8);
            let (_, asked) = answered(&[&code(busy), &code(busy), &code(0x101)]);
            assert_eq!(asked, 3);
        }
    }

    #[test]
    fn a_refusal_is_named_and_not_repeated() {
        for (number, name) in [
            (0x100, "TPM2_CreatePrimary with TPM_RC_INITIALIZE (0x100)"),
            (0x921, "TPM_RC_LOCKOUT (0x921)"),
            (0x9a2, "TPM_RC_BAD_AUTH (0x9a2): its owner hierarchy has a password"),
            (0xb_0143, "the code 0xb0143"),
        ] {
            let (error, asked) = answered(&[&code(number)]);
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(asked, 1);
        }
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_refused() {
        let huge = [&[0x80, 2, 0xff, 0xff, 0xff, 0xff][..], &[0; 4]].concat();
        let short = [&[0x80, 2, 0, 0, 0, 9][..], &[0; 4]].concat();
        let longer = [&[0x80, 2, 0, 0, 0, 10][..], &[0; 5]].concat();
        let tag = [&[0x00, 0xc4, 0, 0, 0, 10][..], &[0; 4]].concat();
        let no_handle = [&[0x80, 2, 0, 0, 0, 10][..], &[0; 4]].concat();
        for answer in [huge, short, longer, tag, no_handle] {
            let (error, _) = answered(&[&answer]);
            assert!(matches!(error, TpmError::Malformed { .. }), "{answer:?} {error:?}");
        }
        let (error, _) = answered(&[]);
        assert!(matches!(error, TpmError::Lost { .. }), "{error:?}");
        // In pieces it is an answer all the same.
        let whole = code(0x101);
        let (error, _) = answered(&[&whole[..3], &whole[3..]]);
        assert!(matches!(error, TpmError::Refused { code: 0x101, .. }), "{error:?}");
    }

    #[test]
    fn what_is_neither_a_device_nor_a_socket_is_no_tpm() {
        let root = folder("file");
        fs::write(root.join("tpm"), b"").unwrap();
        for path in [root.join("tpm"), root.clone(), root.join("nothing")] {
            assert!(matches!(Tpm::open(&path), Err(TpmError::Absent { .. })), "{path:?}");
        }
        fs::remove_dir_all(root).unwrap();
    }
}
