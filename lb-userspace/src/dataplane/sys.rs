//! `bpf(2)` calls that aya 0.14 does not offer: links by file descriptor (aya falls back to netlink silently and does
//! not show a link's interface).
//!
//! Source: include/uapi/linux/bpf.h; numbers there are ABI.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytemuck::{Pod, Zeroable};

/// Value of `bpf_link_info.type` of an XDP link.
pub(super) const LINK_TYPE_XDP: u32 = 6;
/// Native mode, for [`link_create_xdp`] (`XDP_FLAGS_DRV_MODE`).
pub(super) const XDP_NATIVE: u32 = 1 << 2;
/// Generic mode, for [`link_create_xdp`] (`XDP_FLAGS_SKB_MODE`).
pub(super) const XDP_GENERIC: u32 = 1 << 1;

const ATTACH_XDP: u32 = 37;

#[derive(Clone, Copy)]
#[repr(i64)]
pub(super) enum Command {
    MapLookup = 1,
    ProgLoad = 5,
    ObjPin = 6,
    ObjGet = 7,
    ProgTestRun = 10,
    ObjGetInfoByFd = 15,
    RawTracepointOpen = 17,
    MapLookupBatch = 24,
    MapUpdateBatch = 26,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkDetach = 34,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct LinkCreateAttr {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    bpf_cookie: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct RawTracepointAttr {
    name: u64,
    prog_fd: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct LinkDetachAttr {
    link_fd: u32,
}

/// What the kernel says about a link. `ifindex` holds for XDP links only; 0: the interface is gone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable, Pod)]
pub(super) struct LinkInfo {
    /// Kind, [`LINK_TYPE_XDP`] for XDP.
    pub(super) kind: u32,
    /// The link's id, as in `bpftool link`.
    pub(super) id: u32,
    /// The attached program's id.
    pub(super) program_id: u32,
    pad: u32,
    /// The interface; 0 once it is gone.
    pub(super) ifindex: u32,
    rest: [u32; 11],
}

/// One `bpf(2)` call.
pub(super) fn bpf<T: Pod>(command: Command, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is a live, initialised value of the size passed; every pointer inside it was made by the calling
    // function from a borrow that outlives the call, with a length the kernel is told or knows from the map.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as i64,
            std::ptr::from_mut(attr),
            size_of_val(attr),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

pub(super) fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the number was just returned by a call that makes a new descriptor; nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

pub(super) fn raw(fd: impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd() as u32
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Opens a pinned object.
pub(super) fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = ObjAttr {
        pathname: path.as_ptr() as u64,
        ..Zeroable::zeroed()
    };
    bpf(Command::ObjGet, &mut attr).map(owned)
}

/// Pins an object.
pub(super) fn obj_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = ObjAttr {
        pathname: path.as_ptr() as u64,
        bpf_fd: raw(fd),
        ..Zeroable::zeroed()
    };
    bpf(Command::ObjPin, &mut attr).map(drop)
}

/// Asks the kernel about a link.
pub(super) fn link_info(fd: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info: LinkInfo = Zeroable::zeroed();
    let mut attr = InfoAttr {
        bpf_fd: raw(fd),
        info_len: size_of::<LinkInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(Command::ObjGetInfoByFd, &mut attr)?;
    Ok(info)
}

/// Attaches an XDP program to an interface of the caller's network namespace. `mode`: [`XDP_NATIVE`] or
/// [`XDP_GENERIC`].
pub(super) fn link_create_xdp(program: BorrowedFd<'_>, ifindex: u32, mode: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        prog_fd: raw(program),
        target: ifindex,
        attach_type: ATTACH_XDP,
        flags: mode,
        bpf_cookie: 0,
    };
    bpf(Command::LinkCreate, &mut attr).map(owned)
}

/// Attaches a program to a raw tracepoint; it runs on every CPU, in every network namespace.
pub(super) fn link_create_raw_tracepoint(program: BorrowedFd<'_>, tracepoint: &CStr) -> io::Result<OwnedFd> {
    let mut attr = RawTracepointAttr {
        name: tracepoint.as_ptr() as u64,
        prog_fd: raw(program),
        ..Zeroable::zeroed()
    };
    bpf(Command::RawTracepointOpen, &mut attr).map(owned)
}

/// Swaps the program of a link; no packet sees neither.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link_fd: raw(link),
        new_prog_fd: raw(program),
        ..Zeroable::zeroed()
    };
    bpf(Command::LinkUpdate, &mut attr).map(drop)
}

/// Detaches a link at once, whoever else holds it.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(Command::LinkDetach, &mut LinkDetachAttr { link_fd: raw(link) }).map(drop)
}
