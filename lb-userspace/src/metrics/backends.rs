//! Families about backends: counters, state, health. Sums over a service are the reader's (`sum by (service)`).

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::encode::{Encoded, counter, family, flag, gauge};
use crate::config::Panic;
use crate::view::{
    AllDownView, BackendState, BackendView, ServiceState, ServiceView, StatusView, Verdict, approximate,
};

/// Name, help and value of one family per backend.
type PerBackend<Value> = (&'static str, &'static str, fn(&BackendView) -> Value);

/// Name, help and condition of one family per service.
type PerAllDown = (&'static str, &'static str, fn(&AllDownView) -> bool);

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

/// Per service and family: whether every backend is down, and whether all are used nevertheless.
pub(super) fn services(encoder: &mut DescriptorEncoder<'_>, status: &StatusView) -> Encoded {
    let families: [PerAllDown; 2] = [
        (
            "xlb_service_all_down",
            "1 while every backend of the family is down.",
            |_| true,
        ),
        (
            "xlb_service_panic",
            "1 while every backend of the family is down and all are used (panic = \"use_all\").",
            |down| down.panic == Panic::UseAll.as_str(),
        ),
    ];
    for (name, help, wanted) in families {
        let mut metric = family(encoder, name, help, MetricType::Gauge)?;
        let configured = |service: &&ServiceView| service.state != ServiceState::Removed;
        for service in status.services.iter().filter(configured) {
            for label in ["IPv4", "IPv6"] {
                if service.vips.iter().any(|vip| vip.is_ipv4() == (label == "IPv4")) {
                    let down = service.all_down.iter().any(|down| down.family == label && wanted(down));
                    gauge(
                        &mut metric,
                        &[("service", service.name.as_str()), ("family", label)],
                        flag(down),
                    )?;
                }
            }
        }
    }
    Ok(())
}

/// Backends of the config. A removed one may have a successor of the same name, and two samples with the same labels make
/// a scrape invalid.
fn each(status: &StatusView) -> impl Iterator<Item = (&ServiceView, &BackendView)> {
    let pairs = |service| move |backend| (service, backend);
    status
        .services
        .iter()
        .flat_map(move |service: &ServiceView| service.backends.iter().map(pairs(service)))
        .filter(|(_, backend)| backend.state != BackendState::Removed)
}

fn labels<'a>(service: &'a ServiceView, backend: &'a BackendView) -> [(&'a str, &'a str); 2] {
    [("service", &service.name), ("backend", &backend.name)]
}
