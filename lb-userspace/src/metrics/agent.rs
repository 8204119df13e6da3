//! Families about the agent: version, generation, interfaces, addresses, tables.

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::encode::{Encoded, family, flag, gauge};
use crate::view::{AddressRole, Overall, StatusView, approximate};

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
            AddressRole::Vip => "vip",
            AddressRole::Snat => "snat",
        };
        let text = address.address.to_string();
        let value = flag(address.presence != "missing");
        gauge(&mut present, &[("address", text.as_str()), ("role", role)], value)?;
    }
    Ok(())
}
