//! Seccomp profiles as BPF programs, compiled for the container at hand: Docker's default here, an
//! operator's in [`custom`].
//!
//! Calls become ranges of numbers with one verdict each, ranges a binary tree of comparisons: a
//! call costs some eight instructions, whatever its number. The default profile compares arguments
//! by their low 32 bits, which are all that the kernel reads of these.

mod custom;

pub(crate) use custom::compile as custom_program;
pub(super) use custom::filter as custom_filter;

use super::seccomp_table::{CALLS, Call, NONE, SYS_ADMIN, X32_DIFFERS};
use crate::sys::Instruction;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ABOVE: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Offsets in `struct seccomp_data`; arguments have 8 bytes each.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENT_0: u32 = 16;

const ARCHITECTURE_X86_64: u32 = 0xc000_003e;
const ARCHITECTURE_X86: u32 = 0x4000_0003;
const ARCHITECTURE_ARM: u32 = 0x4000_0028;
const ARCHITECTURE_AARCH64: u32 = 0xc000_00b7;
const ARCHITECTURE_RISCV64: u32 = 0xc000_00f3;
const X32_BIT: u32 = 0x4000_0000;

/// Last call of Linux 6.17; the numbers are the same everywhere since 5.0. What is newer gets
/// `ENOSYS`, as from runc, so that programs fall back instead of giving up.
const NEWEST: u32 = 469;
/// First of arm's private calls.
const ARM_PRIVATE: u32 = 0xf_0000;

/// Flags of `clone` that make namespaces (0x7e020000 in the profile).
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
/// Personalities that the profile allows; the last one only asks.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Address families that the profile refuses: ALG (38) and VSOCK (40) can reach the host, the
/// others are obsolete. 46 and up do not exist.
const FAMILIES_REFUSED: [u32; 9] = [12, 19, 20, 23, 25, 34, 37, 38, 40];
const FAMILIES_END: u32 = 46;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Refuse,
    Unknown,
    Socket,
    Personality,
    Clone,
}

/// The numbers of the calls with rules for their arguments.
struct Special {
    socket: u32,
    personality: u32,
    clone: u32,
}

/// `clone3` has one number everywhere.
const CLONE3: u32 = 435;

struct Table {
    architecture: u32,
    column: fn(&Call) -> u32,
    special: Special,
    /// Where numbers begin.
    base: u32,
    x32: bool,
}

impl Table {
    /// The number of a call, less the base; absent when the architecture lacks it.
    fn number(&self, call: &Call) -> Option<u32> {
        let usual = Some((self.column)(call)).filter(|n| *n != NONE)?;
        let differs = X32_DIFFERS.iter().find(|(from, _)| self.x32 && *from == usual);
        Some(differs.map_or(usual, |(_, x32)| *x32))
    }
}

const X86_64: Table = Table {
    architecture: ARCHITECTURE_X86_64,
    column: |call| call.x86_64,
    special: Special { socket: 41, personality: 135, clone: 56 },
    base: 0,
    x32: false,
};
const X32: Table = Table {
    architecture: ARCHITECTURE_X86_64,
    column: |call| call.x86_64,
    special: Special { socket: 41, personality: 135, clone: 56 },
    base: X32_BIT,
    x32: true,
};
const X86: Table = Table {
    architecture: ARCHITECTURE_X86,
    column: |call| call.x86,
    special: Special { socket: 359, personality: 136, clone: 120 },
    base: 0,
    x32: false,
};
const ARM: Table = Table {
    architecture: ARCHITECTURE_ARM,
    column: |call| call.arm,
    special: Special { socket: 281, personality: 136, clone: 120 },
    base: 0,
    x32: false,
};
const AARCH64: Table = Table {
    architecture: ARCHITECTURE_AARCH64,
    column: |call| call.generic,
    special: Special { socket: 198, personality: 92, clone: 220 },
    base: 0,
    x32: false,
};
const RISCV64: Table = Table { architecture: ARCHITECTURE_RISCV64, ..AARCH64 };

