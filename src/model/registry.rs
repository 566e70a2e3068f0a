//! What the operator says of image registries.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// The registry keys of the configuration; they travel to the fetch child as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrySettings {
    /// `insecure-registries`: `host[:port]` or a network such as `10.0.0.0/8`, without TLS or
    /// with any certificate.
    pub insecure: Vec<String>,
    /// `registry-mirrors`: URLs without a slash at the end that are asked before Docker Hub, and
    /// for its images only.
    pub mirrors: Vec<String>,
    /// `registry-ca`: by `host[:port]`, a PEM file of roots that are trusted there besides the
    /// public ones.
    pub ca_files: BTreeMap<String, PathBuf>,
    /// `registry-auth-file`: credentials in the form of Docker's `config.json`; may be absent.
    pub auth_file: PathBuf,
    /// `max-concurrent-downloads`: layers of one image that are fetched at a time, at least 1.
    pub layers_at_once: usize,
    /// `max-download-rate`: bytes per second of one pull.
    pub bytes_per_second: Option<u64>,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            mirrors: Vec::new(),
            ca_files: BTreeMap::new(),
            auth_file: "/etc/edgeagent/auth.json".into(),
            layers_at_once: 2,
            bytes_per_second: None,
        }
    }
}

/// When a registry is asked although an image of that name is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Always for a tag; what is here serves when the registry can not be asked. As dockerd.
    #[default]
    Always,
    /// Only when no image of that name is here.
    Missing,
    /// Never: images come by `image pull` and `image load` only.
    Never,
}

impl RegistrySettings {
    /// Whether plain HTTP and unknown certificates are accepted of `host[:port]`: of loopback
    /// always, as in Docker, and of what is listed with port, without, or as a network.
    #[must_use]
    pub fn is_insecure(&self, domain: &str) -> bool {
        is_loopback(domain) || self.is_listed_insecure(domain)
    }

    /// The same, for what is listed alone.
    #[must_use]
    pub fn is_listed_insecure(&self, domain: &str) -> bool {
        let host = host(domain);
        let address: Option<IpAddr> = host.parse().ok();
        self.insecure.iter().any(|entry| {
            entry == domain
                || entry == host
                || address.is_some_and(|address| in_network(entry, address))
        })
    }
}

/// Whether `host[:port]` is this machine itself.
#[must_use]
pub fn is_loopback(domain: &str) -> bool {
    let host = host(domain);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// `host[:port]` without port and brackets.
fn host(domain: &str) -> &str {
    match domain.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => domain.split(':').next().unwrap_or_default(),
    }
}

fn in_network(network: &str, address: IpAddr) -> bool {
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            let shift = Ipv4Addr::BITS.checked_sub(length);
            shift.is_some_and(|s| {
                (base.to_bits() ^ address.to_bits()).checked_shr(s).unwrap_or(0) == 0
            })
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => {
            let shift = Ipv6Addr::BITS.checked_sub(length);
            shift.is_some_and(|s| {
                (base.to_bits() ^ address.to_bits()).checked_shr(s).unwrap_or(0) == 0
            })
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_listed_registries_are_insecure() {
        let listed =
            ["10.1.0.0/16", "reg:5000", "other", "fd00::/8", "192.168.1.1:80"].map(str::to_owned);
        let settings = RegistrySettings { insecure: listed.into(), ..Default::default() };
        for (domain, want) in [
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("localhost:1", true),
            ("[::1]:5000", true),
            ("10.1.2.3:5000", true),
            ("10.2.2.3:5000", false),
            ("reg:5000", true),
            ("reg:5001", false),
            ("other:99", true),
            ("[fd00::1]:5", true),
            ("[fe00::1]:5", false),
            ("192.168.1.1:80", true),
            ("192.168.1.1:81", false),
            ("docker.io", false),
            ("127.0.0.1.evil.com", false),
        ] {
            assert_eq!(settings.is_insecure(domain), want, "{domain}");
        }
        assert!(in_network("0.0.0.0/0", [1, 2, 3, 4].into()));
        assert!(!in_network("0.0.0.0/33", [1, 2, 3, 4].into()));
    }
}
