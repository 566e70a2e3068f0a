//! `agent.json`: the node's configuration, with the key names of Docker's `daemon.json` where the
//! meaning is the same.
//!
//! A key that is unknown, given twice or holds a bad value is an error that names it: a typing
//! mistake must not become a default. Nothing here is ever written.

mod images;
mod join;
mod json;
mod membership;
mod network;
mod policy;
mod registry;

use core::fmt;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    net::IpAddr,
    path::{Component, Path, PathBuf},
};

pub use self::join::{JoinFile, manager_address};
use self::json::{Json, Object};
use crate::{
    limits::{CONFIG_MAX_BYTES, LOG_DEFAULT_BYTES, LOG_MAX_FILES, LOG_MIN_BYTES},
    model::{
        BridgeSettings, DnsConfig, GenericResource, ImageSettings, Policy, PullPolicy,
        RegistrySettings, SealChoice, SealSettings, Ulimit, byte_size,
    },
};

/// The configuration of a node, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `data-root`: the persistent place, absolute.
    pub data_root: PathBuf,
    /// `exec-root`: the place that a reboot empties, absolute.
    pub exec_root: PathBuf,
    /// `labels`: engine labels.
    pub labels: BTreeMap<String, String>,
    /// The keys about registries, such as `insecure-registries`.
    pub registries: RegistrySettings,
    /// `pull-policy`: when a registry is asked although the image is here.
    pub pull_policy: PullPolicy,
    /// `dns`, `dns-search` and `dns-opts`: for containers whose service says nothing.
    pub dns: DnsConfig,
    /// `default-ulimits`, by name: for containers whose service says nothing.
    pub default_ulimits: Vec<Ulimit>,
    /// `log-opts.max-size`: bytes of one file of a task's log.
    pub log_max_bytes: u64,
    /// `log-opts.max-file`: how many of them.
    pub log_max_files: u32,
    /// `debug`: log at debug level.
    pub debug: bool,
    /// `node-generic-resources`, sorted.
    pub generic_resources: Vec<GenericResource>,
    /// `init`: run an init in containers whose service says nothing.
    pub init: bool,
    /// `cgroup-parent`: relative to each hierarchy's root.
    pub cgroup_parent: String,
    /// `hostname`: in place of the kernel's.
    pub hostname: Option<String>,
    /// `when-removed`: tasks of a node that an operator removed go on.
    pub keep_when_removed: bool,
    /// `token-secret`: the swarm secret that brings a new join token, by its name or the name of
    /// its file in the container.
    pub token_secret: String,
    /// `admission`, `devices`, `device-classes` and `limits-without-controller`.
    pub policy: Policy,
    /// `join-file`: the provisioning file that a node without identity joins with, once.
    pub join_file: PathBuf,
    /// `seal` and `tpm`: what seals the identity and the tasks.
    pub seal: SealSettings,
    /// `additional-image-stores`, `any-platform`, `image-max-age`, `image-min-free` and `image-quota`.
    pub images: ImageSettings,
    /// `bip`, `bridge`, `default-address-pools`, `fixed-cidr-v6`, `icc`, `ipv6` and `mtu`: the
    /// network of containers.
    pub bridge: BridgeSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_root: "/var/lib/edgeagent".into(),
            exec_root: "/run/edgeagent".into(),
            labels: BTreeMap::new(),
            registries: RegistrySettings::default(),
            pull_policy: PullPolicy::Always,
            dns: DnsConfig::default(),
            default_ulimits: Vec::new(),
            log_max_bytes: LOG_DEFAULT_BYTES,
            log_max_files: 1,
            debug: false,
            generic_resources: Vec::new(),
            init: false,
            cgroup_parent: "edgeagent".into(),
            hostname: None,
            keep_when_removed: false,
            token_secret: "edgeagent-join-token".into(),
            policy: Policy::default(),
            join_file: "/etc/edgeagent/join.json".into(),
            seal: SealSettings::default(),
            images: ImageSettings::default(),
            bridge: BridgeSettings::default(),
        }
    }
}

