//! Seccomp profiles of operators: Docker's JSON (moby `profiles/seccomp`), decided for this node.
//!
//! What Docker's engine, runc and libseccomp do with one after the other happens here at once:
//! rules for other machines, capabilities and kernels are left out, words become values. What can
//! not be done is refused, for a profile that half holds is none.

use serde::Deserialize;

use super::{Field, SpecError};
use crate::{
    limits::{SECCOMP_CONDITIONS_MAX, SECCOMP_NAMES_MAX, SECCOMP_PROFILE_MAX_BYTES},
    model::{
        Seccomp, SeccompAction, SeccompArchitecture, SeccompComparison, SeccompCondition,
        SeccompProfile, SeccompRule, capability_bit,
    },
};

const EPERM: u16 = 1;

/// `null` and nothing are one thing to Go.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: Option<String>,
    default_errno_ret: Option<u64>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<Machine>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Machine {
    architecture: Option<String>,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: Option<String>,
    errno_ret: Option<u64>,
    args: Option<Vec<Argument>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: Option<u64>,
    value: Option<u64>,
    value_two: Option<u64>,
    op: Option<String>,
}

/// Where a rule holds, or does not.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    arches: Option<Vec<String>>,
    caps: Option<Vec<String>>,
    min_kernel: Option<String>,
}

fn wrong(why: impl core::fmt::Display) -> SpecError {
    SpecError::invalid(Field::Seccomp, format!("invalid seccomp profile: {why}"))
}

/// What a profile asks for in a container with `capabilities`, on a kernel of this version.
///
/// # Errors
/// [`SpecError`] when it is not understood, or asks for what can not be done here.
pub fn build(profile: &[u8], capabilities: u64, kernel: (u32, u32)) -> Result<Seccomp, SpecError> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => SeccompArchitecture::X86_64,
        "x86" => SeccompArchitecture::X86,
        "arm" => SeccompArchitecture::Arm,
        "aarch64" => SeccompArchitecture::Aarch64,
        "riscv64" => SeccompArchitecture::Riscv64,
        other => return Err(wrong(format_args!("this node knows no calls of {other}"))),
    };
    decide(profile, &Here { machine, capabilities, kernel })
}

/// Where the profile is to hold.
struct Here {
    machine: SeccompArchitecture,
    capabilities: u64,
    kernel: (u32, u32),
}

fn decide(profile: &[u8], here: &Here) -> Result<Seccomp, SpecError> {
    if SECCOMP_PROFILE_MAX_BYTES < profile.len() {
        return Err(wrong(format_args!(
            "it has {} bytes, and this node takes at most {SECCOMP_PROFILE_MAX_BYTES}",
            profile.len()
        )));
    }
    let document: Document = serde_json::from_slice(profile).map_err(wrong)?;
    let rules = document.syscalls.unwrap_or_default();
    let action = document.default_action.unwrap_or_default();
    if action.is_empty() && rules.is_empty() {
        // Docker takes that for switched off.
        return Ok(Seccomp::Unconfined);
    }
    if document.listener_path.is_some_and(|path| !path.is_empty()) {
        return Err(SpecError::unsupported(
            Field::Seccomp,
            "a seccomp profile with listenerPath",
            "leave it out, with the rules that notify",
        ));
    }
    let default = self::action(&action, document.default_errno_ret)?;
    let (log, speculation) = flags(&document.flags.unwrap_or_default())?;
    let architectures = architectures(document.architectures, document.arch_map, here.machine)?;
    let rules = self::rules(rules, default, here)?;
    let profile = SeccompProfile { default, architectures, rules, log, speculation };
    Ok(Seccomp::Custom(profile))
}

impl Here {
    /// Go's word for the machine, which filters use.
    const fn word(&self) -> &'static str {
        match self.machine {
            SeccompArchitecture::X86_64 | SeccompArchitecture::X32 => "amd64",
            SeccompArchitecture::X86 => "x86",
            SeccompArchitecture::Arm => "arm",
            SeccompArchitecture::Aarch64 => "arm64",
            SeccompArchitecture::Riscv64 => "riscv64",
        }
    }

    fn has(&self, capability: &str) -> bool {
        let name =
            capability.strip_prefix("CAP_").filter(|name| !name.contains(char::is_lowercase));
        name.and_then(capability_bit).is_some_and(|bit| self.capabilities & bit != 0)
    }

    fn reaches(&self, kernel: &str) -> Result<bool, SpecError> {
        let number = |text: &str| text.parse::<u32>().ok();
        let parsed = kernel.split_once('.').and_then(|(a, b)| Some((number(a)?, number(b)?)));
        let version =
            parsed.ok_or_else(|| wrong(format_args!("{kernel:?} is no version of a kernel")))?;
        Ok(version <= self.kernel)
    }

    /// Whether a rule holds here. Excluded by any, included by all.
    fn holds(&self, rule: &Rule) -> Result<bool, SpecError> {
        let none = Filter::default();
        let excludes = rule.excludes.as_ref().unwrap_or(&none);
        let includes = rule.includes.as_ref().unwrap_or(&none);
        let arches = |filter: &Filter| {
            let arches = filter.arches.as_deref().unwrap_or_default();
            (!arches.is_empty()).then(|| arches.iter().any(|word| word == self.word()))
        };
        let kernel = |filter: &Filter| match filter.min_kernel.as_deref() {
            None | Some("") => Ok(None),
            Some(version) => self.reaches(version).map(Some),
        };
        let excluded = arches(excludes) == Some(true)
            || excludes.caps.iter().flatten().any(|name| self.has(name))
            || kernel(excludes)? == Some(true);
        Ok(!excluded
            && arches(includes) != Some(false)
            && includes.caps.iter().flatten().all(|name| self.has(name))
            && kernel(includes)? != Some(false))
    }
}

