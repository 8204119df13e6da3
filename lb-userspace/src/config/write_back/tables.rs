//! Backends as `[[service.backend]]`, and the comments between such tables.

use toml_edit::visit_mut::{VisitMut, visit_table_mut};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

use super::{BackendSpec, Written, array};

/// A new table.
pub(super) fn table(spec: &BackendSpec) -> Table {
    let mut table = Table::new();
    if let Some(name) = &spec.name {
        table.insert("name", value(name.as_str()));
    }
    table.insert("address", value(spec.address.to_string()));
    if let Some(port) = spec.port {
        table.insert("port", value(i64::from(port)));
    }
    if let Some(weight) = spec.weight {
        table.insert("weight", value(i64::from(weight)));
    }
    table
}

/// The first backend of a service that has none, in the way the service itself is written.
pub(super) fn first(spec: &BackendSpec, written: Written) -> Item {
    match written {
        Written::Header => {
            let mut tables = ArrayOfTables::new();
            tables.push(table(spec));
            Item::ArrayOfTables(tables)
        }
        Written::Inline => {
            let mut list = Array::new();
            array::push(&mut list, table(spec).into_inline_table());
            value(list)
        }
    }
}

/// Where the last of a table and those inside it stands in the file, in whatever order they were written: a
/// `[[service.backend]]` below another service's header would be that one's.
pub(super) fn end_of(table: &Table) -> Option<isize> {
    let inside = table.iter().flat_map(|(_, item)| match item {
        Item::Table(one) => vec![one],
        Item::ArrayOfTables(list) => list.iter().collect(),
        _ => Vec::new(),
    });
    table.position().into_iter().chain(inside.filter_map(end_of)).max()
}

/// A comment block above a removed table with a blank line in between: it is about more than that table.
#[derive(Debug)]
pub(super) struct Kept {
    text: String,
    /// Where the table stood among the tables of the file.
    position: isize,
}

impl Kept {
    pub(super) fn of(removed: &Table) -> Option<Self> {
        let prefix = removed.decor().prefix()?.as_str()?.replace("\r\n", "\n");
        Some(Self {
            text: array::apart(&prefix)?.to_owned(),
            position: removed.position()?,
        })
    }

    /// Puts the comment above what now stands where the removed table stood.
    pub(super) fn restore(self, document: &mut DocumentMut) {
        let mut finder = Next {
            after: self.position,
            next: None,
        };
        finder.visit_document_mut(document);
        match finder.next {
            Some(position) => Prepend {
                text: self.text,
                position,
            }
            .visit_document_mut(document),
            None => {
                let trailing = document.trailing().as_str().unwrap_or_default();
                let trailing = above(&self.text, trailing);
                document.set_trailing(trailing);
            }
        }
    }
}

/// Finds the table that follows a position.
struct Next {
    after: isize,
    next: Option<isize>,
}

impl VisitMut for Next {
    fn visit_table_mut(&mut self, table: &mut Table) {
        let follows = table.position().filter(|position| *position > self.after);
        self.next = [self.next, follows].into_iter().flatten().min();
        visit_table_mut(self, table);
    }
}

/// Puts a comment above the table at a position.
struct Prepend {
    text: String,
    position: isize,
}

impl VisitMut for Prepend {
    fn visit_table_mut(&mut self, table: &mut Table) {
        if table.position() == Some(self.position) {
            let decor = table.decor_mut();
            let before = decor.prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
            let joined = above(&self.text, before);
            decor.set_prefix(joined);
        }
        visit_table_mut(self, table);
    }
}

/// A kept text above another one, with one blank line between them.
fn above(kept: &str, text: &str) -> String {
    match text.chars().find(|letter| !letter.is_whitespace() || *letter == '\n') {
        Some('\n') | None => format!("{}\n{text}", kept.trim_end()),
        Some(_) => format!("{kept}{text}"),
    }
}
