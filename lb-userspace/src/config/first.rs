//! Where a key stands that is written a second time: the parser says only where the second one stands.

use toml::de::{DeTable, DeValue};

use super::findings::Span;
use super::reader::Value;

/// What the parser says of a key or a table that was there.
const TWICE: &str = "duplicate key";
/// Of so many the first is looked for, through the whole file each.
const MOST: usize = 20;

/// The keys that were kept.
pub(super) struct Firsts<'d, 't> {
    document: &'d DeTable<'t>,
    text: &'t str,
    left: usize,
}

impl<'d, 't> Firsts<'d, 't> {
    pub(super) fn of(document: &'d DeTable<'t>, text: &'t str) -> Self {
        Self {
            document,
            text,
            left: MOST,
        }
    }

    /// Where the first one stands, where an error is about a second one.
    pub(super) fn first(&mut self, message: &str, second: &Span) -> Option<Span> {
        if message != TWICE {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let key = self.text.get(second.clone())?.trim_matches(['"', '\'']);
        let mut nearest = None;
        self.in_table(self.document, key, second.start, &mut nearest);
        nearest.or_else(|| self.header(second))
    }

    /// The line before with the same header: of two such tables the parser keeps the second.
    fn header(&self, second: &Span) -> Option<Span> {
        let before = self.text.get(..second.start)?;
        let line = before.rfind('\n').map_or(0, |end| end + 1);
        let header = self.text.get(line..)?.lines().next()?.trim();
        let header = header.get(..=header.rfind(']')?)?;
        let mut end = line;
        let mut above = self.text.get(..line)?.split_inclusive('\n').rev();
        above.find_map(|one| {
            end -= one.len();
            let indent = one.len() - one.trim_start().len();
            one.trim_start()
                .starts_with(header)
                .then(|| end + indent..end + indent + header.len())
        })
    }

    /// The last key of this name before the second one. Of tables below headers that is the one of the same table: another
    /// header would have ended it.
    fn in_table(&self, table: &DeTable<'_>, key: &str, before: usize, nearest: &mut Option<Span>) {
        for (known, value) in table {
            let span = known.span();
            let is_nearer = nearest.as_ref().is_none_or(|nearest| span.start > nearest.start);
            if known.get_ref() == key && span.end <= before && is_nearer {
                *nearest = Some(span);
            }
            self.in_value(value, key, before, nearest);
        }
    }

    fn in_value(&self, value: &Value<'_>, key: &str, before: usize, nearest: &mut Option<Span>) {
        match value.get_ref() {
            DeValue::Table(table) if self.may_hold(&value.span(), before) => {
                self.in_table(table, key, before, nearest);
            }
            DeValue::Array(entries) => entries
                .iter()
                .for_each(|entry| self.in_value(entry, key, before, nearest)),
            _ => {}
        }
    }

    /// An inline table holds what stands between its braces; one below a header may go on for longer.
    fn may_hold(&self, table: &Span, at: usize) -> bool {
        let inline = self.text.get(table.start..).is_some_and(|rest| rest.starts_with('{'));
        !inline || table.contains(&at)
    }
}