fn flags(flags: &[String]) -> Result<(bool, bool), SpecError> {
    let (mut log, mut speculation) = (false, false);
    for flag in flags {
        match flag.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => log = true,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => speculation = true,
            // There is one thread.
            "SECCOMP_FILTER_FLAG_TSYNC" => {}
            other => return Err(wrong(format_args!("unknown flag {other:?}"))),
        }
    }
    Ok((log, speculation))
}

/// The architectures that a profile opens here. Those of other machines need no refusing: the
/// kernel has none of their programs.
fn architectures(
    listed: Option<Vec<String>>,
    map: Option<Vec<Machine>>,
    machine: SeccompArchitecture,
) -> Result<Vec<SeccompArchitecture>, SpecError> {
    let (listed, map) = (listed.unwrap_or_default(), map.unwrap_or_default());
    if !listed.is_empty() && !map.is_empty() {
        return Err(wrong("use either 'architectures' or 'archMap'"));
    }
    let mut words = listed;
    for entry in map {
        let name = entry.architecture.unwrap_or_default();
        if architecture(&name)? == Some(machine) {
            words.extend(entry.sub_architectures.unwrap_or_default());
            break;
        }
    }
    let mut found = Vec::new();
    for word in words {
        if let Some(known) = architecture(&word)?
            && !found.contains(&known)
        {
            found.push(known);
        }
    }
    Ok(found)
}

/// Absent: an architecture of machines that this program is not made for.
fn architecture(word: &str) -> Result<Option<SeccompArchitecture>, SpecError> {
    const FOREIGN: [&str; 17] = [
        "LOONGARCH64",
        "M68K",
        "MIPS",
        "MIPS64",
        "MIPS64N32",
        "MIPSEL",
        "MIPSEL64",
        "MIPSEL64N32",
        "PARISC",
        "PARISC64",
        "PPC",
        "PPC64",
        "PPC64LE",
        "S390",
        "S390X",
        "SH",
        "SHEB",
    ];
    match word.strip_prefix("SCMP_ARCH_") {
        Some("X86_64") => Ok(Some(SeccompArchitecture::X86_64)),
        Some("X86") => Ok(Some(SeccompArchitecture::X86)),
        Some("X32") => Ok(Some(SeccompArchitecture::X32)),
        Some("ARM") => Ok(Some(SeccompArchitecture::Arm)),
        Some("AARCH64") => Ok(Some(SeccompArchitecture::Aarch64)),
        Some("RISCV64") => Ok(Some(SeccompArchitecture::Riscv64)),
        Some(other) if FOREIGN.contains(&other) => Ok(None),
        _ => Err(wrong(format_args!("unknown architecture {word:?}"))),
    }
}

fn action(word: &str, errno: Option<u64>) -> Result<SeccompAction, SpecError> {
    let number = || match errno {
        None => Ok(EPERM),
        Some(errno) => u16::try_from(errno)
            .map_err(|_| wrong(format_args!("errnoRet {errno} is no number of an error"))),
    };
    Ok(match word {
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(number()?),
        "SCMP_ACT_TRACE" => SeccompAction::Trace(number()?),
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_NOTIFY" => {
            return Err(SpecError::unsupported(
                Field::Seccomp,
                "a seccomp profile that notifies",
                "use SCMP_ACT_ERRNO in its place",
            ));
        }
        other => return Err(wrong(format_args!("unknown action {other:?}"))),
    })
}