/// The configuration file can not be used.
#[derive(Debug)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: ConfigFault,
}

/// What is wrong with a configuration.
#[derive(Debug)]
pub enum ConfigFault {
    /// The file was asked for and can not be read.
    Read(io::Error),
    /// It is too large.
    TooLarge {
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// It is not JSON, or not an object.
    Syntax(serde_json::Error),
    /// No such key.
    UnknownKey {
        /// As written, with the keys above it: `log-opts.max-sise`.
        key: String,
        /// The key that was probably meant.
        suggestion: Option<&'static str>,
        /// Every key that is allowed there.
        allowed: &'static [&'static str],
    },
    /// A key stands there twice.
    Twice {
        /// The key.
        key: String,
    },
    /// A key must stand there and does not.
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value is not allowed.
    Value {
        /// The key.
        key: String,
        /// What is.
        allowed: &'static str,
    },
}

const KEYS: &[&str] = &[
    "additional-image-stores",
    "admission",
    "any-platform",
    "bip",
    "bridge",
    "cgroup-parent",
    "data-root",
    "debug",
    "default-address-pools",
    "default-ulimits",
    "device-classes",
    "devices",
    "dns",
    "dns-opts",
    "dns-search",
    "exec-root",
    "fixed-cidr-v6",
    "hostname",
    "image-max-age",
    "image-min-free",
    "image-quota",
    "icc",
    "init",
    "insecure-registries",
    "ipv6",
    "join-file",
    "labels",
    "limits-without-controller",
    "log-opts",
    "max-concurrent-downloads",
    "max-download-rate",
    "mtu",
    "node-generic-resources",
    "pull-policy",
    "registry-auth-file",
    "registry-ca",
    "registry-mirrors",
    "seal",
    "token-secret",
    "tpm",
    "when-removed",
];

