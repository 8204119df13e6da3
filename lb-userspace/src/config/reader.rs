//! Reads TOML tables key by key with their places. A value that cannot be read is a finding and `None`; a key that
//! nobody asked for is a finding when the table is closed.

mod values;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::codes;
use super::findings::{Finding, Findings, Span};
use super::words;

pub(super) use values::{
    Where, address, address_or_host, boolean, duration, list, number, port, port_range, table, tables, text, word,
};

/// A value with its place.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// One table being read.
pub(super) struct Section<'a, 't> {
    table: &'a DeTable<'t>,
    /// Where the table starts: where a missing key is reported.
    pub(super) span: Span,
    /// `[agent]`, as messages name it.
    title: &'static str,
    known: Vec<&'static str>,
}

impl<'a, 't> Section<'a, 't> {
    pub(super) fn new(table: &'a DeTable<'t>, span: Span, title: &'static str) -> Self {
        Self {
            table,
            span,
            title,
            known: Vec::new(),
        }
    }

    /// The value of a key, which is known from now on.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'a Value<'t>> {
        self.known.push(key);
        self.table.get(key)
    }

    /// Reads a key; `None` when it is absent or was reported.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        found: &mut Findings,
        read: impl FnOnce(&'a Value<'t>, &mut Findings) -> Option<T>,
    ) -> Option<T> {
        self.take(key).and_then(|value| read(value, found))
    }

    /// Reads a key that must be there.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        found: &mut Findings,
        read: impl FnOnce(&'a Value<'t>, &mut Findings) -> Option<T>,
    ) -> Option<T> {
        let Some(value) = self.take(key) else {
            let title = self.title;
            let finding = Finding::new(
                &codes::MISSING_KEY,
                format!("{title} has no {key}"),
                self.span.clone(),
                "",
            );
            found.add(finding.help(format!("add {example}")));
            return None;
        };
        read(value, found)
    }

    /// Reports every key that was not asked for.
    pub(super) fn close(self, found: &mut Findings) {
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let message = format!("unknown key {name:?} in {}", self.title);
            let help = match words::nearest(name, &self.known) {
                Some(near) => format!("did you mean {near}?"),
                None if self.known.is_empty() => format!("{} takes no keys", self.title),
                None => format!("known keys: {}", self.known.join(", ")),
            };
            found.add(Finding::new(&codes::UNKNOWN_KEY, message, key.span(), "not known here").help(help));
        }
    }
}
