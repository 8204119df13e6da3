//! The second checksum oracle: scapy, run with the system's Python on a batch of frames.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Debian's python3-scapy belongs to the system interpreter, not to one that stands earlier in PATH.
const PYTHON: &str = "/usr/bin/python3";

/// Reads hex frames, takes their checksums out, lets scapy compute them again and prints the lines that differ.
const SCRIPT: &str = r#"
import sys, logging
logging.getLogger("scapy").setLevel(logging.CRITICAL)
from scapy.layers.l2 import Ether
from scapy.layers.inet import IP, TCP, UDP, ICMP
from scapy.layers.inet6 import IPv6, _ICMPv6
checked = 0
for number, line in enumerate(sys.stdin):
    raw = bytes.fromhex(line.strip())
    before, after = Ether(raw), Ether(raw)
    fields, layer = [], after
    while layer:
        for name in ("chksum", "cksum"):
            if name in layer.fields and isinstance(layer, (IP, TCP, UDP, ICMP, _ICMPv6)):
                if isinstance(layer, UDP) and layer.chksum == 0 and IP in after:
                    continue
                fields.append((type(layer), name, getattr(layer, name)))
                delattr(layer, name)
        layer = layer.payload
    again = Ether(bytes(after))
    if not fields:
        print(f"BAD {number}: scapy finds no checksum in {line.strip()}")
    for kind, name, found in fields:
        checked += 1
        wanted = getattr(again[kind], name)
        if found != wanted:
            print(f"BAD {number}: {kind.__name__} says {found:#06x}, scapy computes {wanted:#06x} in {line.strip()}")
print(f"CHECKED {checked}")
"#;

/// What scapy said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It computed this many checksums, all as found.
    Agreed(usize),
    /// It is not installed; the reason.
    Missing(String),
}

/// Has scapy compute every checksum of the frames again; an error lists the frames it disagrees with.
pub fn check(frames: &[Vec<u8>]) -> Result<Judgement> {
    let probe = Command::new(PYTHON).args(["-c", "import scapy.layers.inet6"]).output();
    match probe {
        Ok(output) if output.status.success() => {}
        _ => {
            return Ok(Judgement::Missing(format!(
                "{PYTHON} cannot import scapy; install python3-scapy"
            )));
        }
    }
    let mut child = Command::new(PYTHON)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start scapy")?;
    let mut stdin = child.stdin.take().context("scapy's stdin")?;
    let text: String = frames.iter().map(|frame| super::hex(frame) + "\n").collect();
    // From a thread: scapy may fill its output pipe while we still fill its input.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().context("wait for scapy")?;
    writer
        .join()
        .ok()
        .context("scapy's writer thread")?
        .context("write frames to scapy")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let bad: Vec<&str> = text.lines().filter(|line| line.starts_with("BAD")).take(10).collect();
    if !bad.is_empty() || !output.status.success() {
        bail!("scapy disagrees ({}):\n{}", output.status, bad.join("\n"));
    }
    let checked = text.lines().find_map(|line| line.strip_prefix("CHECKED "));
    let checked = checked
        .context("scapy printed no count")?
        .parse()
        .context("scapy's count")?;
    Ok(Judgement::Agreed(checked))
}
