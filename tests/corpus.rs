//! Every fuzz target, run over its committed corpus. `make fuzz` explores; this replays, so that
//! what a fuzzer once found stays found.

#[expect(
    unreachable_pub,
    clippy::expect_used,
    reason = "the targets are a crate of their own for the fuzzer, and panic when something is wrong"
)]
mod fuzz {
    pub mod targets;
}

use std::{fs, path::Path};

#[test]
fn every_committed_input_is_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, run) in fuzz::targets::ALL {
        let dir = corpus.join(name);
        let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let mut seeds = 0;
        for entry in entries {
            let path = entry.unwrap().path();
            run(&fs::read(&path).unwrap());
            seeds += 1;
        }
        assert_ne!(seeds, 0, "{name} has no seeds");
    }
}

/// Every prefix and every single-byte change of each seed: cheap, and catches most slips.
#[test]
fn every_small_damage_to_an_input_is_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, run) in fuzz::targets::ALL {
        for entry in fs::read_dir(corpus.join(name)).unwrap() {
            let seed = fs::read(entry.unwrap().path()).unwrap();
            // Long seeds are sampled: the time is spent on many places, not on one file.
            let step = seed.len().div_ceil(256).max(1);
            for at in (0..seed.len()).step_by(step) {
                run(&seed[..at]);
                for flip in [0x01, 0x80, 0xff] {
                    let mut damaged = seed.clone();
                    damaged[at] ^= flip;
                    run(&damaged);
                }
            }
        }
    }
}
