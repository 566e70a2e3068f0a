//! An operator's profile as a program (semantics: libseccomp, as runc drives it).
//!
//! A rule without conditions decides alone, wherever it stands; else the first rule whose
//! conditions hold, else the default. Calls that are newer than all in the profile get `ENOSYS`
//! unless they would be made anyway, as from runc, so that programs fall back.

use std::collections::BTreeMap;

use super::{
    super::seccomp_table, AND, ARM_PRIVATE, ENOSYS, JUMP_ABOVE, JUMP_AT_LEAST, JUMP_EQUAL, LOAD,
    OFFSET_ARGUMENT_0, RETURN, RETURN_ALLOW, RETURN_ERRNO, RETURN_KILL_PROCESS, Table, X32_BIT,
    jump, program, statement, tables, tree,
};
use crate::{
    limits::SECCOMP_INSTRUCTIONS_MAX,
    model::{
        SeccompAction, SeccompArchitecture, SeccompComparison, SeccompCondition, SeccompProfile,
        SeccompRule,
    },
    sys::Instruction,
};

const RETURN_KILL_THREAD: u32 = 0;
const RETURN_TRAP: u32 = 0x0003_0000;
const RETURN_TRACE: u32 = 0x7ff0_0000;
const RETURN_LOG: u32 = 0x7ffc_0000;

/// The filter of a profile on this machine.
///
/// # Errors
/// When the kernel would not take a program of that size.
pub(in crate::container) fn filter(profile: &SeccompProfile) -> Result<Vec<Instruction>, String> {
    compile(profile, std::env::consts::ARCH)
}

/// The filter of a profile on any machine.
///
/// # Errors
/// As [`filter`].
pub(crate) fn compile(profile: &SeccompProfile, machine: &str) -> Result<Vec<Instruction>, String> {
    let native = tables(machine).first().map(Table::kind);
    let code = program(machine, |table| {
        let open = Some(table.kind()) == native || profile.architectures.contains(&table.kind());
        open.then(|| tree(&ranges(profile, table), &|verdict| verdict.code(table.wide())))
    });
    if SECCOMP_INSTRUCTIONS_MAX < code.len() {
        return Err(format!(
            "the seccomp profile becomes {} instructions and the kernel takes at most \
             {SECCOMP_INSTRUCTIONS_MAX}: give it fewer rules with arguments or fewer architectures",
            code.len()
        ));
    }
    Ok(code)
}

impl Table {
    fn kind(&self) -> SeccompArchitecture {
        match self.architecture {
            super::ARCHITECTURE_X86_64 if self.x32 => SeccompArchitecture::X32,
            super::ARCHITECTURE_X86_64 => SeccompArchitecture::X86_64,
            super::ARCHITECTURE_X86 => SeccompArchitecture::X86,
            super::ARCHITECTURE_ARM => SeccompArchitecture::Arm,
            super::ARCHITECTURE_AARCH64 => SeccompArchitecture::Aarch64,
            _ => SeccompArchitecture::Riscv64,
        }
    }

    /// Whether arguments have 64 bits.
    const fn wide(&self) -> bool {
        !matches!(self.architecture, super::ARCHITECTURE_X86 | super::ARCHITECTURE_ARM)
    }
}

/// What becomes of a call: by the first of these whose conditions hold, else the last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict<'a> {
    conditional: Vec<&'a SeccompRule>,
    otherwise: u32,
}

const fn value(action: SeccompAction) -> u32 {
    match action {
        SeccompAction::Allow => RETURN_ALLOW,
        SeccompAction::Log => RETURN_LOG,
        SeccompAction::Errno(number) => RETURN_ERRNO | number as u32,
        SeccompAction::Trace(number) => RETURN_TRACE | number as u32,
        SeccompAction::Trap => RETURN_TRAP,
        SeccompAction::KillThread => RETURN_KILL_THREAD,
        SeccompAction::KillProcess => RETURN_KILL_PROCESS,
    }
}

