//! Successive ops that set entries of one map, written by one system call. A config from nothing sets a name and an entry for
//! each backend: hundreds of thousands of calls otherwise. The kernel writes the entries of a call one after another, so the
//! order of the ops stays what it is.

use std::os::fd::BorrowedFd;

use bytemuck::Pod;

use super::{Dataplane, batch};
use crate::state::Op;

/// Most entries of one call: bounds the buffers.
const MOST: usize = 4_096;

/// What came of the first ops of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// As many are written.
    Written(usize),
    /// As many, one at least, have to be written one by one: there is no run, or its call failed. Then some of it may be written
    /// already, and which one failed, and why, is found by writing them again.
    Singly(usize),
}

/// See [`Dataplane::apply_run`].
pub(super) fn apply_run(dataplane: &mut Dataplane, ops: &[Op]) -> Run {
    let maps = &dataplane.maps;
    match ops.first() {
        Some(Op::NameSet(..)) => write(maps.names.fd(), ops, |op| match op {
            Op::NameSet(key, value) => Some((*key, *value)),
            _ => None,
        }),
        Some(Op::EndpointSet(..)) => write(maps.endpoints.fd(), ops, |op| match op {
            Op::EndpointSet(key, value) => Some((*key, *value)),
            _ => None,
        }),
        Some(Op::BackendSet { .. }) => write(maps.backends.fd(), ops, |op| match op {
            Op::BackendSet { id, value } => Some((*id, *value)),
            _ => None,
        }),
        Some(Op::ServiceSet { .. }) => write(maps.services.fd(), ops, |op| match op {
            Op::ServiceSet { id, value } => Some((*id, *value)),
            _ => None,
        }),
        _ => Run::Singly(1),
    }
}

fn write<K: Pod, V: Pod>(map: BorrowedFd<'_>, ops: &[Op], entry: impl Fn(&Op) -> Option<(K, V)>) -> Run {
    let (keys, values): (Vec<K>, Vec<V>) = ops.iter().take(MOST).map_while(entry).unzip();
    if keys.len() < 2 {
        return Run::Singly(1);
    }
    match batch::update(map, &keys, &values) {
        Ok(written) if written as usize == keys.len() => Run::Written(keys.len()),
        // Written again one by one, to name the op that fails. (Should an earlier one fail then, the entries behind it stay
        // until the next start reads the maps.) Short, an entry that the kernel refuses, or a kernel without batches (before 5.6).
        Ok(_) | Err(_) => Run::Singly(keys.len()),
    }
}
