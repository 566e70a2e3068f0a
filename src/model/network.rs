//! The node's bridge, and a container's place on it.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// An address and how many of its leading bits name its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cidr<A> {
    /// The address; its other bits need not be zero.
    pub address: A,
    /// Bits of the network.
    pub prefix: u8,
}

impl Cidr<Ipv4Addr> {
    /// First and last address of the network.
    #[must_use]
    pub fn range(self) -> (u32, u32) {
        let host = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        let address = self.address.to_bits();
        (address & !host, address | host)
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let ((a, b), (c, d)) = (self.range(), other.range());
        a <= d && c <= b
    }
}

/// Networks to choose the bridge's from: all of `size` in `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// All of them together.
    pub base: Cidr<Ipv4Addr>,
    /// Bits of each one.
    pub size: u8,
}

/// How the bridge is to be; the names of the keys are Docker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeSettings {
    /// Not `"bridge": "none"`: there is one.
    pub enabled: bool,
    /// `bip`: its address and network.
    pub bip: Option<Cidr<Ipv4Addr>>,
    /// `default-address-pools`, when there is no `bip`.
    pub pools: Vec<Pool>,
    /// `mtu`: largest packet in bytes.
    pub mtu: u16,
    /// `icc`: containers may reach each other without published ports.
    pub icc: bool,
    /// `ipv6` with `fixed-cidr-v6`: the network of containers' second addresses.
    pub v6: Option<Cidr<Ipv6Addr>>,
}

impl Default for BridgeSettings {
    fn default() -> Self {
        let pool = |a, b, prefix, size| Pool {
            base: Cidr { address: Ipv4Addr::new(a, b, 0, 0), prefix },
            size,
        };
        Self {
            enabled: true,
            bip: None,
            // moby `libnetwork/ipamutils`: the networks of local scope.
            pools: vec![
                pool(172, 17, 16, 16),
                pool(172, 18, 15, 16),
                pool(172, 20, 14, 16),
                pool(172, 24, 13, 16),
                pool(192, 168, 16, 20),
            ],
            mtu: 1500,
            icc: true,
            v6: None,
        }
    }
}

/// A container's interface on the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its address and network.
    pub v4: Cidr<Ipv4Addr>,
    /// The bridge's address in the same network.
    pub gateway: Ipv4Addr,
    /// The same for IPv6.
    pub v6: Option<(Cidr<Ipv6Addr>, Ipv6Addr)>,
    /// Largest packet in bytes.
    pub mtu: u16,
    /// It may speak to the bridge only, not to its neighbours.
    pub isolated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_share_an_address_overlap() {
        let cidr = |a, b, prefix| Cidr { address: Ipv4Addr::new(a, b, 3, 4), prefix };
        assert!(cidr(172, 17, 16).overlaps(cidr(172, 17, 24)));
        assert!(cidr(172, 17, 16).overlaps(cidr(0, 0, 0)));
        assert!(!cidr(172, 17, 16).overlaps(cidr(172, 18, 16)));
        assert!(cidr(172, 17, 32).overlaps(cidr(172, 17, 32)));
        assert_eq!(cidr(172, 17, 16).range(), (0xac11_0000, 0xac11_ffff));
    }
}
