//! The two BPF objects that build.rs compiled from lb-ebpf, embedded in this binary.

/// Forces the alignment of embedded bytes: an ELF reader casts headers in place.
#[repr(C, align(32))]
struct Aligned<Bytes: ?Sized>(Bytes);

static PRODUCTION: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("XLB_BPF_OBJECT")));
static WITH_LOG: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("XLB_BPF_OBJECT_LOG")));

/// The production object: an ELF file with BTF and no packet logging.
pub static BPF_OBJECT: &[u8] = &PRODUCTION.0;
/// The same program with aya-log, loaded when packet logging is asked for.
pub static BPF_OBJECT_LOG: &[u8] = &WITH_LOG.0;
