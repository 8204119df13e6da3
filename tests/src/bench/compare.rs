//! Two runs of one benchmark side by side. Pure.

use std::fmt::Write as _;

use super::machine::Run;
use super::report::{Bar, Report, bar_figure, figure, name_width};

/// Both runs side by side: what they hang on, rows, bars.
#[must_use]
pub(super) fn comparison(before: &Report, after: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "bench {}", after.bench);
    for (name, report) in [("before:", before), ("after:", after)] {
        let run = report
            .run
            .as_ref()
            .map_or("a run without a record".to_owned(), Run::to_string);
        let _ = writeln!(text, "{name:<7} {}\n        {run}", report.machine);
    }
    differences(before, after, &mut text);
    rows_compared(before, after, &mut text);
    bars_compared(before, after, &mut text);
    text
}

/// Why the figures may differ though nothing became faster or slower.
fn differences(before: &Report, after: &Report, text: &mut String) {
    if !before.machine.is_like(&after.machine) {
        let _ = writeln!(
            text,
            "different machines: only the ratios to each run's own baselines may be compared"
        );
    }
    if let (Some(old), Some(new)) = (&before.run, &after.run)
        && (old.effort, &old.only) != (new.effort, &new.only)
    {
        let _ = writeln!(
            text,
            "{} beside {}: figures may differ for that alone",
            new.kind(),
            old.kind()
        );
    }
    if before.conditions != after.conditions {
        let conditions = |report: &Report| report.conditions.join("; ");
        let _ = writeln!(
            text,
            "different conditions, '{}' and '{}': what is compared may be theirs",
            conditions(before),
            conditions(after)
        );
    }
}

fn rows_compared(before: &Report, after: &Report, text: &mut String) {
    let mut group = "";
    for row in &after.rows {
        if row.group != group {
            group = &row.group;
            let _ = writeln!(
                text,
                "\n{group:<44} {:>9} {:>9} {:>8}   ratio before, after; {}",
                "before",
                "after",
                "change",
                statistic(after, group)
            );
        }
        let new = row.compared();
        let Some(old) = before.row(&row.group, &row.name) else {
            let _ = writeln!(text, "  {:<42} {:>9} {:>9}", row.name, "-", figure(new));
            continue;
        };
        let change = (new / old.compared() - 1.0) * 100.0;
        let _ = write!(
            text,
            "  {:<42} {:>9} {:>9} {change:>+7.1}%",
            row.name,
            figure(old.compared()),
            figure(new)
        );
        let _ = match (before.compared_ratio(old), after.compared_ratio(row)) {
            (Some(old), Some(new)) => writeln!(text, "   {old:.2} {new:.2}"),
            _ => writeln!(text),
        };
    }
    for row in &before.rows {
        if after.row(&row.group, &row.name).is_none() {
            let _ = writeln!(text, "gone: {}, {}", row.group, row.name);
        }
    }
}

/// What is compared of a group's rows.
fn statistic(report: &Report, group: &str) -> &'static str {
    let of_group = report.rows.iter().filter(|row| row.group == group);
    let (rates, others): (Vec<_>, Vec<_>) = of_group.partition(|row| row.unit.is_rate());
    match (rates.is_empty(), others.is_empty()) {
        (true, _) => "all of minima",
        (false, true) => "all of medians",
        (false, false) => "of rates all of medians, else of minima",
    }
}

fn bars_compared(before: &Report, after: &Report, text: &mut String) {
    if before.bars.is_empty() && after.bars.is_empty() {
        return;
    }
    let width = name_width(&after.bars);
    let _ = writeln!(
        text,
        "\n{:<width$} {:>8} {:>8}",
        "bars",
        "before",
        "after",
        width = width + 9
    );
    for bar in &after.bars {
        let old = before.bar(&bar.name);
        let _ = write!(
            text,
            "  {:<6} {:<width$} {:>8} {:>8} ({})",
            bar.verdict(),
            bar.name,
            old.map_or("-".to_owned(), |old| bar_figure(old.value)),
            bar_figure(bar.value),
            bar.limit
        );
        let _ = match old {
            Some(old) if (old.verdict(), old.limit) != (bar.verdict(), bar.limit) => {
                writeln!(text, "; before: {}", promise(old))
            }
            _ => writeln!(text),
        };
    }
    for bar in &before.bars {
        if after.bar(&bar.name).is_none() {
            let _ = writeln!(text, "gone: {}, {} ({})", bar.name, bar_figure(bar.value), promise(bar));
        }
    }
}

