//! The table of `xlb flows`. Its widths come from the first rows and stay: the rest is printed as it arrives.

use std::io::{self, Write};
use std::time::Duration;

use crate::view::{FlowView, ago};

/// Rows that are looked at for the widths before the first is printed.
const MEASURED: usize = 256;

/// Which columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// What fits 80 columns for IPv4 and short names.
    Narrow,
    /// Everything.
    Wide,
}

/// Heading, least width, and what stands in it.
type Column = (&'static str, usize, fn(&FlowView) -> String);

const NARROW: &[Column] = &[
    ("PROTO", 5, |flow| flow.protocol.clone()),
    ("STATE", 11, |flow| flow.state.as_str().to_owned()),
    ("CLIENT", 12, |flow| flow.client.to_string()),
    ("BACKEND", 7, name),
    ("AGE", 5, |flow| ago(Duration::from_secs(flow.age_s))),
    ("IDLE", 4, |flow| ago(Duration::from_secs(flow.idle_s))),
];

const WIDE: &[Column] = &[
    ("PROTO", 5, |flow| flow.protocol.clone()),
    ("STATE", 11, |flow| flow.state.as_str().to_owned()),
    ("CLIENT", 12, |flow| flow.client.to_string()),
    ("VIP", 10, |flow| flow.vip.to_string()),
    ("SNAT", 4, |flow| {
        flow.snat.map_or_else(|| "-".to_owned(), |snat| snat.to_string())
    }),
    ("BACKEND", 7, name),
    ("ADDRESS", 10, |flow| flow.backend_address.to_string()),
    ("AGE", 5, |flow| ago(Duration::from_secs(flow.age_s))),
    ("IDLE", 4, |flow| ago(Duration::from_secs(flow.idle_s))),
    ("SINCE", 20, |flow| flow.created.to_string()),
    ("ID", 16, |flow| flow.id.clone()),
];

fn name(flow: &FlowView) -> String {
    format!("{}/{}", flow.service, flow.backend)
}

/// Prints rows.
#[derive(Debug)]
pub(super) struct Table {
    columns: &'static [Column],
    widths: Vec<usize>,
    /// Rows that wait for the widths; `None` once those are fixed.
    waiting: Option<Vec<Vec<String>>>,
}

impl Table {
    pub(super) fn new(columns: Columns) -> Self {
        let columns = match columns {
            Columns::Narrow => NARROW,
            Columns::Wide => WIDE,
        };
        Self {
            columns,
            widths: columns
                .iter()
                .map(|(heading, least, _)| heading.len().max(*least))
                .collect(),
            waiting: Some(Vec::new()),
        }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, flow: &FlowView, out: &mut impl Write) -> io::Result<()> {
        let cells: Vec<String> = self.columns.iter().map(|(_, _, cell)| cell(flow)).collect();
        let Some(waiting) = &mut self.waiting else {
            return self.row(&cells, out);
        };
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
        waiting.push(cells);
        if waiting.len() < MEASURED {
            return Ok(());
        }
        self.end(out)
    }

    /// Prints what waits.
    pub(super) fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        let Some(waiting) = self.waiting.take() else {
            return Ok(());
        };
        if waiting.is_empty() {
            return out.write_all(b"no connections\n");
        }
        let headings: Vec<String> = self
            .columns
            .iter()
            .map(|(heading, _, _)| (*heading).to_owned())
            .collect();
        self.row(&headings, out)?;
        waiting.iter().try_for_each(|cells| self.row(cells, out))
    }

    fn row(&self, cells: &[String], out: &mut impl Write) -> io::Result<()> {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&self.widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
        }
        writeln!(out, "{}", line.trim_end())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::view::{FlowFamily, FlowState, SCHEMA, Timestamp};

    pub(in crate::cli::flows) fn flow(id: u64) -> FlowView {
        let socket = |text: &str| text.parse().expect("a socket address");
        FlowView {
            schema: SCHEMA,
            id: format!("{id:016x}"),
            service: "web".to_owned(),
            backend: "a".to_owned(),
            protocol: "tcp".to_owned(),
            family: FlowFamily::Ipv4,
            mode: "full_nat".to_owned(),
            state: FlowState::Established,
            client: socket("198.51.100.222:40000"),
            vip: socket("203.0.113.10:80"),
            snat: Some(socket("10.0.0.1:10240")),
            backend_address: socket("10.0.0.11:8081"),
            created: Timestamp { unix_s: 1_000_000_000 },
            last_seen: Timestamp { unix_s: 1_000_000_060 },
            age_s: 64,
            idle_s: 4,
        }
    }

    fn printed(columns: Columns, rows: u64) -> String {
        let (mut table, mut out) = (Table::new(columns), Vec::new());
        for id in 0..rows {
            table.push(&flow(id), &mut out).expect("memory takes it");
        }
        table.end(&mut out).expect("memory takes it");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_narrow_table_fits_eighty_columns_and_the_wide_one_holds_the_tuple() {
        let narrow = printed(Columns::Narrow, 2);
        assert!(narrow.lines().all(|line| line.len() <= 80), "{narrow}");
        assert_eq!(
            narrow.lines().next(),
            Some("PROTO  STATE        CLIENT                BACKEND  AGE    IDLE")
        );
        assert!(printed(Columns::Wide, 1).contains("10.0.0.1:10240"));
    }

    #[test]
    fn rows_after_the_measured_ones_are_printed_at_once_and_nothing_is_said_of_nothing() {
        assert_eq!(printed(Columns::Narrow, 1_000).lines().count(), 1_001);
        assert_eq!(printed(Columns::Wide, 0), "no connections\n");
    }
}
