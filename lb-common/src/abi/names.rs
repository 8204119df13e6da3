//! `xlb_names`: HASH. The names behind service and backend ids, for `bpftool map dump` (the program never reads it).

use bytemuck::{Pod, Zeroable};

use crate::limits::NAME_BYTES;

/// Key of `xlb_names`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct NameKey {
    /// One of [`name_kind`].
    pub kind: u32,
    /// Service id or backend id.
    pub id: u32,
}

super::layout!(NameKey, size 8, align 4, { kind: 0, id: 4 });

/// Value of `xlb_names`: `web` for a service, `web/a` for a backend; UTF-8, cut to fit, closed by zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Name {
    /// The text. Signed bytes: the build marks them as `char` in the BTF, so that bpftool prints a string.
    pub name: [i8; NAME_BYTES],
}

super::layout!(Name, size 64, align 1, { name: 0 });

/// Values of [`NameKey::kind`].
pub mod name_kind {
    /// `id` is a service id.
    pub const SERVICE: u32 = 1;
    /// `id` is a backend id.
    pub const BACKEND: u32 = 2;
}