fn rules(
    rules: Vec<Rule>,
    default: SeccompAction,
    here: &Here,
) -> Result<Vec<SeccompRule>, SpecError> {
    let mut built = Vec::new();
    let (mut names_so_far, mut conditions_so_far) = (0_usize, 0_usize);
    for rule in rules {
        let holds = here.holds(&rule)?;
        let mut names = rule.names.unwrap_or_default();
        if let Some(name) = rule.name.filter(|name| !name.is_empty()) {
            if !names.is_empty() {
                return Err(wrong("use either 'name' or 'names'"));
            }
            names.push(name);
        }
        let action = action(&rule.action.unwrap_or_default(), rule.errno_ret)?;
        let args = rule.args.unwrap_or_default();
        let conditions = args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
        // What the default does anyway, libseccomp is not told.
        if !holds || action == default {
            continue;
        }
        // One call of a profile is a word.
        names.retain(|name| !name.is_empty() && !name.contains(' '));
        names_so_far = names_so_far.saturating_add(names.len());
        conditions_so_far =
            conditions_so_far.saturating_add(names.len().saturating_mul(conditions.len()));
        if SECCOMP_NAMES_MAX < names_so_far || SECCOMP_CONDITIONS_MAX < conditions_so_far {
            return Err(wrong(format_args!(
                "this node takes at most {SECCOMP_NAMES_MAX} names and {SECCOMP_CONDITIONS_MAX} \
                 conditions on arguments: give it fewer rules"
            )));
        }
        let names = names.join(" ");
        let repeated = |at: &SeccompCondition| {
            conditions.iter().filter(|other| other.argument == at.argument).count() > 1
        };
        if conditions.iter().any(repeated) {
            // runc's way: then any of them is enough (libcontainer/seccomp, `matchCall`).
            built.extend(conditions.into_iter().map(|condition| SeccompRule {
                names: names.clone(),
                action,
                conditions: vec![condition],
            }));
        } else {
            built.push(SeccompRule { names, action, conditions });
        }
    }
    Ok(built)
}

