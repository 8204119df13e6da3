//! The BPF objects that build.rs compiled from lb-ebpf, embedded where they are used.

/// Forces the alignment of embedded bytes: an ELF reader casts headers in place.
#[repr(C, align(32))]
struct Aligned<Bytes: ?Sized>(Bytes);

static PRODUCTION: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("XLB_BPF_OBJECT")));
static WITH_LOG: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("XLB_BPF_OBJECT_LOG")));
static BENCH: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("XLB_BPF_OBJECT_BENCH")));

/// The production object: an ELF file with BTF and no packet logging.
pub static BPF_OBJECT: &[u8] = &PRODUCTION.0;
/// The same program with aya-log, loaded when packet logging is asked for.
pub static BPF_OBJECT_LOG: &[u8] = &WITH_LOG.0;
/// The programs that `cargo xtask bench` measures with; `xlb` does not contain them.
pub static BPF_OBJECT_BENCH: &[u8] = &BENCH.0;