/// Verdicts by first number, from the table's base on; neighbours differ.
fn ranges<'a>(profile: &'a SeccompProfile, table: &Table) -> Vec<(u32, Verdict<'a>)> {
    let default = Verdict { conditional: Vec::new(), otherwise: value(profile.default) };
    let mut known = BTreeMap::<u32, (Verdict<'a>, bool)>::new();
    for rule in &profile.rules {
        let calls = rule.names.split(' ').filter_map(seccomp_table::named);
        for number in calls.filter_map(|call| table.number(call)) {
            let (verdict, decided) =
                known.entry(number).or_insert_with(|| (default.clone(), false));
            if *decided {
                continue;
            }
            if rule.conditions.is_empty() {
                *verdict = Verdict { conditional: Vec::new(), otherwise: value(rule.action) };
                *decided = true;
            } else {
                verdict.conditional.push(rule);
            }
        }
    }
    let newest = known.range(..ARM_PRIVATE).next_back().map(|(number, _)| *number);
    let lenient = matches!(profile.default, SeccompAction::Allow | SeccompAction::Log);
    let unknown = Verdict { conditional: Vec::new(), otherwise: RETURN_ERRNO | ENOSYS };
    let mut found = Vec::<(u32, Verdict<'a>)>::new();
    let mut push = |number: u32, verdict: &Verdict<'a>| {
        if found.last().is_none_or(|(_, last)| last != verdict) {
            found.push((table.base + number, verdict.clone()));
        }
    };
    let mut next = 0;
    for (number, (verdict, _)) in &known {
        if next < *number {
            push(
                next,
                if newest.is_some_and(|newest| newest < next) && !lenient {
                    &unknown
                } else {
                    &default
                },
            );
        }
        push(*number, verdict);
        next = number + 1;
    }
    let end = X32_BIT - 1;
    if next < end {
        let newer = newest.is_some_and(|newest| newest < next) && !lenient && next <= ARM_PRIVATE;
        push(next, if newer { &unknown } else { &default });
    }
    found
}

impl Verdict<'_> {
    /// Each rule leaves to the next one when a condition of it does not hold.
    fn code(&self, wide: bool) -> Vec<Instruction> {
        let mut code = Vec::new();
        for rule in &self.conditional {
            // From the last condition to the first, for a jump needs to know what follows.
            let mut block = vec![statement(RETURN, value(rule.action))];
            for condition in rule.conditions.iter().rev() {
                let mut front = test(*condition, wide, block.len());
                front.append(&mut block);
                block = front;
            }
            code.append(&mut block);
        }
        code.push(statement(RETURN, self.otherwise));
        code
    }
}

/// Where a comparison goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// To the next instruction.
    On,
    /// Behind this condition: it holds.
    Holds,
    /// Behind the rule, `rest` instructions after this condition.
    Fails,
}

