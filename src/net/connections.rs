//! Connections that the kernel remembers (`linux/netfilter/nfnetlink_conntrack.h`).

use std::io;

use super::netlink::{ACK, Message, Socket, attribute};
use crate::model::{PortConfig, PortProtocol};

const SUBSYSTEM: u16 = 1;
const GET: u16 = (SUBSYSTEM << 8) | 1;
const DELETE: u16 = (SUBSYSTEM << 8) | 2;

const TUPLE: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;
const UDP: u8 = 17;

/// Forgets what goes to published UDP ports: a client that never pauses would otherwise speak to
/// the predecessor's address, or to the host itself, for ever.
pub(super) fn forget(socket: &Socket, family: u8, ports: &[PortConfig]) -> io::Result<()> {
    let wanted: Vec<[u8; 2]> = ports
        .iter()
        .filter(|port| port.protocol == PortProtocol::Udp)
        .filter_map(|port| u16::try_from(port.published).ok().map(u16::to_be_bytes))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let header = [family, 0, 0, 0];
    let mut stale = Vec::new();
    socket.dump(GET, &header, &[], &mut |payload| {
        let tuple = payload.get(4..).and_then(|attributes| attribute(attributes, TUPLE));
        let protocol = tuple.and_then(|tuple| attribute(tuple, TUPLE_PROTOCOL));
        if let (Some(tuple), Some(protocol)) = (tuple, protocol)
            && attribute(protocol, PROTOCOL_NUMBER) == Some(&[UDP])
            && wanted.iter().any(|port| attribute(protocol, DESTINATION_PORT) == Some(port))
        {
            stale.push(tuple.to_vec());
        }
    })?;
    for tuple in stale {
        let mut message = Message::new(DELETE, ACK, &header);
        let place = message.nest(TUPLE);
        message.raw(&tuple);
        message.close(place);
        match socket.request(&message) {
            // It ended by itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}