/// The names that Docker knows (go-units `ulimit.go`).
const ULIMITS: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Config {
    /// Reads the file. When it does not exist: the defaults, unless it is `required`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path, required: bool) -> Result<Self, ConfigError> {
        let fault = |fault| ConfigError { path: path.to_owned(), fault };
        let mut text = Vec::new();
        let limit = u64::try_from(CONFIG_MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        match File::open(path).and_then(|file| file.take(limit).read_to_end(&mut text)) {
            Ok(_) => Self::parse(&text).map_err(fault),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => {
                Ok(Self::default())
            }
            Err(error) => Err(fault(ConfigFault::Read(error))),
        }
    }

    /// Reads the text of a configuration.
    ///
    /// # Errors
    /// [`ConfigFault`].
    pub fn parse(text: &[u8]) -> Result<Self, ConfigFault> {
        if CONFIG_MAX_BYTES < text.len() {
            return Err(ConfigFault::TooLarge { limit: CONFIG_MAX_BYTES });
        }
        let Object(entries) = serde_json::from_slice(text).map_err(ConfigFault::Syntax)?;
        let mut config = Self::default();
        let (mut v6, mut range) = (false, None);
        for (key, value) in unique(entries, "", KEYS)? {
            match key.as_str() {
                "ipv6" => v6 = boolean(&key, &value)?,
                "fixed-cidr-v6" => range = Some(network::fixed_cidr_v6(&key, &value)?),
                _ => config.set(&key, value)?,
            }
        }
        registry::check(&config.registries)?;
        if v6 && range.is_none() {
            return Err(bad("ipv6", "false, unless \"fixed-cidr-v6\" names a network"));
        }
        config.bridge.v6 = range.filter(|_| v6);
        if config.data_root.starts_with(&config.exec_root)
            || config.exec_root.starts_with(&config.data_root)
        {
            return Err(bad("exec-root", "a folder outside data-root"));
        }
        Ok(config)
    }

    fn set(&mut self, key: &str, value: Json) -> Result<(), ConfigFault> {
        match key {
            "data-root" => self.data_root = folder(key, value)?,
            "exec-root" => self.exec_root = folder(key, value)?,
            "labels" => self.labels = labels(key, value)?,
            "insecure-registries"
            | "max-concurrent-downloads"
            | "max-download-rate"
            | "registry-auth-file"
            | "registry-ca"
            | "registry-mirrors" => registry::set(&mut self.registries, key, value)?,
            "pull-policy" => self.pull_policy = registry::pull_policy(key, &value)?,
            "dns" => {
                self.dns.nameservers = strings(
                    key,
                    value,
                    r#"a list of IP addresses, such as ["192.168.0.1"]"#,
                    |s| s.parse::<IpAddr>().is_ok(),
                )?;
            }
            "dns-search" => {
                self.dns.search =
                    strings(key, value, r#"a list of domains, such as ["example.com"]"#, word)?;
            }
            "dns-opts" => {
                self.dns.options =
                    strings(key, value, r#"a list of options, such as ["ndots:1"]"#, word)?;
            }
            "default-ulimits" => self.default_ulimits = ulimits(key, value)?,
            "log-opts" => self.set_log_options(key, value)?,
            "debug" => self.debug = boolean(key, &value)?,
            "node-generic-resources" => self.generic_resources = generic_resources(key, value)?,
            "init" => self.init = boolean(key, &value)?,
            "cgroup-parent" => {
                self.cgroup_parent = string(
                    key,
                    value,
                    "a relative path of letters, digits, `.`, `-` and `_`, such as \"edgeagent\"",
                    is_cgroup,
                )?;
            }
            "hostname" => {
                self.hostname = Some(string(
                    key,
                    value,
                    "a host name of at most 63 letters, digits, `.` and `-`",
                    is_hostname,
                )?);
            }
            "join-file" => self.join_file = folder(key, value)?,
            "seal" => {
                self.seal.choice = text(&value)
                    .and_then(seal_choice)
                    .ok_or_else(|| bad(key, "\"auto\", \"tpm2\", \"credential\" or \"host\""))?;
            }
            "when-removed" => self.keep_when_removed = membership::when_removed(key, &value)?,
            "token-secret" => self.token_secret = membership::token_secret(key, value)?,
            "admission" | "devices" | "device-classes" | "limits-without-controller" => {
                policy::set(&mut self.policy, key, value)?;
            }
            "tpm" => self.seal.tpm = folder(key, value)?,
            "additional-image-stores"
            | "any-platform"
            | "image-max-age"
            | "image-min-free"
            | "image-quota" => {
                images::set(&mut self.images, key, value)?;
            }
            // What KEYS has besides: `bip`, `bridge`, `default-address-pools`, `icc`, `mtu`.
            _ => network::set(&mut self.bridge, key, value)?,
        }
        Ok(())
    }

    fn set_log_options(&mut self, key: &str, value: Json) -> Result<(), ConfigFault> {
        const OPTIONS: &[&str] = &["max-file", "max-size"];
        for (option, value) in object(key, value, OPTIONS)? {
            let full = format!("{key}.{option}");
            if option == "max-size" {
                let allowed = "a string with a number of bytes of at least 4k, such as \"10m\"";
                self.log_max_bytes = text(&value)
                    .and_then(byte_size)
                    .filter(|bytes| LOG_MIN_BYTES <= *bytes)
                    .ok_or_else(|| bad(&full, allowed))?;
            } else {
                self.log_max_files = text(&value)
                    .and_then(|text| text.parse().ok())
                    .filter(|files| (1..=LOG_MAX_FILES).contains(files))
                    .ok_or_else(|| bad(&full, "a string with a number from 1 to 1000"))?;
            }
        }
        Ok(())
    }
}

fn bad(key: &str, allowed: &'static str) -> ConfigFault {
    ConfigFault::Value { key: key.to_owned(), allowed }
}

/// One word, printable, nothing that could end a line of a file made from it.
fn word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_cgroup(path: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    path.len() <= 255
        && path
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed))
}

