//! The lines above the table: agent, config, interfaces, SNAT, tables, program.

use std::time::Duration;

use super::text::Detail;
use crate::cli::output;
use crate::view::{NameView, Overall, StatusView, TableView, ago};

/// All of them.
pub(super) fn header(view: &StatusView, detail: Detail) -> String {
    let mut text = String::new();
    let agent = &view.agent;
    let overall = match view.overall {
        Overall::Ok => "ok",
        Overall::Degraded => "DEGRADED",
    };
    line(
        &mut text,
        "xlb",
        &format!(
            "{overall}  version {}  pid {}  up {}  generation {} ({} ago)",
            agent.version,
            agent.pid,
            ago(agent.started.age(view.now)),
            agent.generation,
            ago(agent.applied.age(view.now)),
        ),
    );
    line(
        &mut text,
        "config",
        &format!(
            "{}, read {} ago  revision {}",
            agent.config.path.display(),
            ago(agent.config.loaded.age(view.now)),
            agent.config.revision,
        ),
    );
    for interface in &view.interfaces {
        let shown = match &interface.error {
            Some(error) => format!("{}  NOT ATTACHED: {error}", interface.name),
            None => format!(
                "{}  xdp {}  {}  {}  mtu {}  {}",
                interface.name,
                interface.xdp_mode.as_deref().unwrap_or("not attached"),
                interface.tx_way.as_deref().unwrap_or("-"),
                interface.driver.as_deref().unwrap_or("-"),
                interface
                    .mtu_bytes
                    .map_or_else(|| "-".to_owned(), |mtu| mtu.to_string()),
                if interface.up { "up" } else { "DOWN" },
            ),
        };
        line(&mut text, "interface", &shown);
    }
    let snat: Vec<String> = view.snat.addresses.iter().map(ToString::to_string).collect();
    line(
        &mut text,
        "snat",
        &format!(
            "{}  ports {}-{}",
            if snat.is_empty() {
                "no address".to_owned()
            } else {
                snat.join(" ")
            },
            view.snat.port_min,
            view.snat.port_max,
        ),
    );
    let tables: Vec<String> = view
        .tables
        .iter()
        .filter(|table| detail == Detail::Wide || is_shown(table))
        .map(|table| format!("{} {}/{}", table.name, table.used, table.capacity))
        .collect();
    line(&mut text, "tables", &tables.join("  "));
    line(
        &mut text,
        "program",
        &format!(
            "abi {}  {}  {}  pins {}",
            view.program.abi_version,
            view.program.adoption,
            view.program.features.join(" "),
            view.program.pin_dir.display(),
        ),
    );
    if detail == Detail::Wide {
        for address in &view.addresses {
            let at = address
                .interface
                .as_deref()
                .map(|name| format!(" on {name}"))
                .unwrap_or_default();
            line(
                &mut text,
                "address",
                &format!("{}  {}{at}", address.address, address.presence),
            );
        }
    }
    if detail == Detail::Wide {
        view.names
            .iter()
            .for_each(|name| line(&mut text, "name", &name_line(name, view)));
    }
    for change in &view.overrides {
        line(
            &mut text,
            "runtime",
            &format!(
                "{} {} by {}, {} ago; not in the config file",
                change.what(),
                change.object(),
                change.by,
                ago(change.at.age(view.now)),
            ),
        );
    }
    text
}

/// `app.internal.example IPv4  10.0.0.11 10.0.0.12  ttl 30s, 12s left`.
fn name_line(name: &NameView, view: &StatusView) -> String {
    let addresses: Vec<String> = name.addresses.iter().map(ToString::to_string).collect();
    let addresses = if addresses.is_empty() {
        "no address".to_owned()
    } else {
        addresses.join(" ")
    };
    let ttl = match (name.ttl_s, name.ttl_left_s(view.now)) {
        (Some(ttl_s), Some(left_s)) => {
            let [ttl, left] = [ttl_s, left_s].map(|s| ago(Duration::from_secs(s)));
            format!("ttl {ttl}, {left} left")
        }
        _ if name.error.is_none() => "not answered yet".to_owned(),
        _ => "never answered".to_owned(),
    };
    let failing = name
        .error
        .as_deref()
        .map(|error| format!("  FAILING: {error}"))
        .unwrap_or_default();
    format!("{} {}  {addresses}  {ttl}{failing}", name.name, name.family)
}

/// Connections, and what is filling up.
fn is_shown(table: &TableView) -> bool {
    table.name.starts_with("connections") || table.used * 2 >= table.capacity
}

fn line(text: &mut String, label: &str, value: &str) {
    output::line(text, &format!("{label:<10} {value}"));
}
