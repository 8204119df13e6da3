//! A whole `[[service]]`: written after the last one, in the way those before are written; removed with its backends and
//! its comments.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use toml_edit::{Array, ArrayOfTables, InlineTable, Item, Table, Value, value};

use super::identity::{names_of_services, text_of};
use super::tables::{self, Kept};
use super::{BackendSpec, WriteBackError, array, instead_of, parse, with_line_ends_of};
use crate::config::{Mode, Protocol};

/// A service to add. What is `None` has the config's default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// Its virtual addresses.
    pub vip: Vec<IpAddr>,
    /// The port that clients dial.
    pub port: u16,
    /// TCP or UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Forwarding mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Internal port of backends that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_port: Option<u16>,
    /// How its backends are checked; `None`: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckSpec>,
    /// Its backends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendSpec>,
}

/// The kind of a check; intervals and counts have their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CheckSpec {
    /// The internal port accepts a connection.
    Tcp {},
    /// It answers a GET.
    Http {
        /// What is asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// The same inside TLS.
    Https {
        /// What is asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
}

/// The text with one service more.
///
/// # Errors
/// When a service has that name already; the text is not changed then.
pub fn add_service(text: &str, spec: &ServiceSpec) -> Result<String, WriteBackError> {
    let mut document = parse(text)?;
    if names_of_services(&document).contains(&spec.name) {
        return Err(WriteBackError::ServiceExists {
            service: spec.name.clone(),
        });
    }
    match document.get_mut("service") {
        None => {
            let mut tables = ArrayOfTables::new();
            tables.push(table(spec));
            document.insert("service", Item::ArrayOfTables(tables));
        }
        Some(Item::ArrayOfTables(list)) => {
            let mut new = table(spec);
            new.set_position(list.iter().last().and_then(tables::end_of));
            list.push(new);
        }
        Some(Item::Value(Value::Array(list))) => array::push(list, table(spec).into_inline_table()),
        Some(_) => return Err(WriteBackError::Shape { key: "service" }),
    }
    Ok(with_line_ends_of(text, document.to_string()))
}

/// The text without one service.
///
/// # Errors
/// When it is not there; the text is not changed then.
pub fn remove_service(text: &str, name: &str) -> Result<String, WriteBackError> {
    let mut document = parse(text)?;
    let missing = WriteBackError::NoSuchService {
        service: name.to_owned(),
        known: instead_of(name, &names_of_services(&document)),
    };
    let kept = match document.get_mut("service") {
        Some(Item::ArrayOfTables(tables)) => {
            let is_it = |table: &Table| text_of(table, "name").as_deref() == Some(name);
            let index = tables.iter().position(is_it).ok_or(missing)?;
            let kept = Kept::of(&tables.remove(index));
            if tables.is_empty() {
                document.remove("service");
            }
            kept
        }
        Some(Item::Value(Value::Array(list))) => {
            let is_it = |table: &InlineTable| text_of(table, "name").as_deref() == Some(name);
            let index = list.iter().filter_map(Value::as_inline_table).position(is_it);
            let index = index.ok_or(missing)?;
            array::remove(list, index);
            None
        }
        _ => return Err(missing),
    };
    if let Some(comment) = kept {
        comment.restore(&mut document);
    }
    Ok(with_line_ends_of(text, document.to_string()))
}

/// A new table, its backends in it.
fn table(spec: &ServiceSpec) -> Table {
    let mut table = Table::new();
    table.insert("name", value(spec.name.as_str()));
    let vips: Vec<String> = spec.vip.iter().map(ToString::to_string).collect();
    table.insert(
        "vip",
        match vips.as_slice() {
            [vip] => value(vip.as_str()),
            _ => value(vips.iter().collect::<Array>()),
        },
    );
    table.insert("port", value(i64::from(spec.port)));
    if let Some(protocol) = spec.protocol {
        table.insert("protocol", value(protocol.as_str()));
    }
    if let Some(mode) = spec.mode {
        table.insert("mode", value(mode.as_str()));
    }
    if let Some(port) = spec.internal_port {
        table.insert("internal_port", value(i64::from(port)));
    }
    if let Some(check) = &spec.check {
        table.insert("check", value(check_table(check)));
    }
    if !spec.backends.is_empty() {
        let backends = spec.backends.iter().map(tables::table).collect::<ArrayOfTables>();
        table.insert("backend", Item::ArrayOfTables(backends));
    }
    table
}

fn check_table(check: &CheckSpec) -> InlineTable {
    let (kind, path) = match check {
        CheckSpec::Tcp {} => ("tcp", &None),
        CheckSpec::Http { path } => ("http", path),
        CheckSpec::Https { path } => ("https", path),
    };
    let mut inside = InlineTable::new();
    if let Some(path) = path {
        inside.insert("path", path.as_str().into());
    }
    let mut table = InlineTable::new();
    table.insert(kind, Value::InlineTable(inside));
    table
}
