//! The BPF file system below the pin directory, and the memory limit that old kernels put on maps.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::getppid;

use super::Warning;
use super::error::DataplaneError;

/// Where BPF file systems are mounted by convention; the only place we mount one ourselves.
const STANDARD: &str = "/sys/fs/bpf";

/// Makes the pin directory, mounting a BPF file system at the standard place if there is none.
pub(super) fn prepare(pin_dir: &Path) -> Result<Option<Warning>, DataplaneError> {
    let mut warning = None;
    if !on_bpffs(&nearest(pin_dir))? {
        if !pin_dir.starts_with(STANDARD) {
            return Err(DataplaneError::NotBpffs {
                pin_dir: pin_dir.to_owned(),
                found_at: nearest(pin_dir),
            });
        }
        mount_standard()?;
        warning = in_private_mounts().then_some(Warning::PinsEndWithMountNamespace);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(pin_dir)
        .map_err(DataplaneError::pin_dir("make pin directory", pin_dir))?;
    Ok(warning)
}

/// Kernels before 5.11 count maps against RLIMIT_MEMLOCK. A refusal is no error here: creating the map will say.
pub(super) fn lift_memory_limit() {
    const UNLIMITED: rlim_t = libc::RLIM_INFINITY;
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, UNLIMITED, UNLIMITED) {
        tracing::debug!(%error, "memlock_limit_kept");
    }
}

/// The path itself or its nearest ancestor that exists.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"))
        .to_owned()
}

fn on_bpffs(path: &Path) -> Result<bool, DataplaneError> {
    let found = statfs(path).map_err(|error| DataplaneError::pin_dir("ask about", path)(error.into()))?;
    Ok(found.filesystem_type() == BPF_FS_MAGIC)
}

fn mount_standard() -> Result<(), DataplaneError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), STANDARD, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|error| DataplaneError::pin_dir("mount a BPF file system at", STANDARD)(error.into()))
}

/// Whether this thread sees other mounts than init, or than its parent where init may not be asked: a mount made here may
/// go with the last process that sees it.
fn in_private_mounts() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    let outer = namespace("1").or_else(|_| namespace(&getppid().to_string()));
    match (namespace("thread-self"), outer) {
        (Ok(ours), Ok(outer)) => ours != outer,
        _ => false,
    }
}
