//! Ports of the host that a container publishes, held against all other programs.
//!
//! Packets never come here: the kernel translates them before it looks for a socket. But a bound
//! socket, which for TCP does not listen, makes a second `bind` fail, in our own start as well as
//! in any other program. The shim inherits it, so a port is held for exactly as long as its
//! container may run, whatever happens to the agent.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, bind, getsockname, ipproto, socket_with,
    sockopt,
};

use crate::model::{PortConfig, PortProtocol};

/// Binds a published port, and chooses one for 0. Returns what holds it.
///
/// # Errors
/// `AddrInUse`, also when there is no free port left.
pub(super) fn hold(port: &mut PortConfig, with_v6: bool) -> io::Result<Vec<OwnedFd>> {
    let Ok(published) = u16::try_from(port.published) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let unspecified = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let mut held = Vec::new();
    let mut number = published;
    for address in unspecified.into_iter().take(1 + usize::from(with_v6)) {
        let socket = match socket(port.protocol, address) {
            // A kernel without SCTP has nobody who could take the port; TCP's numbers are as
            // good as any to choose from.
            Err(rustix::io::Errno::PROTONOSUPPORT) if port.protocol == PortProtocol::Sctp => {
                if number != 0 {
                    continue;
                }
                socket(PortProtocol::Tcp, address)?
            }
            made => made?,
        };
        // Connections of a predecessor that have ended may linger for a minute; who listens, or
        // holds the port as we do, is in the way even so. Cleared again: with it on both, two
        // sockets that do not listen could share the port.
        sockopt::set_socket_reuseaddr(&socket, port.protocol != PortProtocol::Udp)?;
        bind(&socket, &SocketAddr::new(address, number))?;
        sockopt::set_socket_reuseaddr(&socket, false)?;
        number = SocketAddr::try_from(getsockname(&socket)?)?.port();
        held.push(socket);
    }
    port.published = number.into();
    Ok(held)
}

fn socket(protocol: PortProtocol, address: IpAddr) -> rustix::io::Result<OwnedFd> {
    let (kind, protocol): (_, Protocol) = match protocol {
        PortProtocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        PortProtocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        PortProtocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if kind == SocketType::DGRAM {
        // Should a datagram come after all: nobody will read it.
        sockopt::set_socket_recv_buffer_size(&socket, 1)?;
    }
    Ok(socket)
}
