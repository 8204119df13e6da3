//! Counts what the kernel fails to transmit after the program said redirect: programs on the tracepoints
//! `xdp:xdp_redirect_err` and `xdp:xdp_devmap_xmit`. Not having them is a warning, never a failed start.
//!
//! Tracepoint links cannot swap their program, so a new agent detaches the old one first: for a moment nothing is
//! counted, rather than twice.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::Ebpf;
use lb_common::names;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::error::DataplaneError;
use super::load::program_fd;
use super::{Warning, perf, pins, sys};

/// (program, tracepoint of category `xdp`).
const TRACEPOINTS: [(&str, &str); 2] = [
    (names::PROGRAM_REDIRECT_ERR, "xdp_redirect_err"),
    (names::PROGRAM_DEVMAP_XMIT, "xdp_devmap_xmit"),
];

/// Where tracefs may be mounted.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// What came of one tracepoint.
#[derive(Debug, Default)]
pub(super) struct Attached {
    /// What to tell the operator.
    pub(super) warning: Option<Warning>,
    /// A link that could not be pinned.
    pub(super) unpinned: Option<OwnedFd>,
}

/// Attaches and pins both.
pub(super) fn attach_all(pin_dir: &Path, ebpf: &Ebpf) -> Result<Vec<Attached>, DataplaneError> {
    let attach = |(program, tracepoint)| attach(pin_dir, ebpf, program, tracepoint);
    TRACEPOINTS.into_iter().map(attach).collect()
}

fn attach(
    pin_dir: &Path,
    ebpf: &Ebpf,
    program: &'static str,
    tracepoint: &'static str,
) -> Result<Attached, DataplaneError> {
    let path = pins::trace_path(pin_dir, program);
    let program = program_fd(ebpf, program)?;
    pins::remove(&path)?;
    let link = match link(program.as_fd(), tracepoint) {
        Ok(link) => link,
        Err(error) => {
            let warning = Some(Warning::NotCounting {
                tracepoint,
                reason: error.to_string(),
            });
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

fn link(program: BorrowedFd<'_>, tracepoint: &str) -> io::Result<OwnedFd> {
    let event = perf::event_of_tracepoint(id(tracepoint)?)?;
    sys::link_create_perf(program, event.as_fd())
}

/// The kernel's number of a tracepoint, from tracefs where it is mounted, else from an instance of our own.
fn id(tracepoint: &str) -> io::Result<u64> {
    let relative = format!("events/xdp/{tracepoint}/id");
    let mounted = TRACEFS
        .into_iter()
        .find_map(|root| File::open(Path::new(root).join(&relative)).ok());
    let mut file = match mounted {
        Some(file) => file,
        None => {
            let root = perf::detached_tracefs()?;
            File::from(openat(
                root,
                relative.as_str(),
                OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?)
        }
    };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    text.trim().parse().map_err(io::Error::other)
}
