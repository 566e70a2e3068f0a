//! Seccomp profiles of operators, from Docker's JSON to the program for the kernel.

use edgeagent::{model::Seccomp, shim, spec, sys::Instruction};

/// Any bytes: what is taken becomes, on every machine, a program that the kernel takes, or a reason
/// why it would be too long.
pub fn run(data: &[u8]) {
    for capabilities in [0, 0xa804_25fb, u64::MAX] {
        let Ok(Seccomp::Custom(profile)) = spec::seccomp_profile(data, capabilities, (6, 1)) else {
            continue;
        };
        for machine in ["x86_64", "x86", "aarch64", "arm", "riscv64"] {
            match shim::seccomp_program(&profile, machine) {
                Ok(program) => check(&program),
                Err(reason) => assert!(reason.contains("instructions"), "{reason}"),
            }
        }
    }
}

/// What the kernel wants of a program (Linux `net/core/filter.c`, `bpf_check_classic`;
/// `kernel/seccomp.c`, `seccomp_check_filter`), without the operations that we never use.
fn check(program: &[Instruction]) {
    assert!((1..=4096).contains(&program.len()));
    let inside = |at: usize| assert!(at < program.len(), "jumps out at {at}");
    for (at, instruction) in program.iter().enumerate() {
        let operand = instruction.operand as usize;
        match instruction.code {
            // Load a word of `struct seccomp_data`.
            0x20 => assert!(operand.is_multiple_of(4) && operand < 64, "loads {operand}"),
            // Jump always, or when equal, above, at least, any bit.
            0x05 => inside(at + 1 + operand),
            0x15 | 0x25 | 0x35 | 0x45 => {
                inside(at + 1 + usize::from(instruction.jump_true));
                inside(at + 1 + usize::from(instruction.jump_false));
            }
            0x54 => {}
            other => assert_eq!(other, 0x06, "an operation that we never use"),
        }
    }
    assert_eq!(program.last().map(|last| last.code), Some(0x06), "ends with a verdict");
}
