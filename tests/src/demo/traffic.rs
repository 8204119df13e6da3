//! The demo's clients: HTTP requests and datagrams in both families, from the client's namespace, counted by the
//! backend that answered.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};

use crate::netns::Namespace;
use crate::peers::ask_datagram;
use crate::topology::{VIP4, VIP6};

/// Service port of the web service.
pub(super) const WEB_PORT: u16 = 80;
/// Service port of the datagram service.
pub(super) const ECHO_PORT: u16 = 7;

const HTTP_INTERVAL: Duration = Duration::from_millis(10);
const DATAGRAM_INTERVAL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(3);

/// Running clients. Dropping them stops them.
#[derive(Debug)]
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    workers: Vec<JoinHandle<()>>,
}

/// What the clients have seen so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    /// HTTP answers by backend.
    pub(super) web: BTreeMap<String, u64>,
    /// Echoed datagrams by backend.
    pub(super) echo: BTreeMap<String, u64>,
    /// When something failed, and what.
    pub(super) failures: Vec<(Instant, String)>,
}

impl Tally {
    /// HTTP answers of one backend.
    pub(super) fn web_of(&self, backend: &str) -> u64 {
        self.web.get(backend).copied().unwrap_or_default()
    }

    /// All HTTP answers.
    pub(super) fn web_total(&self) -> u64 {
        self.web.values().sum()
    }

    /// All echoed datagrams.
    pub(super) fn echo_total(&self) -> u64 {
        self.echo.values().sum()
    }

    /// Counts as a line: `b1 120, b2 118`.
    pub(super) fn shown(counts: &BTreeMap<String, u64>) -> String {
        let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        parts.join(", ")
    }
}

/// What one worker asks.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Http,
    Datagram,
}

impl Traffic {
    /// Starts four clients: HTTP and datagrams, each over IPv4 and IPv6.
    pub(super) fn start(client: &Namespace) -> Result<Self> {
        let mut traffic = Self {
            stop: Arc::new(AtomicBool::new(false)),
            tally: Arc::default(),
            workers: Vec::new(),
        };
        for vip in [IpAddr::from(VIP4), IpAddr::from(VIP6)] {
            for kind in [Kind::Http, Kind::Datagram] {
                let (stop, tally) = (Arc::clone(&traffic.stop), Arc::clone(&traffic.tally));
                let namespace = client.open()?;
                let worker = thread::Builder::new()
                    .spawn(move || {
                        let inside = setns(&namespace, CloneFlags::CLONE_NEWNET).context("enter the client");
                        match inside {
                            Ok(()) => work(kind, vip, &stop, &tally),
                            Err(error) => record(&tally, kind, Err(error)),
                        }
                    })
                    .context("start a client")?;
                traffic.workers.push(worker);
            }
        }
        Ok(traffic)
    }

    /// What was seen so far.
    pub(super) fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops after the requests under way; everything that was seen.
    pub(super) fn finish(mut self) -> Tally {
        self.join();
        self.tally()
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            // A panic in there has already been printed.
            let _ = worker.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.join();
    }
}

fn work(kind: Kind, vip: IpAddr, stop: &AtomicBool, tally: &Mutex<Tally>) {
    let (port, interval) = match kind {
        Kind::Http => (WEB_PORT, HTTP_INTERVAL),
        Kind::Datagram => (ECHO_PORT, DATAGRAM_INTERVAL),
    };
    let to = SocketAddr::new(vip, port);
    while !stop.load(Ordering::Relaxed) {
        let answer = match kind {
            Kind::Http => http(to),
            Kind::Datagram => datagram(to),
        };
        record(tally, kind, answer);
        thread::sleep(interval);
    }
}

fn record(tally: &Mutex<Tally>, kind: Kind, answer: Result<String>) {
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    match (kind, answer) {
        (Kind::Http, Ok(name)) => *tally.web.entry(name).or_default() += 1,
        (Kind::Datagram, Ok(name)) => *tally.echo.entry(name).or_default() += 1,
        (_, Err(error)) => tally.failures.push((Instant::now(), format!("{error:#}"))),
    }
}

/// One HTTP request over a connection of its own, which the client ends; the body, which is the backend's name.
fn http(to: SocketAddr) -> Result<String> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connect to {to}"))?;
    stream.set_read_timeout(Some(PATIENCE)).context("read timeout")?;
    let mut stream = BufReader::new(stream);
    // One write, one segment.
    let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n");
    stream
        .get_mut()
        .write_all(request.as_bytes())
        .context("send the request")?;
    let mut line = || -> Result<String> {
        let mut line = String::new();
        let length = stream.read_line(&mut line).with_context(|| format!("answer of {to}"))?;
        ensure!(length > 0, "{to} closed before its answer was complete");
        Ok(line.trim_end().to_owned())
    };
    let status = line()?;
    ensure!(status.contains(" 200 "), "{to} answered '{status}'");
    while !line()?.is_empty() {}
    line()
}

/// One datagram from a socket of its own, so that each is a new flow.
fn datagram(to: SocketAddr) -> Result<String> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).context("bind")?;
    socket.set_read_timeout(Some(PATIENCE)).context("read timeout")?;
    ask_datagram(&socket, to, b"a datagram of the demo")
}
