//! The metric families.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::view::{BackendView, DropRow, DropsView, Overall, ServiceView, StatusView, Verdict, approximate};

type Encoded = Result<(), fmt::Error>;
/// Name, help and value of one family per backend.
type PerBackend<Value> = (&'static str, &'static str, fn(&BackendView) -> Value);

/// Agent, interfaces, tables.
pub(super) fn agent(encoder: &mut DescriptorEncoder<'_>, status: &StatusView) -> Encoded {
    let agent = &status.agent;
    let mut build = family(
        encoder,
        "xlb_build_info",
        "Version of the agent; always 1.",
        MetricType::Gauge,
    )?;
    gauge(&mut build, &[("version", &agent.version)], 1.0)?;
    let singles = [
        (
            "xlb_start_time_seconds",
            "When the agent started, in seconds since 1970.",
            approximate(agent.started.unix_s),
        ),
        (
            "xlb_generation",
            "Images applied to the kernel since the agent started.",
            approximate(agent.generation),
        ),
        (
            "xlb_degraded",
            "1 when something is out: what `xlb status` exits with.",
            flag(status.overall == Overall::Degraded),
        ),
        (
            "xlb_config_reload_failed",
            "1 when the newest reload was refused and the running state is older than the file.",
            flag(agent.config.last_error.is_some()),
        ),
        (
            "xlb_failed_map_writes",
            "Map writes that failed and are tried again.",
            approximate(status.failed_ops.len() as u64),
        ),
        (
            "xlb_warnings",
            "Warnings in `xlb status`.",
            approximate(status.warnings.len() as u64),
        ),
    ];
    for (name, help, value) in singles {
        ConstGauge::new(value).encode(family(encoder, name, help, MetricType::Gauge)?)?;
    }
    interfaces(encoder, status)?;
    let mut used = family(encoder, "xlb_table_entries", "Entries in use.", MetricType::Gauge)?;
    for table in &status.tables {
        gauge(&mut used, &[("table", &table.name)], approximate(table.used))?;
    }
    let mut capacity = family(
        encoder,
        "xlb_table_capacity",
        "Entries a table can hold.",
        MetricType::Gauge,
    )?;
    for table in &status.tables {
        gauge(&mut capacity, &[("table", &table.name)], approximate(table.capacity))?;
    }
    Ok(())
}

fn interfaces(encoder: &mut DescriptorEncoder<'_>, status: &StatusView) -> Encoded {
    let help = "1 when the program is attached, with the mode obtained.";
    let mut attached = family(encoder, "xlb_interface_attached", help, MetricType::Gauge)?;
    for interface in &status.interfaces {
        let mode = interface.xdp_mode.as_deref().unwrap_or("none");
        let value = flag(interface.xdp_mode.is_some());
        gauge(
            &mut attached,
            &[("interface", interface.name.as_str()), ("mode", mode)],
            value,
        )?;
    }
    let help = "1 when the interface is up.";
    let mut up = family(encoder, "xlb_interface_up", help, MetricType::Gauge)?;
    for interface in &status.interfaces {
        gauge(&mut up, &[("interface", &interface.name)], flag(interface.up))?;
    }
    let help = "1 when the address is local or routed to us, 0 when nobody answers for it.";
    let mut present = family(encoder, "xlb_address_present", help, MetricType::Gauge)?;
    for address in &status.addresses {
        let role = match address.role {
            crate::view::AddressRole::Vip => "vip",
            crate::view::AddressRole::Snat => "snat",
        };
        let text = address.address.to_string();
        let value = flag(address.presence != "missing");
        gauge(&mut present, &[("address", text.as_str()), ("role", role)], value)?;
    }
    Ok(())
}

