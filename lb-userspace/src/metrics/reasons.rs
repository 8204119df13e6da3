//! Families about packets that were not forwarded, and what the kernel failed to send.

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::encode::{Encoded, counter, family};
use crate::view::{DropRow, DropsView};

/// Reasons, and what the kernel failed to send.
pub(super) fn reasons(encoder: &mut DescriptorEncoder<'_>, drops: &DropsView) -> Encoded {
    let sections: [(&str, &str, &[DropRow]); 3] = [
        (
            "xlb_dropped_packets",
            "Packets dropped, by reason (docs/reasons.md).",
            &drops.drops,
        ),
        (
            "xlb_passed_packets",
            "Packets left to the kernel, by reason (docs/reasons.md).",
            &drops.passes,
        ),
        (
            "xlb_answered_packets",
            "Packets answered by the program itself, by reason (docs/reasons.md).",
            &drops.answers,
        ),
    ];
    for (name, help, rows) in sections {
        let mut metric = family(encoder, name, help, MetricType::Counter)?;
        for row in rows {
            counter(&mut metric, &[("reason", &row.reason)], row.packets)?;
        }
    }
    let help = "Frames that the kernel refused after the program had said redirect.";
    let mut refused = family(encoder, "xlb_redirect_errors", help, MetricType::Counter)?;
    for row in &drops.tx_errors {
        counter(&mut refused, &[("interface", &row.interface)], row.redirect_errors)?;
    }
    let help = "Frames that the driver did not take after a redirect.";
    let mut lost = family(encoder, "xlb_transmit_drops", help, MetricType::Counter)?;
    for row in &drops.tx_errors {
        counter(&mut lost, &[("interface", &row.interface)], row.xmit_drops)?;
    }
    let singles = [
        ("xlb_connections", "Connections made.", drops.cpu.connections),
        (
            "xlb_client_hops_moved",
            "Times a client-side next hop changed in mid-connection.",
            drops.cpu.hops_moved,
        ),
        (
            "xlb_snat_tuples_reused_early",
            "SNAT tuples taken over less than 60 s after they had closed.",
            drops.cpu.tuples_reused_early,
        ),
    ];
    for (name, help, value) in singles {
        ConstCounter::new(value).encode(family(encoder, name, help, MetricType::Counter)?)?;
    }
    Ok(())
}
