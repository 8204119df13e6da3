//! A TCP connection from (source, check port), and what a failure to make one means. Each errno becomes one verdict.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::verdict::{PortVerdict, ProbeFault, Unreachable};
use super::{Probe, ProbeKind, icmp};
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
    match timeout_at(deadline, establish(socket, probe)).await {
        Ok(result) => result,
        Err(_) => Err(Failed::TimedOut),
    }
}

/// A socket bound to the port. Ports are shared (SO_REUSEADDR) between probes of different targets: the kernel then
/// checks the whole tuple in connect. SO_LINGER 0: closing sends a reset, the port is free at once, neither side keeps
/// a TIME_WAIT, and the backend's connection tracking forgets the probe. IP_BIND_ADDRESS_NO_PORT would let the kernel
/// choose from its own range, which XDP does not leave alone for us.
fn bound(probe: &Probe, port: u16) -> Result<Socket, Failed> {
    let domain = Domain::for_address(probe.target);
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None).map_err(|error| fault(&error))?;
    let options = [
        socket.set_reuse_address(true),
        socket.set_linger(Some(Duration::ZERO)),
        icmp::listen(&socket, domain),
        match probe.kind {
            // It never writes.
            ProbeKind::Tcp => Ok(()),
            // The end of a TLS handshake and the request are two writes.
            ProbeKind::Http(_) | ProbeKind::Https(..) => socket.set_tcp_nodelay(true),
        },
    ];
    options
        .into_iter()
        .collect::<io::Result<()>>()
        .map_err(|error| fault(&error))?;
    let source = probe.source.unwrap_or_else(|| any(probe.target));
    socket
        .bind(&SocketAddr::new(source, port).into())
        .map_err(|error| match error.raw_os_error() {
            // A listener, or a socket without SO_REUSEADDR, has the port.
            Some(libc::EADDRINUSE) => Failed::PortTaken,
            Some(libc::EADDRNOTAVAIL) => Failed::Verdict(PortVerdict::Error(ProbeFault::NoSource(probe.source))),
            _ => fault(&error),
        })?;
    Ok(socket)
}

/// Connects. An ICMP error that arrives while the kernel works on the socket does not end the attempt (the next SYN's
/// would, a second later); it waits in the error queue, where it also tells its exact code and its sender.
async fn establish(socket: Socket, probe: &Probe) -> Result<TcpStream, Failed> {
    match socket.connect(&probe.target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(refusal(&error, probe)),
    }
    let stream = TcpStream::from_std(socket.into()).map_err(|error| fault(&error))?;
    loop {
        stream.writable().await.map_err(|error| fault(&error))?;
        let failed = stream.take_error().map_err(|error| fault(&error))?;
        if failed.is_none() && stream.peer_addr().is_ok() {
            icmp::ignore(&stream, Domain::for_address(probe.target));
            return Ok(stream);
        }
        // Asked first where it failed: it tells more than the error.
        let own = || stream.local_addr().ok().map(|own| own.ip());
        if let Some(unreachable) = icmp::heard(&stream, own) {
            return Err(Failed::Verdict(PortVerdict::Unreachable(unreachable)));
        }
        if let Some(error) = failed {
            return Err(refusal(&error, probe));
        }
        // Woken by something that decides nothing: tell tokio that the socket is not ready after all.
        let _ = stream.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

/// What an error of connect says (tcp(7)), where no ICMP message explains it.
fn refusal(error: &io::Error, probe: &Probe) -> Failed {
    let verdict = match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => PortVerdict::Refused,
        // The kernel says this only of a connection that stood: the reset came before we looked.
        Some(libc::ECONNRESET | libc::EPIPE) => PortVerdict::AcceptedThenClosed,
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => PortVerdict::Unreachable(Unreachable::Host(None)),
        // EINVAL: a blackhole route.
        Some(libc::ENETUNREACH | libc::ENETDOWN | libc::EINVAL) => PortVerdict::Unreachable(Unreachable::Network(None)),
        Some(libc::EACCES | libc::EPERM) => PortVerdict::Unreachable(Unreachable::Prohibited(None)),
        Some(libc::ETIMEDOUT) => return Failed::TimedOut,
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE) if has_source(probe) => return Failed::PortTaken,
        Some(libc::EADDRNOTAVAIL) => PortVerdict::Error(ProbeFault::NoSource(probe.source)),
        _ => return fault(error),
    };
    Failed::Verdict(verdict)
}

/// The unspecified address of the target's family.
fn any(target: SocketAddr) -> IpAddr {
    match target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// EADDRNOTAVAIL means "this tuple is in use" or "no source address for this target": a datagram socket, which has no
/// tuples to run out of, tells which.
fn has_source(probe: &Probe) -> bool {
    let source = SocketAddr::new(probe.source.unwrap_or_else(|| any(probe.target)), 0);
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
        Ok(Some(Silence::Host)) => PortVerdict::Unreachable(Unreachable::Host(None)),
        Ok(Some(Silence::Gateway(gateway))) => PortVerdict::Unreachable(Unreachable::Gateway(gateway)),
        Ok(None) => filtered,
        Err(error) => {
            tracing::debug!(target = %probe.target, %error, "next_hop_not_asked");
            filtered
        }
    }
}
