//! dnsmasq as the name server of a scene: a zone in a hosts file, with a TTL of a second.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::netns::{Namespace, Room};
use crate::process::{Process, wait_until};

const PATIENCE: Duration = Duration::from_secs(10);

/// A running dnsmasq that knows one zone and nothing else. Dropping it stops it.
#[derive(Debug)]
pub struct DnsServer {
    process: Process,
    zone: PathBuf,
}

impl DnsServer {
    /// Starts it at port 53 of an address of the namespace; names of `zone` that it does not know are NXDOMAIN.
    pub fn start(room: &Room, namespace: &Namespace, address: IpAddr, zone: &str) -> Result<Self> {
        let file = room.file(&format!("zone-{address}"));
        if !file.exists() {
            fs::write(&file, "").with_context(|| format!("write {}", file.display()))?;
        }
        let mut command = namespace.command("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
            ])
            .args([
                "--user=root",
                "--pid-file=",
                "--log-facility=-",
                "--log-queries",
                "--bind-interfaces",
            ])
            .args([
                "--local-ttl=1",
                &format!("--local=/{zone}/"),
                &format!("--listen-address={address}"),
            ])
            .arg(format!("--addn-hosts={}", file.display()));
        let log = room.file(&format!("dnsmasq-{address}.log"));
        let mut process = Process::start("dnsmasq", &mut command, &log)?;
        wait_until("dnsmasq to answer", PATIENCE, || {
            if let Some(status) = process.ended()? {
                // No use waiting: the reason is in its log.
                panic!("dnsmasq ended: {status}: {}", process.output());
            }
            let socket = SocketAddr::new(address, 53);
            namespace.enter(|| TcpStream::connect(socket).is_ok())
        })?;
        Ok(Self { process, zone: file })
    }

    /// What the zone holds from now on.
    pub fn set(&self, records: &[(&str, IpAddr)]) -> Result<()> {
        let lines = records.iter().map(|(name, address)| format!("{address} {name}\n"));
        fs::write(&self.zone, lines.collect::<String>()).with_context(|| format!("write {}", self.zone.display()))?;
        self.process.signal(Signal::SIGHUP)
    }

    /// What it was asked.
    pub fn log(&self) -> String {
        self.process.output()
    }
}
