//! The keys of the bridge: `bip`, `bridge`, `default-address-pools`, `fixed-cidr-v6`, `icc`,
//! `ipv6` and `mtu`.

use core::str::FromStr;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{ConfigFault, bad, boolean, json::Json, object, string, text};
use crate::{
    limits::{MTU_MAX, MTU_MIN},
    model::{BridgeSettings, Cidr, Pool},
};

/// Containers' IPv6 addresses end in 48 bits of their own.
const V6_PREFIX_MAX: u8 = 80;

/// Takes one key.
pub(super) fn set(bridge: &mut BridgeSettings, key: &str, value: Json) -> Result<(), ConfigFault> {
    match key {
        "bip" => bridge.bip = Some(bip(key, value)?),
        "bridge" => {
            string(key, value, "\"none\": edgeagent makes a bridge of its own", |name| {
                name == "none"
            })?;
            bridge.enabled = false;
        }
        "default-address-pools" => bridge.pools = pools(key, value)?,
        "icc" => bridge.icc = boolean(key, &value)?,
        _ => {
            bridge.mtu = integer(&value)
                .and_then(|number| u16::try_from(number).ok())
                .filter(|mtu| (MTU_MIN..=MTU_MAX).contains(mtu))
                .ok_or_else(|| bad(key, "a number from 576 to 65520"))?;
        }
    }
    Ok(())
}

fn bip(key: &str, value: Json) -> Result<Cidr<Ipv4Addr>, ConfigFault> {
    let allowed = "the bridge's address and network, such as \"192.168.90.1/24\"";
    text(&value)
        .and_then(cidr::<Ipv4Addr>)
        .filter(|bip| {
            let (first, last) = bip.range();
            let own = bip.address.to_bits();
            (8..=30).contains(&bip.prefix) && first < own && own < last
        })
        .ok_or_else(|| bad(key, allowed))
}

/// The network of `fixed-cidr-v6`.
pub(super) fn fixed_cidr_v6(key: &str, value: &Json) -> Result<Cidr<Ipv6Addr>, ConfigFault> {
    text(value)
        .and_then(cidr::<Ipv6Addr>)
        .filter(|network| (8..=V6_PREFIX_MAX).contains(&network.prefix))
        .ok_or_else(|| bad(key, "a network of at most 80 bits, such as \"fd00:7::/64\""))
}

fn pools(key: &str, value: Json) -> Result<Vec<Pool>, ConfigFault> {
    const FIELDS: &[&str] = &["base", "size"];
    let allowed = r#"a list such as [{"base": "172.30.0.0/16", "size": 24}]"#;
    let Json::Array(values) = value else { return Err(bad(key, allowed)) };
    let mut pools = Vec::new();
    for value in values {
        let (mut base, mut size) = (None, None);
        for (field, value) in object(key, value, FIELDS)? {
            if field == "base" {
                base = text(&value).and_then(cidr::<Ipv4Addr>);
            } else {
                size = integer(&value).and_then(|number| u8::try_from(number).ok());
            }
        }
        match (base, size) {
            (Some(base), Some(size)) if base.prefix <= size && (8..=30).contains(&size) => {
                pools.push(Pool { base, size });
            }
            _ => return Err(bad(key, allowed)),
        }
    }
    if pools.is_empty() { Err(bad(key, allowed)) } else { Ok(pools) }
}

const fn integer(value: &Json) -> Option<i64> {
    match value {
        Json::Integer(number) => Some(*number),
        Json::Null
        | Json::Bool(_)
        | Json::String(_)
        | Json::Real
        | Json::Array(_)
        | Json::Object(_) => None,
    }
}

fn cidr<A: FromStr>(text: &str) -> Option<Cidr<A>> {
    let (address, prefix) = text.split_once('/')?;
    Some(Cidr { address: address.parse().ok()?, prefix: prefix.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parsed(text: &str) -> Result<BridgeSettings, String> {
        Config::parse(text.as_bytes()).map(|config| config.bridge).map_err(|f| f.to_string())
    }

    #[test]
    fn the_bridge_is_as_the_keys_say() {
        let bridge = parsed(
            r#"{"bip": "10.9.8.1/24", "icc": false, "mtu": 1400, "ipv6": true,
                "fixed-cidr-v6": "fd00:7::/64",
                "default-address-pools": [{"base": "10.20.0.0/16", "size": 24}]}"#,
        )
        .unwrap();
        let bip = Cidr { address: Ipv4Addr::new(10, 9, 8, 1), prefix: 24 };
        let base = Cidr { address: Ipv4Addr::new(10, 20, 0, 0), prefix: 16 };
        let v6 = Cidr { address: "fd00:7::".parse().unwrap(), prefix: 64 };
        assert_eq!(
            bridge,
            BridgeSettings {
                enabled: true,
                bip: Some(bip),
                pools: vec![Pool { base, size: 24 }],
                mtu: 1400,
                icc: false,
                v6: Some(v6),
            }
        );
        assert!(!parsed(r#"{"bridge": "none"}"#).unwrap().enabled);
        let off = parsed(r#"{"fixed-cidr-v6": "fd00:7::/64"}"#).unwrap();
        assert_eq!(off.v6, None, "a range alone does not switch IPv6 on, as in Docker");
    }

    #[test]
    fn wrong_values_name_their_key() {
        for (key, value) in [
            ("bip", r#""10.0.0.0/24""#),
            ("bip", r#""10.0.0.255/24""#),
            ("bip", r#""10.0.0.1""#),
            ("bip", r#""10.0.0.1/31""#),
            ("bip", r#""fd00::1/64""#),
            ("bridge", r#""br0""#),
            ("mtu", "100"),
            ("mtu", r#""1500""#),
            ("icc", "1"),
            ("ipv6", r#""yes""#),
            ("ipv6", "true"),
            ("fixed-cidr-v6", r#""fd00::/96""#),
            ("default-address-pools", "[]"),
            ("default-address-pools", r#"[{"base": "10.0.0.0/16"}]"#),
            ("default-address-pools", r#"[{"base": "10.0.0.0/16", "size": 8}]"#),
        ] {
            let message = parsed(&format!("{{\"{key}\": {value}}}")).unwrap_err();
            assert!(message.contains(&format!("\"{key}\"")), "{key} {value}: {message}");
        }
    }
}
