//! The owner's rules: `admission`, `devices`, `device-classes`, `limits-without-controller`.

use super::{ConfigFault, Json, bad, boolean, object, string, strings, word};
use crate::{
    limits::POLICY_PATTERNS_MAX,
    model::{EVERY_CAPABILITY, Policy, Propagation, capability_bit, default_capabilities},
};

const PATTERNS: &str = r#"a list of at most 64 patterns, such as ["registry.local/**"]"#;
const DEVICES: &str = r#"a list of at most 64 patterns below /dev, such as ["/dev/video*"]"#;
const FOLDERS: &str = r#"a list of at most 64 absolute folders without `..`, such as ["/srv"]"#;
const CAPABILITIES: &str = r#"a list of capabilities that may be added, and with a minus those that no container gets, such as ["NET_ADMIN", "-NET_RAW"] or ["-ALL", "CHOWN"]"#;
const SYSCTLS: &str =
    r#"a list of at most 64 kernel parameters or patterns, such as ["net.core.*"]"#;
const PROPAGATION: &str =
    r#"a list of ways in which mounts may travel, such as ["rslave"], or [] for none"#;
const OOM_SCORE: &str = "a number from -1000 to 1000";
const PIDS: &str = "a number of processes, 1 or more";
const USERS: &str = r#"a list of user numbers or ranges, such as ["1000", "2000-2999"]"#;

/// Takes one of the keys over.
pub(super) fn set(policy: &mut Policy, key: &str, value: Json) -> Result<(), ConfigFault> {
    match key {
        "admission" => admission(policy, key, value)?,
        "devices" => policy.devices = patterns(key, value, DEVICES, is_device)?,
        "device-classes" => policy.device_classes = classes(key, value)?,
        _ => {
            let allowed = "\"warn\" or \"reject\"";
            let text = string(key, value, allowed, |text| matches!(text, "warn" | "reject"))?;
            policy.reject_unenforced = text == "reject";
        }
    }
    Ok(())
}

/// What `admission` may hold.
const RULES: &[&str] = &[
    "apparmor-unconfined",
    "bind-sources",
    "capabilities",
    "digests-only",
    "host-network",
    "images",
    "no-new-privileges",
    "oom-score",
    "pids-limit",
    "propagation",
    "sysctls",
    "unconfined",
    "users",
];

fn admission(policy: &mut Policy, key: &str, value: Json) -> Result<(), ConfigFault> {
    for (rule, value) in object(key, value, RULES)? {
        let full = format!("{key}.{rule}");
        match rule.as_str() {
            "images" => policy.images = Some(patterns(&full, value, PATTERNS, word)?),
            "digests-only" => policy.digests_only = boolean(&full, &value)?,
            "bind-sources" => {
                let mut folders = patterns(&full, value, FOLDERS, is_folder)?;
                for folder in &mut folders {
                    folder.truncate(folder.trim_end_matches('/').len());
                }
                policy.bind_sources = Some(folders);
            }
            "capabilities" => {
                let words =
                    patterns(&full, value, CAPABILITIES, |word| capability(word).is_some())?;
                let (mut allowed, mut withheld) = (0, 0);
                for (minus, set) in words.iter().filter_map(|word| capability(word)) {
                    if minus { withheld |= set } else { allowed |= set }
                }
                // Who is named stays, though all are taken.
                if words.iter().any(|word| word.eq_ignore_ascii_case("-ALL")) {
                    withheld &= default_capabilities() & !allowed;
                }
                policy.capabilities = Some(allowed);
                policy.withheld_capabilities = withheld;
            }
            "apparmor-unconfined" => policy.no_apparmor_unconfined = !boolean(&full, &value)?,
            "no-new-privileges" => policy.no_new_privileges = boolean(&full, &value)?,
            "oom-score" => {
                let least = integer(&full, &value, OOM_SCORE, -1000, 1000)?;
                policy.oom_score_min = i32::try_from(least).ok();
            }
            "pids-limit" => {
                let most = integer(&full, &value, PIDS, 1, i64::MAX)?;
                policy.pids_max = u64::try_from(most).ok();
            }
            "propagation" => {
                let known = |word: &str| Propagation::named(word).is_some();
                let words = patterns(&full, value, PROPAGATION, known)?;
                policy.propagation =
                    Some(words.iter().filter_map(|word| Propagation::named(word)).collect());
            }
            "sysctls" => {
                let words = patterns(&full, value, SYSCTLS, is_parameter)?;
                policy.sysctls = Some(words.iter().map(|word| word.replace('/', ".")).collect());
            }
            "host-network" => policy.no_host_network = !boolean(&full, &value)?,
            "unconfined" => policy.no_unconfined = !boolean(&full, &value)?,
            _ => policy.users = Some(users(&full, value)?),
        }
    }
    Ok(())
}

