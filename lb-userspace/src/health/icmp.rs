//! ICMP errors about a connection attempt, from the socket's own error queue (ip(7), ipv6(7): IP_RECVERR; for TCP
//! since Linux 5.9). connect() alone cannot tell a prohibited port from a missing host, and may not tell at all.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::Domain;

use super::sentence::other_than;
use super::verdict::Unreachable;

/// Type 3 of RFC 792.
const V4_UNREACHABLE: u8 = 3;
/// Type 11 of RFC 792.
const V4_TIME_EXCEEDED: u8 = 11;
/// Type 1 of RFC 4443.
const V6_UNREACHABLE: u8 = 1;
/// Type 3 of RFC 4443.
const V6_TIME_EXCEEDED: u8 = 3;

/// Lets ICMP errors collect at the socket.
pub(super) fn listen(socket: &impl AsFd, domain: Domain) -> io::Result<()> {
    set(socket, domain, &true)
}

/// The connection stands: from here on an ICMP error is a matter of retransmission, not of verdicts.
pub(super) fn ignore(socket: &impl AsFd, domain: Domain) {
    // Failing is harmless: an ICMP error in the next second would end this one probe.
    let _ = set(socket, domain, &false);
}

fn set(socket: &impl AsFd, domain: Domain, value: &bool) -> io::Result<()> {
    match domain {
        Domain::IPV6 => setsockopt(socket, sockopt::Ipv6RecvErr, value)?,
        _ => setsockopt(socket, sockopt::Ipv4RecvErr, value)?,
    }
    Ok(())
}

/// The first ICMP error that decides, if one has arrived. `own` is this end of the connection: an error that this host
/// sends itself (a neighbour that does not answer) names nobody.
pub(super) fn heard(socket: &impl AsRawFd, own: impl Fn() -> Option<IpAddr>) -> Option<Unreachable> {
    while let Some(mut error) = next(socket) {
        error.sender = other_than(own(), error.sender);
        if let Some(unreachable) = decide(&error) {
            return Some(unreachable);
        }
    }
    None
}

/// One entry of the error queue.
struct Error {
    origin: u8,
    kind: u8,
    code: u8,
    sender: Option<IpAddr>,
}

fn next(socket: &impl AsRawFd) -> Option<Error> {
    let mut space = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    // The quoted packet is not needed: the queue is this socket's, so the error is about this connection.
    let mut quoted = [0; 1];
    let mut parts = [IoSliceMut::new(&mut quoted)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
    let (error, sender) = message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4RecvErr(error, sender) => {
            let sender = sender.map(|sender| IpAddr::V4(Ipv4Addr::from(u32::from_be(sender.sin_addr.s_addr))));
            Some((error, sender))
        }
        ControlMessageOwned::Ipv6RecvErr(error, sender) => {
            let sender = sender.map(|sender| IpAddr::V6(Ipv6Addr::from(sender.sin6_addr.s6_addr)));
            Some((error, sender))
        }
        _ => None,
    })?;
    Some(Error {
        origin: error.ee_origin,
        kind: error.ee_type,
        code: error.ee_code,
        sender: sender.filter(|sender| !sender.is_unspecified()),
    })
}

/// RFC 792, RFC 1122 (3.2.2.1), RFC 1812 (5.2.7.1) and RFC 4443 (3.1). `None`: about packet size or the like.
fn decide(error: &Error) -> Option<Unreachable> {
    match (error.origin, error.kind, error.code) {
        (libc::SO_EE_ORIGIN_ICMP, V4_UNREACHABLE, code) => match code {
            0 | 6 | 11 => Some(Unreachable::Network(error.sender)),
            1 | 7 | 8 | 12 => Some(Unreachable::Host(error.sender)),
            3 => Some(Unreachable::Port(error.sender)),
            9 | 10 | 13..=15 => Some(Unreachable::Prohibited(error.sender)),
            _ => None,
        },
        (libc::SO_EE_ORIGIN_ICMP6, V6_UNREACHABLE, code) => match code {
            0 | 2 => Some(Unreachable::Network(error.sender)),
            3 => Some(Unreachable::Host(error.sender)),
            4 => Some(Unreachable::Port(error.sender)),
            1 | 5 | 6 => Some(Unreachable::Prohibited(error.sender)),
            _ => None,
        },
        // A routing loop, or a path longer than our TTL: the network does not lead there.
        (libc::SO_EE_ORIGIN_ICMP, V4_TIME_EXCEEDED, _) | (libc::SO_EE_ORIGIN_ICMP6, V6_TIME_EXCEEDED, _) => {
            Some(Unreachable::Network(error.sender))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(kind: u8, code: u8) -> Option<Unreachable> {
        decide(&Error {
            origin: libc::SO_EE_ORIGIN_ICMP,
            kind,
            code,
            sender: None,
        })
    }

    #[test]
    fn every_prohibition_of_ipv4_is_one() {
        for code in [9, 10, 13, 14, 15] {
            assert_eq!(v4(V4_UNREACHABLE, code), Some(Unreachable::Prohibited(None)));
        }
    }

    #[test]
    fn a_packet_that_is_too_big_decides_nothing() {
        assert_eq!(v4(V4_UNREACHABLE, 4), None);
    }
}
