//! Backends as `backend = [{ ... }, { ... }]`, on one line or several, with comments between them.
//!
//! `toml_edit` keeps what follows an entry's comma in the *next* entry's prefix, or in the array's trailing text after
//! the last one; so a comment at the end of an entry's line belongs to the entry before.

use toml_edit::{Array, InlineTable, RawString, Value};

/// Adds an entry at the end, laid out as the one before.
pub(super) fn push(list: &mut Array, table: InlineTable) {
    let trailing = text(Some(list.trailing()));
    let (after, indent) = match list.iter_mut().last() {
        None => (trailing, "    ".to_owned()),
        Some(last) => {
            let prefix = text(last.decor().prefix());
            let after = text(last.decor().suffix()) + &trailing;
            last.decor_mut().set_suffix("");
            let indent = prefix.rsplit_once('\n').map_or(" ", |(_, indent)| indent).to_owned();
            (after, indent)
        }
    };
    let mut value = Value::InlineTable(table);
    match after.rsplit_once('\n') {
        // On lines of their own: comments after the last entry stay there.
        Some((comments, closing)) => {
            value
                .decor_mut()
                .set_prefix(format!("{}\n{indent}", comments.trim_end()));
            list.set_trailing(format!("\n{closing}"));
            list.set_trailing_comma(true);
        }
        None => {
            value.decor_mut().set_prefix(if list.is_empty() { "" } else { " " });
            list.set_trailing(after);
        }
    }
    value.decor_mut().set_suffix("");
    list.push_formatted(value);
}

/// Removes one table of the list (entries that are no tables do not count), with the comment on its line and those
/// right above it.
pub(super) fn remove(list: &mut Array, table: usize) {
    let is_table = |index: &usize| list.get(*index).is_some_and(Value::is_inline_table);
    let Some(index) = (0..list.len()).filter(is_table).nth(table) else {
        return;
    };
    let removed = list.remove(index);
    // The rest of the line before belongs to the entry before.
    let own = text(removed.decor().prefix());
    let before = own
        .split_once('\n')
        .map_or(own.as_str(), |(before, _)| before)
        .to_owned();
    let joined = |after: &str| match after.split_once('\n') {
        Some((_, rest)) => format!("{before}\n{rest}"),
        None => before.clone(),
    };
    if let Some(next) = list.get_mut(index) {
        let after = text(next.decor().prefix());
        next.decor_mut().set_prefix(joined(&after));
        return;
    }
    let after = text(removed.decor().suffix()) + &text(Some(list.trailing()));
    list.set_trailing(if after.contains('\n') { joined(&after) } else { after });
}

fn text(raw: Option<&RawString>) -> String {
    raw.and_then(RawString::as_str)
        .unwrap_or_default()
        .replace("\r\n", "\n")
}