fn patterns(
    key: &str,
    value: Json,
    allowed: &'static str,
    check: impl Fn(&str) -> bool,
) -> Result<Vec<String>, ConfigFault> {
    let patterns = strings(key, value, allowed, check)?;
    if POLICY_PATTERNS_MAX < patterns.len() { Err(bad(key, allowed)) } else { Ok(patterns) }
}

/// Whether a word has a minus, and the set that it names.
fn capability(word: &str) -> Option<(bool, u64)> {
    let (minus, name) = word.strip_prefix('-').map_or((false, word), |name| (true, name));
    if name.eq_ignore_ascii_case("ALL") {
        return Some((minus, EVERY_CAPABILITY));
    }
    capability_bit(name).map(|set| (minus, set))
}

fn is_parameter(pattern: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.*/".contains(&byte);
    !pattern.is_empty() && pattern.bytes().all(allowed)
}

fn integer(
    key: &str,
    value: &Json,
    allowed: &'static str,
    least: i64,
    most: i64,
) -> Result<i64, ConfigFault> {
    match value {
        Json::Integer(number) if (least..=most).contains(number) => Ok(*number),
        Json::Integer(_)
        | Json::Null
        | Json::Bool(_)
        | Json::String(_)
        | Json::Real
        | Json::Array(_)
        | Json::Object(_) => Err(bad(key, allowed)),
    }
}

fn is_folder(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| !matches!(part, "." | ".."))
}

fn is_device(pattern: &str) -> bool {
    pattern.strip_prefix("/dev/").is_some_and(|rest| rest.split('/').all(|part| !part.is_empty()))
        && is_folder(pattern)
}

