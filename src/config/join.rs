//! The provisioning file: what a person would type after `edgeagent join`, as JSON.
//!
//! ```json
//! {
//!   "token": "SWMTKN-1-…", "addresses": ["manager.example:2377"],
//!   "availability": "active", "labels": {"site": "hut"}, "forget-token": false
//! }
//! ```
//! As strict as `agent.json`: an unknown key, or one that stands there twice, is an error.

use std::{collections::BTreeMap, net::Ipv6Addr};

use zeroize::Zeroizing;

use super::{ConfigFault, Json, Object, bad, boolean, strings, text, unique};
use crate::{
    limits::{DEFAULT_MANAGER_PORT, JOIN_ADDRESSES_MAX, JOIN_FILE_MAX_BYTES},
    model::Availability,
};

const KEYS: &[&str] = &["addresses", "availability", "forget-token", "labels", "token"];

/// A provisioning file, complete.
#[derive(Debug, PartialEq, Eq)]
pub struct JoinFile {
    /// `token`: the join token as written; its form is not checked here.
    pub token: JoinSecret,
    /// `addresses`: where managers are, each with its port.
    pub addresses: Vec<String>,
    /// `availability`: how the node wishes to join; active without it.
    pub availability: Availability,
    /// `labels`: engine labels; those of `agent.json` win.
    pub labels: BTreeMap<String, String>,
    /// `forget-token`: burn the token as soon as there is a certificate.
    pub forget_token: bool,
}

/// The token of a provisioning file: overwritten when dropped, and not shown.
#[derive(PartialEq, Eq)]
pub struct JoinSecret(Zeroizing<String>);

impl JoinSecret {
    /// The token.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("<join token>")
    }
}

impl JoinFile {
    /// Reads the text of a provisioning file.
    ///
    /// # Errors
    /// [`ConfigFault`]; none holds anything of a value.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigFault> {
        if JOIN_FILE_MAX_BYTES < json.len() {
            return Err(ConfigFault::TooLarge { limit: JOIN_FILE_MAX_BYTES });
        }
        // Not as an object at once: serde's complaint would quote a text that stands in its place,
        // which may well be the token.
        let Json::Object(Object(entries)) =
            serde_json::from_slice(json).map_err(ConfigFault::Syntax)?
        else {
            let error = serde::de::Error::custom("the outermost value must be an object");
            return Err(ConfigFault::Syntax(error));
        };
        let (mut token, mut addresses) = (None, None);
        let (mut availability, mut labels) = (Availability::Active, BTreeMap::new());
        let mut forget_token = false;
        for (key, value) in unique(entries, "", KEYS)? {
            match (key.as_str(), value) {
                ("token", Json::String(text)) => token = Some(JoinSecret(Zeroizing::new(text))),
                ("addresses", value) => addresses = Some(manager_addresses(&key, value)?),
                ("availability", value) => {
                    availability = text(&value)
                        .and_then(Availability::from_name)
                        .ok_or_else(|| bad(&key, "\"active\", \"pause\" or \"drain\""))?;
                }
                ("labels", Json::Object(Object(entries))) => labels = pairs(&key, entries)?,
                ("forget-token", value) => forget_token = boolean(&key, &value)?,
                ("token", _) => return Err(bad(&key, "a join token, such as \"SWMTKN-1-…\"")),
                (_, _) => return Err(bad(&key, LABELS)),
            }
        }
        Ok(Self {
            token: token.ok_or(ConfigFault::Missing { key: "token" })?,
            addresses: addresses.ok_or(ConfigFault::Missing { key: "addresses" })?,
            availability,
            labels,
            forget_token,
        })
    }
}

const LABELS: &str = r#"an object of texts, such as {"site": "hut"}"#;

fn pairs(key: &str, entries: Vec<(String, Json)>) -> Result<BTreeMap<String, String>, ConfigFault> {
    let mut labels = BTreeMap::new();
    for (name, value) in entries {
        let Json::String(value) = value else {
            return Err(bad(&format!("{key}.{name}"), "a text"));
        };
        if name.is_empty() {
            return Err(bad(key, LABELS));
        }
        if labels.contains_key(&name) {
            return Err(ConfigFault::Twice { key: format!("{key}.{name}") });
        }
        labels.insert(name, value);
    }
    Ok(labels)
}

fn manager_addresses(key: &str, value: Json) -> Result<Vec<String>, ConfigFault> {
    let allowed = "a list of 1 to 16 addresses, such as [\"manager.example:2377\"]";
    let given = strings(key, value, allowed, |addr| manager_address(addr).is_some())?;
    if given.is_empty() || JOIN_ADDRESSES_MAX < given.len() {
        return Err(bad(key, allowed));
    }
    Ok(given.iter().filter_map(|addr| manager_address(addr)).collect())
}