fn is_hostname(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    (1..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-'])
}

fn seal_choice(name: &str) -> Option<SealChoice> {
    match name {
        "auto" => Some(SealChoice::Auto),
        "tpm2" => Some(SealChoice::Tpm2),
        "credential" => Some(SealChoice::Credential),
        "host" => Some(SealChoice::Host),
        _ => None,
    }
}

fn text(value: &Json) -> Option<&str> {
    match value {
        Json::String(text) => Some(text),
        Json::Null
        | Json::Bool(_)
        | Json::Integer(_)
        | Json::Real
        | Json::Array(_)
        | Json::Object(_) => None,
    }
}

fn boolean(key: &str, value: &Json) -> Result<bool, ConfigFault> {
    match value {
        Json::Bool(value) => Ok(*value),
        Json::Null
        | Json::String(_)
        | Json::Integer(_)
        | Json::Real
        | Json::Array(_)
        | Json::Object(_) => Err(bad(key, "true or false")),
    }
}

fn string(
    key: &str,
    value: Json,
    allowed: &'static str,
    check: impl Fn(&str) -> bool,
) -> Result<String, ConfigFault> {
    match value {
        Json::String(text) if check(&text) => Ok(text),
        Json::String(_)
        | Json::Null
        | Json::Bool(_)
        | Json::Integer(_)
        | Json::Real
        | Json::Array(_)
        | Json::Object(_) => Err(bad(key, allowed)),
    }
}

fn strings(
    key: &str,
    value: Json,
    allowed: &'static str,
    check: impl Fn(&str) -> bool,
) -> Result<Vec<String>, ConfigFault> {
    match value {
        Json::Array(values) => {
            values.into_iter().map(|value| string(key, value, allowed, &check)).collect()
        }
        Json::Null
        | Json::Bool(_)
        | Json::String(_)
        | Json::Integer(_)
        | Json::Real
        | Json::Object(_) => Err(bad(key, allowed)),
    }
}

fn object(
    key: &str,
    value: Json,
    keys: &'static [&'static str],
) -> Result<Vec<(String, Json)>, ConfigFault> {
    match value {
        Json::Object(Object(entries)) => unique(entries, key, keys),
        Json::Null
        | Json::Bool(_)
        | Json::String(_)
        | Json::Integer(_)
        | Json::Real
        | Json::Array(_) => Err(bad(key, "an object")),
    }
}

fn folder(key: &str, value: Json) -> Result<PathBuf, ConfigFault> {
    string(key, value, "an absolute path without `..`", is_folder).map(PathBuf::from)
}

fn is_folder(path: &str) -> bool {
    let normal = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    let path = Path::new(path);
    path.is_absolute()
        && path.parent().is_some()
        && path.components().all(normal)
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}

fn labels(key: &str, value: Json) -> Result<BTreeMap<String, String>, ConfigFault> {
    let allowed = r#"a list of labels with different names, such as ["place=roof"]"#;
    let mut labels = BTreeMap::new();
    for label in strings(key, value, allowed, |_| true)? {
        match label.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                if labels.insert(name.to_owned(), value.to_owned()).is_some() {
                    return Err(bad(key, allowed));
                }
            }
            Some(_) | None => return Err(bad(key, allowed)),
        }
    }
    Ok(labels)
}

