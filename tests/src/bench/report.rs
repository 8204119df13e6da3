//! A benchmark's rows: samples in, a table for people and a JSON document out. Pure but for reading and writing the
//! document.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::machine::{Machine, Run};

/// Version of the JSON document's shape.
const SCHEMA: u32 = 1;

/// What a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds a packet.
    NsPerPacket,
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// Instructions.
    Instructions,
    /// A number of something.
    Count,
    /// A second; more is better.
    PerSecond,
    /// Mebibytes a second; more is better.
    MegabytesPerSecond,
    /// Microseconds.
    Microseconds,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// Whether more is better: the smallest sample is then the worst round, and runs are compared by their medians.
    pub(super) const fn is_rate(self) -> bool {
        matches!(self, Self::PerSecond | Self::MegabytesPerSecond)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::NsPerPacket => "ns",
            Self::Milliseconds => "ms",
            Self::Bytes => "bytes",
            Self::Instructions => "insns",
            Self::Count => "",
            Self::PerSecond => "/s",
            Self::MegabytesPerSecond => "MiB/s",
            Self::Microseconds => "us",
            Self::Seconds => "s",
        }
    }
}

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Rows of one group stand together in the table.
    pub group: String,
    /// Its name within the group.
    pub name: String,
    /// What the samples count.
    pub unit: Unit,
    /// One of each round.
    pub samples: Vec<f64>,
    /// What the loop around it cost, one of each round, where there is one; figures are net of it.
    pub around: Vec<f64>,
    /// Name of the row, in the same group, that the ratio is taken against.
    pub baseline: Option<String>,
}

/// What was promised and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// What is compared.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// What it may be.
    pub limit: Limit,
    /// Of a value that is a median of ratios: its quartiles, the lower first. What lies between them is noise.
    #[serde(default)]
    pub quartiles: Option<[f64; 2]>,
}

/// The side of a bar that is good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Nothing was promised: the figure says how far one can come.
    Unjudged,
}

/// One run of one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this shape.
    pub schema: u32,
    /// Which benchmark.
    pub bench: String,
    /// Where.
    pub machine: Machine,
    /// When, of what and how; older documents lack it.
    #[serde(default)]
    pub run: Option<Run>,
    /// What else the figures hang on, as `name value`.
    #[serde(default)]
    pub conditions: Vec<String>,
    /// What else is worth knowing and differs between any two runs; never compared.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Its rows, in the table's order.
    pub rows: Vec<Row>,
    /// Its bars.
    pub bars: Vec<Bar>,
}

impl Row {
    /// The smallest sample, net of the loop's smallest.
    #[must_use]
    pub fn minimum(&self) -> f64 {
        minimum(&self.samples).unwrap_or(f64::NAN) - minimum(&self.around).unwrap_or(0.0)
    }

    /// The middle sample, net of the loop's middle one.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(&self.samples).unwrap_or(f64::NAN) - median(&self.around).unwrap_or(0.0)
    }

    /// What another run's is held against: of a rate the median, of anything else the minimum.
    pub(super) fn compared(&self) -> f64 {
        if self.unit.is_rate() {
            self.median()
        } else {
            self.minimum()
        }
    }
}

/// The ratios of two rows within each round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Paired {
    pub(super) median: f64,
    pub(super) quartiles: [f64; 2],
}

/// Of rows that take turns.
#[must_use]
pub(super) fn paired(report: &Report, group: &str, name: &str, baseline: &str) -> Option<Paired> {
    let (row, baseline) = (report.row(group, name)?, report.row(group, baseline)?);
    let pairs = row.samples.iter().zip(&baseline.samples);
    let mut ratios: Vec<f64> = pairs.map(|(value, base)| value / base).collect();
    ratios.sort_by(f64::total_cmp);
    // Without the middle one of an odd number, halves of equal length.
    let half = ratios.len() / 2;
    let (lower, upper) = (ratios.get(..half)?, ratios.get(ratios.len() - half..)?);
    let middle = median(&ratios)?;
    Some(Paired {
        median: middle,
        quartiles: [lower, upper].map(|half| median(half).unwrap_or(middle)),
    })
}

fn minimum(samples: &[f64]) -> Option<f64> {
    samples.iter().copied().reduce(f64::min)
}

/// Of an even number of samples: the mean of the middle two.
fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

impl Bar {
    /// One of a single value.
    #[must_use]
    pub fn new(name: impl Into<String>, value: f64, limit: Limit) -> Self {
        Self {
            name: name.into(),
            value,
            limit,
            quartiles: None,
        }
    }

