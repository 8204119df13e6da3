//! What one scene owns outside its namespaces: a unique prefix for names, a directory for files, a private bpffs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Lifetime, Namespace, sweep_stale};

/// First part of every name that tests give; the process id follows, so that a sweep can tell whose it is.
pub(super) const TEST_PREFIX: &str = "xlbt";

/// Prefix, directory and bpffs of one scene.
#[derive(Debug)]
pub struct Room {
    prefix: String,
    dir: PathBuf,
    lifetime: Lifetime,
}

impl Room {
    /// A room of this process that no other has. The first one of a process sweeps what killed runs left.
    pub fn for_test() -> Result<Self> {
        static SWEPT: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(sweep_stale);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{TEST_PREFIX}{}-{number}", process::id());
        let dir = env::temp_dir().join(&prefix);
        Self::new(&prefix, &dir)
    }

    /// A room with a given prefix and directory; the directory must not exist.
    pub fn new(prefix: &str, dir: &Path) -> Result<Self> {
        fs::create_dir(dir).with_context(|| format!("create {}", dir.display()))?;
        let room = Self {
            prefix: prefix.to_owned(),
            dir: dir.to_owned(),
            lifetime: Lifetime::Scoped,
        };
        let bpffs = room.bpffs();
        fs::create_dir(&bpffs).with_context(|| format!("create {}", bpffs.display()))?;
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .with_context(|| format!("mount bpffs at {}", bpffs.display()))?;
        Ok(room)
    }

    /// Makes the namespace `<prefix>-<role>`.
    pub fn namespace(&self, role: &str) -> Result<Namespace> {
        Namespace::create(&format!("{}-{role}", self.prefix))
    }

    /// A path inside the room's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The private bpffs.
    pub fn bpffs(&self) -> PathBuf {
        self.dir.join("bpf")
    }

    /// Sets what dropping does.
    pub fn set_lifetime(&mut self, lifetime: Lifetime) {
        self.lifetime = lifetime;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Scoped {
            end_room(&self.dir);
        }
    }
}

/// Unmounts a room's bpffs and removes its directory. A failure leaves files that the next sweep removes.
pub(super) fn end_room(dir: &Path) {
    let _ = umount2(&dir.join("bpf"), MntFlags::MNT_DETACH);
    let _ = fs::remove_dir_all(dir);
}
