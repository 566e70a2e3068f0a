//! Keys about being a member of a swarm: `when-removed`, `token-secret`.

use super::{ConfigFault, bad, json::Json, string, text};

/// Whether the tasks of a removed node go on.
pub(super) fn when_removed(key: &str, value: &Json) -> Result<bool, ConfigFault> {
    match text(value) {
        Some("keep") => Ok(true),
        Some("stop") => Ok(false),
        Some(_) | None => Err(bad(key, "\"stop\" or \"keep\"")),
    }
}

/// The name of a secret, as swarm allows it (swarmkit `manager/controlapi/secret.go`).
pub(super) fn token_secret(key: &str, value: Json) -> Result<String, ConfigFault> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    string(
        key,
        value,
        "the name of a swarm secret: 1 to 64 letters, digits, `.`, `-`, `_`",
        |name| (1..=64).contains(&name.len()) && name.bytes().all(allowed),
    )
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_removed_node_stops_its_tasks_unless_told_to_keep_them() {
        let parse = |value: &str| {
            Config::parse(format!(r#"{{"when-removed": {value}}}"#).as_bytes())
                .map(|config| config.keep_when_removed)
        };
        assert!(!Config::default().keep_when_removed);
        assert!(parse(r#""keep""#).unwrap());
        assert!(!parse(r#""stop""#).unwrap());
        for bad in ["true", r#""never""#, "null"] {
            assert!(parse(bad).unwrap_err().to_string().contains("when-removed"), "{bad}");
        }
    }

    #[test]
    fn the_secret_with_the_token_has_a_name_that_swarm_allows() {
        let parse = |value: &str| {
            Config::parse(format!(r#"{{"token-secret": "{value}"}}"#).as_bytes())
                .map(|config| config.token_secret)
        };
        assert_eq!(Config::default().token_secret, "edgeagent-join-token");
        assert_eq!(parse("fleet.token_2").unwrap(), "fleet.token_2");
        for bad in ["", "a b", "../x", &"x".repeat(65)] {
            assert!(parse(bad).unwrap_err().to_string().contains("token-secret"), "{bad}");
        }
    }
}
