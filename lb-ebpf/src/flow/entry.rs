//! An entry that stands in a map, where other CPUs read and write it too.
//!
//! Fields are copied out at once. An element can be deleted and reused between lookup and copy (the kernel gives no
//! grace period), so a copy counts only if its id is not 0, has not changed since, and the key's tag matches.
//!
//! (The fast path keeps to the same rule without a copy: it writes words into the packet between two looks at the id. Where the
//! second finds another id, or another key's tag, the packet is dropped: `claim_lost`.)
//!
//! Death: an entry is deleted only by the one who exchanged its id for 0 ([`Entry::kill`]). While it is dead it still
//! occupies its key, so nobody else can claim that key before the killer has deleted it. That is so in the established
//! table alone: the LRU of half-open entries evicts on its own, and an exchange may then succeed on an element that has
//! left its table; nothing may rest on it there but tidiness.

use core::ptr::addr_of_mut;

use lb_common::abi::{FlowValue4, FlowValue6, tcp_seen};

use super::{Flow, Tail};
use crate::{family::Family, packet::MacWords};

/// A live pointer into a flow table.
pub struct Entry<F: Family> {
    value: *mut F::Value,
}

impl<F: Family> Clone for Entry<F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<F: Family> Copy for Entry<F> {}

#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a field's address and the write to it rest on the same promise of `new`"
)]
impl<F: Family> Entry<F> {
    /// Wraps what a lookup returned.
    ///
    /// # Safety
    /// `value` points to a value of a preallocated map (or of a table that outlives the packet): it stays readable and
    /// writable, if perhaps reused, while the packet is processed.
    #[inline(always)]
    pub const unsafe fn new(value: *mut F::Value) -> Self {
        Self { value }
    }

    /// Copies the entry into memory that is not the stack. False: it is being deleted, or was reused for another key
    /// meanwhile.
    #[inline(always)]
    pub fn load_into(&self, key_tag: u32, flow: &mut Flow<F::Addr>) -> bool {
        F::unpack_into(self.value(), flow);
        self.is_still(flow.conn_id, flow.key_tag, key_tag)
    }

    /// Copies what says how the connection is doing.
    #[inline(always)]
    pub fn life(&self, key_tag: u32) -> Option<Life> {
        let (life, found_tag) = F::life(self.value());
        self.is_still(life.conn_id, found_tag, key_tag).then_some(life)
    }

    /// Writes the key of the other direction's entry. The caller has the id and checks it again where the key is used.
    #[inline(always)]
    pub fn peer_key(&self, protocol: u8, key: &mut F::Key) {
        F::peer_key(self.value(), protocol, key);
    }

    /// The addresses to write.
    #[inline(always)]
    pub fn pair(&self) -> F::Pair {
        F::pair(self.value())
    }

    /// The words behind them. They may change under the reader: what is read of them counts only if the id was the same
    /// before and after, and the key's tag matches.
    #[inline(always)]
    pub fn tail(&self) -> &Tail {
        F::tail(self.value())
    }

    #[inline(always)]
    fn value(&self) -> &F::Value {
        // SAFETY: `new` promises a readable value; that it may change under a reader is what `is_still` is for.
        unsafe { &*self.value }
    }

    /// Whether what was copied is one entry, of the key that was asked for.
    #[inline(always)]
    pub fn is_still(&self, conn_id: u64, found_tag: u32, key_tag: u32) -> bool {
        conn_id != 0 && found_tag == key_tag && self.conn_id() == conn_id
    }

    /// The id as it is now.
    #[inline(always)]
    pub fn conn_id(&self) -> u64 {
        // SAFETY: see `new`; an aligned u64. Volatile, not atomic: LLVM selects no atomic load for BPF before v4, and
        // an aligned 64-bit load is one instruction.
        unsafe { self.id().read_volatile() }
    }

    /// Exchanges the id for 0. `Ok` makes the caller the only one who may delete the entry, and obliges it to.
    #[inline(always)]
    pub fn kill(&self, conn_id: u64) -> Result<(), Outlived> {
        // SAFETY: see `new`; an aligned u64.
        let found = unsafe { compare_exchange(self.id(), conn_id, 0) };
        if found == conn_id { Ok(()) } else { Err(Outlived) }
    }

    #[inline(always)]
    fn id(&self) -> *mut u64 {
        // SAFETY: `new` promises the value.
        unsafe { F::Value::conn_id(self.value) }
    }

    /// Writes the tick of the last packet.
    #[inline(always)]
    pub fn set_last_seen(&self, tick: u32) {
        // SAFETY: see `new`; an aligned u32.
        unsafe { F::Value::last_seen(self.value).write_volatile(tick) }
    }

    /// Writes the tick the connection was made at.
    #[inline(always)]
    pub fn set_created(&self, tick: u32) {
        // SAFETY: see `new`; an aligned u32.
        unsafe { F::Value::created(self.value).write_volatile(tick) }
    }

