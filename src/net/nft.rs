//! Our table of nftables (`linux/netfilter/nf_tables.h`): address translation and what may reach
//! a container. It is always written whole, in one transaction, from what there is to publish:
//! nothing can be left over in it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    BRIDGE, Lease,
    netlink::{ACK, APPEND, CREATE, Message, Socket, attribute},
};
use crate::model::{Cidr, PortProtocol};

const TABLE: &str = "edgeagent";

// Kinds of messages.
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = (SUBSYSTEM << 8) | 2;
const NEW_CHAIN: u16 = (SUBSYSTEM << 8) | 3;
const GET_CHAIN: u16 = (SUBSYSTEM << 8) | 4;
const DELETE_CHAIN: u16 = (SUBSYSTEM << 8) | 5;
const NEW_RULE: u16 = (SUBSYSTEM << 8) | 6;
const GET_RULE: u16 = (SUBSYSTEM << 8) | 7;
const DELETE_RULE: u16 = (SUBSYSTEM << 8) | 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

const REGISTER: u32 = 1;
const SECOND_REGISTER: u32 = 2;
const VERDICT_REGISTER: u32 = 0;

const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// `NFT_JUMP`, -3.
const JUMP: u32 = 3_u32.wrapping_neg();

/// Before every other filter.
const FIRST_OF_ALL: i32 = -500;

/// Bytes of an interface's name in a comparison.
const NAME_BYTES: usize = 16;

/// The chain of the published ports.
const PORTS: &str = "ports";

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }
}

/// What is compared in packets.
#[derive(Clone, Copy)]
pub(super) enum Is {
    Equal = 0,
    Other = 1,
}

/// Messages of one transaction.
pub(super) struct Batch {
    message: Message,
    family: u8,
}

impl Batch {
    /// `family` is the number that the kernel has for it (`NFPROTO_*`).
    pub(super) fn new(family: u8) -> Self {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        let message = Message::new(BATCH_BEGIN, 0, &[0, 0, high, low]);
        Self { message, family }
    }

    fn next(&mut self, kind: u16, flags: u16) {
        self.message.next(kind, flags, &[self.family, 0, 0, 0]);
    }

    pub(super) fn commit(mut self, socket: &Socket) -> io::Result<()> {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        self.message.next(BATCH_END, 0, &[0, 0, high, low]);
        socket.request(&self.message)
    }

    fn table(&mut self, kind: u16) {
        self.next(kind, if kind == NEW_TABLE { CREATE | ACK } else { 0 });
        self.message.text(1, TABLE);
    }

    /// Makes sure of our table.
    pub(super) fn with_table(&mut self) {
        self.table(NEW_TABLE);
    }

    /// Deletes our table, which must be there.
    pub(super) fn without_table(&mut self) {
        self.table(DELETE_TABLE);
    }

    /// A chain for what comes in from one interface. Where the hook is not the interface's own,
    /// it sees what comes from others too.
    pub(super) fn interface_chain(&mut self, name: &str, own_hook: bool) {
        self.next(NEW_CHAIN, CREATE);
        self.message.text(1, TABLE);
        self.message.text(3, name);
        let place = self.message.nest(4);
        self.message.attribute(1, &0_u32.to_be_bytes());
        self.message.attribute(2, &FIRST_OF_ALL.to_be_bytes());
        if own_hook {
            self.message.text(3, name);
        }
        self.message.close(place);
        self.message.text(7, "filter");
    }

    /// Deletes a chain of ours with its rules.
    pub(super) fn without_chain(&mut self, name: &str) {
        self.next(DELETE_CHAIN, 0);
        self.message.text(1, TABLE);
        self.message.text(3, name);
    }

