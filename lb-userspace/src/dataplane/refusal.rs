//! Why an interface is not attached, and the command that helps.

use std::io;

use aya::programs::links::LinkType;
use aya::programs::{loaded_links, loaded_programs};

use super::AttachMode;
use super::error::DataplaneError;
use super::xdp_query::OnInterface;

/// The refusal to replace a program that we did not attach.
pub(super) fn foreign(ifname: &str, current: OnInterface) -> DataplaneError {
    let program = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == current.program_id);
    let program_name = program.and_then(|program| program.name_as_str().map(str::to_owned));
    DataplaneError::ForeignProgram {
        ifname: ifname.to_owned(),
        program_id: current.program_id,
        program_name: program_name.unwrap_or_default(),
        removal: removal(ifname, current),
    }
}

/// The command that takes a program off. One that a link holds cannot be taken off by `ip`.
fn removal(ifname: &str, current: OnInterface) -> String {
    let link = loaded_links()
        .filter_map(Result::ok)
        .find(|link| link.program_id() == current.program_id && matches!(link.link_type(), Ok(LinkType::Xdp)));
    if let Some(link) = link {
        return format!("bpftool link detach id {}", link.id());
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
