//! Stores straight into an array map, through a mapping of just the pages that hold the entries: no system call an entry,
//! and nothing stays mapped. It knows nothing of rings, and writes what it is given, where it is told.
//!
//! Source: `array_map_mmap` in the kernel's kernel/bpf/arraymap.c (since 5.5): only maps made with `BPF_F_MMAPABLE` can be
//! mapped, and entries stand 8 bytes apart or a multiple of that.

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{SysconfVar, sysconf};

/// `BPF_F_MMAPABLE`.
pub(super) const MAPPABLE: u32 = 1 << 10;

/// Words from one entry of four bytes to the next: the kernel rounds entries of an array up to eight.
const STRIDE_WORDS: usize = 2;
const WORD_BYTES: usize = size_of::<u32>();

/// Writes `values` to the entries from `first` of an array map whose values are four bytes. An error leaves the map as it
/// was: either the pages are mapped or nothing is written. The kernel refuses what lies past the map's last page; a caller
/// keeps to its last entry.
///
/// Each value is stored at once, so a program reads the old or the new one. All are visible before anything that the caller
/// writes afterwards.
pub(super) fn store(map: BorrowedFd<'_>, first: u32, values: &[u32]) -> io::Result<()> {
    let start = first as usize * STRIDE_WORDS * WORD_BYTES;
    let span = values.len() * STRIDE_WORDS * WORD_BYTES;
    let page = page_bytes()?;
    // A mapping starts at a page, entries need not.
    let before = start % page;
    let window = Window::open(map, start - before, before + span)?;
    let entries = window.words().iter().skip(before / WORD_BYTES).step_by(STRIDE_WORDS);
    for (word, value) in entries.zip(values) {
        word.store(*value, Ordering::Relaxed);
    }
    // What leads packets here (the service's entry) is written by a later system call of this thread: its store must not
    // overtake these. On x86 none would; elsewhere the kernel promises nothing on the way in.
    fence(Ordering::SeqCst);
    Ok(())
}

fn page_bytes() -> io::Result<usize> {
    let bytes = sysconf(SysconfVar::PAGE_SIZE)?;
    bytes
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|bytes| bytes.is_power_of_two())
        .ok_or_else(|| io::Error::other("the size of a page is not known"))
}

/// Some pages of a map, until dropped.
struct Window {
    at: NonNull<c_void>,
    bytes: NonZeroUsize,
}

impl Window {
    fn open(map: BorrowedFd<'_>, offset: usize, bytes: usize) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: without an address of ours and without MAP_FIXED the kernel takes room where nothing is mapped, so no
        // memory that Rust knows changes.
        let at = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, map, offset) }?;
        Ok(Self { at, bytes })
    }

    /// All of it. Atomic, for the program and other processes read and write the same memory.
    fn words(&self) -> &[AtomicU32] {
        let words = self.bytes.get() / WORD_BYTES;
        // SAFETY: `open` mapped that many bytes, readable and writable, at a page and so aligned; `drop` alone unmaps them, and
        // a borrow of `self` ends before it. The map cannot shrink. Any bytes are a u32, and whoever else has the memory makes
        // whole-word accesses.
        unsafe { std::slice::from_raw_parts(self.at.cast().as_ptr(), words) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: `open` mapped exactly this, and nothing borrows it any more. It fails only for arguments that were never
        // mapped.
        let unmapped = unsafe { munmap(self.at, self.bytes.get()) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}