fn ulimits(key: &str, value: Json) -> Result<Vec<Ulimit>, ConfigFault> {
    const FIELDS: &[&str] = &["Hard", "Name", "Soft"];
    let mut ulimits = Vec::new();
    for (name, value) in object(key, value, ULIMITS)? {
        let full = format!("{key}.{name}");
        let (mut soft, mut hard) = (None, None);
        for (field, value) in object(&full, value, FIELDS)? {
            match (field.as_str(), value) {
                ("Soft", Json::Integer(number)) if -1 <= number => soft = Some(number),
                ("Hard", Json::Integer(number)) if -1 <= number => hard = Some(number),
                ("Name", Json::String(text)) if text == name => {}
                ("Name", _) => {
                    return Err(bad(&format!("{full}.Name"), "the same name as the key above it"));
                }
                _ => {
                    return Err(bad(&format!("{full}.{field}"), "a number, -1 for unlimited"));
                }
            }
        }
        let order = |limit: i64| if limit == -1 { i64::MAX } else { limit };
        match (soft, hard) {
            (Some(soft), Some(hard)) if order(soft) <= order(hard) => {
                ulimits.push(Ulimit { name, soft, hard });
            }
            _ => return Err(bad(&full, r#"{"Soft": n, "Hard": m} with n at most m"#)),
        }
    }
    ulimits.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(ulimits)
}

/// A kind has one number or several names (swarmkit `api/genericresource/parse.go`).
fn generic_resources(key: &str, value: Json) -> Result<Vec<GenericResource>, ConfigFault> {
    let allowed = r#"a list such as ["gpu=2", "camera=front", "camera=back"]"#;
    let mut resources: Vec<GenericResource> = Vec::new();
    for entry in strings(key, value, allowed, word)? {
        let (kind, value) = match entry.split_once('=') {
            Some((kind, value)) if !kind.is_empty() && !value.is_empty() => {
                (kind.to_owned(), value.to_owned())
            }
            Some(_) | None => return Err(bad(key, allowed)),
        };
        let resource = match value.parse::<i64>() {
            Ok(0..) => GenericResource::Discrete { kind, value: value.parse().unwrap_or_default() },
            Ok(_) => return Err(bad(key, allowed)),
            Err(_) => GenericResource::Named { kind, value },
        };
        let clash =
            resources.iter().any(|other| match (other, &resource) {
                (
                    GenericResource::Named { kind: a, value: x },
                    GenericResource::Named { kind: b, value: y },
                ) => (a, x) == (b, y),
                (
                    GenericResource::Discrete { kind: a, .. },
                    GenericResource::Discrete { kind: b, .. }
                    | GenericResource::Named { kind: b, .. },
                )
                | (
                    GenericResource::Named { kind: a, .. },
                    GenericResource::Discrete { kind: b, .. },
                ) => a == b,
            });
        if clash {
            return Err(bad(key, allowed));
        }
        resources.push(resource);
    }
    resources.sort();
    Ok(resources)
}

/// Refuses keys that are unknown or come twice.
fn unique(
    entries: Vec<(String, Json)>,
    above: &str,
    allowed: &'static [&'static str],
) -> Result<Vec<(String, Json)>, ConfigFault> {
    let full = |key: &str| {
        if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") }
    };
    for (index, (key, _)) in entries.iter().enumerate() {
        if !allowed.contains(&key.as_str()) {
            let suggestion = suggestion(key, allowed);
            return Err(ConfigFault::UnknownKey { key: full(key), suggestion, allowed });
        }
        if entries.iter().take(index).any(|(earlier, _)| earlier == key) {
            return Err(ConfigFault::Twice { key: full(key) });
        }
    }
    Ok(entries)
}

/// The allowed key that differs in at most two characters.
fn suggestion(key: &str, allowed: &'static [&'static str]) -> Option<&'static str> {
    let key: String =
        key.chars().take(64).map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect();
    let near = allowed.iter().map(|known| (distance(&key, &known.to_ascii_lowercase()), *known));
    near.min().filter(|(distance, _)| *distance <= 2).map(|(_, known)| known)
}

/// Characters to insert, delete or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (above, y) in row.iter().skip(1).zip(b.chars()) {
            left = (diagonal + usize::from(x != y)).min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.fault)
    }
}

impl core::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.fault.source()
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(_) => f.write_str("the configuration can not be read"),
            Self::TooLarge { limit } => {
                write!(f, "the configuration is larger than {limit} bytes")
            }
            Self::Syntax(_) => f.write_str("the configuration must be one JSON object"),
            Self::UnknownKey { key, suggestion: Some(suggestion), .. } => {
                write!(f, "unknown key \"{key}\" (did you mean \"{suggestion}\"?)")
            }
            Self::UnknownKey { key, suggestion: None, allowed } => {
                write!(f, "unknown key \"{key}\"; allowed are {}", allowed.join(", "))
            }
            Self::Twice { key } => write!(f, "key \"{key}\" stands there twice"),
            Self::Missing { key } => write!(f, "key \"{key}\" is missing"),
            Self::Value { key, allowed } => {
                write!(f, "bad value for \"{key}\": it must be {allowed}")
            }
        }
    }
}