    /// A rule at the end of a chain of ours.
    pub(super) fn our_rule(&mut self, chain: &str, what: &dyn Fn(&mut Expressions<'_>)) {
        self.rule(TABLE, chain, what);
    }

    /// A chain that the kernel calls at `hook`: 0 before routing, 2 forwarding, 3 our own
    /// packets, 4 after routing.
    fn base_chain(&mut self, name: &str, kind: &str, hook: u32, priority: i32) {
        self.next(NEW_CHAIN, CREATE);
        self.message.text(1, TABLE);
        self.message.text(3, name);
        let place = self.message.nest(4);
        self.message.attribute(1, &hook.to_be_bytes());
        self.message.attribute(2, &priority.to_be_bytes());
        self.message.close(place);
        self.message.text(7, kind);
    }

    fn chain(&mut self, name: &str) {
        self.next(NEW_CHAIN, CREATE);
        self.message.text(1, TABLE);
        self.message.text(3, name);
    }

    /// A rule at the end of a chain; `what` adds its expressions.
    fn rule(&mut self, table: &str, chain: &str, what: &dyn Fn(&mut Expressions<'_>)) {
        self.next(NEW_RULE, CREATE | APPEND);
        self.message.text(1, table);
        self.message.text(2, chain);
        let list = self.message.nest(4);
        what(&mut Expressions { message: &mut self.message });
        self.message.close(list);
    }
}

/// The expressions of one rule: all that compare must hold for the last to happen.
pub(super) struct Expressions<'a> {
    message: &'a mut Message,
}

impl Expressions<'_> {
    fn expression(&mut self, name: &str, numbers: &[(u16, u32)]) {
        let element = self.message.nest(1);
        self.message.text(1, name);
        let data = self.message.nest(2);
        for (kind, number) in numbers {
            self.message.attribute(*kind, &number.to_be_bytes());
        }
        self.message.close(data);
        self.message.close(element);
    }

    /// An expression with a value as its attribute `kind`.
    fn with_value(&mut self, name: &str, numbers: &[(u16, u32)], values: &[(u16, &[u8])]) {
        let element = self.message.nest(1);
        self.message.text(1, name);
        let data = self.message.nest(2);
        for (kind, number) in numbers {
            self.message.attribute(*kind, &number.to_be_bytes());
        }
        for (kind, bytes) in values {
            let value = self.message.nest(*kind);
            self.message.attribute(1, bytes);
            self.message.close(value);
        }
        self.message.close(data);
        self.message.close(element);
    }

    fn compare(&mut self, is: Is, value: &[u8]) {
        self.with_value("cmp", &[(1, REGISTER), (2, is as u32)], &[(3, value)]);
    }

    /// The packet's data: base 0 is the link's header, 1 the network's, 2 the transport's.
    pub(super) fn payload(&mut self, base: u32, offset: u32, is: Is, value: &[u8]) {
        let length = u32::try_from(value.len()).unwrap_or(0);
        self.expression("payload", &[(1, REGISTER), (2, base), (3, offset), (4, length)]);
        self.compare(is, value);
    }

    fn interface(&mut self, key: u32, is: Is, called: &str) {
        self.expression("meta", &[(1, REGISTER), (2, key)]);
        let mut name = [0; NAME_BYTES];
        for (place, byte) in name.iter_mut().zip(called.bytes()) {
            *place = byte;
        }
        self.compare(is, &name);
    }

    /// The interface that it came in from.
    pub(super) fn comes_from(&mut self, is: Is, called: &str) {
        self.interface(6, is, called);
    }

    /// The protocol inside IP, behind all extension headers.
    pub(super) fn inside_ip(&mut self, is: Is, number: u8) {
        self.expression("meta", &[(1, REGISTER), (2, 16)]);
        self.compare(is, &[number]);
    }

    pub(super) fn drop(&mut self) {
        self.verdict(DROP, "");
    }

    pub(super) fn accept(&mut self) {
        self.verdict(ACCEPT, "");
    }

    fn comes_from_bridge(&mut self) {
        self.comes_from(Is::Equal, BRIDGE);
    }

    fn goes_to_bridge(&mut self, is: Is) {
        self.interface(7, is, BRIDGE);
    }

    fn transport(&mut self, protocol: PortProtocol) {
        let number = match protocol {
            PortProtocol::Tcp => 6,
            PortProtocol::Udp => 17,
            PortProtocol::Sctp => 132,
        };
        self.inside_ip(Is::Equal, number);
    }

