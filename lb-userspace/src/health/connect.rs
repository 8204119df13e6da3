//! A TCP connection from (source, check port), and what a failure to make one means. Each errno becomes one verdict.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use super::verdict::{PortVerdict, ProbeFault, Unreachable};
use super::{Probe, ProbeKind};
use crate::neigh::{self, Silence};

/// What all probes share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Where the next connection starts to look for a port: round robin over all probes, so that a port rests as long
    /// as the range allows.
    cursor: AtomicU32,
    /// To ask whether a silent target's neighbour entry is unresolved. `None`: no netlink here.
    netlink: Option<neigh::Client>,
}

impl Shared {
    pub(super) fn new(netlink: Option<neigh::Client>) -> Self {
        Self {
            cursor: AtomicU32::new(fastrand::u32(..)),
            netlink,
        }
    }
}

/// Connects within `deadline`, or says why not.
pub(super) async fn connect(probe: &Probe, deadline: Instant, shared: &Shared) -> Result<TcpStream, PortVerdict> {
    let ports = probe.source_ports.clone();
    let count = u32::from(ports.end().saturating_sub(*ports.start())) + 1;
    let first = shared.cursor.fetch_add(1, Ordering::Relaxed);
    for attempt in 0..count {
        let offset = first.wrapping_add(attempt) % count;
        let port = ports.start().saturating_add(offset as u16);
        match try_port(probe, port, deadline).await {
            Ok(stream) => return Ok(stream),
            Err(Failed::PortTaken) if attempt % 64 == 63 => tokio::task::yield_now().await,
            Err(Failed::PortTaken) => {}
            Err(Failed::TimedOut) => return Err(silence(probe, shared).await),
            Err(Failed::Verdict(verdict)) => return Err(verdict),
        }
    }
    Err(PortVerdict::Error(ProbeFault::NoCheckPort(ports)))
}

enum Failed {
    /// This port cannot be used towards this target now: another may.
    PortTaken,
    TimedOut,
    Verdict(PortVerdict),
}

async fn try_port(probe: &Probe, port: u16, deadline: Instant) -> Result<TcpStream, Failed> {
    let socket = bound(probe, port)?;
    match timeout_at(deadline, socket.connect(probe.target)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(refusal(&error, probe)),
        Err(_) => Err(Failed::TimedOut),
    }
}

/// A socket bound to the port. Ports are shared (SO_REUSEADDR) between probes of different targets: the kernel then
/// checks the whole tuple in connect. SO_LINGER 0: closing sends a reset, the port is free at once, neither side keeps
/// a TIME_WAIT, and the backend's connection tracking forgets the probe. IP_BIND_ADDRESS_NO_PORT would let the kernel
/// choose from its own range, which XDP does not leave alone for us.
fn bound(probe: &Probe, port: u16) -> Result<TcpSocket, Failed> {
    let (socket, any) = match probe.target {
        SocketAddr::V4(_) => (TcpSocket::new_v4(), IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (TcpSocket::new_v6(), IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let socket = socket.map_err(|error| fault(&error))?;
    socket.set_reuseaddr(true).map_err(|error| fault(&error))?;
    socket.set_zero_linger().map_err(|error| fault(&error))?;
    if let ProbeKind::Http { .. } = probe.kind {
        socket.set_nodelay(true).map_err(|error| fault(&error))?;
    }
    let source = probe.source.unwrap_or(any);
    socket
        .bind(SocketAddr::new(source, port))
        .map_err(|error| match error.raw_os_error() {
            // A listener, or a socket without SO_REUSEADDR, has the port.
            Some(libc::EADDRINUSE) => Failed::PortTaken,
            Some(libc::EADDRNOTAVAIL) => Failed::Verdict(PortVerdict::Error(ProbeFault::NoSource(probe.source))),
            _ => fault(&error),
        })?;
    Ok(socket)
}

/// What an error of connect says (Linux: tcp(7), and `icmp_err_convert` / `icmpv6_err_convert` for ICMP errors).
fn refusal(error: &io::Error, probe: &Probe) -> Failed {
    let verdict = match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => PortVerdict::Refused,
        // A reset in the middle of the handshake is a refusal too.
        Some(libc::ECONNRESET) => PortVerdict::Refused,
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => PortVerdict::Unreachable(Unreachable::Host),
        Some(libc::ENETUNREACH | libc::ENETDOWN) => PortVerdict::Unreachable(Unreachable::Network),
        Some(libc::EACCES | libc::EPERM) => PortVerdict::Unreachable(Unreachable::Prohibited),
        // A blackhole route.
        Some(libc::EINVAL) => PortVerdict::Unreachable(Unreachable::Network),
        Some(libc::ETIMEDOUT) => return Failed::TimedOut,
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE) if has_source(probe) => return Failed::PortTaken,
        Some(libc::EADDRNOTAVAIL) => PortVerdict::Error(ProbeFault::NoSource(probe.source)),
        _ => return fault(error),
    };
    Failed::Verdict(verdict)
}

/// EADDRNOTAVAIL means "this tuple is in use" or "no source address for this target": a datagram socket, which has no
/// tuples to run out of, tells which.
fn has_source(probe: &Probe) -> bool {
    let any = match probe.target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let source = SocketAddr::new(probe.source.unwrap_or(any), 0);
    std::net::UdpSocket::bind(source)
        .and_then(|socket| socket.connect(probe.target))
        .is_ok()
}

fn fault(error: &io::Error) -> Failed {
    let fault = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => ProbeFault::NoFiles,
        _ => ProbeFault::Other(error.to_string()),
    };
    Failed::Verdict(PortVerdict::Error(fault))
}

/// No answer in time: is it the host, the gateway, or a firewall? The kernel itself reports an unresolved neighbour
/// only after about three seconds, which most checks do not wait.
async fn silence(probe: &Probe, shared: &Shared) -> PortVerdict {
    let filtered = PortVerdict::Filtered(probe.timeout);
    let Some(netlink) = &shared.netlink else {
        return filtered;
    };
    match neigh::silence_of(netlink, probe.target.ip(), probe.source).await {
        Ok(Some(Silence::Host)) => PortVerdict::Unreachable(Unreachable::Host),
        Ok(Some(Silence::Gateway(gateway))) => PortVerdict::Unreachable(Unreachable::Gateway(gateway)),
        Ok(None) => filtered,
        Err(error) => {
            tracing::debug!(target = %probe.target, %error, "next_hop_not_asked");
            filtered
        }
    }
}
