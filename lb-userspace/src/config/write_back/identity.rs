//! Who is in the text: services by name, backends by name and target.

use std::net::{IpAddr, SocketAddr};

use toml_edit::{DocumentMut, Item, TableLike, Value};

use crate::config::HostName;

/// What tells backends of one service apart.
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) target: Option<SocketAddr>,
}

pub(super) fn identities(service: &dyn TableLike) -> Vec<Identity> {
    let default_port = default_port(service);
    let of_backend = |table: &&dyn TableLike| {
        let address = text_of(*table, "address").and_then(|text| text.parse::<IpAddr>().ok());
        let port = port_of(*table, "port").or(default_port);
        let target = address.zip(port).map(SocketAddr::from);
        let host = || {
            Some(format!(
                "{}:{}",
                text_of(*table, "address")?.parse::<HostName>().ok()?,
                port?
            ))
        };
        let name = text_of(*table, "name").or_else(|| target.map(|target| target.to_string()));
        let name = name.or_else(host);
        let name = name.unwrap_or_default();
        Identity { name, target }
    };
    entries(service.get("backend")).iter().map(of_backend).collect()
}

/// The tables of `[[key]]` or `key = [{...}]`.
fn entries(item: Option<&Item>) -> Vec<&dyn TableLike> {
    match item {
        Some(Item::ArrayOfTables(tables)) => tables.iter().map(|table| table as &dyn TableLike).collect(),
        Some(Item::Value(Value::Array(array))) => array
            .iter()
            .filter_map(Value::as_inline_table)
            .map(|table| table as &dyn TableLike)
            .collect(),
        _ => Vec::new(),
    }
}

pub(super) fn names_of_services(document: &DocumentMut) -> Vec<String> {
    let services = entries(document.get("service"));
    services.iter().filter_map(|table| text_of(*table, "name")).collect()
}

/// The internal port of backends that name none.
pub(super) fn default_port(service: &dyn TableLike) -> Option<u16> {
    port_of(service, "internal_port").or_else(|| port_of(service, "port"))
}

pub(super) fn text_of(table: &dyn TableLike, key: &str) -> Option<String> {
    table.get(key)?.as_str().map(str::to_owned)
}

fn port_of(table: &dyn TableLike, key: &str) -> Option<u16> {
    table.get(key)?.as_integer().and_then(|port| u16::try_from(port).ok())
}