    /// Whether source (1) or destination (2) is an address of this host.
    fn local(&mut self, which: u32) {
        const ADDRESS_TYPE: u32 = 3;
        const LOCAL: u32 = 2;
        self.expression("fib", &[(1, REGISTER), (2, ADDRESS_TYPE), (3, which)]);
        self.compare(Is::Equal, &LOCAL.to_ne_bytes());
    }

    /// Whether the connection's state (0) or status (2) has one of `bits`.
    fn connection(&mut self, key: u32, bits: u32) {
        self.expression("ct", &[(1, REGISTER), (2, key)]);
        self.masked(&bits.to_ne_bytes());
        self.compare(Is::Other, &[0; 4]);
    }

    fn masked(&mut self, mask: &[u8]) {
        let length = u32::try_from(mask.len()).unwrap_or(0);
        let zero = vec![0; mask.len()];
        self.with_value(
            "bitwise",
            &[(1, REGISTER), (2, REGISTER), (3, length)],
            &[(4, mask), (5, &zero)],
        );
    }

    /// The source lies in a network.
    fn source(&mut self, network: Cidr<IpAddr>) {
        let (offset, address) = match network.address {
            IpAddr::V4(v4) => (12, v4.octets().to_vec()),
            IpAddr::V6(v6) => (8, v6.octets().to_vec()),
        };
        let length = u32::try_from(address.len()).unwrap_or(0);
        self.expression("payload", &[(1, REGISTER), (2, 1), (3, offset), (4, length)]);
        let mask: Vec<u8> = (0..)
            .zip(&address)
            .map(|(at, _)| {
                let bits = u32::from(network.prefix).saturating_sub(at * 8).min(8);
                !u8::MAX.checked_shr(bits).unwrap_or(0)
            })
            .collect();
        self.masked(&mask);
        let begin: Vec<u8> = address.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
        self.compare(Is::Equal, &begin);
    }

    fn immediate(&mut self, register: u32, value: &[u8]) {
        self.with_value("immediate", &[(1, register)], &[(2, value)]);
    }

    fn verdict(&mut self, code: u32, chain: &str) {
        let element = self.message.nest(1);
        self.message.text(1, "immediate");
        let data = self.message.nest(2);
        self.message.attribute(1, &VERDICT_REGISTER.to_be_bytes());
        let value = self.message.nest(2);
        let verdict = self.message.nest(2);
        self.message.attribute(1, &code.to_be_bytes());
        if !chain.is_empty() {
            self.message.text(2, chain);
        }
        self.message.close(verdict);
        self.message.close(value);
        self.message.close(data);
        self.message.close(element);
    }

    /// A new destination.
    fn translate(&mut self, to: IpAddr, port: u16) {
        const DESTINATION: u32 = 1;
        let family = match to {
            IpAddr::V4(v4) => {
                self.immediate(REGISTER, &v4.octets());
                Family::V4
            }
            IpAddr::V6(v6) => {
                self.immediate(REGISTER, &v6.octets());
                Family::V6
            }
        };
        self.immediate(SECOND_REGISTER, &port.to_be_bytes());
        let number = u32::from(family.number());
        let numbers = [(1, DESTINATION), (2, number), (3, REGISTER), (5, SECOND_REGISTER)];
        self.expression("nat", &numbers);
    }
}

/// Writes the table of one family: the bridge's `network`, whether its containers may speak to
/// each other, and the ports of all of them.
pub(super) fn write<'a>(
    socket: &Socket,
    network: Cidr<IpAddr>,
    neighbours: bool,
    leases: impl Iterator<Item = &'a Lease>,
) -> io::Result<()> {
    let family = if network.address.is_ipv4() { Family::V4 } else { Family::V6 };
    let mut batch = Batch::new(family.number());
    // The first makes sure that there is one to delete.
    for kind in [NEW_TABLE, DELETE_TABLE, NEW_TABLE] {
        batch.table(kind);
    }
    batch.chain(PORTS);
    for lease in leases {
        let to = match (family, lease.endpoint.v6) {
            (Family::V4, _) => IpAddr::V4(lease.endpoint.v4.address),
            (Family::V6, Some((v6, _))) => IpAddr::V6(v6.address),
            (Family::V6, None) => continue,
        };
        for port in &lease.ports {
            let (Ok(published), Ok(target)) =
                (u16::try_from(port.published), u16::try_from(port.target))
            else {
                continue;
            };
            batch.rule(TABLE, PORTS, &|rule| {
                rule.transport(port.protocol);
                rule.payload(2, 2, Is::Equal, &published.to_be_bytes());
                rule.translate(to, target);
            });
        }
    }
    translation(&mut batch, family, network);
    protection(&mut batch, family, neighbours);
    batch.commit(socket)
}