/// The address of a manager with its port; 2377 when none is given. Nothing for what is not
/// `host`, `host:port`, an IPv4 or IPv6 address, `IPv4:port` or `[IPv6]:port`.
#[must_use]
pub fn manager_address(given: &str) -> Option<String> {
    let (host, port) = if let Some(rest) = given.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        match rest {
            "" => (format!("[{host}]"), None),
            _ => (format!("[{host}]"), Some(rest.strip_prefix(':')?)),
        }
    } else if given.parse::<Ipv6Addr>().is_ok() {
        (format!("[{given}]"), None)
    } else {
        match given.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (given.to_owned(), None),
        }
    };
    let port = match port {
        Some(port) => port.parse::<u16>().ok().filter(|port| *port != 0)?,
        None => DEFAULT_MANAGER_PORT,
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]%".contains(&b);
    (!host.is_empty() && host.bytes().all(allowed)).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        JoinFile::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn every_key_is_taken_and_most_may_be_left_out() {
        let file = JoinFile::parse(
            br#"{"token": "T", "addresses": ["m", "10.0.0.1:4000"], "availability": "drain",
                 "labels": {"site": "hut", "x": ""}, "forget-token": true}"#,
        )
        .unwrap();
        assert_eq!(file.token.expose(), "T");
        assert_eq!(file.addresses, ["m:2377", "10.0.0.1:4000"]);
        assert_eq!(file.availability, Availability::Drain);
        assert_eq!(
            file.labels,
            [("site", "hut"), ("x", "")].map(|(k, v)| (k.into(), v.into())).into()
        );
        assert!(file.forget_token);
        assert!(format!("{file:?}").contains("token: <join token>"));

        let least = JoinFile::parse(br#"{"token": "T", "addresses": ["m"]}"#).unwrap();
        assert_eq!((least.availability, least.forget_token), (Availability::Active, false));
        assert!(least.labels.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_value_is_shown() {
        let secret = "SWMTKN-1-secret";
        for (text, message) in [
            (r#"{"addresses": ["m"]}"#.to_owned(), r#"key "token" is missing"#),
            (format!(r#"{{"token": "{secret}"}}"#), r#"key "addresses" is missing"#),
            (
                format!(r#"{{"tokn": "{secret}", "addresses": ["m"]}}"#),
                r#"unknown key "tokn" (did you mean "token"?)"#,
            ),
            (
                format!(r#"{{"token": "{secret}", "token": "{secret}"}}"#),
                r#"key "token" stands there twice"#,
            ),
            (format!(r#"{{"token": ["{secret}"]}}"#), r#"bad value for "token""#),
            (r#"{"addresses": []}"#.to_owned(), r#"bad value for "addresses""#),
            (r#"{"addresses": ["m:0"]}"#.to_owned(), r#"bad value for "addresses""#),
            (r#"{"addresses": "m"}"#.to_owned(), r#"bad value for "addresses""#),
            (r#"{"availability": "on"}"#.to_owned(), r#"bad value for "availability""#),
            (r#"{"forget-token": 1}"#.to_owned(), r#"bad value for "forget-token""#),
            (r#"{"labels": ["a=b"]}"#.to_owned(), r#"bad value for "labels""#),
            (r#"{"labels": {"": "b"}}"#.to_owned(), r#"bad value for "labels""#),
            (r#"{"labels": {"a": 1}}"#.to_owned(), r#"bad value for "labels.a""#),
            (r#"{"labels": {"a": "1", "a": "2"}}"#.to_owned(), r#"key "labels.a" stands"#),
            (format!("\"{secret}\""), "must be one JSON object"),
            (secret.to_owned(), "must be one JSON object"),
            (" ".repeat(JOIN_FILE_MAX_BYTES) + "{}", "larger than"),
        ] {
            let error = JoinFile::parse(text.as_bytes()).unwrap_err();
            let whole = crate::model::chain(&error);
            assert!(whole.contains(message), "{text:.80}: {whole}");
            assert!(!whole.contains("secret"), "{whole}");
        }
        assert!(fault("").contains("JSON"));
    }

    #[test]
    fn addresses_get_the_port_that_managers_use() {
        for (given, full) in [
            ("10.0.0.1", "10.0.0.1:2377"),
            ("10.0.0.1:4000", "10.0.0.1:4000"),
            ("manager.example", "manager.example:2377"),
            ("[::1]", "[::1]:2377"),
            ("[::1]:99", "[::1]:99"),
            ("fe80::1", "[fe80::1]:2377"),
        ] {
            assert_eq!(manager_address(given).unwrap(), full);
        }
        for bad in [
            "",
            ":2377",
            "host:",
            "host:0",
            "host:70000",
            "host:x",
            "[::1",
            "[::1]x",
            "a b",
            "http://h",
        ] {
            assert_eq!(manager_address(bad), None, "{bad:?}");
        }
    }
}
