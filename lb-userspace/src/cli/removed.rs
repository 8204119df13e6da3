//! The answer to a removal: what was done, and how many connections go on.

use serde::Serialize;

use super::args::{ChangeArgs, Format};
use super::backend::warn;
use super::client::Client;
use super::drain::{connections, left};
use super::exit::{CliError, Exit};
use super::output;
use crate::view::{Changed, ErrorCode};

#[derive(Debug, Serialize)]
struct RemovedView<'c> {
    #[serde(flatten)]
    changed: &'c Changed,
    /// `null`: they could not be counted.
    connections_left: Option<u64>,
}

/// Counts and prints.
pub(super) fn removed(changed: &Changed, args: &ChangeArgs) -> Result<Exit, CliError> {
    let client = Client::from(&args.to.socket);
    let left = match left(&client, &changed.service, changed.backend.as_deref()) {
        Ok(left) => Some(left),
        // The maps have forgotten it, because nothing was left.
        Err(CliError::Refused(error)) if error.code == ErrorCode::NotFound => Some(0),
        // It is removed all the same.
        Err(_) => None,
    };
    match args.output {
        Format::Json => output::json(&RemovedView {
            changed,
            connections_left: left,
        })?,
        Format::Table => output::text(&text(changed, left))?,
    }
    warn(changed);
    Ok(Exit::Ok)
}

fn text(changed: &Changed, left: Option<u64>) -> String {
    let mut text = String::new();
    output::line(&mut text, &changed.message);
    let service = &changed.service;
    let of_backend = match &changed.backend {
        Some(backend) => format!(" --backend {backend}"),
        None => String::new(),
    };
    match left {
        None => output::note("how many of its connections go on could not be counted; see: xlb flows"),
        Some(0) => output::line(&mut text, "it has no open connection"),
        Some(count) => output::line(
            &mut text,
            &format!(
                "{} of it may go on until they end: xlb flows --service {service}{of_backend}",
                connections(count)
            ),
        ),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Revision;

    #[test]
    fn what_goes_on_is_said_with_where_to_see_it() {
        let mut changed = Changed {
            service: "web".to_owned(),
            backend: None,
            generation: 7,
            revision: Revision::default(),
            stored: "runtime".to_owned(),
            message: "removed service web; generation 7".to_owned(),
            warnings: Vec::new(),
        };
        assert_eq!(
            text(&changed, Some(0)),
            "removed service web; generation 7\nit has no open connection\n"
        );
        assert_eq!(text(&changed, None), "removed service web; generation 7\n");
        changed.backend = Some("a".to_owned());
        assert!(
            text(&changed, Some(2))
                .ends_with("2 open connections of it may go on until they end: xlb flows --service web --backend a\n")
        );
    }
}
