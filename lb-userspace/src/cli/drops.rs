//! `xlb drops`: every reason with its count, rate and meaning, and what the kernel failed to send afterwards.

use std::thread;
use std::time::Instant;

use super::args::{DropsArgs, WideFormat};
use super::client::Client;
use super::exit::{CliError, Exit};
use super::output::{self, Paint};
use super::table::{Rows, Tone, plain, short};
use crate::view::{DropRow, DropsView, approximate};

/// Asks twice, `interval` apart, and prints counts and rates.
pub(super) fn drops(args: &DropsArgs) -> Result<Exit, CliError> {
    let client = Client::from(&args.socket);
    let started = Instant::now();
    let before: DropsView = client.get("/v1/drops")?;
    let view = if args.interval.is_zero() {
        before
    } else {
        thread::sleep(args.interval);
        let seconds = started.elapsed().as_secs_f64();
        with_rates(client.get("/v1/drops")?, &before, seconds)
    };
    match args.output {
        WideFormat::Json => output::json(&view)?,
        WideFormat::Table => output::text(&drops_text(&view, Paint::for_stdout(), Rare::Hidden))?,
        WideFormat::Wide => output::text(&drops_text(&view, Paint::for_stdout(), Rare::Shown))?,
    }
    Ok(Exit::Ok)
}

/// What to do with reasons that never happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rare {
    /// Only their number.
    Hidden,
    /// A row each.
    Shown,
}

fn with_rates(mut view: DropsView, before: &DropsView, seconds: f64) -> DropsView {
    view.interval_s = seconds;
    let rate = |now: u64, before: u64| approximate(now.saturating_sub(before)) / seconds;
    let pairs = [
        (&mut view.drops, &before.drops),
        (&mut view.passes, &before.passes),
        (&mut view.answers, &before.answers),
    ];
    for (rows, old) in pairs {
        for row in rows {
            let earlier = old
                .iter()
                .find(|old| old.reason == row.reason)
                .map_or(0, |old| old.packets);
            row.packets_per_s = rate(row.packets, earlier);
        }
    }
    for row in &mut view.tx_errors {
        let earlier = before
            .tx_errors
            .iter()
            .find(|old| old.ifindex == row.ifindex)
            .map_or(0, |old| old.redirect_errors + old.xmit_drops);
        row.errors_per_s = rate(row.redirect_errors + row.xmit_drops, earlier);
    }
    view
}

fn drops_text(view: &DropsView, paint: Paint, rare: Rare) -> String {
    let mut text = String::new();
    let sections: [(&str, &[DropRow], Tone); 3] = [
        ("dropped", &view.drops, Tone::Bad),
        ("answered by xlb", &view.answers, Tone::Plain),
        ("left to the kernel", &view.passes, Tone::Plain),
    ];
    for (title, all, tone) in sections {
        section(&mut text, title, all, tone, paint, rare);
    }
    tx_section(&mut text, view, paint);
    if view.cpu.tuples_reused_early > 0 {
        output::line(&mut text, &reuse(view.cpu.tuples_reused_early));
    }
    text
}

/// Nothing is dropped by it here, and the client waits all the same.
fn reuse(tuples: u64) -> String {
    format!(
        "\nSNAT ports used anew within a minute: {tuples}\n  A backend that still has the former connection in TIME_WAIT may turn the \
         first SYN away, and the client tries again after a second.\n  Add addresses to snat_addresses, or widen snat_ports \
         (docs/running.md, \"Source ports towards backends\")."
    )
}