/// What was promised and whether it was kept.
fn promise(bar: &Bar) -> String {
    match bar.verdict() {
        "" => bar.limit.to_string(),
        verdict => format!("{verdict}, {}", bar.limit),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Effort;
    use super::super::report::made::{bar, report, row, run};
    use super::super::report::{Limit, Row, Unit};
    use super::*;

    #[test]
    fn a_comparison_shows_what_changed_what_came_and_what_went() {
        let before = report(vec![row("a", &[100.0], None), row("gone", &[1.0], None)]);
        let after = report(vec![row("a", &[80.0], None), row("new", &[5.0], None)]);
        let text = comparison(&before, &after);
        for wanted in ["-20.0%", "new", "gone: g, gone"] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
    }

    #[test]
    fn a_comparison_shows_the_bars_of_both_and_their_verdicts() {
        let (mut before, mut after) = (report(Vec::new()), report(Vec::new()));
        assert!(!comparison(&before, &after).contains("bars"));
        let limit = Limit::AtMost(2.0);
        before.bars = vec![
            bar("late", 1.9, limit),
            bar("gone", 3.0, limit),
            bar("same", 1.0, limit),
        ];
        after.bars = vec![
            bar("late", 2.5, limit),
            bar("same", 1.5, limit),
            bar("new", 9.0, Limit::Unjudged),
        ];
        let text = comparison(&before, &after);
        for wanted in [
            "\nbars            before    after\n",
            "\n  MISSED late     1.90     2.50 (at most 2); before: kept, at most 2\n",
            "\n  kept   same     1.00     1.50 (at most 2)\n",
            "\n         new         -     9.00 (no limit)\n",
            "\ngone: gone, 3.00 (MISSED, at most 2)\n",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
    }

    #[test]
    fn rates_are_compared_by_medians_and_the_heading_says_so() {
        let rate = |name: &str, samples: &[f64], baseline| Row {
            unit: Unit::PerSecond,
            ..row(name, samples, baseline)
        };
        // The worst round of one of them says nothing of the others.
        let before = report(vec![
            rate("direct", &[100.0, 100.0, 100.0], None),
            rate("xlb", &[10.0, 90.0, 95.0], Some("direct")),
        ]);
        let after = report(vec![
            rate("direct", &[100.0, 200.0, 200.0], None),
            rate("xlb", &[90.0, 99.0, 99.0], Some("direct")),
        ]);
        let text = comparison(&before, &after);
        for wanted in ["+10.0%", "0.90 0.49", "; all of medians\n"] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        let mut mixed = after.clone();
        mixed.rows.push(row("latency", &[1.0], None));
        assert!(comparison(&before, &mixed).contains("; of rates all of medians, else of minima\n"));
        let times = report(vec![row("latency", &[1.0], None)]);
        assert!(comparison(&times, &times).contains("; all of minima\n"));
    }

    #[test]
    fn a_comparison_says_that_one_run_was_quick_or_of_a_part() {
        let (mut before, mut after) = (report(Vec::new()), report(Vec::new()));
        after.run = Some(run(Effort::Quick, None));
        // Nothing is known of the other.
        let text = comparison(&before, &after);
        assert!(
            text.contains("a run without a record") && !text.contains("beside"),
            "{text}"
        );
        before.run = Some(run(Effort::Full, None));
        let text = comparison(&before, &after);
        assert!(text.contains("\na quick run beside a full run: "), "{text}");
        after.run = Some(run(Effort::Full, Some("udp")));
        let text = comparison(&before, &after);
        assert!(
            text.contains("\na full run of only 'udp' beside a full run: "),
            "{text}"
        );
        before.run.clone_from(&after.run);
        assert!(!comparison(&before, &after).contains("beside"));
    }

    #[test]
    fn a_comparison_says_that_the_machines_differ() {
        let before = report(Vec::new());
        let mut after = before.clone();
        after.machine.load += 1.0;
        assert!(!comparison(&before, &after).contains("different machines"));
        after.machine.cpus += 1;
        assert!(comparison(&before, &after).contains("different machines"));
    }

    #[test]
    fn notes_are_shown_and_never_compared() {
        let before = report(Vec::new());
        let mut after = before.clone();
        after.notes.push("51,000 requests a second".to_owned());
        assert!(after.to_string().contains("\n  51,000 requests a second\n"), "{after}");
        assert!(!comparison(&before, &after).contains("51,000"));
    }

    #[test]
    fn a_comparison_says_that_conditions_differ() {
        let mut before = report(Vec::new());
        let after = before.clone();
        assert!(!comparison(&before, &after).contains("different conditions"));
        before.conditions.push("a bridge between".to_owned());
        let text = comparison(&before, &after);
        assert!(
            text.contains("different conditions, 'a bridge between' and ''"),
            "{text}"
        );
    }
}