fn condition(argument: &Argument) -> Result<SeccompCondition, SpecError> {
    let index = argument.index.unwrap_or_default();
    let index = u8::try_from(index).ok().filter(|index| *index < 6);
    let index = index.ok_or_else(|| wrong("calls have the arguments 0 to 5"))?;
    let (value, two) = (argument.value.unwrap_or_default(), argument.value_two.unwrap_or_default());
    let (comparison, value) = match argument.op.as_deref().unwrap_or_default() {
        "SCMP_CMP_NE" => (SeccompComparison::NotEqual, value),
        "SCMP_CMP_LT" => (SeccompComparison::Less, value),
        "SCMP_CMP_LE" => (SeccompComparison::LessOrEqual, value),
        "SCMP_CMP_EQ" => (SeccompComparison::Equal, value),
        "SCMP_CMP_GE" => (SeccompComparison::GreaterOrEqual, value),
        "SCMP_CMP_GT" => (SeccompComparison::Greater, value),
        "SCMP_CMP_MASKED_EQ" => (SeccompComparison::Masked(value), two & value),
        other => return Err(wrong(format_args!("unknown comparison {other:?}"))),
    };
    Ok(SeccompCondition { argument: index, comparison, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: u64 = 0xa804_25fb;
    const SYS_ADMIN: u64 = 1 << 21;
    const ARM64: Here =
        Here { machine: SeccompArchitecture::Aarch64, capabilities: DEFAULT, kernel: (6, 1) };

    fn profile(text: &str, here: &Here) -> SeccompProfile {
        match decide(text.as_bytes(), here) {
            Ok(Seccomp::Custom(profile)) => profile,
            other => panic!("{other:?}"),
        }
    }

    /// The names of the rules of a profile with these rules.
    fn names(rules: &str, here: &Here) -> Vec<String> {
        let text = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}"#);
        profile(&text, here).rules.into_iter().map(|rule| rule.names).collect()
    }

    fn refusal(text: &str) -> String {
        decide(text.as_bytes(), &ARM64).unwrap_err().to_string()
    }

    #[test]
    fn a_profile_becomes_values() {
        let text = r#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "archMap": [
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
                {"architecture": "SCMP_ARCH_S390X", "subArchitectures": null}],
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
            "something new": 1,
            "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": null},
                {"name": "open", "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
                {"name": "mkdir", "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
                    {"index": 0, "value": 2114060288, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"},
                    {"index": 1, "value": 18446744073709551615, "op": "SCMP_CMP_LE"}]},
                {"names": ["socket"], "action": "SCMP_ACT_KILL_PROCESS", "args": [
                    {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
                    {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}
            ]}"#;
        let found = profile(text, &ARM64);
        assert_eq!(found.default, SeccompAction::Errno(38));
        assert_eq!(found.architectures, [SeccompArchitecture::Arm]);
        assert_eq!((found.log, found.speculation), (true, false));
        let condition =
            |argument, comparison, value| SeccompCondition { argument, comparison, value };
        let rule = |names: &str, action, conditions| SeccompRule {
            names: names.to_owned(),
            action,
            conditions,
        };
        let equal = |value| vec![condition(0, SeccompComparison::Equal, value)];
        let expected = [
            rule("read write", SeccompAction::Allow, vec![]),
            rule("open", SeccompAction::Errno(13), vec![]),
            rule(
                "clone",
                SeccompAction::Allow,
                vec![
                    condition(0, SeccompComparison::Masked(2_114_060_288), 0),
                    condition(1, SeccompComparison::LessOrEqual, u64::MAX),
                ],
            ),
            rule("socket", SeccompAction::KillProcess, equal(1)),
            rule("socket", SeccompAction::KillProcess, equal(2)),
        ];
        assert_eq!(found.rules, expected);
    }

    #[test]
    fn rules_are_for_some_machines_capabilities_and_kernels() {
        let rule = |name: &str, filter: &str| {
            format!(r#"{{"name":"{name}","action":"SCMP_ACT_ALLOW",{filter}}}"#)
        };
        let all = [
            rule("a", r#""includes":{"arches":["arm","arm64"]}"#),
            rule("b", r#""excludes":{"arches":["arm64"]}"#),
            rule("c", r#""includes":{"caps":["CAP_SYS_ADMIN","CAP_CHOWN"]}"#),
            rule("d", r#""excludes":{"caps":["CAP_SYS_ADMIN","CAP_NEVER_HEARD"]}"#),
            rule("e", r#""includes":{"minKernel":"6.1"}"#),
            rule("f", r#""includes":{"minKernel":"6.10"},"excludes":{}"#),
            rule("g", r#""excludes":{"minKernel":"4.8"}"#),
            rule("h", r#""includes":{"caps":["SYS_ADMIN"]}"#),
        ]
        .join(",");
        assert_eq!(names(&all, &ARM64), ["a", "d", "e"]);
        let admin = Here {
            machine: SeccompArchitecture::X86_64,
            capabilities: DEFAULT | SYS_ADMIN,
            kernel: (4, 7),
        };
        assert_eq!(names(&all, &admin), ["b", "c", "g"]);
    }

    #[test]
    fn what_can_not_be_done_is_refused_and_said() {
        let rule =
            |rule: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{{rule}}}]}}"#);
        let argument = |argument: &str| {
            rule(&format!(r#""name":"read","action":"SCMP_ACT_KILL","args":[{{{argument}}}]"#))
        };
        for (text, why) in [
            ("{".to_owned(), "EOF"),
            (r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#.to_owned(), "unknown action"),
            (rule(r#""name":"read""#), "unknown action \"\""),
            (rule(r#""name":"read","names":["a"],"action":"SCMP_ACT_KILL""#), "either 'name'"),
            (rule(r#""name":"read","action":"SCMP_ACT_NOTIFY""#), "SCMP_ACT_ERRNO in its place"),
            (rule(r#""name":"a","action":"SCMP_ACT_ERRNO","errnoRet":70000"#), "70000"),
            (rule(r#""name":"a","action":"SCMP_ACT_KILL","includes":{"minKernel":"new"}"#), "\"new\""),
            (argument(r#""index":6,"op":"SCMP_CMP_EQ""#), "0 to 5"),
            (argument(r#""index":0,"op":"=="#), "EOF"),
            (argument(r#""index":0,"op":"==""#), "unknown comparison"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_PDP11"]}"#.to_owned(), "PDP11"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["FAST"]}"#.to_owned(), "FAST"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}"#.to_owned(), "listenerPath"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_ARM"],"archMap":[{"architecture":"SCMP_ARCH_ARM"}]}"#.to_owned(),
                "either 'architectures'",
            ),
        ] {
            let said = refusal(&text);
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn profiles_have_bounds() {
        let big = format!("{{}}{}", " ".repeat(SECCOMP_PROFILE_MAX_BYTES));
        assert!(refusal(&big).contains("at most"));
        let names = vec!["\"read\""; SECCOMP_NAMES_MAX + 1].join(",");
        let many = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":[{names}],"action":"SCMP_ACT_KILL"}}]}}"#
        );
        assert!(refusal(&many).contains("fewer rules"));
        let names = vec!["\"read\""; SECCOMP_CONDITIONS_MAX + 1].join(",");
        let args = r#"[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]"#;
        let many = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":[{names}],"action":"SCMP_ACT_KILL","args":{args}}}]}}"#
        );
        assert!(refusal(&many).contains("fewer rules"));
    }

    #[test]
    fn a_profile_that_says_nothing_is_none() {
        assert_eq!(decide(b"{}", &ARM64), Ok(Seccomp::Unconfined));
    }
}
