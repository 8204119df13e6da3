//! UDP echo of our own: the answer is the backend's name, a space and the datagram.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Namespace;

const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// A running server. Dropping it closes its port.
#[derive(Debug)]
pub struct DatagramServer {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl DatagramServer {
    /// Listens on every address of the namespace; one socket for each family.
    pub fn start(namespace: &Namespace, name: &str, port: u16) -> Result<Self> {
        Self::over(namespace.enter(|| bind_both(port))??, name)
    }

    /// Listens where the calling thread is.
    pub fn start_here(name: &str, port: u16) -> Result<Self> {
        Self::over(bind_both(port)?, name)
    }

    /// Serves until the process ends.
    pub fn run(mut self) -> Result<()> {
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow::anyhow!("a server thread panicked"))?;
        }
        Ok(())
    }

    fn over(sockets: [UdpSocket; 2], name: &str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for socket in sockets {
            let (stop, prefix) = (Arc::clone(&stop), format!("{name} "));
            threads.push(
                thread::Builder::new()
                    .name(format!("udp {name}"))
                    .spawn(move || serve(&socket, prefix.as_bytes(), &stop))
                    .context("start the server's thread")?,
            );
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for DatagramServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in there has already been printed.
            let _ = thread.join();
        }
    }
}

/// Sends `payload` from a socket; the name of the backend that echoed it. An error if the echo differs.
pub fn ask_datagram(socket: &UdpSocket, to: SocketAddr, payload: &[u8]) -> Result<String> {
    socket.send_to(payload, to).with_context(|| format!("send to {to}"))?;
    let mut buffer = vec![0; payload.len() + 256];
    let (length, from) = socket
        .recv_from(&mut buffer)
        .with_context(|| format!("answer of {to}"))?;
    anyhow::ensure!(from == to, "asked {to}, the answer came from {from}");
    let answer = buffer.get(..length).unwrap_or_default();
    let space = answer
        .iter()
        .position(|byte| *byte == b' ')
        .context("no name in the answer")?;
    let (name, echo) = answer.split_at(space);
    anyhow::ensure!(
        echo.get(1..) == Some(payload),
        "the echo of {} bytes is not what was sent: {} bytes",
        payload.len(),
        echo.len().saturating_sub(1)
    );
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn bind_both(port: u16) -> Result<[UdpSocket; 2]> {
    Ok([
        bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?,
        bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?,
    ])
}

fn bind(address: SocketAddr) -> Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None).context("socket")?;
    if address.is_ipv6() {
        socket.set_only_v6(true).context("one family")?;
    }
    socket
        .bind(&address.into())
        .with_context(|| format!("bind to {address}"))?;
    socket
        .set_read_timeout(Some(STOP_CHECK_INTERVAL))
        .context("read timeout")?;
    Ok(socket.into())
}

fn serve(socket: &UdpSocket, prefix: &[u8], stop: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    let mut answer = Vec::with_capacity(65_536);
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        answer.clear();
        answer.extend_from_slice(prefix);
        answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
        // A lost answer is the client's to notice.
        let _ = socket.send_to(&answer, from);
    }
}
