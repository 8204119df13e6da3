//! Counts what the kernel fails to transmit after the program said redirect: programs on the tracepoints
//! `xdp:xdp_redirect_err` and `xdp:xdp_devmap_xmit`. Not having them is a warning, never a failed start.
//!
//! Tracepoints know no network namespace, and interface numbers repeat between them: the programs compare the
//! namespace of the interface with the agent's (`vmlinux.rs` says where the kernel keeps it).
//!
//! Tracepoint links cannot swap their program, so a new agent detaches the old one first: for a moment nothing is
//! counted, rather than twice.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya::Ebpf;
use lb_common::names;

use super::error::DataplaneError;
use super::load::program_fd;
use super::vmlinux::NetOffsets;
use super::{Warning, pins, sys};

/// (program, raw tracepoint).
const TRACEPOINTS: [(&str, &CStr); 2] = [
    (names::PROGRAM_REDIRECT_ERR, c"xdp_redirect_err"),
    (names::PROGRAM_DEVMAP_XMIT, c"xdp_devmap_xmit"),
];

/// The namespace's number, as the kernel keeps it in `net.ns.inum`.
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// What the programs have to know to count this network namespace alone.
#[derive(Debug)]
pub(super) struct Scope {
    /// Where the kernel keeps what.
    pub(super) offsets: NetOffsets,
    /// Number of the network namespace.
    pub(super) namespace: u32,
}

impl Scope {
    /// Of this kernel and this thread.
    pub(super) fn of_this_thread() -> io::Result<Self> {
        Ok(Self {
            offsets: NetOffsets::of_this_kernel()?,
            namespace: fs::metadata(OWN_NAMESPACE)?.ino() as u32,
        })
    }
}

/// What came of one tracepoint.
#[derive(Debug, Default)]
pub(super) struct Attached {
    /// What to tell the operator.
    pub(super) warning: Option<Warning>,
    /// A link that could not be pinned.
    pub(super) unpinned: Option<OwnedFd>,
}

/// Attaches and pins both; neither without a `scope`.
pub(super) fn attach_all(
    pin_dir: &Path,
    ebpf: &Ebpf,
    scope: &io::Result<Scope>,
) -> Result<Vec<Attached>, DataplaneError> {
    let attach = |(program, tracepoint)| attach(pin_dir, ebpf, scope, program, tracepoint);
    TRACEPOINTS.into_iter().map(attach).collect()
}

fn attach(
    pin_dir: &Path,
    ebpf: &Ebpf,
    scope: &io::Result<Scope>,
    program: &'static str,
    tracepoint: &'static CStr,
) -> Result<Attached, DataplaneError> {
    let path = pins::trace_path(pin_dir, program);
    let program = program_fd(ebpf, program)?;
    pins::remove(&path)?;
    let link = match scope {
        Ok(_) => sys::link_create_raw_tracepoint(program.as_fd(), tracepoint).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let tracepoint = tracepoint.to_str().unwrap_or_default();
    let link = match link {
        Ok(link) => link,
        Err(reason) => {
            let warning = Some(Warning::NotCounting { tracepoint, reason });
            return Ok(Attached {
                warning,
                unpinned: None,
            });
        }
    };
    match sys::obj_pin(link.as_fd(), &path) {
        Ok(()) => Ok(Attached::default()),
        Err(error) => {
            let warning = Some(Warning::CountingEndsWithAgent {
                tracepoint,
                reason: error.to_string(),
            });
            Ok(Attached {
                warning,
                unpinned: Some(link),
            })
        }
    }
}
