//! One fuzz target, chosen by the name of the binary.

#![no_main]

mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let run = targets::ALL.iter().find(|(name, _)| *name == env!("CARGO_BIN_NAME"));
    run.expect("a target of this name").1(data);
});