    /// Writes the TCP flags seen.
    #[inline(always)]
    pub fn set_tcp_seen(&self, bits: u8) {
        // SAFETY: see `new`; a byte.
        unsafe { F::Value::tcp_seen(self.value).write_volatile(bits) }
    }

    /// Remembers a FIN in this direction, beside what other CPUs have written since.
    #[inline(always)]
    pub fn saw_fin(&self) {
        // SAFETY: see `new`; a byte.
        let seen = unsafe { F::Value::tcp_seen(self.value).read_volatile() };
        if seen & tcp_seen::FIN == 0 {
            self.set_tcp_seen(seen | tcp_seen::FIN);
        }
    }

    /// Writes the flow flags.
    #[inline(always)]
    pub fn set_flags(&self, bits: u8) {
        // SAFETY: see `new`; a byte.
        unsafe { F::Value::flags(self.value).write_volatile(bits) }
    }

    /// Writes the backend's initial sequence number.
    #[inline(always)]
    pub fn set_backend_isn(&self, isn: u32) {
        // SAFETY: see `new`; an aligned u32.
        unsafe { F::Value::backend_isn(self.value).write_volatile(isn) }
    }

    /// Writes where the client's side is.
    #[inline(always)]
    pub fn set_hop(&self, peer_mac: MacWords, own_mac: MacWords, ifindex: u32) {
        // SAFETY: see `new`; a reader on another CPU may mix old and new bytes for one packet, which then goes to the
        // old or to a wrong MAC on the same wire, as one sent a moment earlier would have.
        unsafe { F::Value::hop(self.value, peer_mac, own_mac, ifindex) }
    }
}

/// Exchanges `old` for `new` and returns what stood there. rustc declares BPF to be without compare-and-exchange, but
/// the v3 instruction set (Linux 5.12) has it.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn compare_exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    let found;
    // SAFETY: the caller's `word` is a valid aligned u64; the instruction reads and writes nothing else.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inlateout("r0") old => found,
        );
    }
    found
}

/// Exchanges `old` for `new` and returns what stood there.
#[cfg(not(target_arch = "bpf"))]
unsafe fn compare_exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    // SAFETY: the caller's `word` is a valid aligned u64.
    let word = unsafe { core::sync::atomic::AtomicU64::from_ptr(word) };
    let order = core::sync::atomic::Ordering::SeqCst;
    match word.compare_exchange(old, new, order, order) {
        Ok(found) | Err(found) => found,
    }
}

/// How a connection is doing, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "lb_common::abi::FlowValue4 documents each field")]
pub struct Life {
    pub conn_id: u64,
    pub last_seen: u32,
    pub created: u32,
    pub backend_id: u32,
    pub tcp_seen: u8,
    pub flags: u8,
}

/// The entry had another id: somebody else killed it, or the element was reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlived;

/// Where the fields that are written in place stand in a value.
#[expect(
    clippy::missing_safety_doc,
    reason = "all take a pointer that Entry::new vouches for"
)]
#[expect(missing_docs, reason = "named as the fields")]
pub trait EntryValue: Copy {
    unsafe fn conn_id(this: *mut Self) -> *mut u64;
    unsafe fn last_seen(this: *mut Self) -> *mut u32;
    unsafe fn created(this: *mut Self) -> *mut u32;
    unsafe fn tcp_seen(this: *mut Self) -> *mut u8;
    unsafe fn flags(this: *mut Self) -> *mut u8;
    unsafe fn backend_isn(this: *mut Self) -> *mut u32;
    unsafe fn hop(this: *mut Self, peer_mac: MacWords, own_mac: MacWords, ifindex: u32);
}

macro_rules! entry_value {
    ($ty:ty) => {
        impl EntryValue for $ty {
            entry_value!(@field conn_id: u64, last_seen: u32, created: u32, tcp_seen: u8, flags: u8, backend_isn: u32);

            #[inline(always)]
            unsafe fn hop(this: *mut Self, peer_mac: MacWords, own_mac: MacWords, ifindex: u32) {
                // SAFETY: the caller's pointer is valid.
                unsafe {
                    peer_mac.write(&mut (*this).peer_mac);
                    own_mac.write(&mut (*this).own_mac);
                    addr_of_mut!((*this).ifindex).write(ifindex);
                }
            }
        }
    };
    (@field $($field:ident: $field_ty:ty),*) => {$(
        #[inline(always)]
        unsafe fn $field(this: *mut Self) -> *mut $field_ty {
            // SAFETY: the caller's pointer is valid.
            unsafe { addr_of_mut!((*this).$field) }
        }
    )*};
}

entry_value!(FlowValue4);
entry_value!(FlowValue6);

const _: () = {
    // `Entry::load_into` and the fast path's words rely on the id being first.
    assert!(core::mem::offset_of!(FlowValue4, conn_id) == 0);
    assert!(core::mem::offset_of!(FlowValue6, conn_id) == 0);
};
