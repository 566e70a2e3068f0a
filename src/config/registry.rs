//! The keys about registries.

use std::collections::BTreeMap;

use super::{
    ConfigFault, bad, folder,
    json::{Json, Object},
    strings, text, word,
};
use crate::{
    limits::{DOWNLOAD_RATE_MIN, DOWNLOADS_MAX},
    model::{PullPolicy, RegistrySettings, byte_size},
};

const REGISTRIES: &str =
    r#"a list of registries without a scheme, such as ["registry.local:5000"]"#;

const MIRRORS: &str = r#"a list of URLs, such as ["https://mirror.local:5000"], with http:// only for a host in insecure-registries"#;

/// Takes one key in.
pub(super) fn set(
    settings: &mut RegistrySettings,
    key: &str,
    value: Json,
) -> Result<(), ConfigFault> {
    match key {
        "insecure-registries" => {
            settings.insecure = strings(key, value, REGISTRIES, |s| word(s) && !s.contains("://"))?;
        }
        "registry-mirrors" => {
            let mirrors = strings(key, value, MIRRORS, |url| mirror(url).is_some())?;
            settings.mirrors =
                mirrors.into_iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        }
        "registry-ca" => settings.ca_files = ca_files(key, value)?,
        "registry-auth-file" => settings.auth_file = folder(key, value)?,
        "max-concurrent-downloads" => {
            settings.layers_at_once = match value {
                Json::Integer(n) => usize::try_from(n).ok(),
                Json::Null
                | Json::Bool(_)
                | Json::Real
                | Json::String(_)
                | Json::Array(_)
                | Json::Object(_) => None,
            }
            .filter(|n| (1..=DOWNLOADS_MAX).contains(n))
            .ok_or_else(|| bad(key, "a number from 1 to 8"))?;
        }
        _ => {
            let allowed =
                "a string with a number of bytes per second of at least 4k, such as \"500k\"";
            let rate = text(&value).and_then(byte_size).filter(|rate| DOWNLOAD_RATE_MIN <= *rate);
            settings.bytes_per_second = Some(rate.ok_or_else(|| bad(key, allowed))?);
        }
    }
    Ok(())
}

/// Checks what several keys say together.
pub(super) fn check(settings: &RegistrySettings) -> Result<(), ConfigFault> {
    let safe = |url: &String| {
        mirror(url).is_some_and(|(tls, authority)| tls || settings.is_insecure(authority))
    };
    if settings.mirrors.iter().all(safe) { Ok(()) } else { Err(bad("registry-mirrors", MIRRORS)) }
}

pub(super) fn pull_policy(key: &str, value: &Json) -> Result<PullPolicy, ConfigFault> {
    match text(value) {
        Some("always") => Ok(PullPolicy::Always),
        Some("missing") => Ok(PullPolicy::Missing),
        Some("never") => Ok(PullPolicy::Never),
        Some(_) | None => Err(bad(key, "\"always\", \"missing\" or \"never\"")),
    }
}

/// Whether a mirror speaks TLS, and its `host[:port]`; none for what is no URL of a mirror.
fn mirror(url: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let authority = rest.split('/').next()?;
    let good = word(rest) && !authority.is_empty() && !rest.contains(['@', '?', '#']);
    good.then_some((tls, authority))
}

fn ca_files(key: &str, value: Json) -> Result<BTreeMap<String, std::path::PathBuf>, ConfigFault> {
    let allowed = r#"an object such as {"registry.local:5000": "/etc/edgeagent/ca.pem"}"#;
    let Json::Object(Object(entries)) = value else { return Err(bad(key, allowed)) };
    let mut files = BTreeMap::new();
    for (registry, file) in entries {
        if !word(&registry) || registry.contains('/') {
            return Err(bad(key, allowed));
        }
        let file = folder(&format!("{key}.{registry}"), file)?;
        if files.insert(registry.clone(), file).is_some() {
            return Err(ConfigFault::Twice { key: format!("{key}.{registry}") });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text.as_bytes()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn every_registry_key_is_read() {
        let config = parse(
            r#"{
            "insecure-registries": ["10.0.0.0/8"],
            "registry-mirrors": ["https://mirror.local/cache/", "http://10.1.2.3:5000"],
            "registry-ca": {"reg.local:5000": "/etc/ca.pem"},
            "registry-auth-file": "/root/.docker/config.json",
            "max-concurrent-downloads": 3,
            "max-download-rate": "500k",
            "pull-policy": "missing"
        }"#,
        )
        .unwrap();
        assert_eq!(
            config.registries,
            RegistrySettings {
                insecure: vec!["10.0.0.0/8".into()],
                mirrors: vec!["https://mirror.local/cache".into(), "http://10.1.2.3:5000".into()],
                ca_files: [("reg.local:5000".to_owned(), "/etc/ca.pem".into())].into(),
                auth_file: "/root/.docker/config.json".into(),
                layers_at_once: 3,
                bytes_per_second: Some(500 << 10),
            }
        );
        assert_eq!(config.pull_policy, PullPolicy::Missing);
    }

    #[test]
    fn a_bad_value_names_its_key() {
        for (key, values) in [
            (
                "registry-mirrors",
                &[r#"["mirror.local"]"#, r#"["ftp://m"]"#, r#"["https://u@m"]"#][..],
            ),
            // Plain HTTP to a host that is not declared insecure.
            ("registry-mirrors", &[r#"["http://mirror.local"]"#]),
            ("registry-ca", &[r#""/etc/ca.pem""#, r#"{"a/b": "/etc/ca.pem"}"#]),
            ("registry-ca.a", &[r#"{"a": "ca.pem"}"#]),
            ("registry-auth-file", &["7", r#""auth.json""#]),
            ("max-concurrent-downloads", &["0", "9", "-1", r#""2""#]),
            ("max-download-rate", &["500", r#""1k""#, r#""fast""#]),
            ("pull-policy", &[r#""sometimes""#, "true"]),
        ] {
            for value in values {
                let top = key.split('.').next().unwrap();
                let error = parse(&format!(r#"{{"{top}": {value}}}"#)).unwrap_err();
                assert!(error.starts_with(&format!("bad value for \"{key}\": ")), "{error}");
            }
        }
        let twice = parse(r#"{"registry-ca": {"a": "/x", "a": "/y"}}"#).unwrap_err();
        assert_eq!(twice, "key \"registry-ca.a\" stands there twice");
    }
}
