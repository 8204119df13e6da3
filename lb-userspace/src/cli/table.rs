//! Text tables in one look: no lines, two spaces between columns, numbers to the right.

use comfy_table::{Cell, CellAlignment, Color, Table, presets};

use super::output::Paint;

/// What a cell means, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// No colour.
    Plain,
    /// Green.
    Good,
    /// Yellow.
    Warn,
    /// Red.
    Bad,
}

/// A table that is filled row by row.
pub(super) struct Rows {
    table: Table,
    paint: Paint,
}

impl Rows {
    /// A table with these headings; a heading that starts with `>` is a column of numbers.
    pub(super) fn new(headings: &[&str], paint: Paint) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        match paint {
            Paint::Color => table.enforce_styling(),
            Paint::Plain => table.force_no_tty(),
        };
        table.set_header(headings.iter().map(|heading| heading.trim_start_matches('>')));
        for (index, heading) in headings.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_padding((0, 2));
                if heading.starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Self { table, paint }
    }

    /// Adds a row; each cell with its tone.
    pub(super) fn push<const N: usize>(&mut self, cells: [(String, Tone); N]) {
        let paint = self.paint;
        self.table.add_row(cells.into_iter().map(|(text, tone)| {
            let cell = Cell::new(text);
            match (paint, tone) {
                (Paint::Plain, _) | (_, Tone::Plain) => cell,
                (_, Tone::Good) => cell.fg(Color::Green),
                (_, Tone::Warn) => cell.fg(Color::Yellow),
                (_, Tone::Bad) => cell.fg(Color::Red),
            }
        }));
    }

    /// The text, one line a row, without blanks at the ends of lines.
    pub(super) fn text(&self) -> String {
        self.table.lines().fold(String::new(), |mut text, line| {
            text.push_str(line.trim_end());
            text.push('\n');
            text
        })
    }
}

/// A cell without a tone.
pub(super) fn plain(text: impl Into<String>) -> (String, Tone) {
    (text.into(), Tone::Plain)
}

/// A number for a cell: three digits and a decimal prefix (`0`, `12.5k`, `3.20M`).
pub(super) fn short(value: f64) -> String {
    if value < 1.0 && value > 0.0 {
        return format!("{value:.1}");
    }
    let (mut scaled, mut prefix) = (value, "");
    for next in ["k", "M", "G", "T"] {
        if scaled < 999.5 {
            break;
        }
        scaled /= 1_000.0;
        prefix = next;
    }
    match (prefix, scaled) {
        ("", _) => format!("{scaled:.0}"),
        (_, scaled) if scaled < 10.0 => format!("{scaled:.2}{prefix}"),
        (_, scaled) if scaled < 100.0 => format!("{scaled:.1}{prefix}"),
        _ => format!("{scaled:.0}{prefix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.4, "0.4"),
            (7.0, "7"),
            (999.0, "999"),
            (1_000.0, "1.00k"),
            (12_500.0, "12.5k"),
            (3_200_000.0, "3.20M"),
            (999_900_000.0, "1.00G"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_plain_table_holds_no_escape_and_no_trailing_blank() {
        let mut rows = Rows::new(&["NAME", ">COUNT"], Paint::Plain);
        rows.push([plain("a"), ("12".to_owned(), Tone::Bad)]);
        assert_eq!(rows.text(), "NAME  COUNT\na        12\n");
    }
}
