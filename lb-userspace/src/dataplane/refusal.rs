//! Why an interface is not attached, and the command that helps.

use std::io;
use std::sync::OnceLock;

use aya::programs::links::LinkType;
use aya::programs::{loaded_links, loaded_programs};

use super::AttachMode;
use super::error::DataplaneError;
use super::xdp_query::OnInterface;

/// Somebody's XDP program or link that was loaded when the agent started.
#[derive(Debug)]
struct Loaded {
    program_id: u32,
    program_name: Option<String>,
    link_id: Option<u32>,
}

static AT_START: OnceLock<Vec<Loaded>> = OnceLock::new();

/// Notes whose programs and links there are, for refusals: asking takes `CAP_SYS_ADMIN`, which the agent gives up.
pub fn note_loaded() {
    // Once a process; without the right to ask it is empty.
    let _ = AT_START.set(programs().chain(links()).collect());
}

fn programs() -> impl Iterator<Item = Loaded> {
    loaded_programs().filter_map(Result::ok).map(|program| Loaded {
        program_id: program.id(),
        program_name: program.name_as_str().map(str::to_owned),
        link_id: None,
    })
}

fn links() -> impl Iterator<Item = Loaded> {
    let of_xdp = loaded_links()
        .filter_map(Result::ok)
        .filter(|link| matches!(link.link_type(), Ok(LinkType::Xdp)));
    of_xdp.map(|link| Loaded {
        program_id: link.program_id(),
        program_name: None,
        link_id: Some(link.id()),
    })
}

/// What is known of a program: now, or when the agent started.
fn known<T>(program_id: u32, now: impl Iterator<Item = Loaded>, part: fn(&Loaded) -> Option<T>) -> Option<T> {
    let of = |loaded: &Loaded| (loaded.program_id == program_id).then(|| part(loaded)).flatten();
    let then = || AT_START.get()?.iter().find_map(of);
    now.into_iter().find_map(|loaded| of(&loaded)).or_else(then)
}

/// The refusal to replace a program that we did not attach.
pub(super) fn foreign(ifname: &str, current: OnInterface) -> DataplaneError {
    let program_name = known(current.program_id, programs(), |loaded| loaded.program_name.clone());
    DataplaneError::ForeignProgram {
        ifname: ifname.to_owned(),
        program_id: current.program_id,
        program_name: program_name.unwrap_or_default(),
        removal: removal(ifname, current),
    }
}

/// The command that takes a program off. One that a link holds cannot be taken off by `ip`.
fn removal(ifname: &str, current: OnInterface) -> String {
    if let Some(link) = known(current.program_id, links(), |loaded| loaded.link_id) {
        return format!("bpftool link detach id {link}");
    }
    let way = match current.mode {
        AttachMode::Native => "xdpdrv",
        AttachMode::Generic => "xdpgeneric",
        AttachMode::Offloaded => "xdpoffload",
        AttachMode::Several => "xdp",
    };
    format!("ip link set dev {ifname} {way} off")
}

/// The next step after the kernel refused to attach.
pub(super) fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "its driver has no native XDP: set xdp_mode = \"auto\" or \"generic\" (slower)",
        Some(libc::ERANGE | libc::EINVAL) => {
            "often an MTU too large for XDP: lower it ('ip link set IFACE mtu 1500', on veth the peer's), and turn LRO off"
        }
        Some(libc::ENOSPC) => "veth: the peer has more transmit queues than it has receive queues; see 'ethtool -l'",
        Some(libc::EBUSY | libc::EEXIST) => "another XDP program came in between; see 'bpftool net show'",
        Some(libc::EPERM) => "the agent needs root or CAP_NET_ADMIN and CAP_BPF",
        Some(libc::ENODEV) => "the interface has just gone; see 'ip link'",
        _ => "see the kernel log ('dmesg')",
    }
}
