//! The BPF file system itself: mounted where there is none, in a mount namespace of the test's own.

use std::path::Path;
use std::thread;

use anyhow::{Result, ensure};
use lb_userspace::dataplane::{Dataplane, Warning};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use xlb_tests::require;

use super::options;

const STANDARD: &str = "/sys/fs/bpf";

/// Calls `f` in a thread whose mounts nobody else sees, without any BPF file system at the standard place.
fn without_bpffs<R: Send + 'static>(f: impl FnOnce() -> Result<R> + Send + 'static) -> Result<R> {
    let inside = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&Path>, "/", None::<&Path>, private, None::<&Path>)?;
        while statfs(STANDARD)?.filesystem_type() == BPF_FS_MAGIC {
            umount2(STANDARD, MntFlags::MNT_DETACH)?;
        }
        f()
    });
    inside.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
}

#[test]
fn a_missing_bpf_file_system_is_mounted_and_a_private_one_is_warned_about() -> Result<()> {
    require!();
    without_bpffs(|| {
        let options = options(Path::new(STANDARD).join("xlb"))?;
        let (dataplane, _) = Dataplane::open(&options)?;
        ensure!(
            statfs(STANDARD)?.filesystem_type() == BPF_FS_MAGIC,
            "nothing was mounted"
        );
        assert_eq!(dataplane.warnings(), [Warning::PinsEndWithMountNamespace]);
        drop(dataplane);
        // The next one finds it mounted.
        let (_, adoption) = Dataplane::open(&options)?;
        ensure!(
            matches!(adoption, lb_userspace::dataplane::Adoption::Adopted { .. }),
            "{adoption:?}"
        );
        Ok(())
    })
}

#[test]
fn tracepoints_are_attached_where_no_tracefs_is_mounted() -> Result<()> {
    require!();
    without_bpffs(|| {
        for tracefs in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing", "/sys/kernel/debug"] {
            // Fails where nothing is mounted, which is what is wanted.
            let _ = umount2(tracefs, MntFlags::MNT_DETACH);
        }
        ensure!(
            !Path::new("/sys/kernel/tracing/events").exists(),
            "tracefs is still there"
        );
        let (dataplane, _) = Dataplane::open(&options(Path::new(STANDARD).join("xlb"))?)?;
        let not_counting = |warning: &&Warning| matches!(warning, Warning::NotCounting { .. });
        assert_eq!(dataplane.warnings().iter().find(not_counting), None);
        Ok(())
    })
}