/// Per backend: counters, state, health.
pub(super) fn backends(encoder: &mut DescriptorEncoder<'_>, status: &StatusView) -> Encoded {
    let directed: [PerBackend<[u64; 2]>; 2] = [
        ("xlb_backend_packets", "Packets forwarded.", |b| {
            [b.counters.packets_in, b.counters.packets_out]
        }),
        (
            "xlb_backend_bytes",
            "Bytes forwarded, Ethernet headers included.",
            |b| [b.counters.bytes_in, b.counters.bytes_out],
        ),
    ];
    for (name, help, values) in directed {
        let mut metric = family(encoder, name, help, MetricType::Counter)?;
        for (service, backend) in each(status) {
            let [a, b] = labels(service, backend);
            let [from_clients, to_clients] = values(backend);
            counter(&mut metric, &[a, b, ("direction", "in")], from_clients)?;
            counter(&mut metric, &[a, b, ("direction", "out")], to_clients)?;
        }
    }
    let counters: [PerBackend<u64>; 4] = [
        (
            "xlb_backend_connections_new",
            "Connections begun, half-open ones included.",
            |b| b.counters.flows_new,
        ),
        ("xlb_backend_connections_opened", "Connections established.", |b| {
            b.counters.flows_opened
        }),
        (
            "xlb_backend_connections_closed",
            "Established connections that ended.",
            |b| b.counters.flows_closed,
        ),
        (
            "xlb_backend_connections_refused",
            "Handshakes that the backend reset.",
            |b| b.counters.flows_refused,
        ),
    ];
    for (name, help, value) in counters {
        let mut metric = family(encoder, name, help, MetricType::Counter)?;
        for (service, backend) in each(status) {
            counter(&mut metric, &labels(service, backend), value(backend))?;
        }
    }
    let gauges: [PerBackend<Option<f64>>; 4] = [
        ("xlb_backend_connections", "Established connections.", |b| {
            Some(approximate(b.flows))
        }),
        ("xlb_backend_weight", "Configured weight.", |b| {
            Some(f64::from(b.weight))
        }),
        (
            "xlb_backend_healthy",
            "1 when the checks pass, 0 when they fail; absent without a check or before its first result.",
            |b| match b.health.verdict {
                Verdict::Up => Some(1.0),
                Verdict::Down => Some(0.0),
                Verdict::Unknown | Verdict::Unchecked => None,
            },
        ),
        (
            "xlb_backend_check_duration_seconds",
            "How long the newest check took.",
            |b| b.health.took_us.map(|took| approximate(took) / 1e6),
        ),
    ];
    for (name, help, value) in gauges {
        let mut metric = family(encoder, name, help, MetricType::Gauge)?;
        for (service, backend) in each(status) {
            if let Some(value) = value(backend) {
                gauge(&mut metric, &labels(service, backend), value)?;
            }
        }
    }
    let help = "1 for the state that the backend is in.";
    let mut state = family(encoder, "xlb_backend_state", help, MetricType::Gauge)?;
    for (service, backend) in each(status) {
        let [a, b] = labels(service, backend);
        gauge(&mut state, &[a, b, ("state", backend.state.as_str())], 1.0)?;
    }
    let help = "1 for what the newest check of the internal port found.";
    let mut verdict = family(encoder, "xlb_backend_port_verdict", help, MetricType::Gauge)?;
    for (service, backend) in each(status) {
        let [a, b] = labels(service, backend);
        if let Some(word) = &backend.health.port_verdict {
            gauge(&mut verdict, &[a, b, ("verdict", word.as_str())], 1.0)?;
        }
    }
    Ok(())
}

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

fn family<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    name: &'s str,
    help: &'static str,
    kind: MetricType,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, kind)
}

fn counter<const N: usize>(metric: &mut MetricEncoder<'_>, labels: &[(&str, &str); N], value: u64) -> Encoded {
    ConstCounter::new(value).encode(metric.encode_family(labels)?)
}

fn gauge<const N: usize>(metric: &mut MetricEncoder<'_>, labels: &[(&str, &str); N], value: f64) -> Encoded {
    ConstGauge::new(value).encode(metric.encode_family(labels)?)
}

fn each(status: &StatusView) -> impl Iterator<Item = (&ServiceView, &BackendView)> {
    let pairs = |service| move |backend| (service, backend);
    status
        .services
        .iter()
        .flat_map(move |service: &ServiceView| service.backends.iter().map(pairs(service)))
}

fn labels<'a>(service: &'a ServiceView, backend: &'a BackendView) -> [(&'a str, &'a str); 2] {
    [("service", &service.name), ("backend", &backend.name)]
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}