fn section(text: &mut String, title: &str, all: &[DropRow], tone: Tone, paint: Paint, rare: Rare) {
    let mut shown: Vec<&DropRow> = all
        .iter()
        .filter(|row| row.packets > 0 || rare == Rare::Shown)
        .collect();
    // Those that grow come first, then the large ones.
    shown.sort_by(|a, b| {
        b.packets_per_s
            .total_cmp(&a.packets_per_s)
            .then(b.packets.cmp(&a.packets))
    });
    if shown.is_empty() {
        output::line(text, &format!("{title}: nothing\n"));
        return;
    }
    let mut rows = Rows::new(&["REASON", ">PACKETS", ">PER SECOND", "MEANING"], paint);
    for row in shown {
        let tone = if row.packets_per_s > 0.0 { tone } else { Tone::Plain };
        rows.push([
            (row.reason.clone(), tone),
            plain(row.packets.to_string()),
            plain(short(row.packets_per_s)),
            plain(row.meaning.clone()),
        ]);
    }
    output::line(text, &format!("{title}:\n{}", rows.text()));
}

fn tx_section(text: &mut String, view: &DropsView, paint: Paint) {
    if let Some(why) = &view.tx_errors_missing {
        output::line(
            text,
            &format!("lost by the kernel after a redirect: not counted: {why}"),
        );
        return;
    }
    if view.tx_errors.is_empty() {
        output::line(text, "lost by the kernel after a redirect: nothing");
        return;
    }
    let headings = [
        "INTERFACE",
        ">REDIRECT ERRORS",
        ">XMIT DROPS",
        ">PER SECOND",
        "LAST ERROR",
    ];
    let mut rows = Rows::new(&headings, paint);
    for row in &view.tx_errors {
        let last = [&row.last_redirect_error, &row.last_xmit_error]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join("; ");
        rows.push([
            plain(row.interface.clone()),
            plain(row.redirect_errors.to_string()),
            plain(row.xmit_drops.to_string()),
            plain(short(row.errors_per_s)),
            plain(last),
        ]);
    }
    output::line(text, &format!("lost by the kernel after a redirect:\n{}", rows.text()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{CpuCountersView, SCHEMA, Timestamp, TxErrorRow};

    fn row(reason: &str, packets: u64) -> DropRow {
        DropRow {
            reason: reason.to_owned(),
            packets,
            bytes: packets * 60,
            packets_per_s: 0.0,
            meaning: format!("What {reason} means."),
        }
    }

    fn view(no_backend: u64, xmit_drops: u64) -> DropsView {
        DropsView {
            schema: SCHEMA,
            now: Timestamp { unix_s: 1_000_000_000 },
            interval_s: 0.0,
            drops: vec![row("bad_ihl", 0), row("fragment", 900), row("no_backend", no_backend)],
            passes: vec![row("not_ours", 70_000)],
            answers: vec![row("echo", 0)],
            tx_errors: vec![TxErrorRow {
                interface: "back".to_owned(),
                ifindex: 7,
                redirect_errors: 0,
                xmit_drops,
                errors_per_s: 0.0,
                last_redirect_error: None,
                last_xmit_error: Some("No space left on device".to_owned()),
            }],
            tx_errors_missing: None,
            cpu: CpuCountersView::default(),
        }
    }

    #[test]
    fn what_grows_comes_first_and_what_never_happened_is_hidden() {
        let view = with_rates(view(30, 8), &view(10, 0), 2.0);
        insta::assert_snapshot!(drops_text(&view, Paint::Plain, Rare::Hidden));
    }

    #[test]
    fn ports_that_are_used_anew_too_early_are_said_with_the_remedy() {
        let mut view = view(0, 0);
        assert!(!drops_text(&view, Paint::Plain, Rare::Hidden).contains("TIME_WAIT"));
        view.cpu.tuples_reused_early = 9_069;
        let text = drops_text(&view, Paint::Plain, Rare::Hidden);
        assert!(text.contains("used anew within a minute: 9069"), "{text}");
        assert!(text.contains("widen snat_ports"), "{text}");
    }

    #[test]
    fn wide_shows_every_reason() {
        let text = drops_text(&view(0, 0), Paint::Plain, Rare::Shown);
        for reason in ["bad_ihl", "fragment", "no_backend", "not_ours", "echo"] {
            assert!(text.contains(reason), "{reason} is missing in:\n{text}");
        }
    }
}
