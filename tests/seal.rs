//! Sealed records on a real file system: damage, power cuts, full disks, other machines.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt as _,
        path::{Path, PathBuf},
        process::Command,
    };

    use edgeagent::{
        model::{Identity, SealSettings, TaskId},
        seal::{
            IdentityStore, Lock, LockError, Machine, OpenError, RecordError, SaveError, SealError,
            Sealer, TaskStore,
        },
    };

    use super::support::{identity, task_record};

    fn folder(name: &str) -> PathBuf {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seal").join(name);
        if path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        path
    }

    fn serial() -> Vec<Vec<u8>> {
        vec![b"serial-number=1000".to_vec()]
    }

    fn store(data_root: &Path) -> IdentityStore {
        IdentityStore::new(data_root, Sealer::on_hardware(data_root, &serial()).unwrap())
    }

    fn with_seed(seed: &str) -> Identity {
        Identity { seeds: vec![seed.into()], ..identity() }
    }

    /// The first seed tells which identity was loaded.
    fn loaded(store: &IdentityStore) -> Option<String> {
        store.load().unwrap().map(|identity| identity.seeds[0].clone())
    }

    #[test]
    fn an_identity_survives_and_the_newest_wins() {
        let root = folder("newest");
        let store = store(&root);
        assert_eq!(store.load().unwrap(), None);
        for round in 0..5 {
            let identity = with_seed(&round.to_string());
            store.save(&identity).unwrap();
            assert_eq!(store.load().unwrap(), Some(identity.clone()));
            let reopened =
                IdentityStore::new(&root, Sealer::on_hardware(&root, &serial()).unwrap());
            assert_eq!(reopened.load().unwrap(), Some(identity));
        }
        store.forget().unwrap();
        assert_eq!(store.load().unwrap(), None);
        assert!(!root.join("identity.a").exists() && !root.join("identity.b").exists());
        store.forget().unwrap();
    }

    #[test]
    fn the_same_identity_again_writes_nothing() {
        let root = folder("idle");
        let store = store(&root);
        store.save(&identity()).unwrap();
        let before = fs::read(root.join("identity.a")).unwrap();
        store.save(&identity()).unwrap();
        assert_eq!(fs::read(root.join("identity.a")).unwrap(), before);
        assert!(!root.join("identity.b").exists());
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_falls_back_to_the_older_slot() {
        let root = folder("flips");
        let store = store(&root);
        store.save(&with_seed("older")).unwrap();
        store.save(&with_seed("newer")).unwrap();
        let newer = fs::read(root.join("identity.b")).unwrap();
        assert_eq!(loaded(&store).as_deref(), Some("newer"));
        for at in 0..newer.len() {
            let mut flipped = newer.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(root.join("identity.b"), &flipped).unwrap();
            assert_eq!(loaded(&store).as_deref(), Some("older"), "byte {at} flipped");
            fs::write(root.join("identity.b"), &newer[..at]).unwrap();
            assert_eq!(loaded(&store).as_deref(), Some("older"), "cut at {at}");
        }
        let longer = [&newer[..], &[0]].concat();
        fs::write(root.join("identity.b"), longer).unwrap();
        assert_eq!(loaded(&store).as_deref(), Some("older"));
        // The damaged slot is the one that the next write replaces.
        store.save(&with_seed("next")).unwrap();
        assert_eq!(loaded(&store).as_deref(), Some("next"));
    }

    #[test]
    fn when_nothing_opens_the_answer_is_damaged_and_the_files_stay() {
        let root = folder("damaged");
        let store = store(&root);
        store.save(&identity()).unwrap();
        let sound = fs::read(root.join("identity.a")).unwrap();
        for at in 0..sound.len() {
            let mut flipped = sound.clone();
            flipped[at] ^= 0x80;
            fs::write(root.join("identity.a"), &flipped).unwrap();
            assert!(matches!(store.load(), Err(OpenError::Damaged { .. })), "byte {at}");
        }
        let refused = store.save(&identity());
        assert!(matches!(refused, Err(SaveError::Occupied(OpenError::Damaged { .. }))));
        assert!(root.join("identity.a").exists());
        store.forget().unwrap();
        store.save(&identity()).unwrap();
    }

    #[test]
    fn a_card_in_another_machine_is_foreign_and_not_damaged() {
        let root = folder("foreign");
        store(&root).save(&identity()).unwrap();
        store(&root).save(&with_seed("second")).unwrap();
        let other = vec![b"serial-number=1001".to_vec()];
        let moved = IdentityStore::new(&root, Sealer::on_hardware(&root, &other).unwrap());
        assert!(matches!(moved.load(), Err(OpenError::Foreign { .. })));
        assert!(matches!(moved.save(&identity()), Err(SaveError::Occupied(_))));

        fs::write(root.join("identity.b"), b"noise").unwrap();
        assert!(matches!(moved.load(), Err(OpenError::Foreign { .. })));
        assert_eq!(loaded(&store(&root)).as_deref(), Some(identity().seeds[0].as_str()));

        fs::remove_file(root.join("host.key")).unwrap();
        assert!(matches!(store(&root).load(), Err(OpenError::Foreign { .. })));
    }

    #[test]
    fn a_record_does_not_stand_in_for_another() {
        let root = folder("purpose");
        let sealer = Sealer::on_hardware(&root, &serial()).unwrap();
        let tasks = TaskStore::open(&root, sealer.clone()).unwrap();
        let record = task_record("task1");
        tasks.save(&record).unwrap();
        fs::copy(root.join("tasks/task1"), root.join("tasks/task2")).unwrap();
        fs::copy(root.join("tasks/task1"), root.join("identity.a")).unwrap();
        let loaded = tasks.load_all().unwrap();
        assert_eq!(loaded.records, [record]);
        assert_eq!(loaded.damaged.len(), 1);
        assert_eq!(loaded.damaged[0].id, Some(TaskId::new("task2").unwrap()));
        assert_eq!(loaded.damaged[0].error, RecordError::Damaged);
        let store = IdentityStore::new(&root, sealer);
        assert!(matches!(store.load(), Err(OpenError::Damaged { .. })));
        tasks.clear().unwrap();
        assert!(tasks.load_all().unwrap().damaged.is_empty(), "whoever leaves leaves nothing");
    }

    #[test]
    fn a_power_cut_at_any_step_of_a_save_leaves_an_identity() {
        let root = folder("cuts");
        let store = store(&root);
        store.save(&with_seed("one")).unwrap();
        store.save(&with_seed("two")).unwrap();
        let (a, b) = (root.join("identity.a"), root.join("identity.b"));
        let one = fs::read(&a).unwrap();
        store.save(&with_seed("three")).unwrap();
        let three = fs::read(&a).unwrap();
        let temporary = root.join(".identity.a.new");

        // Before the rename: the temporary file is absent, empty, partly or wholly there.
        fs::write(&a, &one).unwrap();
        assert_eq!(loaded(&store).as_deref(), Some("two"));
        for length in [0, 1, 41, 42, three.len() / 2, three.len()] {
            fs::write(&temporary, &three[..length]).unwrap();
            assert_eq!(loaded(&store).as_deref(), Some("two"), "{length} bytes written");
        }
        // After it, with the slot of before still there or not.
        fs::rename(&temporary, &a).unwrap();
        assert_eq!(loaded(&store).as_deref(), Some("three"));
        // A disk that lied about fsync: the slot is there and empty.
        fs::write(&a, b"").unwrap();
        assert_eq!(loaded(&store).as_deref(), Some("two"));
        // The next save gets over a leftover.
        fs::write(&temporary, b"leftover").unwrap();
        store.save(&with_seed("four")).unwrap();
        assert_eq!(loaded(&store).as_deref(), Some("four"));
        assert!(b.exists() && !temporary.exists());
    }

    #[test]
    fn forgetting_leaves_no_older_identity_behind_at_any_step() {
        let root = folder("forget");
        let store = store(&root);
        store.save(&with_seed("older")).unwrap();
        store.save(&with_seed("current")).unwrap();
        // The older slot goes first.
        fs::remove_file(root.join("identity.a")).unwrap();
        assert_eq!(loaded(&store).as_deref(), Some("current"));
        fs::write(root.join(".identity.b.new"), b"leftover").unwrap();
        store.forget().unwrap();
        let left: Vec<_> =
            fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["host.key"]);
    }

    #[test]
    #[cfg_attr(not(root), ignore = "needs root")]
    fn a_full_disk_keeps_what_was_there() {
        let root = folder("full");
        fs::create_dir_all(&root).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs"])
            .arg(&root)
            .status()
            .unwrap();
        assert!(mounted.success());
        let outcome = std::panic::catch_unwind(|| {
            let store = store(&root);
            store.save(&with_seed("before")).unwrap();
            fs::write(root.join("filler"), vec![0; 64 << 10]).unwrap_err();
            let error = store.save(&with_seed("after")).unwrap_err();
            assert!(matches!(&error, SaveError::File(_)), "{error}");
            assert!(error.to_string().contains("make room"), "{error}");
            assert_eq!(loaded(&store).as_deref(), Some("before"));
            fs::remove_file(root.join("filler")).unwrap();
            store.save(&with_seed("after")).unwrap();
            assert_eq!(loaded(&store).as_deref(), Some("after"));
        });
        assert!(Command::new("umount").arg(&root).status().unwrap().success());
        outcome.unwrap();
    }

    #[test]
    fn tasks_are_kept_one_by_one() {
        let root = folder("tasks");
        let store = TaskStore::open(&root, Sealer::on_hardware(&root, &serial()).unwrap()).unwrap();
        let (a, b) = (task_record("a"), task_record("b"));
        store.save(&b).unwrap();
        store.save(&a).unwrap();
        fs::write(root.join("tasks/.a.new"), b"half").unwrap();
        fs::write(root.join("tasks/not an id"), b"").unwrap();
        let sound = fs::read(root.join("tasks/b")).unwrap();
        for at in 0..sound.len() {
            let mut flipped = sound.clone();
            flipped[at] ^= 1;
            fs::write(root.join("tasks/b"), &flipped).unwrap();
            let loaded = store.load_all().unwrap();
            assert_eq!(loaded.records, std::slice::from_ref(&a), "byte {at}");
            assert_eq!(loaded.damaged.len(), 2);
        }
        store.save(&b).unwrap();
        assert_eq!(store.load_all().unwrap().records, [a.clone(), b.clone()]);
        assert!(!root.join("tasks/.a.new").exists());
        store.erase(&b.task.id).unwrap();
        store.erase(&b.task.id).unwrap();
        assert_eq!(store.load_all().unwrap().records, [a]);
    }

    #[test]
    fn a_record_that_is_too_large_is_not_stored() {
        let root = folder("large");
        let store = TaskStore::open(&root, Sealer::on_hardware(&root, &serial()).unwrap()).unwrap();
        let mut record = task_record("a");
        record.task.name = "x".repeat(edgeagent::limits::TASK_RECORD_MAX_BYTES);
        let error = store.save(&record).unwrap_err();
        assert!(matches!(error, SaveError::Seal(SealError::TooLarge { .. })), "{error}");
        assert_eq!(store.load_all().unwrap().records, []);
    }

    #[test]
    fn nothing_secret_is_on_the_disk_and_nothing_is_open_to_others() {
        let root = folder("plain");
        let identity = identity();
        let _lock = Lock::exclusive(&root).unwrap();
        store(&root).save(&identity).unwrap();
        store(&root).save(&with_seed("second")).unwrap();
        let tasks = TaskStore::open(&root, Sealer::on_hardware(&root, &serial()).unwrap()).unwrap();
        tasks.save(&task_record("a")).unwrap();
        let secrets = [
            identity.token.expose(),
            identity.certificate.as_ref().unwrap().key.expose(),
            identity.pending.as_ref().unwrap().key.expose(),
            b"PASSWORD=hunter2",
        ];
        let mut folders = vec![root];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                files += 1;
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{}", path.display());
                let content = fs::read(&path).unwrap();
                for secret in secrets {
                    let shown = content.windows(8).any(|found| found == &secret[..8]);
                    assert!(!shown, "{}", path.display());
                }
            }
        }
        assert_eq!(files, 5, "lock, host.key, two slots, one task");
    }

    #[test]
    fn a_data_root_that_others_could_read_is_closed() {
        let root = folder("mode");
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        Sealer::on_hardware(&root, &serial()).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_damaged_host_key_is_told_and_kept() {
        let root = folder("host-key");
        Sealer::on_hardware(&root, &serial()).unwrap();
        fs::write(root.join("host.key"), [1; 31]).unwrap();
        let error = Sealer::on_hardware(&root, &serial()).unwrap_err();
        assert!(matches!(error, SealError::HostKey { bytes: 31 }), "{error}");
        assert_eq!(fs::read(root.join("host.key")).unwrap().len(), 31);
    }

    #[test]
    fn this_machine_opens_its_own() {
        let root = folder("real");
        let identity = identity();
        let open = || Sealer::open(&root, &Machine::this(), &SealSettings::default()).unwrap();
        IdentityStore::new(&root, open()).save(&identity).unwrap();
        let again = IdentityStore::new(&root, open());
        assert_eq!(again.load().unwrap(), Some(identity));
    }

    #[test]
    fn one_holder_at_a_time_has_the_lock() {
        let root = folder("lock");
        let first = Lock::exclusive(&root).unwrap();
        assert!(matches!(Lock::exclusive(&root), Err(LockError::Held)));
        drop(first);
        Lock::exclusive(&root).unwrap();
    }
}