    /// Whether it was kept; `None` where nothing was promised.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        match self.limit {
            Limit::AtMost(limit) => Some(self.value <= limit),
            Limit::AtLeast(limit) => Some(self.value >= limit),
            Limit::Unjudged => None,
        }
    }

    /// How it is shown; empty where nothing was promised.
    pub(super) fn verdict(&self) -> &'static str {
        self.is_met()
            .map_or("", |is_met| if is_met { "kept" } else { "MISSED" })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "at most {limit}"),
            Self::AtLeast(limit) => write!(f, "at least {limit}"),
            Self::Unjudged => f.write_str("no limit"),
        }
    }
}

impl Report {
    /// An empty report of this machine.
    #[must_use]
    pub fn new(bench: &str) -> Self {
        Self {
            schema: SCHEMA,
            bench: bench.to_owned(),
            machine: Machine::here(),
            run: None,
            conditions: Vec::new(),
            notes: Vec::new(),
            rows: Vec::new(),
            bars: Vec::new(),
        }
    }

    /// The row of this name.
    #[must_use]
    pub fn row(&self, group: &str, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.group == group && row.name == name)
    }

    /// Ratio of a row's minimum to its baseline's.
    #[must_use]
    pub fn ratio(&self, row: &Row) -> Option<f64> {
        let baseline = self.row(&row.group, row.baseline.as_ref()?)?;
        Some(row.minimum() / baseline.minimum())
    }

    /// Ratio of the rows' medians.
    #[must_use]
    pub fn median_ratio(&self, row: &Row) -> Option<f64> {
        let baseline = self.row(&row.group, row.baseline.as_ref()?)?;
        Some(row.median() / baseline.median())
    }

    /// Ratio of what is compared.
    pub(super) fn compared_ratio(&self, row: &Row) -> Option<f64> {
        if row.unit.is_rate() {
            self.median_ratio(row)
        } else {
            self.ratio(row)
        }
    }

    pub(super) fn bar(&self, name: &str) -> Option<&Bar> {
        self.bars.iter().find(|bar| bar.name == name)
    }

    /// Writes the document.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }

    /// Reads a document.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let report: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a document of 'cargo xtask bench'", path.display()))?;
        ensure!(
            report.schema == SCHEMA,
            "{}: schema {}, this version reads {SCHEMA}: measure anew",
            path.display(),
            report.schema
        );
        Ok(report)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bench {}: {}", self.bench, self.machine)?;
        if let Some(run) = &self.run {
            writeln!(f, "  {run}")?;
        }
        for line in self.conditions.iter().chain(&self.notes) {
            writeln!(f, "  {line}")?;
        }
        let mut group = "";
        for row in &self.rows {
            if row.group != group {
                group = &row.group;
                writeln!(
                    f,
                    "\n{group:<44} {:>9} {:>9}  {:>7} {:>7}",
                    "minimum", "median", "ratio", "of medians"
                )?;
            }
            let (minimum, median) = (figure(row.minimum()), figure(row.median()));
            write!(f, "  {:<42} {minimum:>9} {median:>9}", row.name)?;
            match (self.ratio(row), self.median_ratio(row), &row.baseline) {
                (Some(ratio), Some(medians), Some(baseline)) => {
                    writeln!(
                        f,
                        "  {ratio:>7.2} {medians:>7.2}  {} of '{baseline}'",
                        row.unit.as_str()
                    )?;
                }
                _ => writeln!(f, "  {:>7} {:>7}  {}", "", "", row.unit.as_str())?,
            }
        }
        if !self.bars.is_empty() {
            writeln!(f, "\nbars")?;
        }
        let width = name_width(&self.bars);
        for bar in &self.bars {
            writeln!(
                f,
                "  {:<6} {:<width$} {:>8} ({}{})",
                bar.verdict(),
                bar.name,
                bar_figure(bar.value),
                bar.limit,
                bar.quartiles
                    .map(|[lower, upper]| format!("; quartiles {lower:.2}, {upper:.2}"))
                    .unwrap_or_default()
            )?;
        }
        Ok(())
    }
}

/// Of the column of names.
pub(super) fn name_width(bars: &[Bar]) -> usize {
    bars.iter().map(|bar| bar.name.len()).max().unwrap_or(0)
}

