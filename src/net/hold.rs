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
        taken(&socket, port.protocol, SocketAddr::new(address, number))?;
        number = SocketAddr::try_from(getsockname(&socket)?)?.port();
        held.push(socket);
    }
    port.published = number.into();
    Ok(held)
}

/// Binds the port, also when connections of a predecessor linger there, as TCP's do for a minute
/// after their end (`TIME_WAIT`).
///
/// `SO_REUSEADDR` passes over those and over who holds the port as we do, with the option set. So
/// it is set only where the port seems taken, and cleared again: then whoever listens is in our
/// way, and we are in the way of whoever wants to.
fn taken(socket: &OwnedFd, protocol: PortProtocol, address: SocketAddr) -> rustix::io::Result<()> {
    match bind(socket, &address) {
        Err(rustix::io::Errno::ADDRINUSE)
            if protocol == PortProtocol::Tcp && address.port() != 0 =>
        {
            sockopt::set_socket_reuseaddr(socket, true)?;
            bind(socket, &address)?;
            sockopt::set_socket_reuseaddr(socket, false)
        }
        done => done,
    }
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