fn translation(batch: &mut Batch, family: Family, network: Cidr<IpAddr>) {
    const TO_HOST: u32 = 2;
    const FROM_HOST: u32 = 1;
    const TRANSLATED: u32 = 1 << 5;
    batch.base_chain("prerouting", "nat", 0, -100);
    batch.rule(TABLE, "prerouting", &|rule| {
        rule.local(TO_HOST);
        rule.verdict(JUMP, PORTS);
    });
    batch.base_chain("output", "nat", 3, -100);
    batch.rule(TABLE, "output", &|rule| {
        if family == Family::V6 {
            // Nothing with the address ::1 ever leaves lo.
            rule.payload(1, 24, Is::Other, &Ipv6Addr::LOCALHOST.octets());
        }
        rule.local(TO_HOST);
        rule.verdict(JUMP, PORTS);
    });
    batch.base_chain("postrouting", "nat", 4, 100);
    batch.rule(TABLE, "postrouting", &|rule| {
        rule.source(network);
        rule.goes_to_bridge(Is::Other);
        rule.expression("masq", &[]);
    });
    // 127.0.0.1 can not be answered by a container, …
    batch.rule(TABLE, "postrouting", &|rule| {
        rule.goes_to_bridge(Is::Equal);
        rule.local(FROM_HOST);
        rule.expression("masq", &[]);
    });
    // … and a neighbour would answer without going through us.
    batch.rule(TABLE, "postrouting", &|rule| {
        rule.source(network);
        rule.goes_to_bridge(Is::Equal);
        rule.connection(2, TRANSLATED);
        rule.expression("masq", &[]);
    });
}

fn protection(batch: &mut Batch, family: Family, neighbours: bool) {
    const RELATED_OR_ESTABLISHED: u32 = 4 | 2;
    const TRANSLATED: u32 = 1 << 5;
    if family == Family::V4 {
        // The bridge routes 127.0.0.0/8 for answers to the host itself; a container that writes
        // such an address into its packets would reach what listens there alone (CVE-2020-8558).
        batch.base_chain("loopback", "filter", 0, -300);
        batch.rule(TABLE, "loopback", &|rule| {
            rule.comes_from_bridge();
            let [first, ..] = Ipv4Addr::LOCALHOST.octets();
            rule.payload(1, 16, Is::Equal, &[first]);
            rule.verdict(DROP, "");
        });
    }
    // Containers are reached through published ports only, also by who has a route to them.
    batch.base_chain("forward", "filter", 2, 0);
    batch.rule(TABLE, "forward", &|rule| {
        rule.goes_to_bridge(Is::Other);
        rule.verdict(ACCEPT, "");
    });
    if neighbours {
        batch.rule(TABLE, "forward", &|rule| {
            rule.comes_from_bridge();
            rule.verdict(ACCEPT, "");
        });
    }
    batch.rule(TABLE, "forward", &|rule| {
        rule.connection(0, RELATED_OR_ESTABLISHED);
        rule.verdict(ACCEPT, "");
    });
    batch.rule(TABLE, "forward", &|rule| {
        rule.connection(2, TRANSLATED);
        rule.verdict(ACCEPT, "");
    });
    batch.rule(TABLE, "forward", &|rule| rule.verdict(DROP, ""));
}

