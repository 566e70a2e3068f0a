//! What a container may send: frames of its own, and nothing that tells others how to reach
//! anybody but itself.
//!
//! One chain for each interface sees every frame before the bridge does, in the hook of the
//! interface itself (`netdev`, Linux 4.2), else in the bridge's (`bridge`). It is an allow list of
//! ARP, IPv4 and, where the container has it, IPv6, each with the container's own addresses only;
//! what is not on it (VLAN tags, spanning tree, LLDP, …) is dropped. So the bridge learns no MAC
//! address, and host and neighbours no neighbour, route or address, that is not the sender's own.

use std::io;

use rustix::io::Errno;

use super::{
    netlink::Socket,
    nft::{self, Batch, Expressions, Is},
};
use crate::model::Endpoint;

/// Where the kernel lets us look at what a container sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// As it leaves the container's interface.
    Interface,
    /// As it enters the bridge.
    Bridge,
    /// Nowhere: containers are only kept apart from each other.
    Missing,
}

pub(super) const BEST_FIRST: [Guard; 2] = [Guard::Interface, Guard::Bridge];

impl Guard {
    /// `NFPROTO_NETDEV`, `NFPROTO_BRIDGE`.
    const fn family(self) -> u8 {
        match self {
            Self::Interface => 5,
            Self::Bridge | Self::Missing => 7,
        }
    }
}

// Bases of a packet's data.
const LINK: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

// Kinds of frames (RFC 9542 §B).
const ARP: [u8; 2] = [8, 6];
const V4: [u8; 2] = [8, 0];
const V6: [u8; 2] = [0x86, 0xdd];

// Protocols in IP.
const ICMP: u8 = 1;
const IGMP: u8 = 2;
const UDP: u8 = 17;
const ICMP_V6: u8 = 58;

/// The MAC address of a container, made of its address as Docker does.
pub(super) const fn mac(endpoint: &Endpoint) -> [u8; 6] {
    let [a, b, c, d] = endpoint.v4.address.octets();
    [2, 0x42, a, b, c, d]
}

/// Writes the chain of a container's interface, which must not be on the bridge yet.
///
/// # Errors
/// What the kernel refuses for another reason than that it lacks the hook.
pub(super) fn write(
    socket: &Socket,
    guards: &[Guard],
    interface: &str,
    endpoint: &Endpoint,
) -> io::Result<Guard> {
    for &guard in guards {
        let mut batch = Batch::new(guard.family());
        batch.with_table();
        batch.interface_chain(interface, guard == Guard::Interface);
        if guard == Guard::Bridge {
            batch.our_rule(interface, &|rule| {
                rule.comes_from(Is::Other, interface);
                rule.accept();
            });
        }
        rules(&mut batch, interface, endpoint);
        match batch.commit(socket) {
            Err(error) if lacks(&error) => {}
            done => return done.map(|()| guard),
        }
    }
    Ok(Guard::Missing)
}

fn lacks(error: &io::Error) -> bool {
    let lacking = [Errno::OPNOTSUPP, Errno::AFNOSUPPORT, Errno::NOENT, Errno::PROTONOSUPPORT];
    lacking.iter().any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

fn rules(batch: &mut Batch, chain: &str, endpoint: &Endpoint) {
    let mac = mac(endpoint);
    let drops = |batch: &mut Batch, what: &dyn Fn(&mut Expressions<'_>)| {
        batch.our_rule(chain, &|rule| {
            what(rule);
            rule.drop();
        });
    };
    let accepts = |batch: &mut Batch, kind: [u8; 2]| {
        batch.our_rule(chain, &|rule| {
            rule.payload(LINK, 12, Is::Equal, &kind);
            rule.accept();
        });
    };
    drops(batch, &|rule| rule.payload(LINK, 6, Is::Other, &mac));
    // For the bridge itself (IEEE 802.1D §7.12.6): it would hand them to its port's own stack.
    drops(batch, &|rule| rule.payload(LINK, 0, Is::Equal, &[1, 0x80, 0xc2, 0, 0]));

    let v4 = endpoint.v4.address.octets();
    // Ethernet and IPv4, with addresses of 6 and 4 bytes; the sender's MAC and IP (RFC 826).
    for (offset, value) in [(0, &[0, 1, 8, 0, 6, 4][..]), (8, &mac), (14, &v4)] {
        drops(batch, &|rule| {
            rule.payload(LINK, 12, Is::Equal, &ARP);
            rule.payload(NETWORK, offset, Is::Other, value);
        });
    }
    accepts(batch, ARP);

    drops(batch, &|rule| {
        rule.payload(LINK, 12, Is::Equal, &V4);
        rule.payload(NETWORK, 12, Is::Other, &v4);
    });
    let v4_only: [(u8, u32, &[u8]); 5] = [
        // To a DHCP client (RFC 2131 §4.1).
        (UDP, 2, &68_u16.to_be_bytes()),
        // Redirects, router advertisements (RFC 1256), and "use smaller packets": a container
        // is nobody's router.
        (ICMP, 0, &[5]),
        (ICMP, 0, &[9]),
        (ICMP, 0, &[3, 4]),
        // A query makes its sender the router of all multicast (RFC 2236 §2.1).
        (IGMP, 0, &[0x11]),
    ];
    for (protocol, offset, value) in v4_only {
        drops(batch, &|rule| {
            rule.payload(LINK, 12, Is::Equal, &V4);
            rule.inside_ip(Is::Equal, protocol);
            rule.payload(TRANSPORT, offset, Is::Equal, value);
        });
    }
    accepts(batch, V4);
    if let Some((v6, _)) = endpoint.v6 {
        rules_v6(&drops, batch, mac, v6.address.octets());
        accepts(batch, V6);
    }
    drops(batch, &|_| {});
}

/// The address that the kernel makes of a MAC address (RFC 4291, appendix A).
const fn link_local(mac: [u8; 6]) -> [u8; 16] {
    let [a, b, c, d, e, f] = mac;
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

/// A frame that matches is dropped.
type Drops<'a> = dyn Fn(&mut Batch, &dyn Fn(&mut Expressions<'_>)) + 'a;