impl core::error::Error for ConfigFault {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Read(cause) => Some(cause),
            Self::Syntax(cause) => Some(cause),
            Self::TooLarge { .. }
            | Self::UnknownKey { .. }
            | Self::Twice { .. }
            | Self::Missing { .. }
            | Self::Value { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        Config::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_object_and_an_absent_file_are_the_defaults() {
        assert_eq!(Config::parse(b"{}").unwrap(), Config::default());
        let nowhere = Path::new("/nonexistent/agent.json");
        assert_eq!(Config::load(nowhere, false).unwrap(), Config::default());
        let error = Config::load(nowhere, true).unwrap_err();
        assert_eq!(error.to_string(), "/nonexistent/agent.json: the configuration can not be read");
    }

    #[test]
    fn every_key_is_taken() {
        let config = Config::parse(
            br#"{
            "data-root": "/data/edge", "exec-root": "/run/edge", "labels": ["place=roof=top", "x="],
            "insecure-registries": ["registry.local:5000", "10.0.0.0/8"],
            "dns": ["9.9.9.9", "2620:fe::fe"], "dns-search": ["example.com"], "dns-opts": ["ndots:1"],
            "default-ulimits": {"nproc": {"Soft": 10, "Hard": -1},
                                "nofile": {"Name": "nofile", "Soft": 64, "Hard": 64}},
            "log-opts": {"max-size": "10m", "max-file": "3"}, "debug": true,
            "node-generic-resources": ["gpu=2", "camera=front", "camera=back"], "init": true,
            "cgroup-parent": "system/edge", "hostname": "roof-1", "join-file": "/boot/edge.json", "seal": "tpm2", "tpm": "/dev/tpmrm1"
        }"#,
        )
        .unwrap();
        let named =
            |value: &str| GenericResource::Named { kind: "camera".into(), value: value.into() };
        assert_eq!(
            config,
            Config {
                policy: Policy::default(),
                data_root: "/data/edge".into(),
                exec_root: "/run/edge".into(),
                labels: [("place", "roof=top"), ("x", "")]
                    .map(|(k, v)| (k.into(), v.into()))
                    .into(),
                registries: RegistrySettings {
                    insecure: vec!["registry.local:5000".into(), "10.0.0.0/8".into()],
                    ..RegistrySettings::default()
                },
                pull_policy: PullPolicy::Always,
                dns: DnsConfig {
                    nameservers: vec!["9.9.9.9".into(), "2620:fe::fe".into()],
                    search: vec!["example.com".into()],
                    options: vec!["ndots:1".into()],
                },
                default_ulimits: vec![
                    Ulimit { name: "nofile".into(), soft: 64, hard: 64 },
                    Ulimit { name: "nproc".into(), soft: 10, hard: -1 },
                ],
                log_max_bytes: 10 << 20,
                log_max_files: 3,
                debug: true,
                generic_resources: vec![
                    named("back"),
                    named("front"),
                    GenericResource::Discrete { kind: "gpu".into(), value: 2 },
                ],
                init: true,
                cgroup_parent: "system/edge".into(),
                hostname: Some("roof-1".into()),
                keep_when_removed: false,
                token_secret: "edgeagent-join-token".into(),
                images: ImageSettings::default(),
                join_file: "/boot/edge.json".into(),
                seal: SealSettings { choice: SealChoice::Tpm2, tpm: "/dev/tpmrm1".into() },
                // Shown in config/network.rs.
                bridge: BridgeSettings::default(),
            }
        );
    }

