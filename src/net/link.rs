//! Interfaces, addresses and routes (`linux/rtnetlink.h`, `linux/if_link.h`).

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
};

use super::{
    BRIDGE, guard,
    netlink::{ACK, CREATE, EXCLUSIVE, Message, Socket, attribute},
};
use crate::model::{BridgeSettings, Cidr, ContainerId, Endpoint};

/// What Docker calls it too.
const INTERFACE: &str = "eth0";

// Kinds of messages.
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;

// Attributes of links.
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_MASTER: u16 = 10;
const LINK_PROTOCOL: u16 = 12;
const LINK_QUEUE: u16 = 13;
const LINK_INFO: u16 = 18;
const LINK_NAMESPACE_OF_PROCESS: u16 = 19;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const PORT_HAIRPIN: u16 = 4;
const PORT_ISOLATED: u16 = 33;

/// What is sent is there already.
const NO_QUEUE: [u8; 4] = [0; 4];

const FAMILY_BRIDGE: u8 = 7;
const UP: u32 = 1;

/// `struct ifinfomsg`.
fn link(family: u8, index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    let [first, .., _] = &mut header;
    *first = family;
    for (place, value) in
        header.iter_mut().skip(4).zip([index, flags, flags].map(u32::to_ne_bytes).as_flattened())
    {
        *place = *value;
    }
    header
}

/// Makes the bridge, gives it its addresses and brings it up. One that is there already is kept.
pub(super) fn bridge(
    socket: &Socket,
    settings: &BridgeSettings,
    v4: Cidr<Ipv4Addr>,
) -> io::Result<u32> {
    let mut message = Message::new(NEW_LINK, ACK | CREATE | EXCLUSIVE, &link(0, 0, 0));
    message.text(LINK_NAME, BRIDGE);
    let info = message.nest(LINK_INFO);
    message.text(INFO_KIND, "bridge");
    message.close(info);
    existing(socket.request(&message))?;
    let index = socket.index(BRIDGE)?;
    deaf(settings.v6.is_some())?;
    let mut message = Message::new(NEW_LINK, ACK, &link(0, index, UP));
    message.attribute(LINK_MTU, &u32::from(settings.mtu).to_ne_bytes());
    socket.request(&message)?;
    existing(address(socket, index, IpAddr::V4(v4.address), v4.prefix))?;
    if let Some(v6) = settings.v6 {
        existing(address(socket, index, IpAddr::V6(super::gateway_v6(v6)), v6.prefix))?;
    }
    Ok(index)
}