fn rules_v6(drops: &Drops<'_>, batch: &mut Batch, mac: [u8; 6], global: [u8; 16]) {
    const SOLICITATION: u8 = 135;
    const ADVERTISEMENT: u8 = 136;
    /// Of version 1 and 2 (RFC 3810): sent before there is an address.
    const LISTENER_REPORTS: [u8; 2] = [131, 143];
    let local = link_local(mac);
    let none = [0; 16];
    let v6 = |rule: &mut Expressions<'_>| rule.payload(LINK, 12, Is::Equal, &V6);
    drops(batch, &|rule| {
        v6(rule);
        for own in [&global, &local, &none] {
            rule.payload(NETWORK, 8, Is::Other, own);
        }
    });
    // Without an address: only to find one (RFC 4862 §5.4).
    drops(batch, &|rule| {
        v6(rule);
        rule.payload(NETWORK, 8, Is::Equal, &none);
        rule.inside_ip(Is::Other, ICMP_V6);
    });
    drops(batch, &|rule| {
        v6(rule);
        rule.payload(NETWORK, 8, Is::Equal, &none);
        rule.inside_ip(Is::Equal, ICMP_V6);
        for kind in [SOLICITATION].iter().chain(&LISTENER_REPORTS) {
            rule.payload(TRANSPORT, 0, Is::Other, &[*kind]);
        }
    });
    // To a DHCP client (RFC 8415 §7.2).
    drops(batch, &|rule| {
        v6(rule);
        rule.inside_ip(Is::Equal, UDP);
        rule.payload(TRANSPORT, 2, Is::Equal, &546_u16.to_be_bytes());
    });
    // "Use smaller packets", a query that makes a router of multicast, router solicitation and
    // advertisement, redirect, renumbering, and discovery of routers of multicast (RFC 4286).
    for kind in [2, 130, 133, 134, 137, 138, 151, 152, 153] {
        drops(batch, &|rule| {
            v6(rule);
            rule.inside_ip(Is::Equal, ICMP_V6);
            rule.payload(TRANSPORT, 0, Is::Equal, &[kind]);
        });
    }
    for kind in [SOLICITATION, ADVERTISEMENT] {
        let discovery = |rule: &mut Expressions<'_>| {
            v6(rule);
            rule.inside_ip(Is::Equal, ICMP_V6);
            rule.payload(TRANSPORT, 0, Is::Equal, &[kind]);
        };
        // Nothing before it, and one option at most, so that what follows sees all there is.
        drops(batch, &|rule| {
            discovery(rule);
            rule.payload(NETWORK, 6, Is::Other, &[ICMP_V6]);
        });
        drops(batch, &|rule| {
            discovery(rule);
            for bytes in [24_u16, 32] {
                rule.payload(NETWORK, 4, Is::Other, &bytes.to_be_bytes());
            }
        });
        // The sender's MAC address, and the one asked for or told of (RFC 4861 §4.6.1).
        for option in [1, 2] {
            drops(batch, &|rule| {
                discovery(rule);
                rule.payload(TRANSPORT, 24, Is::Equal, &[option]);
                rule.payload(TRANSPORT, 26, Is::Other, &mac);
            });
        }
        // Whose address it is about: for a question, when it claims it.
        drops(batch, &|rule| {
            discovery(rule);
            if kind == SOLICITATION {
                rule.payload(NETWORK, 8, Is::Equal, &none);
            }
            for own in [&global, &local] {
                rule.payload(TRANSPORT, 8, Is::Other, own);
            }
        });
    }
}

/// Deletes the chains whose interface is gone: not every kernel does (6.16 keeps them).
pub(super) fn sweep(socket: &Socket, route: &Socket) -> io::Result<()> {
    for guard in BEST_FIRST {
        for name in nft::chains(socket, guard.family()).unwrap_or_default() {
            if route.index(&name).is_ok() {
                continue;
            }
            let mut batch = Batch::new(guard.family());
            batch.without_chain(&name);
            match batch.commit(socket) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
    }
    Ok(())
}

/// Removes all chains; none is success.
pub(super) fn remove(socket: &Socket) -> io::Result<()> {
    for guard in BEST_FIRST {
        let mut batch = Batch::new(guard.family());
        batch.with_table();
        batch.without_table();
        match batch.commit(socket) {
            Err(error) if lacks(&error) => {}
            done => done?,
        }
    }
    Ok(())
}

/// What this kernel has, tried on `lo` in a transaction that leaves nothing.
///
/// # Errors
/// When the kernel does not tell.
pub fn guard() -> io::Result<Guard> {
    let socket = Socket::netfilter()?;
    for guard in BEST_FIRST {
        let mut batch = Batch::new(guard.family());
        batch.with_table();
        batch.interface_chain("lo", guard == Guard::Interface);
        batch.our_rule("lo", &|rule| {
            rule.payload(LINK, 6, Is::Other, &[0; 6]);
            rule.inside_ip(Is::Equal, UDP);
            rule.drop();
        });
        batch.without_chain("lo");
        match batch.commit(&socket) {
            Err(error) if lacks(&error) => {}
            done => return done.map(|()| guard),
        }
    }
    Ok(Guard::Missing)
}