/// The tables of a machine, own architecture first. x32 shares its architecture with x86-64.
fn tables(machine: &str) -> &'static [Table] {
    match machine {
        "x86_64" => &[X86_64, X32, X86],
        "x86" => &[X86],
        "aarch64" => &[AARCH64, ARM],
        "arm" => &[ARM],
        "riscv64" => &[RISCV64],
        // An architecture that the profile does not know runs nothing.
        _ => &[],
    }
}

/// The filter for this machine and a container with `capabilities`.
pub(super) fn default_filter(capabilities: u64) -> Vec<Instruction> {
    filter(std::env::consts::ARCH, capabilities)
}

fn filter(machine: &str, capabilities: u64) -> Vec<Instruction> {
    program(machine, |table| Some(tree(&ranges(table, capabilities), &|verdict| leaf(*verdict))))
}

const fn statement(code: u16, operand: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, operand }
}

const fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

/// A program with a section for each table; a table without one kills.
fn program(machine: &str, body: impl Fn(&Table) -> Option<Vec<Instruction>>) -> Vec<Instruction> {
    let mut code = vec![statement(RETURN, RETURN_KILL_PROCESS)];
    // From the last table to the first, each in front of what is there.
    for table in tables(machine).iter().rev() {
        let Some(body) = body(table) else { continue };
        let mut section = vec![statement(LOAD, OFFSET_ARCHITECTURE)];
        // Not this architecture, or not this part of its numbers: skip the section.
        let length = u32::try_from(body.len()).unwrap_or_default();
        let skip = if table.architecture == ARCHITECTURE_X86_64 { length + 3 } else { length + 1 };
        section.push(jump(JUMP_EQUAL, table.architecture, 1, 0));
        section.push(statement(JUMP, skip));
        section.push(statement(LOAD, OFFSET_NUMBER));
        if table.architecture == ARCHITECTURE_X86_64 {
            let (yes, no) = if table.x32 { (1, 0) } else { (0, 1) };
            section.push(jump(JUMP_AT_LEAST, X32_BIT, yes, no));
            section.push(statement(JUMP, length));
        }
        section.extend(body);
        section.extend(code);
        code = section;
    }
    code
}

/// Verdicts by first number, from 0 on; neighbours differ.
fn ranges(table: &Table, capabilities: u64) -> Vec<(u32, Verdict)> {
    let mut known: Vec<(u32, Verdict)> = CALLS
        .iter()
        .filter(|call| call.capabilities == 0 || call.capabilities & capabilities != 0)
        .filter_map(|call| Some((table.number(call)?, Verdict::Allow)))
        .collect();
    let admin = capabilities & SYS_ADMIN != 0;
    known.extend([
        (table.special.socket, Verdict::Socket),
        (table.special.personality, Verdict::Personality),
        (table.special.clone, if admin { Verdict::Allow } else { Verdict::Clone }),
        (CLONE3, if admin { Verdict::Allow } else { Verdict::Unknown }),
    ]);
    known.sort_unstable_by_key(|(n, _)| *n);
    known.dedup_by_key(|(n, _)| *n);

    let newest = if table.x32 { 547 } else { NEWEST };
    let otherwise = |n: u32| {
        let private = table.architecture == ARCHITECTURE_ARM && ARM_PRIVATE <= n;
        if n <= newest || private { Verdict::Refuse } else { Verdict::Unknown }
    };
    let mut found: Vec<(u32, Verdict)> = Vec::new();
    let mut push = |n: u32, verdict: Verdict| {
        if found.last().is_none_or(|(_, last)| *last != verdict) {
            found.push((table.base + n, verdict));
        }
    };
    let mut next = 0;
    let gap = |from: u32, to: u32, push: &mut dyn FnMut(u32, Verdict)| {
        for edge in [from, newest + 1, ARM_PRIVATE] {
            if (from..to).contains(&edge) {
                push(edge, otherwise(edge));
            }
        }
    };
    for (n, verdict) in known {
        gap(next, n, &mut push);
        push(n, verdict);
        next = n + 1;
    }
    gap(next, X32_BIT - 1, &mut push);
    found
}