fn classes(key: &str, value: Json) -> Result<Vec<(String, Vec<String>)>, ConfigFault> {
    let Json::Object(super::Object(entries)) = value else {
        return Err(bad(key, r#"an object such as {"camera": ["/dev/video*"]}"#));
    };
    let mut classes: Vec<(String, Vec<String>)> = Vec::new();
    for (class, value) in entries {
        let full = format!("{key}.{class}");
        // It becomes the name of an environment variable.
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if class.is_empty() || !class.bytes().all(named) || class.len() > 64 {
            return Err(bad(&full, "a name of letters, digits, `-` and `_`"));
        }
        if classes.iter().any(|(other, _)| *other == class) {
            return Err(ConfigFault::Twice { key: full });
        }
        classes.push((class, patterns(&full, value, DEVICES, is_device)?));
    }
    classes.sort();
    Ok(classes)
}

fn users(key: &str, value: Json) -> Result<Vec<(u32, u32)>, ConfigFault> {
    let range = |text: &str| -> Option<(u32, u32)> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        (from <= to).then_some((from, to))
    };
    let texts = patterns(key, value, USERS, |text| range(text).is_some())?;
    Ok(texts.iter().filter_map(|text| range(text)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_rule_is_read() {
        let text = br#"{
            "admission": {"images": ["reg.local/**"], "digests-only": true,
                "bind-sources": ["/srv/"], "capabilities": ["cap_net_admin", "-Net_Raw"],
                "host-network": false, "unconfined": false, "apparmor-unconfined": false,
                "no-new-privileges": true, "oom-score": -10, "pids-limit": 100,
                "propagation": ["rslave"], "sysctls": ["net/core/*"], "users": ["1000", "2000-2999"]},
            "devices": ["/dev/tty*"], "device-classes": {"camera": ["/dev/video*"]},
            "limits-without-controller": "reject"
        }"#;
        let expected = Policy {
            images: Some(vec!["reg.local/**".into()]),
            digests_only: true,
            bind_sources: Some(vec!["/srv".into()]),
            capabilities: Some(1 << 12),
            withheld_capabilities: 1 << 13,
            no_apparmor_unconfined: true,
            no_new_privileges: true,
            oom_score_min: Some(-10),
            pids_max: Some(100),
            propagation: Some(vec![Propagation::RSlave]),
            sysctls: Some(vec!["net.core.*".into()]),
            no_host_network: true,
            no_unconfined: true,
            users: Some(vec![(1000, 1000), (2000, 2999)]),
            devices: vec!["/dev/tty*".into()],
            device_classes: vec![("camera".into(), vec!["/dev/video*".into()])],
            reject_unenforced: true,
        };
        assert_eq!(Config::parse(text).unwrap().policy, expected);
    }

    #[test]
    fn a_rule_that_means_nothing_is_named() {
        for (text, key) in [
            (r#"{"admission": {"image": []}}"#, "admission.image"),
            (r#"{"admission": {"bind-sources": ["srv"]}}"#, "admission.bind-sources"),
            (r#"{"admission": {"bind-sources": ["/srv/../etc"]}}"#, "admission.bind-sources"),
            (r#"{"admission": {"users": ["9-1"]}}"#, "admission.users"),
            (r#"{"admission": {"capabilities": ["NET_ADMN"]}}"#, "admission.capabilities"),
            (r#"{"admission": {"capabilities": ["--ALL"]}}"#, "admission.capabilities"),
            (r#"{"admission": {"oom-score": -1001}}"#, "admission.oom-score"),
            (r#"{"admission": {"oom-score": "0"}}"#, "admission.oom-score"),
            (r#"{"admission": {"pids-limit": 0}}"#, "admission.pids-limit"),
            (r#"{"admission": {"pids-limit": 1.5}}"#, "admission.pids-limit"),
            (r#"{"admission": {"propagation": ["slav"]}}"#, "admission.propagation"),
            (r#"{"admission": {"propagation": false}}"#, "admission.propagation"),
            (r#"{"admission": {"sysctls": ["net core"]}}"#, "admission.sysctls"),
            (r#"{"admission": {"apparmor-unconfined": "no"}}"#, "admission.apparmor-unconfined"),
            (r#"{"admission": {"no-new-privileges": 1}}"#, "admission.no-new-privileges"),
            (r#"{"devices": ["/etc/passwd"]}"#, "devices"),
            (r#"{"devices": ["/dev/../etc"]}"#, "devices"),
            (r#"{"devices": ["/dev//video0"]}"#, "devices"),
            (r#"{"devices": ["/dev/./video0"]}"#, "devices"),
            (r#"{"device-classes": {"a": ["/dev/snd/"]}}"#, "device-classes.a"),
            (r#"{"device-classes": {"a b": []}}"#, "device-classes.a b"),
            (r#"{"device-classes": {"a": [], "a": []}}"#, "device-classes.a"),
            (r#"{"limits-without-controller": "maybe"}"#, "limits-without-controller"),
        ] {
            let error = Config::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn all_of_the_default_capabilities_may_be_taken() {
        let parsed = |words: &str| {
            let text = format!(r#"{{"admission": {{"capabilities": {words}}}}}"#);
            let policy = Config::parse(text.as_bytes()).unwrap().policy;
            (policy.capabilities, policy.withheld_capabilities)
        };
        assert_eq!(parsed("[]"), (Some(0), 0));
        assert_eq!(parsed(r#"["-ALL"]"#), (Some(0), default_capabilities()));
        let (chown, admin) = (1, 1 << 12);
        let rest = default_capabilities() & !chown;
        assert_eq!(parsed(r#"["-all", "CHOWN", "NET_ADMIN"]"#), (Some(chown | admin), rest));
        assert_eq!(parsed(r#"["ALL"]"#), (Some(EVERY_CAPABILITY), 0));
    }

    /// Each is said in README, with what it stops.
    #[test]
    fn every_rule_is_documented() {
        let readme = include_str!("../../README.md");
        let row = |rule: &str| readme.contains(&format!("\n| `{rule}` | "));
        let missing: Vec<_> = RULES.iter().filter(|rule| !row(rule)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
