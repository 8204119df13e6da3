//! Changes to the config file's text: a service or backend more or less, a key of a backend set; comments, order and
//! everything else stay as they are. Text in, text out: staging and renaming the file is the caller's business, and so is
//! checking the result with [`super::parse`].

mod array;
mod identity;
mod inline;
mod keeper;
mod service;
mod settings;
mod tables;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use toml_edit::{DocumentMut, Item, TableLike, Value};

use identity::{Identity, default_port, identities, names_of_services, text_of};
use inline::insert;
pub use keeper::keeper;
pub use service::{CheckSpec, ServiceSpec, add_service, remove_service};
pub use settings::{BackendSetting, set_backend};
use tables::Kept;

/// A backend to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSpec {
    /// Its name; `None`: `address:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its address.
    pub address: IpAddr,
    /// Its own internal port; `None`: the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its weight; `None`: the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// Why a text was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteBackError {
    /// The text is not TOML.
    #[error("config is not TOML: {reason}; 'xlb check' shows the place")]
    Syntax {
        /// What the parser says.
        reason: String,
    },
    /// No such service.
    #[error("no service {service} in the config; it has: {known}")]
    NoSuchService {
        /// Its name.
        service: String,
        /// The services there are.
        known: String,
    },
    /// No such backend.
    #[error("no backend {backend} in service {service}; it has: {known}")]
    NoSuchBackend {
        /// Service name.
        service: String,
        /// Backend name.
        backend: String,
        /// The backends there are.
        known: String,
    },
    /// The service is there already.
    #[error("the config already has service {service}; remove it first, or add it under another name")]
    ServiceExists {
        /// Its name.
        service: String,
    },
    /// The backend is there already.
    #[error(
        "service {service} already has backend {backend}; add it with another name or port, or first: xlb backend remove {service} {backend}"
    )]
    Duplicate {
        /// Service name.
        service: String,
        /// The name of the one that is there.
        backend: String,
    },
    /// A key has a type that holds no backends.
    #[error("key {key} of the config is not a list of tables; 'xlb check' shows what is wrong")]
    Shape {
        /// The key.
        key: &'static str,
    },
}

/// The text with one backend more in a service.
///
/// # Errors
/// When the service is not there or the backend is; the text is not changed then.
pub fn add_backend(text: &str, service: &str, spec: &BackendSpec) -> Result<String, WriteBackError> {
    edit(text, service, |table, written| add(table, written, service, spec))
}

/// The text without one backend of a service. `backend` is its name, or its `address:port`.
///
/// # Errors
/// When service or backend are not there; the text is not changed then.
pub fn remove_backend(text: &str, service: &str, backend: &str) -> Result<String, WriteBackError> {
    edit(text, service, |table, _| remove(table, service, backend))
}

/// How a table is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    /// `[[service]]`
    Header,
    /// `{ ... }`
    Inline,
}

fn edit(
    text: &str,
    service: &str,
    change: impl FnOnce(&mut dyn TableLike, Written) -> Result<Option<Kept>, WriteBackError>,
) -> Result<String, WriteBackError> {
    let mut document = parse(text)?;
    let known = names_of_services(&document);
    let found = document.get_mut("service").and_then(|item| find_service(item, service));
    let Some((table, written)) = found else {
        return Err(WriteBackError::NoSuchService {
            service: service.to_owned(),
            known: instead_of(service, &known),
        });
    };
    if let Some(comment) = change(table, written)? {
        comment.restore(&mut document);
    }
    Ok(with_line_ends_of(text, document.to_string()))
}

fn parse(text: &str) -> Result<DocumentMut, WriteBackError> {
    text.parse()
        .map_err(|error: toml_edit::TomlError| WriteBackError::Syntax {
            reason: error.message().to_owned(),
        })
}

/// What is said of a name that is not there.
fn instead_of(asked: &str, names: &[String]) -> String {
    super::names_there(asked, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn find_service<'a>(item: &'a mut Item, name: &str) -> Option<(&'a mut dyn TableLike, Written)> {
    let named = |table: &dyn TableLike| text_of(table, "name").as_deref() == Some(name);
    match item {
        Item::ArrayOfTables(tables) => {
            let found = tables.iter_mut().find(|table| named(*table))?;
            Some((found, Written::Header))
        }
        Item::Value(Value::Array(array)) => {
            let mut inline = array.iter_mut().filter_map(Value::as_inline_table_mut);
            let found = inline.find(|table| named(*table))?;
            Some((found, Written::Inline))
        }
        _ => None,
    }
}

fn add(
    service: &mut dyn TableLike,
    written: Written,
    name: &str,
    spec: &BackendSpec,
) -> Result<Option<Kept>, WriteBackError> {
    let there = identities(&*service);
    let default_port = default_port(&*service);
    let target = spec
        .port
        .or(default_port)
        .map(|port| SocketAddr::new(spec.address, port));
    let new_name = spec.name.clone().or_else(|| target.map(|target| target.to_string()));
    let same = |other: &&Identity| {
        Some(&other.name) == new_name.as_ref() || (other.target.is_some() && other.target == target)
    };
    if let Some(other) = there.iter().find(same) {
        return Err(WriteBackError::Duplicate {
            service: name.to_owned(),
            backend: other.name.clone(),
        });
    }
    match service.get_mut("backend") {
        None => insert(service, written, "backend", tables::first(spec, written)),
        Some(Item::ArrayOfTables(tables)) => tables.push(tables::table(spec)),
        Some(Item::Value(Value::Array(list))) => array::push(list, tables::table(spec).into_inline_table()),
        Some(_) => return Err(WriteBackError::Shape { key: "backend" }),
    }
    Ok(None)
}

/// Removes the backend; a comment block that stood apart from it comes back to be kept.
fn remove(service: &mut dyn TableLike, name: &str, backend: &str) -> Result<Option<Kept>, WriteBackError> {
    let index = settings::find(&*service, name, backend)?;
    match service.get_mut("backend") {
        Some(Item::ArrayOfTables(list)) => {
            let kept = Kept::of(&list.remove(index));
            if list.is_empty() {
                service.remove("backend");
            }
            Ok(kept)
        }
        Some(Item::Value(Value::Array(list))) => {
            array::remove(list, index);
            Ok(None)
        }
        _ => Err(WriteBackError::Shape { key: "backend" }),
    }
}

/// A file with Windows line ends keeps them in the new lines, too.
fn with_line_ends_of(original: &str, text: String) -> String {
    let crlf = original.matches("\r\n").count();
    if crlf == 0 || crlf != original.matches('\n').count() {
        return text;
    }
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

#[cfg(test)]
mod tests;
