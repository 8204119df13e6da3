//! What can go wrong between the agent and the kernel. Each message names the object, what was found against what was
//! wanted, and the next step.

use std::io;
use std::path::{Path, PathBuf};

use aya::maps::MapError;
use nix::unistd::geteuid;

use super::abi::{EntriesDiffer, ShapeDiffers};

/// A failed dataplane operation.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The pin directory is on another file system and is not ours to mount over.
    #[error("pin directory {}: {} is not on a BPF file system; run 'mount -t bpf bpf DIR' and set pin_dir below DIR", .pin_dir.display(), .found_at.display())]
    NotBpffs {
        /// What the config says.
        pin_dir: PathBuf,
        /// The nearest directory that exists.
        found_at: PathBuf,
    },
    /// A directory, mount or file of the pin directory could not be made, read or removed.
    #[error("{action} {}: {source}{}", .path.display(), pin_remedy(.action, .path, .source))]
    PinDir {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another agent uses the pin directory.
    #[error("pin directory {}: in use by {}; stop that agent first", .pin_dir.display(), holder(*.pid))]
    Locked {
        /// The directory.
        pin_dir: PathBuf,
        /// Who holds it, where the kernel tells.
        pid: Option<u32>,
    },
    /// Pinned maps were made by a build with another map layout.
    #[error("pins in {}: map layout (ABI) {found}, this build has {wanted}; start the build that made them, or run 'xlb unload' (drops flows)", .pin_dir.display())]
    AbiVersion {
        /// The directory.
        pin_dir: PathBuf,
        /// `Settings.abi_version` as pinned.
        found: u32,
        /// This build's.
        wanted: u32,
    },
    /// A pinned map is not of the shape this build needs.
    #[error("{0}; run 'xlb unload' (drops flows)")]
    Shape(ShapeDiffers),
    /// The sizes in `[limits]` are not those the pinned maps were made with.
    #[error("pins in {}: {}; a map cannot change its size: set [limits] back, or run 'xlb unload' and start again (drops flows)", .pin_dir.display(), list(.differences))]
    LimitsChanged {
        /// The directory.
        pin_dir: PathBuf,
        /// Every map that differs.
        differences: Vec<EntriesDiffer>,
    },
    /// Some maps are pinned and others are not, with packets still going through them.
    #[error("pins in {}: {} {} missing beside {}; somebody removed pins by hand: run 'xlb unload' (drops flows)", .pin_dir.display(), .missing.join(", "), if .missing.len() == 1 { "is" } else { "are" }, .beside)]
    HalfPinned {
        /// The directory.
        pin_dir: PathBuf,
        /// Maps that should be there.
        missing: Vec<String>,
        /// What is there instead.
        beside: String,
    },
    /// The object did not load.
    #[error("BPF object: {source}{hint}")]
    Load {
        /// What aya says.
        source: Box<aya::EbpfError>,
        /// What to do, with its separator.
        hint: &'static str,
    },
    /// The kernel refused a program.
    #[error("BPF program {program}: {reason}{hint}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The kernel's answer and the end of the verifier's log.
        reason: String,
        /// What to do, with its separator.
        hint: &'static str,
    },
    /// The object lacks something this build relies on: a build mistake.
    #[error("BPF object: no {what} '{name}'; the agent and its embedded object do not belong together, build again")]
    ObjectLacks {
        /// "map" or "program".
        what: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// Somebody else's XDP program is on the interface.
    #[error(
        "interface {ifname}: XDP program {} (id {program_id}) is attached already; see 'bpftool prog show id {program_id}' and 'bpftool net show', then take it off with its own tool or '{removal}'",
        quoted(.program_name)
    )]
    ForeignProgram {
        /// The interface.
        ifname: String,
        /// Kernel id of the program.
        program_id: u32,
        /// Its name; may be empty.
        program_name: String,
        /// The command that takes it off.
        removal: String,
    },
    /// The pin of this interface belongs to a link that is attached elsewhere.
    #[error("pin {}: its XDP link is on interface index {ifindex} of another network namespace; use one pin_dir a namespace, or run 'xlb unload' for that one", .path.display())]
    LinkElsewhere {
        /// The pin.
        path: PathBuf,
        /// Interface index over there.
        ifindex: u32,
    },
    /// The interface does not exist (any more).
    #[error("interface {ifname} (index {ifindex}): not in this network namespace; see 'ip link'")]
    InterfaceGone {
        /// Its name.
        ifname: String,
        /// Its index.
        ifindex: u32,
    },
    /// The kernel refused to attach.
    #[error("interface {ifname}: no XDP in {mode} mode: {source}; {hint}")]
    Attach {
        /// The interface.
        ifname: String,
        /// "native" or "generic".
        mode: &'static str,
        /// The kernel's answer.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// Two attached interfaces would share a slot of `xlb_ifaces`.
    #[error(
        "interface index {ifindex}: shares slot {slot} of xlb_ifaces with attached interface index {other}; recreate one of them to get another index"
    )]
    IfaceSlotTaken {
        /// The new one.
        ifindex: u32,
        /// The one that is there.
        other: u32,
        /// The slot.
        slot: u32,
    },
    /// A device map entry was refused because the interface is gone.
    #[error("interface index {ifindex}: cannot be redirected to, it is not in this network namespace; see 'ip link'")]
    TxPortGone {
        /// Its index.
        ifindex: u32,
    },
    /// A read or write past a map's end.
    #[error("map {map}: entries {first}..{end} asked for, it has {entries}; raise the matching key in [limits]")]
    OutOfRange {
        /// The map.
        map: &'static str,
        /// First entry of the access.
        first: u32,
        /// One past its last entry.
        end: u64,
        /// Entries of the map.
        entries: u32,
    },
    /// A map operation failed.
    #[error("map {map}: {action}: {source}{hint}")]
    Map {
        /// The map.
        map: &'static str,
        /// "read", "write", "delete".
        action: &'static str,
        /// Why.
        source: Box<MapError>,
        /// What to do, with its separator.
        hint: &'static str,
    },
    /// Asking the kernel about links or interfaces failed.
    #[error("{action}: {source}")]
    Kernel {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl DataplaneError {
    /// Wraps a failed file operation.
    pub(super) fn pin_dir(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::PinDir { action, path, source }
    }

    /// Wraps a failed query.
    pub(super) fn kernel(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Kernel { action, source }
    }
}

/// What gives the agent's user the directory: a BPF file system is root's, its directories need not be.
fn pin_remedy(action: &str, path: &Path, error: &io::Error) -> String {
    let user = geteuid();
    let mounting = action.starts_with("mount");
    if !matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) || (user.is_root() && !mounting) {
        return String::new();
    }
    if mounting {
        return "; mounting takes root: 'mount -t bpf bpf /sys/fs/bpf', once".to_owned();
    }
    let directory = path.display();
    let above = path.parent().unwrap_or(path).display();
    format!("; user {user} may not; as root: 'chmod o+x {above}' and 'install -d -o {user} -m 0700 {directory}'")
}

/// Reading the name of somebody else's program takes `CAP_SYS_ADMIN`, which the agent gives up.
fn quoted(program_name: &str) -> String {
    if program_name.is_empty() {
        "of another owner".to_owned()
    } else {
        format!("'{program_name}'")
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn list(differences: &[EntriesDiffer]) -> String {
    differences
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
