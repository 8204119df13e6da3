//! Captures on a link, and what tshark (which validates the checksums, not we) reads in them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::netns::{Namespace, Room};
use crate::process::{Process, run, wait_until};

/// A running tcpdump.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

/// One TCP or UDP packet of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Source address.
    pub source: String,
    /// Destination address.
    pub destination: String,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// What tshark says of the IPv4 header checksum; `None` for IPv6.
    pub header_checksum: Option<Verdict>,
    /// What tshark says of the TCP or UDP checksum.
    pub checksum: Verdict,
}

/// tshark's `*.checksum.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Right.
    Good,
    /// Wrong.
    Bad,
    /// Anything else, as a number: unverified, absent (UDP 0), illegal.
    Other(u32),
}

const FIELDS: [&str; 14] = [
    "ip.src",
    "ipv6.src",
    "ip.dst",
    "ipv6.dst",
    "tcp.srcport",
    "udp.srcport",
    "tcp.dstport",
    "udp.dstport",
    "ip.checksum.status",
    "tcp.checksum.status",
    "udp.checksum.status",
    "frame.len",
    "ip.ttl",
    "ipv6.hlim",
];

impl Capture {
    /// Starts tcpdump on a link and waits until it listens.
    pub fn start(room: &Room, namespace: &Namespace, link: &str, filter: &str) -> Result<Self> {
        // A file of its own: what an earlier capture on the same link wrote is not to be read again.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = room.file(&format!("{}-{link}-{number}.pcap", namespace.name()));
        let mut command = namespace.command("tcpdump");
        command
            .args([
                "-i",
                link,
                "-n",
                "-U",
                "--immediate-mode",
                "-s",
                "0",
                "-B",
                "32768",
                "-Z",
                "root",
                "-w",
            ])
            .arg(&file)
            .arg(filter);
        let process = Process::start("tcpdump", &mut command, &file.with_extension("log"))?;
        wait_until("tcpdump", Duration::from_secs(5), || {
            Ok(process.output().contains("listening on"))
        })?;
        Ok(Self { process, file })
    }

    /// Stops it and reads every TCP and UDP packet.
    pub fn segments(mut self) -> Result<Vec<Segment>> {
        // In immediate mode a packet is in the file at once; this is for tcpdump to get its turn on a busy machine.
        std::thread::sleep(Duration::from_millis(300));
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(Duration::from_secs(5))?;
        read(&self.file)
    }
}

fn read(file: &Path) -> Result<Vec<Segment>> {
    let mut command = Command::new("tshark");
    command
        .arg("-n")
        .arg("-r")
        .arg(file)
        .args(["-T", "fields", "-E", "separator=|"]);
    for preference in [
        "ip.check_checksum:TRUE",
        "tcp.check_checksum:TRUE",
        "udp.check_checksum:TRUE",
    ] {
        command.args(["-o", preference]);
    }
    // Quoted packets inside ICMP errors would give two values a field.
    command.args(["-Y", "(tcp or udp) and not icmp and not icmpv6"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    run(&mut command)?
        .lines()
        .map(|line| parse(line).with_context(|| format!("tshark's line '{line}'")))
        .collect()
}

fn parse(line: &str) -> Option<Segment> {
    let fields: Vec<&str> = line.split('|').collect();
    let one_of = |a: usize, b: usize| {
        [a, b]
            .into_iter()
            .find_map(|index| fields.get(index).filter(|text| !text.is_empty()))
    };
    Some(Segment {
        source: (*one_of(0, 1)?).to_owned(),
        destination: (*one_of(2, 3)?).to_owned(),
        source_port: one_of(4, 5)?.parse().ok()?,
        destination_port: one_of(6, 7)?.parse().ok()?,
        header_checksum: one_of(8, 8).and_then(|text| verdict(text)),
        checksum: verdict(one_of(9, 10)?)?,
    })
}

fn verdict(text: &str) -> Option<Verdict> {
    Some(match text.parse().ok()? {
        0 => Verdict::Bad,
        1 => Verdict::Good,
        other => Verdict::Other(other),
    })
}