/// Lets the host learn nothing from the bridge: neither routes nor addresses (CVE-2020-13401),
/// and no IPv6 at all where containers have none. Before it is up: nothing arrives until then.
fn deaf(with_v6: bool) -> io::Result<()> {
    let disabled = if with_v6 { "0" } else { "1" };
    for (key, value) in [
        ("ipv6", "accept_ra", "0"),
        ("ipv6", "accept_redirects", "0"),
        ("ipv6", "disable_ipv6", disabled),
        ("ipv4", "accept_redirects", "0"),
        ("ipv4", "arp_accept", "0"),
    ]
    .map(|(family, key, value)| (format!("/proc/sys/net/{family}/conf/{BRIDGE}/{key}"), value))
    {
        match fs::read_to_string(&key) {
            Ok(now) if now.trim() == value => {}
            Ok(_) => fs::write(&key, value)?,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Names of the bridges in this socket's namespace.
pub(super) fn bridges(socket: &Socket) -> io::Result<Vec<String>> {
    const GET_LINK: u16 = 18;
    let mut names = Vec::new();
    socket.dump(GET_LINK, &link(0, 0, 0), &[], &mut |payload| {
        let attributes = payload.get(16..).unwrap_or_default();
        let kind = attribute(attributes, LINK_INFO).and_then(|info| attribute(info, INFO_KIND));
        let name = attribute(attributes, LINK_NAME).and_then(|name| name.strip_suffix(&[0]));
        if let (Some(b"bridge\0" | b"bridge"), Some(Ok(name))) =
            (kind, name.map(core::str::from_utf8))
        {
            names.push(name.to_owned());
        }
    })?;
    Ok(names)
}

/// Whether the kernel can make pairs of interfaces: it reads a wrong size only if so.
pub(super) fn has_pairs(socket: &Socket) -> io::Result<()> {
    let mut message = Message::new(NEW_LINK, ACK | CREATE | EXCLUSIVE, &link(0, 0, 0));
    message.text(LINK_NAME, "edgeagent-probe");
    message.attribute(LINK_MTU, &0_u32.to_ne_bytes());
    let info = message.nest(LINK_INFO);
    message.text(INFO_KIND, "veth");
    message.close(info);
    match socket.request(&message) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Deletes an interface; none is success.
pub(super) fn delete(socket: &Socket, name: &str) -> io::Result<()> {
    let mut message = Message::new(DELETE_LINK, ACK, &link(0, 0, 0));
    message.text(LINK_NAME, name);
    match socket.request(&message) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
            Ok(())
        }
        done => done,
    }
}

/// The host's side of the network, from inside of a container's namespace.
#[derive(Debug)]
pub struct Host {
    route: Socket,
    filters: Socket,
    guards: &'static [guard::Guard],
}

impl Host {
    /// Opens it in the host's namespace, where the caller must still be.
    ///
    /// # Errors
    /// When the kernel has no netlink.
    pub fn open() -> io::Result<Self> {
        let (route, filters) = (Socket::route()?, Socket::netfilter()?);
        Ok(Self { route, filters, guards: &guard::BEST_FIRST })
    }

    /// As on a kernel that has nothing better. For tests.
    #[must_use]
    pub fn with_guard(self, guard: guard::Guard) -> Self {
        let guards = match guard {
            guard::Guard::Interface => &guard::BEST_FIRST[..],
            guard::Guard::Bridge => &[guard::Guard::Bridge],
            guard::Guard::Missing => &[],
        };
        Self { guards, ..self }
    }
}

/// Gives this process's network namespace its interface. `host` was opened before that namespace
/// was entered. The kernel deletes both ends with the namespace: nothing is ever left behind.
///
/// # Errors
/// The step that failed.
pub fn attach(host: &Host, container: &ContainerId, endpoint: &Endpoint) -> Result<(), String> {
    let step = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    // Docker's containers have no IPv6 where their network has none.
    if endpoint.v6.is_none() {
        without_v6().map_err(step("switch IPv6 off"))?;
    }
    let name: String = "veth".chars().chain(container.as_str().chars().take(11)).collect();
    let Host { route: host, filters, guards } = host;
    let bridge = host.index(BRIDGE).map_err(step("find the bridge"))?;
    pair(host, &name, endpoint).map_err(step("make the interface"))?;
    // Before the first frame can reach the bridge.
    let guard = guard::write(filters, guards, &name, endpoint)
        .map_err(step("filter what the container sends"))?;
    let isolated = endpoint.isolated || guard == guard::Guard::Missing;
    port(host, &name, bridge, isolated).map_err(step("set the bridge's port"))?;
    let inside = Socket::route().map_err(step("open netlink"))?;
    let index = inside.index(INTERFACE).map_err(step("find the interface"))?;
    inside
        .request(&Message::new(NEW_LINK, ACK, &link(0, index, UP)))
        .map_err(step("bring the interface up"))?;
    let v4 = endpoint.v4;
    address(&inside, index, IpAddr::V4(v4.address), v4.prefix)
        .and_then(|()| default_route(&inside, index, IpAddr::V4(endpoint.gateway)))
        .map_err(step("set the address"))?;
    if let Some((v6, gateway)) = endpoint.v6 {
        address(&inside, index, IpAddr::V6(v6.address), v6.prefix)
            .and_then(|()| default_route(&inside, index, IpAddr::V6(gateway)))
            .map_err(step("set the IPv6 address"))?;
    }
    Ok(())
}

fn without_v6() -> io::Result<()> {
    match fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// A pair of interfaces: one on the host, the other here as `eth0`.
fn pair(host: &Socket, name: &str, endpoint: &Endpoint) -> io::Result<()> {
    let mtu = u32::from(endpoint.mtu).to_ne_bytes();
    let mut message = Message::new(NEW_LINK, ACK | CREATE | EXCLUSIVE, &link(0, 0, 0));
    message.text(LINK_NAME, name);
    message.attribute(LINK_MTU, &mtu);
    message.attribute(LINK_QUEUE, &NO_QUEUE);
    let info = message.nest(LINK_INFO);
    message.text(INFO_KIND, "veth");
    let data = message.nest(INFO_DATA);
    let peer = message.nest(VETH_PEER);
    // Not up yet: this one is made first, and veth wants both.
    message.raw(&link(0, 0, 0));
    message.text(LINK_NAME, INTERFACE);
    message.attribute(LINK_MTU, &mtu);
    message.attribute(LINK_QUEUE, &NO_QUEUE);
    // As Docker makes it of the address: a successor at the same address is known at once.
    message.attribute(LINK_ADDRESS, &guard::mac(endpoint));
    let pid = rustix::thread::gettid().as_raw_nonzero().get();
    message.attribute(LINK_NAMESPACE_OF_PROCESS, &pid.to_ne_bytes());
    message.close(peer);
    message.close(data);
    message.close(info);
    host.request(&message)
}

/// The port of a bridge needs no IPv6 address.
fn no_address_of_its_own(message: &mut Message) {
    const FAMILIES: u16 = 26;
    const INET6: u16 = 10;
    const ADDRESS_MODE: u16 = 8;
    let families = message.nest(FAMILIES);
    let v6 = message.nest(INET6);
    message.attribute(ADDRESS_MODE, &[1]);
    message.close(v6);
    message.close(families);
}

/// A container reaches itself through a published port, and its neighbours unless they are kept
/// apart.
fn port(host: &Socket, name: &str, bridge: u32, isolated: bool) -> io::Result<()> {
    const PORT_MULTICAST_ROUTER: u16 = 25;
    let index = host.index(name)?;
    let mut message = Message::new(NEW_LINK, ACK, &link(0, index, UP));
    message.attribute(LINK_MASTER, &bridge.to_ne_bytes());
    if fs::exists("/proc/sys/net/ipv6")? {
        no_address_of_its_own(&mut message);
    }
    host.request(&message)?;
    let mut message = Message::new(SET_LINK, ACK, &link(FAMILY_BRIDGE, index, 0));
    let port = message.nest(LINK_PROTOCOL);
    message.attribute(PORT_HAIRPIN, &[1]);
    // Never, whatever it says of itself.
    message.attribute(PORT_MULTICAST_ROUTER, &[0]);
    if isolated {
        message.attribute(PORT_ISOLATED, &[1]);
    }
    message.close(port);
    host.request(&message)
}

fn address(socket: &Socket, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const BROADCAST: u16 = 4;
    /// Of IPv6: usable at once, for nobody else has it.
    const NO_DUPLICATES: u8 = 2;
    let flags = if address.is_ipv6() { NO_DUPLICATES } else { 0 };
    let mut header = [family(address), prefix, flags, 0, 0, 0, 0, 0];
    if let Some(place) = header.last_chunk_mut() {
        *place = index.to_ne_bytes();
    }
    let mut message = Message::new(NEW_ADDRESS, ACK | CREATE | EXCLUSIVE, &header);
    match address {
        IpAddr::V4(v4) => {
            message.attribute(ADDRESS, &v4.octets());
            message.attribute(LOCAL, &v4.octets());
            let (_, last) = Cidr { address: v4, prefix }.range();
            message.attribute(BROADCAST, &last.to_be_bytes());
        }
        IpAddr::V6(v6) => message.attribute(ADDRESS, &v6.octets()),
    }
    socket.request(&message)
}

fn default_route(socket: &Socket, index: u32, gateway: IpAddr) -> io::Result<()> {
    const MAIN_TABLE: u8 = 254;
    const PROTOCOL_BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    const INTERFACE_OUT: u16 = 4;
    const GATEWAY: u16 = 5;
    let header = [family(gateway), 0, 0, 0, MAIN_TABLE, PROTOCOL_BOOT, 0, UNICAST, 0, 0, 0, 0];
    let mut message = Message::new(NEW_ROUTE, ACK | CREATE | EXCLUSIVE, &header);
    match gateway {
        IpAddr::V4(v4) => message.attribute(GATEWAY, &v4.octets()),
        IpAddr::V6(v6) => message.attribute(GATEWAY, &v6.octets()),
    }
    message.attribute(INTERFACE_OUT, &index.to_ne_bytes());
    socket.request(&message)
}

const fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

/// What is there already is as good as made.
fn existing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}