    #[test]
    fn a_wrong_key_is_named() {
        for (text, message) in [
            (r#"{"data_root": "/x"}"#, r#"unknown key "data_root" (did you mean "data-root"?)"#),
            (r#"{"debgu": true}"#, r#"unknown key "debgu" (did you mean "debug"?)"#),
            (
                r#"{"log-opts": {"labels": "x"}}"#,
                r#"unknown key "log-opts.labels"; allowed are max-file, max-size"#,
            ),
            (
                r#"{"default-ulimits": {"nofile": {"soft": 1, "Hard": 1}}}"#,
                r#"unknown key "default-ulimits.nofile.soft" (did you mean "Soft"?)"#,
            ),
            (r#"{"debug": true, "debug": true}"#, r#"key "debug" stands there twice"#),
            (
                r#"{"log-opts": {"max-file": "1", "max-file": "2"}}"#,
                r#"key "log-opts.max-file" stands there twice"#,
            ),
        ] {
            assert_eq!(fault(text), message);
        }
        assert!(fault(r#"{"storage-driver": "x"}"#).contains(
            "allowed are additional-image-stores, admission, any-platform, bip, bridge, c"
        ));
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        for (key, values) in [
            ("data-root", &[r#""relative""#, r#""/a/../b""#, r#""/""#, "1", "null"][..]),
            ("exec-root", &[r#""/var/lib/edgeagent""#, r#""/var/lib/edgeagent/run""#]),
            ("labels", &[r#"["x"]"#, r#"["=x"]"#, r#"["a=1","a=2"]"#, r#"{"a":"b"}"#, "[1]"]),
            ("insecure-registries", &[r#"["http://x"]"#, r#"[""]"#]),
            ("dns", &[r#"["example.com"]"#, r#""9.9.9.9""#]),
            ("dns-search", &[r#"["a\nb"]"#]),
            ("debug", &[r#""true""#, "1"]),
            ("init", &["null"]),
            ("cgroup-parent", &[r#""/abs""#, r#""a/../b""#, r#""""#]),
            ("seal", &[r#""tpm""#, r#""HOST""#, r#""""#, "true"]),
            ("join-file", &[r#""join.json""#, r#""""#, "1"]),
            ("tpm", &[r#""tpmrm0""#, r#""tcp:127.0.0.1:2321""#, r#""/dev/../x""#, "0"]),
            ("hostname", &[r#""""#, r#""a b""#, r#""-a""#]),
            ("node-generic-resources", &[r#"["gpu"]"#, r#"["gpu=-1"]"#, r#"["g=1","g=x"]"#]),
            ("log-opts.max-size", &[r#""0""#, r#""10x""#, "10", r#""-1""#, r#""99999999999g""#]),
            ("log-opts.max-file", &[r#""0""#, r#""x""#, "2"]),
            (
                "default-ulimits.nofile",
                &[r#"{"Soft": 2, "Hard": 1}"#, r#"{"Soft": -1, "Hard": 1}"#],
            ),
            ("default-ulimits.nofile.Soft", &[r#""1""#, "1.5", "-2"]),
            ("default-ulimits.nofile.Name", &[r#""nproc""#]),
        ] {
            for value in values {
                let parts: Vec<_> = key.split('.').collect();
                let text = parts
                    .iter()
                    .rev()
                    .fold((*value).to_owned(), |inner, part| format!("{{\"{part}\": {inner}}}"));
                let message = fault(&text);
                assert!(
                    message.starts_with(&format!("bad value for \"{key}\"")),
                    "{text}: {message}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_an_object_or_too_large_is_refused() {
        for text in ["", "[]", "{", "{} x", "1", "\u{feff}{}"] {
            assert_eq!(fault(text), "the configuration must be one JSON object", "{text:?}");
        }
        let large = " ".repeat(CONFIG_MAX_BYTES) + "{}";
        assert!(matches!(Config::parse(large.as_bytes()), Err(ConfigFault::TooLarge { .. })));
        let deep = r#"{"dns":"#.to_owned() + &"[".repeat(10_000);
        assert!(matches!(Config::parse(deep.as_bytes()), Err(ConfigFault::Syntax(_))));
    }
}
