//! Echo requests through the kernel's unprivileged ICMP sockets, which fill in identifier and checksum and hand up
//! only the answers to their own requests (net/ipv4/ping.c).

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Namespace;

const PATIENCE: Duration = Duration::from_secs(2);
const HEADER_BYTES: usize = 8;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO6_REQUEST: u8 = 128;
const ECHO6_REPLY: u8 = 129;

/// Sends one echo request from inside the namespace; an error unless the same payload comes back.
pub fn ping(from: &Namespace, to: impl Into<IpAddr>) -> Result<()> {
    let to: IpAddr = to.into();
    from.sysctl("net/ipv4/ping_group_range", "0 2147483647")?;
    from.enter(|| ping_here(to))?
        .with_context(|| format!("ping {to} from {}", from.name()))
}

fn ping_here(to: IpAddr) -> Result<()> {
    let (protocol, request, reply) = match to {
        IpAddr::V4(_) => (Protocol::ICMPV4, ECHO_REQUEST, ECHO_REPLY),
        IpAddr::V6(_) => (Protocol::ICMPV6, ECHO6_REQUEST, ECHO6_REPLY),
    };
    let address = SocketAddr::new(to, 0);
    let mut socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(protocol)).context("ICMP socket")?;
    socket.set_read_timeout(Some(PATIENCE)).context("read timeout")?;
    socket.connect(&address.into()).context("connect")?;
    let payload = fastrand::u64(..).to_be_bytes();
    let mut packet = [0; HEADER_BYTES + size_of::<u64>()];
    packet[0] = request;
    packet[HEADER_BYTES..].copy_from_slice(&payload);
    socket.send(&packet).context("send the request")?;
    let mut answer = [0; 1500];
    let length = socket.read(&mut answer).context("wait for the reply")?;
    ensure!(
        length == packet.len() && answer[0] == reply && answer[HEADER_BYTES..length] == payload,
        "the reply is not the echo of the request: {:02x?}",
        &answer[..length]
    );
    Ok(())
}
