//! `xlb flows`: live connections, printed as the agent finds them; with `--log` who used which SNAT tuple when, and with
//! `--who` the way back from a tuple to its client.

mod log;
mod memory;
mod record;
mod rows;
mod who;

use std::io::{self, ErrorKind, Write};
use std::ops::ControlFlow;

use super::args::{FlowsArgs, WideFormat};
use super::client::{Client, path_segment};
use super::exit::{CliError, Exit};
use crate::view::{FlowQuery, FlowView};
use rows::{Columns, Table};

/// Runs `xlb flows`.
pub(super) fn flows(args: &FlowsArgs) -> Result<Exit, CliError> {
    match (&args.log, args.who) {
        (Some(file), Some(tuple)) => who::who(file, tuple, args.at, args.output),
        (Some(file), None) => log::log(args, file),
        (None, _) => list(args),
    }
}

fn list(args: &FlowsArgs) -> Result<Exit, CliError> {
    let client = Client::from(&args.socket);
    let path = path(&query(args));
    let mut out = io::BufWriter::with_capacity(32 * 1024, io::stdout().lock());
    let walked = match args.output {
        WideFormat::Json => client.lines(&path, |line| {
            go_on(out.write_all(line).and_then(|()| out.write_all(b"\n")))
        }),
        WideFormat::Table | WideFormat::Wide => {
            let columns = if args.output == WideFormat::Wide {
                Columns::Wide
            } else {
                Columns::Narrow
            };
            let mut table = Table::new(columns);
            client
                .lines(&path, |line| go_on(table.push(&view(line)?, &mut out)))
                .and_then(|()| go_on(table.end(&mut out)).map(drop))
        }
    };
    // What arrived is shown before the error is told.
    let flushed = go_on(out.flush());
    walked.and(flushed).map(|_| Exit::Ok)
}

/// One line of the agent's.
fn view(line: &[u8]) -> Result<FlowView, CliError> {
    serde_json::from_slice(line).map_err(|error| {
        CliError::Problem(format!(
            "a line of the agent's is no connection ({error})\n  next: use the agent's own version of xlb"
        ))
    })
}

/// A closed standard output ends the list quietly.
fn go_on(written: io::Result<()>) -> Result<ControlFlow<()>, CliError> {
    match written {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(CliError::Problem(format!("standard output: {error}"))),
    }
}

fn query(args: &FlowsArgs) -> FlowQuery {
    FlowQuery {
        service: args.service.clone(),
        backend: args.backend.clone(),
        client: args.client,
        state: args.state.map(Into::into),
        family: args.family.map(Into::into),
        limit: args.limit,
    }
}

/// A query as the API takes it.
fn path(query: &FlowQuery) -> String {
    let fields = serde_json::to_value(query).unwrap_or_default();
    let given = fields.as_object().into_iter().flatten().filter_map(|(key, value)| {
        let text = match value {
            serde_json::Value::Null => return None,
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some(format!("{key}={}", path_segment(&text)))
    });
    let given: Vec<String> = given.collect();
    format!("/v1/flows?{}", given.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_stands_in_the_query() {
        assert_eq!(path(&FlowQuery::default()), "/v1/flows?");
        let query = FlowQuery {
            service: Some("a&b".to_owned()),
            client: Some("2001:db8::/32".parse().expect("a prefix")),
            limit: Some(5),
            ..FlowQuery::default()
        };
        let path = path(&query);
        for part in ["service=a%26b", "client=2001%3Adb8%3A%3A%2F32", "limit=5"] {
            assert!(path.contains(part), "{path} lacks {part}");
        }
    }
}
