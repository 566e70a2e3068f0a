//! What networks there are already, and which one the bridge gets.

use std::net::Ipv4Addr;

use super::BRIDGE;
use crate::{
    limits::NETWORKS_TRIED,
    model::{BridgeSettings, Cidr},
};

/// The bridge's address and network: what it has, unless something else is wanted; else the
/// first of the pools that nothing here uses.
///
/// `routes` is the content of `/proc/net/route`, `taken` what else must stay reachable.
pub(super) fn choose(
    settings: &BridgeSettings,
    routes: &str,
    taken: &[Ipv4Addr],
) -> Option<Cidr<Ipv4Addr>> {
    if settings.bip.is_some() {
        return settings.bip;
    }
    let (ours, others): (Vec<_>, Vec<_>) =
        routes.lines().filter_map(route).partition(|(name, _)| *name == BRIDGE);
    let free = |network: Cidr<Ipv4Addr>| {
        !others.iter().any(|(_, other)| other.overlaps(network))
            && !taken.iter().any(|address| network.overlaps(Cidr { address: *address, prefix: 32 }))
    };
    let networks = settings.pools.iter().flat_map(|pool| {
        let (first, last) = pool.base.range();
        let step = 1_u32.checked_shl(32_u32.saturating_sub(pool.size.into())).unwrap_or(u32::MAX);
        let networks = (first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        networks.map(|network| Cidr {
            address: Ipv4Addr::from_bits(network.saturating_add(1)),
            prefix: pool.size,
        })
    });
    let mut networks = networks.take(NETWORKS_TRIED);
    let kept = |network: &Cidr<Ipv4Addr>| {
        ours.iter().any(|(_, own)| own.prefix == network.prefix && own.overlaps(*network))
    };
    networks.clone().find(kept).or_else(|| networks.find(|network| free(*network)))
}

/// The network that the bridge has.
pub(super) fn of_bridge(routes: &str) -> Option<Cidr<Ipv4Addr>> {
    routes.lines().filter_map(route).find(|(name, _)| *name == BRIDGE).map(|(_, network)| network)
}

/// Interface and network of a line. The default route is in nobody's way.
fn route(line: &str) -> Option<(&str, Cidr<Ipv4Addr>)> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next()?;
    // The kernel prints the bytes, in network order, as a number.
    let address = |text: &str| {
        u32::from_str_radix(text, 16).ok().map(|number| Ipv4Addr::from(number.to_ne_bytes()))
    };
    let network = address(fields.next()?)?;
    let mask = address(fields.nth(5)?)?;
    let prefix = u8::try_from(mask.to_bits().leading_ones()).ok()?;
    (0 < prefix).then_some((name, Cidr { address: network, prefix }))
}

/// For the fuzzer: whatever the text, what is chosen overlaps none of its networks.
pub fn fuzz(text: &str) {
    let settings = BridgeSettings::default();
    if let Some(network) = choose(&settings, text, &[])
        && of_bridge(text).is_none()
    {
        let taken = text.lines().filter_map(route).any(|(_, other)| other.overlaps(network));
        assert!(!taken, "{network:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n";

    fn line(name: &str, network: [u8; 4], mask: [u8; 4]) -> String {
        let hex = |bytes| format!("{:08X}", u32::from_ne_bytes(bytes));
        format!("{name}\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n", hex(network), hex(mask))
    }

    fn chosen(routes: &str, taken: &[Ipv4Addr]) -> Option<String> {
        choose(&BridgeSettings::default(), routes, taken)
            .map(|cidr| format!("{}/{}", cidr.address, cidr.prefix))
    }

    #[test]
    fn the_first_network_that_nobody_uses() {
        let mut routes = HEAD.to_owned() + &line("eth0", [0; 4], [0; 4]);
        assert_eq!(chosen(&routes, &[]).unwrap(), "172.17.0.1/16");
        routes += &line("docker0", [172, 17, 0, 0], [255, 255, 0, 0]);
        assert_eq!(chosen(&routes, &[]).unwrap(), "172.18.0.1/16");
        let nameserver = Ipv4Addr::new(172, 18, 9, 9);
        assert_eq!(chosen(&routes, &[nameserver]).unwrap(), "172.19.0.1/16");
        routes += &line("vpn", [172, 16, 0, 0], [255, 240, 0, 0]);
        assert_eq!(chosen(&routes, &[]).unwrap(), "192.168.0.1/20");
        routes += &line("lan", [192, 168, 1, 0], [255, 255, 255, 0]);
        assert_eq!(chosen(&routes, &[]).unwrap(), "192.168.16.1/20");
        routes += &line("all", [192, 0, 0, 0], [255, 0, 0, 0]);
        assert_eq!(chosen(&routes, &[]), None);
    }

    #[test]
    fn what_the_bridge_has_stays_while_it_is_allowed() {
        let ours = line(BRIDGE, [172, 20, 0, 0], [255, 255, 0, 0]);
        assert_eq!(chosen(&ours, &[]).unwrap(), "172.20.0.1/16");
        let other = line(BRIDGE, [10, 0, 0, 0], [255, 0, 0, 0]);
        assert_eq!(chosen(&other, &[]).unwrap(), "172.17.0.1/16", "the pools were changed");
        for broken in ["", "x", "x y z", "eth0\tzz\t0\t0\t0\t0\t0\tzz"] {
            assert_eq!(chosen(broken, &[]).unwrap(), "172.17.0.1/16");
        }
    }
}
