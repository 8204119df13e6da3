//! One application of a difference: op after op, stopping where a later write would rely on one that failed.

use std::ops::Range;

use crate::dataplane::{Dataplane, Run};
use crate::state::{Image, Op};

use super::fold::fold;

/// What came of one difference.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Positions of the writes that succeeded.
    pub done: Vec<usize>,
    /// Writes that failed, with the reason.
    pub failed: Vec<(String, String)>,
    /// Whether the pass went through all writes.
    pub ended: Ended,
    /// Writes that were not tried because an earlier one failed.
    pub left: usize,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ended {
    /// Every write was tried.
    #[default]
    Through,
    /// At a write that others rely on.
    AtFailure,
}

impl Applied {
    /// The image the maps hold now.
    pub(super) fn image(&self, old: &Image, new: Image, ops: &[Op]) -> Image {
        if self.failed.is_empty() {
            return new;
        }
        let mut image = old.clone();
        for op in self.done.iter().filter_map(|index| ops.get(*index)) {
            fold(&mut image, op);
        }
        image
    }
}

/// Writes `ops`.
///
/// A write about a device (it may just have vanished) fails alone. Any other failure ends the pass: the order of a
/// difference is what makes it safe, so nothing may overtake a write.
pub(super) fn apply(dataplane: &mut Dataplane, ops: &[Op]) -> Applied {
    let mut applied = Applied::default();
    let mut begun = 0;
    while let Some(rest) = ops.get(begun..).filter(|rest| !rest.is_empty()) {
        begun += match dataplane.apply_run(rest) {
            Run::Written(count) => {
                applied.done.extend(begun..begun + count);
                count
            }
            Run::Singly(count) => {
                apply_singly(dataplane, ops, begun..begun + count, &mut applied);
                if applied.ended == Ended::AtFailure {
                    break;
                }
                count
            }
        };
    }
    applied
}

fn apply_singly(dataplane: &mut Dataplane, ops: &[Op], these: Range<usize>, applied: &mut Applied) {
    for (index, op) in ops.iter().enumerate().take(these.end).skip(these.start) {
        let Err(error) = dataplane.apply(op) else {
            applied.done.push(index);
            continue;
        };
        applied.failed.push((name(op), error.to_string()));
        if !is_about_a_device(op) {
            applied.ended = Ended::AtFailure;
            applied.left = ops.len() - index - 1;
            return;
        }
    }
}

const fn is_about_a_device(op: &Op) -> bool {
    matches!(
        op,
        Op::IfaceSet(_) | Op::IfaceClear(_) | Op::TxPortSet(_) | Op::TxPortClear(_)
    )
}

/// A write in words, for status and log.
pub(super) fn name(op: &Op) -> String {
    match op {
        Op::Settings(_) => "settings".to_owned(),
        Op::IfaceSet(value) => format!("interface {}", value.ifindex),
        Op::IfaceClear(ifindex) => format!("interface {ifindex} (clear)"),
        Op::TxPortSet(ifindex) => format!("transmit port {ifindex}"),
        Op::TxPortClear(ifindex) => format!("transmit port {ifindex} (clear)"),
        Op::OursSet { block, .. } => format!("ours block {block}"),
        Op::EndpointSet(key, _) => format!("endpoint port {}/{}", key.port, key.protocol),
        Op::EndpointDelete(key) => format!("endpoint port {}/{} (delete)", key.port, key.protocol),
        Op::AddrSet(key, _) => format!("address {}", super::outputs::address(&key.address)),
        Op::AddrDelete(key) => format!("address {} (delete)", super::outputs::address(&key.address)),
        Op::ServiceSet { id, .. } => format!("service {id}"),
        Op::ServiceClear(id) => format!("service {id} (clear)"),
        Op::BackendSet { id, .. } => format!("backend {id}"),
        Op::BackendClear(id) => format!("backend {id} (clear)"),
        Op::RingWrite { offset, slots } => format!("ring of {} slots at {offset}", slots.len()),
        Op::SnatSet { index, .. } => format!("snat address {index}"),
        Op::SnatClear(index) => format!("snat address {index} (clear)"),
        Op::NameSet(key, _) => format!("name {}/{}", key.kind, key.id),
        Op::NameDelete(key) => format!("name {}/{} (delete)", key.kind, key.id),
    }
}
