//! The config's JSON schema (draft 2020-12), for editors. Made of one table of keys (`keys.rs`), which is also what
//! docs/config.md is made of. It says less than the check: no editor knows which two keys clash.

mod keys;

use schemars::Schema;
use serde_json::{Map, Value, json};

use super::CODES;

#[cfg(test)]
pub(super) use keys::SECTIONS;

/// Keys that stand in one table.
#[derive(Debug)]
pub(super) struct Section {
    /// Heading in docs/config.md.
    pub(super) heading: &'static str,
    /// In the order of the docs.
    pub(super) keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// As the docs show it: `` `TOML literal` ``, `required`, `one of three` (exactly one of those so marked), or words.
    pub(super) default: &'static str,
    /// Markdown, one line.
    pub(super) meaning: &'static str,
}

/// What a key takes.
#[derive(Debug)]
pub(super) enum Kind {
    /// Text in quotes.
    Text,
    /// Text of 1 to 1024 bytes.
    Sought,
    /// A path.
    Path,
    /// `"system"` or a path.
    Roots,
    /// One or several names of interfaces.
    Names,
    /// `true` or `false`.
    Bool,
    /// One of these.
    Word(&'static [&'static str]),
    /// A number from the first to the second.
    Number(u32, u32),
    /// One or several numbers from the first to the second.
    Numbers(u32, u32),
    /// A duration from the first to the second; the second may be another key.
    Duration(&'static str, &'static str),
    /// `"LOW-HIGH"`.
    PortRange,
    /// An IP address or the name of a host.
    Host,
    /// One or several IP addresses.
    Addresses,
    /// `"ADDRESS:PORT"` or `"off"`.
    Listener,
    /// Code of a warning or hint.
    Code,
    /// A table without keys.
    Empty,
    /// A table.
    Table(&'static Section),
    /// A list of tables.
    Tables(&'static Section),
}

/// The schema of a whole file.
pub fn schema() -> Schema {
    let mut properties = Map::new();
    for (key, section, wanted) in [
        ("agent", &keys::AGENT, "The agent itself."),
        ("limits", &keys::LIMITS, "Sizes of the maps."),
        (
            "timeouts",
            &keys::TIMEOUTS,
            "How long an idle connection is remembered.",
        ),
        ("dns", &keys::DNS, "How backends by name are looked up."),
    ] {
        properties.insert(key.to_owned(), described(table(section), wanted));
    }
    let services = json!({ "type": "array", "items": table(&keys::SERVICE) });
    properties.insert("service".to_owned(), described(services, "What clients dial."));
    schemars::json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "xlb",
        "description": "Config file of xlb. 'xlb check FILE' says everything that is wrong with one.",
        "type": "object",
        "properties": Value::Object(properties),
        "required": ["agent"],
        "additionalProperties": false,
    })
}

fn described(schema: Value, text: &str) -> Value {
    let mut schema = schema;
    if let Value::Object(map) = &mut schema {
        map.insert("description".to_owned(), text.into());
    }
    schema
}

fn table(section: &Section) -> Value {
    let properties: Map<String, Value> = section
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    let names = |default: &str| -> Vec<&str> {
        let marked = section.keys.iter().filter(|key| key.default == default);
        marked.map(|key| key.name).collect()
    };
    let mut schema = json!({
        "title": section.heading.trim_start_matches('#').replace('`', "").trim(),
        "type": "object",
        "properties": properties,
        "required": names("required"),
        "additionalProperties": false,
    });
    let kinds: Vec<Value> = names("one of three")
        .iter()
        .map(|name| json!({ "required": [name] }))
        .collect();
    if let (Value::Object(map), false) = (&mut schema, kinds.is_empty()) {
        map.insert("oneOf".to_owned(), kinds.into());
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = described(of(&key.kind), &plain(key));
    let default =
        literal(key.default).and_then(|literal| toml::from_str::<toml::Table>(&format!("x = {literal}")).ok());
    let default = default.and_then(|table| serde_json::to_value(table.get("x")?).ok());
    if let (Value::Object(map), Some(default)) = (&mut schema, default) {
        map.insert("default".to_owned(), default);
    }
    schema
}

/// The TOML literal of a default.
pub(super) fn literal(default: &str) -> Option<&str> {
    let literal = default.strip_prefix('`')?.strip_suffix('`')?;
    // A description in code letters.
    (literal != "address:port").then_some(literal)
}

/// The meaning without Markdown, and what JSON schema cannot say.
fn plain(key: &Key) -> String {
    let range = match key.kind {
        Kind::Duration(low, high) => format!(" From {low} to {high}."),
        _ => String::new(),
    };
    let default = match key.default {
        "required" | "one of three" => String::new(),
        words if literal(words).is_some() => String::new(),
        words => format!(" Default: {words}."),
    };
    format!("{}{range}{default}", key.meaning).replace('`', "")
}

fn of(kind: &Kind) -> Value {
    let one_or_several = |item: Value| json!({ "anyOf": [item, { "type": "array", "items": item, "minItems": 1 }] });
    let address = || json!({ "type": "string", "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] });
    let number = |low: u32, high: u32| json!({ "type": "integer", "minimum": low, "maximum": high });
    match kind {
        Kind::Text => json!({ "type": "string" }),
        // Bytes: never fewer than characters.
        Kind::Sought => json!({ "type": "string", "minLength": 1, "maxLength": 1024 }),
        Kind::Roots => json!({ "type": "string", "pattern": "^(system$|/)" }),
        Kind::Path => json!({ "type": "string", "pattern": "^/" }),
        Kind::Names => one_or_several(json!({ "type": "string", "minLength": 1, "maxLength": 15 })),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Number(low, high) => number(*low, *high),
        Kind::Numbers(low, high) => one_or_several(number(*low, *high)),
        Kind::Duration(..) => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" }),
        Kind::PortRange => json!({ "type": "string", "pattern": "^[0-9]{1,5}-[0-9]{1,5}$" }),
        Kind::Host => {
            json!({ "type": "string", "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }, { "format": "hostname" }] })
        }
        Kind::Addresses => one_or_several(address()),
        Kind::Listener => json!({ "type": "string", "pattern": "^(off|.+:[0-9]{1,5})$" }),
        Kind::Code => {
            let codes = CODES.iter().filter(|code| code.can_be_silenced());
            json!({ "enum": codes.map(|code| code.id).collect::<Vec<_>>() })
        }
        Kind::Empty => json!({ "type": "object", "maxProperties": 0 }),
        Kind::Table(section) => table(section),
        Kind::Tables(section) => json!({ "type": "array", "items": table(section) }),
    }
}