pub(super) fn figure(value: f64) -> String {
    if value.abs() >= 1_000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// A bar's figure: most are ratios that end up near their limit.
pub(super) fn bar_figure(value: f64) -> String {
    if value.abs() < 10.0 {
        format!("{value:.2}")
    } else {
        figure(value)
    }
}

/// What tests of reports are made of.
#[cfg(test)]
pub(super) mod made {
    use super::super::{Effort, Groups};
    use super::*;

    pub(in crate::bench) fn row(name: &str, samples: &[f64], baseline: Option<&str>) -> Row {
        Row {
            group: "g".to_owned(),
            name: name.to_owned(),
            unit: Unit::NsPerPacket,
            samples: samples.to_vec(),
            around: Vec::new(),
            baseline: baseline.map(str::to_owned),
        }
    }

    pub(in crate::bench) fn report(rows: Vec<Row>) -> Report {
        Report {
            rows,
            ..Report::new("program")
        }
    }

    pub(in crate::bench) fn bar(name: &str, value: f64, limit: Limit) -> Bar {
        Bar::new(name, value, limit)
    }

    pub(in crate::bench) fn run(effort: Effort, only: Option<&str>) -> Run {
        let groups = only.map_or(Groups::All, |only| Groups::Holding(only.to_owned()));
        Run::now(effort, &groups)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Effort;
    use super::made::{bar, report, row, run};
    use super::*;

    #[test]
    fn ratios_are_of_minima_and_of_medians() {
        let report = report(vec![
            row("lookup", &[40.0, 41.0, 60.0], None),
            row("packet", &[100.0, 60.0, 123.0], Some("lookup")),
        ]);
        assert_eq!(report.ratio(&report.rows[1]), Some(1.5));
        assert_eq!(report.median_ratio(&report.rows[1]), Some(100.0 / 41.0));
        assert_eq!(report.ratio(&report.rows[0]), None);
    }

    #[test]
    fn paired_ratios_are_within_a_round() {
        let report = report(vec![
            row("direct", &[100.0, 50.0, 10.0], None),
            row("xlb", &[90.0, 50.0, 8.0], Some("direct")),
        ]);
        let wanted = Paired {
            median: 0.9,
            quartiles: [0.8, 1.0],
        };
        assert_eq!(paired(&report, "g", "xlb", "direct"), Some(wanted));
        assert_eq!(paired(&report, "g", "xlb", "nobody"), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(
            row("a", &[4.0, 1.0, 2.0, 9.0], None).median().to_bits(),
            3.0_f64.to_bits()
        );
    }

    #[test]
    fn figures_are_net_of_the_loop() {
        let mut row = row("a", &[50.0, 70.0, 90.0], None);
        row.around = vec![10.0, 20.0, 60.0];
        assert_eq!((row.minimum() as u32, row.median() as u32), (40, 50));
    }

    #[test]
    fn a_document_is_read_as_it_was_written_and_another_schema_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.json");
        let mut written = report(vec![row("lookup", &[40.5], None)]);
        written.bars.push(bar("x", 2.0, Limit::AtMost(2.0)));
        written.write(&path).expect("written");
        assert_eq!(Report::read(&path).expect("read"), written);
        written.schema += 1;
        written.write(&path).expect("written");
        let error = Report::read(&path).expect_err("another schema").to_string();
        assert!(error.contains("measure anew"), "{error}");
    }

    #[test]
    fn an_older_document_has_neither_run_nor_notes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("old.json");
        let mut written = report(vec![row("lookup", &[40.5], None)]);
        let mut document = serde_json::to_value(&written).expect("a document");
        let fields = document.as_object_mut().expect("an object");
        assert!(fields.remove("run").is_some() && fields.remove("notes").is_some());
        fs::write(&path, document.to_string()).expect("written");
        assert_eq!(Report::read(&path).expect("read"), written);
        written.run = Some(run(Effort::Full, Some("udp")));
        written.write(&path).expect("written");
        let read = Report::read(&path).expect("read");
        assert_eq!(read, written);
        assert!(
            read.to_string().contains("\n  a full run of only 'udp', commit "),
            "{read}"
        );
    }

    #[test]
    fn a_bar_is_kept_up_to_its_limit() {
        let bar = |value, limit| bar("", value, limit);
        assert_eq!(bar(2.0, Limit::AtMost(2.0)).is_met(), Some(true));
        assert_eq!(bar(2.01, Limit::AtMost(2.0)).is_met(), Some(false));
        assert_eq!(bar(4.0, Limit::AtLeast(4.0)).is_met(), Some(true));
        assert_eq!(bar(3.9, Limit::AtLeast(4.0)).is_met(), Some(false));
    }

    #[test]
    fn a_bar_without_a_limit_is_neither_kept_nor_missed() {
        let mut report = report(Vec::new());
        report.bars.push(bar("x", 0.934, Limit::Unjudged));
        let text = report.to_string();
        assert!(text.contains("x     0.93 (no limit)"), "{text}");
        assert!(!text.contains("kept") && !text.contains("MISSED"), "{text}");
    }

    #[test]
    fn what_the_figures_hang_on_stands_in_the_heading() {
        let mut report = report(Vec::new());
        report.conditions.push("congestion control bbr".to_owned());
        assert!(report.to_string().contains("\n  congestion control bbr\n"), "{report}");
    }
}
