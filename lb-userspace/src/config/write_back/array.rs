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
            let indent = indent_of(&prefix).to_owned();
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

/// Removes one table of the list (entries that are no tables do not count), with the comment behind it and those right
/// above it. A comment that a blank line parts from it stays, and so does one on a line that it shares with other entries.
pub(super) fn remove(list: &mut Array, table: usize) {
    let is_table = |index: &usize| list.get(*index).is_some_and(Value::is_inline_table);
    let Some(index) = (0..list.len()).filter(is_table).nth(table) else {
        return;
    };
    let removed = list.remove(index);
    let prefix = text(removed.decor().prefix());
    let suffix = text(removed.decor().suffix());
    let opens_line = index == 0 || prefix.contains('\n');
    if let Some(next) = list.get_mut(index) {
        let after = suffix + &text(next.decor().prefix());
        next.decor_mut().set_prefix(match after.split_once('\n') {
            Some((_, rest)) if opens_line => format!("{}{rest}", without_own(&prefix)),
            // What follows on the line stands where the entry stood.
            None if opens_line => prefix,
            _ => after,
        });
        return;
    }
    let after = suffix + &text(Some(list.trailing()));
    let kept = without_own(&prefix);
    let kept = kept.trim_end();
    list.set_trailing(match after.split_once('\n') {
        Some((_, rest)) if opens_line => format!("{kept}\n{rest}"),
        // The bracket must not end up in the comment.
        None if opens_line && kept.contains('#') => format!("{kept}\n{}", indent_of(&prefix)),
        _ => after,
    });
}

/// What stays of the text before a removed entry, to the start of a line: the rest of the line before, which belongs to
/// the entry before, and comments that a blank line parts from the entry.
fn without_own(prefix: &str) -> String {
    let (line_before, above) = prefix.split_once('\n').unwrap_or((prefix, ""));
    format!("{}\n{}", line_before.trim_end(), apart(above).unwrap_or_default())
}

/// The lines of a text up to its last blank one, where there is a comment among them: it is about more than what follows.
pub(super) fn apart(text: &str) -> Option<&str> {
    let mut blank = 0;
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        end += line.len();
        if line.ends_with('\n') && line.trim().is_empty() {
            blank = end;
        }
    }
    text.get(..blank).filter(|kept| kept.contains('#'))
}

fn indent_of(prefix: &str) -> &str {
    prefix.rsplit_once('\n').map_or(" ", |(_, indent)| indent)
}

fn text(raw: Option<&RawString>) -> String {
    raw.and_then(RawString::as_str)
        .unwrap_or_default()
        .replace("\r\n", "\n")
}
