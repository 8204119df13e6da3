//! The embedded objects load: the pipeline from lb-ebpf to the kernel works.

use lb_userspace::{BPF_OBJECT, BPF_OBJECT_LOG};

#[test]
fn both_objects_are_bpf_elf_files() {
    for object in [BPF_OBJECT, BPF_OBJECT_LOG] {
        assert_eq!(object.get(..4), Some(b"\x7fELF".as_slice()));
        // e_machine, little endian: EM_BPF is 247.
        assert_eq!(object.get(18..20), Some([247, 0].as_slice()));
    }
}
