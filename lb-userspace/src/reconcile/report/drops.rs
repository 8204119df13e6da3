//! Reasons and transmit failures with names and meanings.

use lb_common::abi::ReasonStats;
use lb_common::reason::{AnswerReason, DropReason, PassReason};

use super::{Snapshot, interface_name};
use crate::reconcile::Drops;
use crate::view::{AnswerRow, CpuCountersView, DropRow, DropsView, SCHEMA, Timestamp, TxErrorRow};

/// Counters of reasons with names and meanings.
pub fn drops_view(snapshot: &Snapshot, drops: &Drops, now: Timestamp) -> DropsView {
    let row = |index: u32, reason: &str, meaning: &str| {
        let zero = ReasonStats::default();
        let stats = drops.reasons.get(index as usize).unwrap_or(&zero);
        DropRow {
            reason: reason.to_owned(),
            packets: stats.packets,
            bytes: stats.bytes,
            packets_per_s: 0.0,
            // Doc comments keep the blank after `///`.
            meaning: meaning.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    };
    let drop_row = |reason: &DropReason| row(reason.index(), reason.as_str(), reason.meaning());
    let pass_row = |reason: &PassReason| row(reason.index(), reason.as_str(), reason.meaning());
    let answer_row = |reason: &AnswerReason| -> AnswerRow { row(reason.index(), reason.as_str(), reason.meaning()) };
    let errno = |errno: u32| (errno != 0).then(|| std::io::Error::from_raw_os_error(errno as i32).to_string());
    DropsView {
        schema: SCHEMA,
        now,
        interval_s: 0.0,
        drops: DropReason::ALL.iter().map(drop_row).collect(),
        passes: PassReason::ALL.iter().map(pass_row).collect(),
        answers: AnswerReason::ALL.iter().map(answer_row).collect(),
        tx_errors: drops
            .tx_errors
            .iter()
            .map(|(ifindex, errors)| TxErrorRow {
                interface: if *ifindex == 0 {
                    "-".to_owned()
                } else {
                    interface_name(snapshot, *ifindex)
                },
                ifindex: *ifindex,
                redirect_errors: errors.redirect_errors,
                xmit_drops: errors.xmit_drops,
                errors_per_s: 0.0,
                last_redirect_error: errno(errors.last_redirect_errno),
                last_xmit_error: errno(errors.last_xmit_errno),
            })
            .collect(),
        tx_errors_missing: drops.tx_errors_missing.clone(),
        cpu: CpuCountersView {
            connections: drops.cpu.connections,
            hops_moved: drops.cpu.hops_moved,
            tuples_reused_early: drops.cpu.tuples_reused_early,
        },
    }
}
