//! One key of one backend: its weight or its state. The rest of its table stays as it is.

use serde::{Deserialize, Serialize};
use toml_edit::{InlineTable, Item, TableLike, Value};

use super::identity::{Identity, identities};
use super::inline::insert;
use super::{WriteBackError, Written, edit, instead_of};
use crate::config::AdminState;

/// What is to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendSetting {
    /// `weight`.
    Weight(u32),
    /// `state`; [`AdminState::Ready`] is what a backend without the key is.
    State(AdminState),
}

/// The text with a backend's weight or state set. `backend` is its name, or its `address:port`.
///
/// # Errors
/// When service or backend are not there; the text is not changed then.
pub fn set_backend(
    text: &str,
    service: &str,
    backend: &str,
    setting: BackendSetting,
) -> Result<String, WriteBackError> {
    edit(text, service, |table, _| {
        let index = find(&*table, service, backend)?;
        let list = table.get_mut("backend");
        match list {
            Some(Item::ArrayOfTables(tables)) => {
                if let Some(found) = tables.get_mut(index) {
                    set(found, Written::Header, setting);
                }
            }
            Some(Item::Value(Value::Array(array))) => {
                let mut inline = array.iter_mut().filter_map(Value::as_inline_table_mut);
                if let Some(found) = inline.nth(index) {
                    set_inline(found, setting);
                }
            }
            _ => return Err(WriteBackError::Shape { key: "backend" }),
        }
        Ok(None)
    })
}

/// Where a backend stands in its service.
pub(super) fn find(service: &dyn TableLike, name: &str, backend: &str) -> Result<usize, WriteBackError> {
    let there = identities(service);
    let by_name = there.iter().position(|other| other.name == backend);
    let is_target = |other: &Identity| other.target.is_some_and(|target| target.to_string() == backend);
    by_name.or_else(|| there.iter().position(is_target)).ok_or_else(|| {
        let known: Vec<String> = there.into_iter().map(|other| other.name).collect();
        WriteBackError::NoSuchBackend {
            service: name.to_owned(),
            backend: backend.to_owned(),
            known: instead_of(backend, &known),
        }
    })
}

fn set(table: &mut dyn TableLike, written: Written, setting: BackendSetting) {
    match setting {
        BackendSetting::Weight(weight) => put(table, written, "weight", i64::from(weight).into()),
        BackendSetting::State(AdminState::Ready) if !table.contains_key("state") => {}
        BackendSetting::State(AdminState::Ready) if !has_comment(table, "state") => take(table, "state"),
        BackendSetting::State(state) => put(table, written, "state", state.as_str().into()),
    }
}

/// Of a comment between the lines of an inline table cannot be told which key it is about: none is taken away.
fn set_inline(table: &mut InlineTable, setting: BackendSetting) {
    let mut inside = table.clone();
    inside.decor_mut().clear();
    match setting {
        BackendSetting::State(state) if table.contains_key("state") && inside.to_string().contains('#') => {
            put(table, Written::Inline, "state", state.as_str().into());
        }
        _ => set(table, Written::Inline, setting),
    }
}

/// Whether somebody wrote something about a key: right above it or behind it.
fn has_comment(table: &dyn TableLike, key: &str) -> bool {
    let above = table.key(key).and_then(|key| key.leaf_decor().prefix()?.as_str());
    let behind = table
        .get(key)
        .and_then(|item| item.as_value()?.decor().suffix()?.as_str());
    [above, behind].into_iter().flatten().any(|text| text.contains('#'))
}

/// Takes a key away; the blank before a closing brace stays.
fn take(table: &mut dyn TableLike, key: &str) {
    let Some(Item::Value(gone)) = table.remove(key) else {
        return;
    };
    let suffix = gone
        .decor()
        .suffix()
        .and_then(|suffix| suffix.as_str())
        .unwrap_or_default();
    if suffix.is_empty() {
        return;
    }
    if let Some((_, Item::Value(last))) = table.iter_mut().last()
        && last.decor().suffix().is_none_or(|there| there.as_str() == Some(""))
    {
        last.decor_mut().set_suffix(suffix);
    }
}

/// Sets a key; one that is there keeps its place and the comment behind it.
fn put(table: &mut dyn TableLike, written: Written, key: &str, mut value: Value) {
    if let Some(Item::Value(old)) = table.get_mut(key) {
        *value.decor_mut() = old.decor().clone();
        *old = value;
        return;
    }
    insert(table, written, key, Item::Value(value));
}
