//! `xlb override ...`: the changes that were made with `--runtime`.

use super::args::{Format, OverrideCommand, OverrideListArgs, OverrideSettleArgs};
use super::client::Client;
use super::exit::{CliError, Exit};
use super::output::{self, Paint};
use super::table::{Rows, plain};
use crate::view::{ChooseOverrides, DroppedView, OverrideView, OverridesChanged, OverridesView, Timestamp, ago};

/// Runs `xlb override ...`.
pub(super) fn overrides(command: &OverrideCommand) -> Result<Exit, CliError> {
    match command {
        OverrideCommand::List(args) => list(args),
        OverrideCommand::Save(args) => settle(args, "/v1/overrides/save"),
        OverrideCommand::Drop(args) => settle(args, "/v1/overrides/drop"),
    }
}

fn list(args: &OverrideListArgs) -> Result<Exit, CliError> {
    let view: OverridesView = Client::from(&args.socket).get("/v1/overrides")?;
    match args.output {
        Format::Json => output::json(&view)?,
        Format::Table => {
            output::text(&text(&view.overrides, Timestamp::now(), Paint::for_stdout()))?;
            for gone in &view.dropped {
                output::note(&dropped_text(gone));
            }
            if let Some(why) = &view.not_kept {
                output::note(&format!("they end with the agent: {why}"));
            }
        }
    }
    Ok(Exit::Ok)
}

fn text(overrides: &[OverrideView], now: Timestamp, paint: Paint) -> String {
    if overrides.is_empty() {
        return "no overrides: what runs is what the config file says\n".to_owned();
    }
    let mut rows = Rows::new(&["SERVICE", "BACKEND", "OVERRIDE", "BY", "SINCE"], paint);
    for one in overrides {
        rows.push([
            plain(&one.service),
            plain(one.backend.as_deref().unwrap_or("-")),
            plain(one.what()),
            plain(&one.by),
            plain(ago(one.at.age(now))),
        ]);
    }
    rows.text()
}

fn dropped_text(gone: &DroppedView) -> String {
    let one = &gone.change;
    let why = gone.why.lines().next().unwrap_or_default();
    format!(
        "not in force any more: {} {} by {} at {}: {why}\n  next: make it again where it is still wanted; 'xlb override drop {}' ends \
         this notice",
        one.what(),
        one.object(),
        one.by,
        one.at,
        one.object().replacen('/', " ", 1)
    )
}

fn settle(args: &OverrideSettleArgs, path: &str) -> Result<Exit, CliError> {
    let request = ChooseOverrides {
        service: args.which.service.clone(),
        backend: args.backend.clone(),
    };
    let changed: OverridesChanged = Client::from(&args.to).post(path, &request)?;
    match args.output {
        Format::Json => output::json(&changed)?,
        Format::Table => output::text(&settled_text(&changed))?,
    }
    Ok(Exit::Ok)
}

fn settled_text(changed: &OverridesChanged) -> String {
    let mut text = String::new();
    for one in &changed.overrides {
        output::line(&mut text, &format!("{} {}", one.what(), one.object()));
    }
    output::line(&mut text, &changed.message);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Revision;

    fn view(action: &str, weight: Option<u32>, unix_s: u64) -> OverrideView {
        OverrideView {
            action: action.to_owned(),
            weight,
            service: "web".to_owned(),
            backend: Some("10.0.0.12:9000".to_owned()),
            by: "api uid 0 pid 4711".to_owned(),
            at: Timestamp { unix_s },
        }
    }

    #[test]
    fn overrides_are_listed_with_who_and_how_long_ago() {
        let views = [view("drain", None, 1_000), view("weight", Some(0), 9_000)];
        insta::assert_snapshot!(text(&views, Timestamp { unix_s: 9_075 }, Paint::Plain));
        insta::assert_snapshot!(text(&[], Timestamp { unix_s: 9_075 }, Paint::Plain));
    }

    #[test]
    fn what_is_not_in_force_any_more_is_said_with_its_reason() {
        let gone = DroppedView {
            change: view("weight", Some(7), 1_000),
            why: "no backend 10.0.0.12:9000 in service web; it has: a".to_owned(),
        };
        insta::assert_snapshot!(dropped_text(&gone));
    }

    #[test]
    fn what_was_settled_is_named_line_by_line() {
        let changed = OverridesChanged {
            schema: 1,
            overrides: vec![view("add", Some(50), 1_000), view("maint", None, 1_000)],
            left: 1,
            generation: 7,
            revision: Revision::default(),
            message: "saved 2 overrides; 1 left; generation 7".to_owned(),
        };
        insta::assert_snapshot!(settled_text(&changed));
    }
}
