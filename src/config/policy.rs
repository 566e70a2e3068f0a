//! The owner's rules: `admission`, `devices`, `device-classes`, `limits-without-controller`.

use super::{ConfigFault, Json, bad, boolean, object, string, strings, word};
use crate::{limits::POLICY_PATTERNS_MAX, model::Policy};

const PATTERNS: &str = r#"a list of at most 64 patterns, such as ["registry.local/**"]"#;
const DEVICES: &str = r#"a list of at most 64 patterns below /dev, such as ["/dev/video*"]"#;
const FOLDERS: &str = r#"a list of at most 64 absolute folders without `..`, such as ["/srv"]"#;
const CAPABILITIES: &str = r#"a list of capabilities, such as ["NET_ADMIN"]"#;
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

fn admission(policy: &mut Policy, key: &str, value: Json) -> Result<(), ConfigFault> {
    const RULES: &[&str] = &[
        "bind-sources",
        "capabilities",
        "digests-only",
        "host-network",
        "images",
        "unconfined",
        "users",
    ];
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
                let names = patterns(&full, value, CAPABILITIES, word)?;
                let plain = names.iter().map(|name| {
                    let upper = name.to_ascii_uppercase();
                    upper.strip_prefix("CAP_").map(str::to_owned).unwrap_or(upper)
                });
                policy.capabilities = Some(plain.collect());
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

fn is_folder(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| !matches!(part, "." | ".."))
}

fn is_device(pattern: &str) -> bool {
    pattern.strip_prefix("/dev/").is_some_and(|rest| !rest.is_empty()) && is_folder(pattern)
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
                "bind-sources": ["/srv/"], "capabilities": ["cap_net_admin"],
                "host-network": false, "unconfined": false, "users": ["1000", "2000-2999"]},
            "devices": ["/dev/tty*"], "device-classes": {"camera": ["/dev/video*"]},
            "limits-without-controller": "reject"
        }"#;
        let expected = Policy {
            images: Some(vec!["reg.local/**".into()]),
            digests_only: true,
            bind_sources: Some(vec!["/srv".into()]),
            capabilities: Some(vec!["NET_ADMIN".into()]),
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
            (r#"{"devices": ["/etc/passwd"]}"#, "devices"),
            (r#"{"devices": ["/dev/../etc"]}"#, "devices"),
            (r#"{"device-classes": {"a b": []}}"#, "device-classes.a b"),
            (r#"{"device-classes": {"a": [], "a": []}}"#, "device-classes.a"),
            (r#"{"limits-without-controller": "maybe"}"#, "limits-without-controller"),
        ] {
            let error = Config::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