/// A tree of comparisons; the number is loaded. There is at least one range.
fn tree<V>(ranges: &[(u32, V)], leaf: &impl Fn(&V) -> Vec<Instruction>) -> Vec<Instruction> {
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let Some((first, verdict)) = right.first() else {
        return vec![statement(RETURN, RETURN_KILL_PROCESS)];
    };
    if left.is_empty() {
        return leaf(verdict);
    }
    let (below, above) = (tree(left, leaf), tree(right, leaf));
    let mut code = Vec::with_capacity(below.len() + above.len() + 2);
    if let Ok(distance) = u8::try_from(below.len()) {
        code.push(jump(JUMP_AT_LEAST, *first, distance, 0));
    } else {
        code.push(jump(JUMP_AT_LEAST, *first, 0, 1));
        code.push(statement(JUMP, u32::try_from(below.len()).unwrap_or_default()));
    }
    code.extend(below);
    code.extend(above);
    code
}

fn leaf(verdict: Verdict) -> Vec<Instruction> {
    let allow = statement(RETURN, RETURN_ALLOW);
    let refuse = statement(RETURN, RETURN_ERRNO | EPERM);
    let argument = statement(LOAD, OFFSET_ARGUMENT_0);
    match verdict {
        Verdict::Allow => vec![allow],
        Verdict::Refuse => vec![refuse],
        Verdict::Unknown => vec![statement(RETURN, RETURN_ERRNO | ENOSYS)],
        Verdict::Clone => {
            vec![argument, jump(JUMP_ANY_BIT, CLONE_NAMESPACES, 1, 0), allow, refuse]
        }
        Verdict::Personality => {
            let mut code = vec![argument];
            for personality in PERSONALITIES {
                code.extend([jump(JUMP_EQUAL, personality, 0, 1), allow]);
            }
            code.push(refuse);
            code
        }
        Verdict::Socket => {
            let mut code = vec![argument, jump(JUMP_AT_LEAST, FAMILIES_END, 0, 1), refuse];
            for family in FAMILIES_REFUSED {
                code.extend([jump(JUMP_EQUAL, family, 0, 1), refuse]);
            }
            code.push(allow);
            code
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: u64 = 0xa804_25fb;

    /// Runs a filter as the kernel would, with one argument.
    fn run(code: &[Instruction], architecture: u32, number: u32, argument: u32) -> u32 {
        run_with(code, architecture, number, &[u64::from(argument)])
    }

    /// Runs a filter as the kernel would.
    pub(super) fn run_with(
        code: &[Instruction],
        architecture: u32,
        number: u32,
        arguments: &[u64],
    ) -> u32 {
        let mut at = 0_usize;
        let mut loaded = 0;
        loop {
            let Instruction { code: op, jump_true, jump_false, operand } = code[at];
            at += 1;
            let test = match op {
                LOAD => {
                    loaded = match operand {
                        OFFSET_NUMBER => number,
                        OFFSET_ARCHITECTURE => architecture,
                        argument => {
                            let offset = usize::try_from(argument - OFFSET_ARGUMENT_0).unwrap();
                            let argument = arguments.get(offset / 8).copied().unwrap_or_default();
                            let high = offset % 8 != 0;
                            let half = if high { argument >> 32 } else { argument & 0xffff_ffff };
                            u32::try_from(half).unwrap()
                        }
                    };
                    continue;
                }
                AND => {
                    loaded &= operand;
                    continue;
                }
                RETURN => return operand,
                JUMP => {
                    at += usize::try_from(operand).unwrap();
                    continue;
                }
                JUMP_EQUAL => loaded == operand,
                JUMP_AT_LEAST => loaded >= operand,
                JUMP_ABOVE => loaded > operand,
                JUMP_ANY_BIT => loaded & operand != 0,
                other => panic!("operation {other:#x}"),
            };
            at += usize::from(if test { jump_true } else { jump_false });
        }
    }

    const ALLOW: u32 = RETURN_ALLOW;
    const REFUSE: u32 = RETURN_ERRNO | EPERM;
    const UNKNOWN: u32 = RETURN_ERRNO | ENOSYS;

    #[test]
    fn every_call_of_every_table_gets_the_verdict_of_the_profile() {
        for (machine, all) in ["x86_64", "aarch64", "arm", "riscv64"].map(|m| (m, tables(m))) {
            for capabilities in [0, DEFAULT, u64::MAX] {
                let code = filter(machine, capabilities);
                assert!(code.len() < 4096, "the kernel's limit");
                for table in all {
                    let differs = |n: u32| {
                        let found = X32_DIFFERS.iter().find(|(from, _)| table.x32 && *from == n);
                        found.map_or(n, |(_, to)| *to)
                    };
                    let special = [table.special.socket, table.special.personality, CLONE3]
                        .into_iter()
                        .chain([table.special.clone]);
                    let special: Vec<u32> = special.collect();
                    let mut allowed = std::collections::BTreeSet::new();
                    for call in CALLS {
                        let n = (table.column)(call);
                        if n != NONE
                            && (call.capabilities == 0 || call.capabilities & capabilities != 0)
                        {
                            allowed.insert(differs(n));
                        }
                    }
                    for n in (0..600).chain(ARM_PRIVATE..ARM_PRIVATE + 10) {
                        if special.contains(&n) {
                            continue;
                        }
                        let verdict = run(&code, table.architecture, table.base + n, 0);
                        assert_eq!(
                            verdict == ALLOW,
                            allowed.contains(&n),
                            "{machine} {:#x} {n} {verdict:#x}",
                            table.architecture
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_are_those_of_the_system_that_this_is_built_for() {
        let code = default_filter(DEFAULT);
        let native = tables(std::env::consts::ARCH)[0].architecture;
        let verdict = |n: libc::c_long, a| run(&code, native, u32::try_from(n).unwrap(), a);
        for allowed in [
            libc::SYS_read,
            libc::SYS_execve,
            libc::SYS_openat,
            libc::SYS_futex,
            libc::SYS_exit_group,
            libc::SYS_setresuid,
            libc::SYS_chroot,
            libc::SYS_ptrace,
            libc::SYS_prctl,
            libc::SYS_statx,
        ] {
            assert_eq!(verdict(allowed, 0), ALLOW, "{allowed}");
        }
        for refused in [
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_kexec_load,
            libc::SYS_init_module,
            libc::SYS_reboot,
            libc::SYS_open_by_handle_at,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
        ] {
            assert_eq!(verdict(refused, 0), REFUSE, "{refused}");
        }
        assert_eq!(verdict(libc::SYS_clone3, 0), UNKNOWN);
        assert_eq!(verdict(libc::SYS_clone, 0x1200011), ALLOW);
        assert_eq!(verdict(libc::SYS_clone, 0x1000_0000), REFUSE, "a user namespace");
        assert_eq!(verdict(libc::SYS_socket, 1), ALLOW);
        assert_eq!(verdict(libc::SYS_socket, 16), ALLOW);
        assert_eq!(verdict(libc::SYS_socket, 38), REFUSE, "ALG");
        assert_eq!(verdict(libc::SYS_socket, 40), REFUSE, "VSOCK");
        assert_eq!(verdict(libc::SYS_socket, 46), REFUSE);
        assert_eq!(verdict(libc::SYS_personality, 0xffff_ffff), ALLOW);
        assert_eq!(verdict(libc::SYS_personality, 0x4_0000), REFUSE, "no randomisation");
        assert_eq!(verdict(1000, 0), UNKNOWN, "a call of the future");
    }

    #[test]
    fn an_architecture_that_is_not_of_this_machine_is_killed() {
        let code = filter("aarch64", DEFAULT);
        assert_eq!(run(&code, ARCHITECTURE_X86_64, 0, 0), RETURN_KILL_PROCESS);
        assert_eq!(filter("sparc", DEFAULT).len(), 1);
    }

    #[test]
    fn capabilities_open_calls() {
        let code = filter("arm", u64::MAX);
        let mount = CALLS.iter().find(|c| c.x86_64 == 165).unwrap().arm;
        assert_eq!(run(&code, ARCHITECTURE_ARM, mount, 0), ALLOW);
        assert_eq!(run(&code, ARCHITECTURE_ARM, CLONE3, 0), ALLOW);
        assert_eq!(run(&code, ARCHITECTURE_ARM, 120, u32::MAX), ALLOW);
    }
}
