//! `xlb explain [CODE|NAME]`: what a finding of `xlb check`, a reason or a port verdict means. Needs no agent.

mod status_words;
mod topics;

use serde::Serialize;

use super::args::{ExplainArgs, Format};
use super::exit::{CliError, Exit};
use super::output::{self, Paint};
use super::table::{Rows, plain};
use crate::agent::WRITE_CODES;
use crate::config::{CODES, nearest};
use crate::view::SCHEMA;

pub(super) use topics::topics;
use topics::{Kind, Topic, find, number};

/// The JSON answer: one topic, or all of them.
#[derive(Debug, Serialize)]
struct ExplainView {
    schema: u32,
    topics: Vec<Topic>,
}

/// Explains one name, or lists all.
pub(super) fn explain(args: &ExplainArgs) -> Result<Exit, CliError> {
    let topics = match &args.code {
        None => topics(),
        Some(word) => match find(word) {
            Some(topic) => vec![topic],
            None => {
                output::error(&unknown(word));
                return Ok(Exit::Usage);
            }
        },
    };
    match (args.output, topics.as_slice()) {
        (Format::Json, _) => output::json(&ExplainView { schema: SCHEMA, topics })?,
        (Format::Table, [topic]) => output::text(&text(topic))?,
        (Format::Table, all) => output::text(&list(all, Paint::for_stdout()))?,
    }
    Ok(Exit::Ok)
}

/// Why there is nothing to explain, and what was probably meant.
fn unknown(word: &str) -> String {
    let next = "\n  next: 'xlb explain' lists all codes, reasons, verdicts and words of status";
    if number(word).is_some() {
        let (first, last) = (CODES.first(), WRITE_CODES.last());
        let (first, last) = (first.map_or("", |code| code.id), last.map_or("", |code| code.id));
        return format!("there is no code '{word}'; they go from {first} to {last}, with gaps{next}");
    }
    let all = topics();
    let names: Vec<&str> = all.iter().map(|topic| topic.name).collect();
    let meant = nearest(word, &names).map(|name| format!("; did you mean '{name}'?"));
    format!(
        "'{word}' is no code, reason, verdict or word of xlb's status{}{next}",
        meant.unwrap_or_default()
    )
}

fn text(topic: &Topic) -> String {
    let what = topic.severity.unwrap_or(topic.kind.as_str());
    let mut text = if topic.kind == Kind::Code {
        format!("{}  {what}: {}\n\n{}\n", topic.name, topic.title, topic.explanation)
    } else {
        format!("{}  {what}\n\n{}\n", topic.name, topic.explanation)
    };
    if let Some(counts) = topic.counts {
        output::line(&mut text, &format!("counts as {counts} ({})", towards(counts)));
    }
    if let Some(next) = topic.next {
        output::line(&mut text, &format!("look first at: {next}"));
    }
    for one in &topic.causes {
        output::line(
            &mut text,
            &format!("\n  {}: {}\n    next: {}", one.cause, one.explanation, one.next),
        );
    }
    if let Some(example) = topic.example {
        for (title, config) in [("wrong", example.wrong), ("right", example.right)] {
            output::line(&mut text, &format!("\n{title}:"));
            for line in config.lines() {
                output::line(&mut text, format!("    {line}").trim_end());
            }
        }
    }
    output::line(&mut text, &format!("\nmore: {}", topic.page));
    text
}

const fn towards(counts: &str) -> &'static str {
    match counts.as_bytes() {
        b"good" => "towards rise",
        b"bad" => "towards fall",
        _ => "the fault is ours: towards neither rise nor fall",
    }
}

fn list(all: &[Topic], paint: Paint) -> String {
    let mut rows = Rows::new(&["NAME", "WHAT", "TITLE"], paint);
    for topic in all {
        rows.push([
            plain(topic.name),
            plain(topic.severity.unwrap_or(topic.kind.as_str())),
            plain(topic.title),
        ]);
    }
    rows.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = include_str!("../../../../docs/cli.md");

    fn explained(word: &str) -> String {
        text(&find(word).expect("a topic"))
    }

    #[test]
    fn a_code_a_reason_and_a_verdict_read_well() {
        let all = ["204", "no_backend", "not_ours", "unreachable", "open"].map(explained);
        insta::assert_snapshot!(all.join("\n---\n"));
    }

    #[test]
    fn the_docs_show_what_the_command_prints() {
        let printed = explained("no_neighbour");
        assert!(DOCS.contains(&printed), "docs/cli.md lacks:\n{printed}");
    }

    #[test]
    fn the_docs_list_why_a_file_is_not_written() {
        for code in WRITE_CODES {
            let row = format!("| {} | {} | {} |", code.id, code.title, code.explanation);
            assert!(DOCS.contains(&row), "docs/cli.md lacks:\n{row}");
            assert!(explained(code.id).contains(code.explanation));
            assert!(code.explanation.contains("--runtime"), "{}", code.id);
        }
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_and_an_unknown_number_the_range() {
        assert!(unknown("no-backends").contains("did you mean 'no_backend'?"));
        assert!(unknown("filterd").contains("did you mean 'filtered'?"));
        assert!(!unknown("colour_of_the_sky").contains("did you mean"));
        let args = ExplainArgs {
            code: Some("nonsense".to_owned()),
            output: Format::Table,
        };
        assert_eq!(explain(&args).expect("nothing was written"), Exit::Usage);
        let range = unknown("9999");
        assert!(range.contains("XLB0001 to XLB"), "{range}");
    }

    #[test]
    fn the_list_has_a_line_for_each() {
        let (all, lines) = (topics(), list(&topics(), Paint::Plain));
        assert_eq!(lines.lines().count(), all.len() + 1);
        for code in CODES {
            let line = lines.lines().find(|line| line.starts_with(code.id));
            let line = line.unwrap_or_default();
            assert!(
                line.contains(code.severity.as_str()) && line.contains(code.title),
                "{line}"
            );
        }
    }

    #[test]
    fn json_names_its_schema() {
        let view = ExplainView {
            schema: SCHEMA,
            topics: vec![find("filtered").expect("a topic")],
        };
        insta::assert_snapshot!(serde_json::to_string_pretty(&view).expect("JSON"));
    }
}