/// Compares an argument; `rest` instructions of the rule follow.
fn test(condition: SeccompCondition, wide: bool, rest: usize) -> Vec<Instruction> {
    use SeccompComparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Masked, NotEqual};
    use To::{Fails, Holds, On};
    let half = |value: u64| {
        let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
        (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
    };
    let (high, low) = half(condition.value);
    let mask = match condition.comparison {
        Masked(mask) => Some(half(mask)),
        NotEqual | Less | LessOrEqual | Equal | GreaterOrEqual | Greater => None,
    };
    let offset = OFFSET_ARGUMENT_0 + 8 * u32::from(condition.argument);
    // Operation, operand, where to when true, when false; all machines are little-endian.
    let mut steps: Vec<(u16, u32, To, To)> = Vec::new();
    if wide {
        steps.push((LOAD, offset + 4, On, On));
        steps.extend(mask.map(|(high, _)| (AND, high, On, On)));
        match condition.comparison {
            Equal | Masked(_) => steps.push((JUMP_EQUAL, high, On, Fails)),
            NotEqual => steps.push((JUMP_EQUAL, high, On, Holds)),
            Greater | GreaterOrEqual => {
                steps.push((JUMP_ABOVE, high, Holds, On));
                steps.push((JUMP_EQUAL, high, On, Fails));
            }
            Less | LessOrEqual => {
                steps.push((JUMP_ABOVE, high, Fails, On));
                steps.push((JUMP_EQUAL, high, On, Holds));
            }
        }
    }
    steps.push((LOAD, offset, On, On));
    steps.extend(mask.map(|(_, low)| (AND, low, On, On)));
    steps.push(match condition.comparison {
        Equal | Masked(_) => (JUMP_EQUAL, low, Holds, Fails),
        NotEqual => (JUMP_EQUAL, low, Fails, Holds),
        Greater => (JUMP_ABOVE, low, Holds, Fails),
        GreaterOrEqual => (JUMP_AT_LEAST, low, Holds, Fails),
        Less => (JUMP_AT_LEAST, low, Fails, Holds),
        LessOrEqual => (JUMP_ABOVE, low, Fails, Holds),
    });
    let count = steps.len();
    let code = steps.into_iter().enumerate().map(|(at, (operation, operand, yes, no))| {
        let behind = count - at - 1;
        // Six conditions of seven instructions: always within a byte.
        let distance = |to: To| match to {
            On => 0,
            Holds => u8::try_from(behind).unwrap_or_default(),
            Fails => u8::try_from(behind + rest).unwrap_or_default(),
        };
        match operation {
            LOAD | AND => statement(operation, operand),
            _ => jump(operation, operand, distance(yes), distance(no)),
        }
    });
    code.collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            ARCHITECTURE_AARCH64, ARCHITECTURE_ARM, ARCHITECTURE_X86, ARCHITECTURE_X86_64,
            tests::run_with,
        },
        *,
    };

    const REFUSED: u32 = RETURN_ERRNO | 1;
    const UNKNOWN: u32 = RETURN_ERRNO | ENOSYS;

    fn profile(default: SeccompAction, rules: Vec<SeccompRule>) -> SeccompProfile {
        let architectures = Vec::new();
        SeccompProfile { default, architectures, rules, log: false, speculation: false }
    }

    fn rule(names: &str, action: SeccompAction, conditions: &[SeccompCondition]) -> SeccompRule {
        SeccompRule { names: names.to_owned(), action, conditions: conditions.to_vec() }
    }

    const fn when(argument: u8, comparison: SeccompComparison, value: u64) -> SeccompCondition {
        SeccompCondition { argument, comparison, value }
    }

    #[test]
    fn a_list_of_what_is_allowed_refuses_the_rest_and_does_not_know_the_future() {
        let deny = SeccompAction::Errno(1);
        let allow = SeccompAction::Allow;
        let list = profile(
            deny,
            vec![
                rule("read keyctl no_such_call", allow, &[]),
                rule("io_uring_setup", SeccompAction::KillProcess, &[]),
                rule("mkdir", SeccompAction::Errno(28), &[]),
            ],
        );
        let code = compile(&list, "x86_64").unwrap();
        let verdict = |number| run_with(&code, ARCHITECTURE_X86_64, number, &[]);
        assert_eq!(verdict(0), RETURN_ALLOW, "read");
        assert_eq!(verdict(250), RETURN_ALLOW, "keyctl");
        assert_eq!(verdict(425), RETURN_KILL_PROCESS, "io_uring_setup");
        assert_eq!(verdict(83), RETURN_ERRNO | 28, "mkdir");
        assert_eq!((verdict(1), verdict(249), verdict(424)), (REFUSED, REFUSED, REFUSED));
        assert_eq!((verdict(426), verdict(1000)), (UNKNOWN, UNKNOWN), "newer than the profile");
        let foreign = |code: &[_]| run_with(code, ARCHITECTURE_X86, 3, &[]);
        assert_eq!(foreign(&code), RETURN_KILL_PROCESS, "not opened");
        assert_eq!(run_with(&code, ARCHITECTURE_X86_64, X32_BIT, &[]), RETURN_KILL_PROCESS);
        let architectures = vec![SeccompArchitecture::X86, SeccompArchitecture::X32];
        let open = compile(&SeccompProfile { architectures, ..list }, "x86_64").unwrap();
        assert_eq!(foreign(&open), RETURN_ALLOW, "read");
        assert_eq!(run_with(&open, ARCHITECTURE_X86, 39, &[]), RETURN_ERRNO | 28, "mkdir");
        assert_eq!(run_with(&open, ARCHITECTURE_X86_64, X32_BIT, &[]), RETURN_ALLOW);
    }

    #[test]
    fn a_list_of_what_is_refused_allows_the_rest() {
        let list = profile(
            SeccompAction::Allow,
            vec![
                rule("userfaultfd", SeccompAction::Errno(1), &[]),
                rule("set_tls", SeccompAction::Trap, &[]),
            ],
        );
        let code = compile(&list, "arm").unwrap();
        let verdict = |number| run_with(&code, ARCHITECTURE_ARM, number, &[]);
        assert_eq!(
            (verdict(387), verdict(388), verdict(389)),
            (RETURN_ALLOW, REFUSED, RETURN_ALLOW)
        );
        assert_eq!(verdict(ARM_PRIVATE + 5), RETURN_TRAP);
        assert_eq!((verdict(100_000), verdict(ARM_PRIVATE + 6)), (RETURN_ALLOW, RETURN_ALLOW));
    }

    #[test]
    fn every_comparison_compares_all_bits() {
        use SeccompComparison::{
            Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Masked, NotEqual,
        };
        type Holds = fn(u64, u64) -> bool;
        let table: [(SeccompComparison, Holds); 7] = [
            (NotEqual, |a, b| a != b),
            (Less, |a, b| a < b),
            (LessOrEqual, |a, b| a <= b),
            (Equal, |a, b| a == b),
            (GreaterOrEqual, |a, b| a >= b),
            (Greater, |a, b| a > b),
            (Masked(0xf0f0_0000_00ff), |a, b| a & 0xf0f0_0000_00ff == b & 0xf0f0_0000_00ff),
        ];
        let values = [
            0,
            1,
            0xffff_ffff,
            0x1_0000_0000,
            0x1_0000_0001,
            0x10f0_0000_0001,
            u64::MAX - 1,
            u64::MAX,
        ];
        for (comparison, holds) in table {
            for value in values {
                let told = if let Masked(mask) = comparison { value & mask } else { value };
                let list = profile(
                    SeccompAction::Errno(1),
                    vec![rule(
                        "prctl",
                        SeccompAction::Allow,
                        &[when(5, Equal, 7), when(2, comparison, told)],
                    )],
                );
                let wide = compile(&list, "aarch64").unwrap();
                let narrow = compile(&list, "arm").unwrap();
                for given in values {
                    let expected = |holds| if holds { RETURN_ALLOW } else { REFUSED };
                    let arguments = [0, 0, given, 0, 0, 7];
                    let verdict = run_with(&wide, ARCHITECTURE_AARCH64, 167, &arguments);
                    assert_eq!(
                        verdict,
                        expected(holds(given, value)),
                        "{comparison:?} {given:#x} {value:#x}"
                    );
                    let low = |n: u64| n & 0xffff_ffff;
                    let verdict = run_with(&narrow, ARCHITECTURE_ARM, 172, &arguments);
                    let holds = if let Masked(mask) = comparison {
                        low(given) & low(mask) == low(value) & low(mask)
                    } else {
                        holds(low(given), low(value))
                    };
                    assert_eq!(verdict, expected(holds), "{comparison:?} {given:#x} {value:#x}");
                    let other = [0, 0, given, 0, 0, 8];
                    assert_eq!(run_with(&wide, ARCHITECTURE_AARCH64, 167, &other), REFUSED);
                }
            }
        }
    }

    #[test]
    fn a_rule_without_conditions_decides_alone_else_the_first_that_holds() {
        let is = |value| when(0, SeccompComparison::Equal, value);
        let list = profile(
            SeccompAction::Allow,
            vec![
                rule("socket socketpair", SeccompAction::Errno(2), &[is(1)]),
                rule("socket", SeccompAction::Errno(3), &[is(1)]),
                rule("socket", SeccompAction::Errno(4), &[is(2)]),
                rule("socketpair", SeccompAction::Errno(5), &[]),
                rule("socketpair", SeccompAction::Errno(6), &[]),
            ],
        );
        let code = compile(&list, "x86_64").unwrap();
        let verdict = |number, argument| run_with(&code, ARCHITECTURE_X86_64, number, &[argument]);
        assert_eq!(verdict(41, 1), RETURN_ERRNO | 2);
        assert_eq!(verdict(41, 2), RETURN_ERRNO | 4);
        assert_eq!(verdict(41, 3), RETURN_ALLOW);
        assert_eq!((verdict(53, 1), verdict(53, 9)), (RETURN_ERRNO | 5, RETURN_ERRNO | 5));
    }

    #[test]
    fn what_the_kernel_would_not_take_is_said_before() {
        let six = [0, 1, 2, 3, 4, 5].map(|n| when(n, SeccompComparison::GreaterOrEqual, n.into()));
        let many = vec![rule("read open fstat poll", SeccompAction::Errno(1), &six); 60];
        let said = compile(&profile(SeccompAction::Allow, many), "x86_64").unwrap_err();
        assert!(said.contains("fewer rules"), "{said}");
    }

    /// With other numbers for every call on all three architectures of a machine there is room for
    /// conditions.
    #[test]
    fn the_worst_list_of_all_calls_fits() {
        let rules = seccomp_table::all_names()
            .enumerate()
            .map(|(n, name)| {
                rule(name, SeccompAction::Errno(u16::try_from(n % 1000).unwrap() + 2), &[])
            })
            .collect();
        let architectures = vec![SeccompArchitecture::X86, SeccompArchitecture::X32];
        let list = SeccompProfile { architectures, ..profile(SeccompAction::Errno(1), rules) };
        let code = compile(&list, "x86_64").unwrap();
        assert!(code.len() < SECCOMP_INSTRUCTIONS_MAX * 2 / 3, "{}", code.len());
    }
}
