//! One agent a pin directory: a lock on the directory itself, so that agents in different mount namespaces, with a BPF
//! file system each, do not disturb each other, and no stale file stays behind.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};

use super::Warning;
use super::bpffs;
use super::error::DataplaneError;

/// The lock; it goes with this value, or with the process.
#[derive(Debug)]
pub struct PinLock {
    #[expect(dead_code, reason = "held for its lock, which ends when it is dropped")]
    directory: Flock<File>,
    warning: Option<Warning>,
}

impl PinLock {
    /// What is to be told about the BPF file system that was mounted for it.
    pub fn warning(&self) -> Option<&Warning> {
        self.warning.as_ref()
    }
}

/// Takes the pin directory for this process, making it if need be.
pub fn lock(pin_dir: &Path) -> Result<PinLock, DataplaneError> {
    let warning = bpffs::prepare(pin_dir)?;
    bpffs::lift_memory_limit();
    Ok(PinLock {
        warning,
        ..hold(pin_dir)?
    })
}

/// Takes a pin directory that exists.
pub(super) fn hold(pin_dir: &Path) -> Result<PinLock, DataplaneError> {
    let directory = File::open(pin_dir).map_err(DataplaneError::pin_dir("open pin directory", pin_dir))?;
    match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
        Ok(directory) => Ok(PinLock {
            directory,
            warning: None,
        }),
        Err((directory, Errno::EWOULDBLOCK)) => Err(DataplaneError::Locked {
            pin_dir: pin_dir.to_owned(),
            pid: holder(&directory),
        }),
        Err((_, error)) => Err(DataplaneError::pin_dir("lock pin directory", pin_dir)(error.into())),
    }
}

/// Who holds the lock, from /proc/locks: `1: FLOCK  ADVISORY  WRITE 4242 00:2f:1234 0 EOF`.
fn holder(directory: &File) -> Option<u32> {
    let metadata = directory.metadata().ok()?;
    let device = metadata.dev();
    let wanted = format!("{:02x}:{:02x}:{}", major(device), minor(device), metadata.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (kind, pid, place) = (fields.next()?, fields.nth(2)?, fields.next()?);
        (kind == "FLOCK" && place == wanted).then(|| pid.parse().ok())?
    })
}
