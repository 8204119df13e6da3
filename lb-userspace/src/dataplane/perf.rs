//! `perf_event_open(2)` for a tracepoint, and a tracefs to find its number in.
//!
//! Source: include/uapi/linux/perf_event.h and mount.h; numbers there are ABI.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use bytemuck::{Pod, Zeroable};

use super::sys::owned;

/// `perf_event_attr` of the first published size.
#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct PerfAttr {
    kind: u32,
    size: u32,
    config: u64,
    unused: [u64; 6],
}

/// Opens the perf event of a tracepoint by its tracefs id. A BPF program on it runs on every CPU.
pub(super) fn event_of_tracepoint(id: u64) -> io::Result<OwnedFd> {
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    const ANY_PROCESS: i32 = -1;
    const FIRST_CPU: i32 = 0;
    const NO_GROUP: i32 = -1;
    const CLOSE_ON_EXEC: u64 = 8;
    let attr = PerfAttr {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<PerfAttr>() as u32,
        config: id,
        ..Zeroable::zeroed()
    };
    // SAFETY: `attr` is a live, initialised value that states its own size; the kernel only reads it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            std::ptr::from_ref(&attr),
            ANY_PROCESS,
            FIRST_CPU,
            NO_GROUP,
            CLOSE_ON_EXEC,
        )
    };
    if fd < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(owned(fd))
    }
}

/// A tracefs instance that is mounted nowhere: nobody else sees it, and it goes with the descriptor.
pub(super) fn detached_tracefs() -> io::Result<OwnedFd> {
    const CONFIG_CREATE: u32 = 6;
    const NO_TEXT: *const libc::c_char = std::ptr::null();
    // SAFETY: the name is a literal closed by a zero.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), 1_u32) };
    if context < 0 {
        return Err(io::Error::last_os_error());
    }
    let context = owned(context);
    // SAFETY: the command takes neither key nor value; null is what it wants.
    let created = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            CONFIG_CREATE,
            NO_TEXT,
            NO_TEXT,
            0_i32,
        )
    };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers are passed.
    let mount = unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1_u32, 0_u32) };
    if mount < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(owned(mount))
    }
}