/// Removes our table; none is success.
pub(super) fn remove(socket: &Socket, family: Family) -> io::Result<()> {
    let mut batch = Batch::new(family.number());
    batch.table(NEW_TABLE);
    batch.table(DELETE_TABLE);
    batch.commit(socket)
}

/// Names of the chains of our table in a family.
pub(super) fn chains(socket: &Socket, family: u8) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    socket.dump(GET_CHAIN, &[family, 0, 0, 0], &[], &mut |payload| {
        let attributes = payload.get(4..).unwrap_or_default();
        let text = |kind| {
            let text = attribute(attributes, kind)?.strip_suffix(&[0])?;
            core::str::from_utf8(text).ok()
        };
        if let (Some(TABLE), Some(name)) = (text(1), text(3)) {
            names.push(name.to_owned());
        }
    })?;
    Ok(names)
}

/// The forwarding chain that `iptables` keeps in nftables.
const FOREIGN: (&str, &str) = ("filter", "FORWARD");

/// What another firewall says of forwarding when it has no rule for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// Nothing, or yes.
    Open,
    /// No, and it has our rules.
    Spoken,
    /// No.
    Closed,
}

/// Looks at the forwarding chain of `iptables`.
pub(super) fn foreign(socket: &Socket, family: Family) -> io::Result<Foreign> {
    let (table, chain) = FOREIGN;
    let header = [family.number(), 0, 0, 0];
    let mut closed = false;
    socket.dump(GET_CHAIN, &header, &[], &mut |payload| {
        let attributes = payload.get(4..).unwrap_or_default();
        let is = |kind, name: &str| {
            attribute(attributes, kind).and_then(|text| text.strip_suffix(&[0]))
                == Some(name.as_bytes())
        };
        if is(1, table) && is(3, chain) {
            closed |= attribute(attributes, 5) == Some(&DROP.to_be_bytes());
        }
    })?;
    if !closed {
        return Ok(Foreign::Open);
    }
    let mut spoken = false;
    our_foreign_rules(socket, family, &mut |_| spoken = true)?;
    Ok(if spoken { Foreign::Spoken } else { Foreign::Closed })
}

/// Calls `each` with the handle of every rule of that chain that names our bridge.
fn our_foreign_rules(
    socket: &Socket,
    family: Family,
    each: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    let (table, chain) = FOREIGN;
    let header = [family.number(), 0, 0, 0];
    let mut name = BRIDGE.as_bytes().to_vec();
    name.push(0);
    socket.dump(GET_RULE, &header, &[(1, table), (2, chain)], &mut |payload| {
        let attributes = payload.get(4..).unwrap_or_default();
        let ours = attribute(attributes, 2).and_then(|text| text.strip_suffix(&[0]))
            == Some(chain.as_bytes())
            && payload.windows(name.len()).any(|part| part == name);
        if ours && let Some(handle) = attribute(attributes, 3) {
            each(handle);
        }
    })
}

/// Adds what `iptables -A FORWARD -i edgeagent0 -j ACCEPT`, and `-o`, would add: behind every
/// rule of the operator's, so that only the policy is overruled. What may reach a container is
/// then decided by our own chain.
pub(super) fn speak(socket: &Socket, family: Family) -> io::Result<()> {
    let (table, chain) = FOREIGN;
    let mut batch = Batch::new(family.number());
    for key in [6, 7] {
        batch.rule(table, chain, &|rule| {
            rule.interface(key, Is::Equal, BRIDGE);
            rule.expression("counter", &[]);
            rule.verdict(ACCEPT, "");
        });
    }
    batch.commit(socket)
}

/// Takes those back.
pub(super) fn unspeak(socket: &Socket, family: Family) -> io::Result<()> {
    let mut handles = Vec::new();
    our_foreign_rules(socket, family, &mut |handle| handles.push(handle.to_vec()))?;
    let (table, chain) = FOREIGN;
    let mut batch = Batch::new(family.number());
    for handle in handles {
        batch.next(DELETE_RULE, 0);
        batch.message.text(1, table);
        batch.message.text(2, chain);
        batch.message.attribute(3, &handle);
    }
    batch.commit(socket)
}
