//! A key more in a table. One that is written inline may have lines and comments between its keys (TOML 1.1).

use toml_edit::{Decor, InlineTable, Item, RawString, TableLike, Value};

use super::Written;

/// Puts a key behind the last one.
pub(super) fn insert(table: &mut dyn TableLike, written: Written, key: &str, mut item: Item) {
    let Some(value) = item.as_value_mut().filter(|_| written == Written::Inline) else {
        table.insert(key, item);
        return;
    };
    let indent = table.iter().last().and_then(|(last, _)| indent_of(table, last));
    let closing = take_closing(table);
    value.decor_mut().set_prefix(" ");
    let Some((comments, brace)) = closing.rsplit_once('\n') else {
        value
            .decor_mut()
            .set_suffix(if table.is_empty() { " " } else { &closing });
        table.insert(key, item);
        return;
    };
    // On lines of their own: a comment behind the last key stays there.
    value.decor_mut().set_suffix(format!("\n{brace}"));
    let before = format!(
        "{}\n{}",
        comments.trim_end(),
        indent.unwrap_or_else(|| format!("{brace}  "))
    );
    table.insert(key, item);
    if let Some(mut key) = table.key_mut(key) {
        key.leaf_decor_mut().set_prefix(before);
    }
}

fn indent_of(table: &dyn TableLike, key: &str) -> Option<String> {
    let prefix = table.key(key)?.leaf_decor().prefix()?.as_str()?;
    prefix.rsplit_once('\n').map(|(_, indent)| indent.to_owned())
}

/// Takes away what stands between the last value and the closing brace: a comma follows the value now.
fn take_closing(table: &mut dyn TableLike) -> String {
    let last = match table.iter_mut().last() {
        Some((_, Item::Value(last))) => end_of(last),
        _ => None,
    };
    let Some(decor) = last else {
        return String::new();
    };
    let closing = decor.suffix().and_then(RawString::as_str).unwrap_or_default();
    let closing = closing.replace("\r\n", "\n");
    decor.set_suffix("");
    closing
}

/// What stands around the last value of a value's text: `a.b = 1` is a table in a table to the parser.
fn end_of(value: &mut Value) -> Option<&mut Decor> {
    if !value.as_inline_table().is_some_and(InlineTable::is_dotted) {
        return Some(value.decor_mut());
    }
    let (_, last) = value.as_inline_table_mut()?.iter_mut().last()?;
    end_of(last)
}
