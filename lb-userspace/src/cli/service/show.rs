//! `xlb service show`: one service and its backends.

use serde::Serialize;

use super::list::{addresses, since, taking};
use super::named;
use crate::cli::args::{ServiceShowArgs, WideFormat};
use crate::cli::client::Client;
use crate::cli::exit::{CliError, Exit};
use crate::cli::output::{self, Paint};
use crate::cli::status::{self, Detail};
use crate::view::{Revision, SCHEMA, ServiceView, Timestamp, ago};

/// The JSON answer.
#[derive(Debug, Serialize)]
struct ShowView<'v> {
    schema: u32,
    revision: Revision,
    service: &'v ServiceView,
}

/// Asks and prints.
pub(super) fn show(args: &ServiceShowArgs) -> Result<Exit, CliError> {
    let (revision, services) = Client::from(&args.socket).revised::<Vec<ServiceView>>("/v1/services")?;
    let service = named(&services, &args.service)?;
    let shown = |detail| output::text(&text(service, Timestamp::now(), Paint::for_stdout(), detail));
    match args.output {
        WideFormat::Json => output::json(&ShowView {
            schema: SCHEMA,
            revision,
            service,
        })?,
        WideFormat::Table => shown(Detail::Screen)?,
        WideFormat::Wide => shown(Detail::Wide)?,
    }
    Ok(Exit::Ok)
}

fn text(service: &ServiceView, now: Timestamp, paint: Paint, detail: Detail) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| output::line(&mut text, &format!("{label:<10} {value}"));
    line("service", &service.name);
    line("address", &addresses(service));
    line("mode", &service.mode);
    let since = since(service).map_or_else(String::new, |since| {
        format!(", last change {} ago", ago(since.age(now)))
    });
    let state = service.state.as_str();
    let taking = taking(service);
    line(
        "state",
        &format!("{state}, {taking} backends take new connections{since}"),
    );
    for down in &service.all_down {
        let since = ago(down.since.age(now));
        let panic = &down.panic;
        line("all down", &format!("{}, {since} ago; panic = {panic}", down.family));
    }
    let counters = &service.counters;
    line(
        "counted",
        &format!(
            "{} connections opened, {} closed, {} refused; {} packets in, {} out; {} bytes in, {} out",
            counters.flows_opened,
            counters.flows_closed,
            counters.flows_refused,
            counters.packets_in,
            counters.packets_out,
            counters.bytes_in,
            counters.bytes_out,
        ),
    );
    text.push('\n');
    let backends = || service.backends.iter().map(|backend| (service, backend));
    if !service.backends.is_empty() {
        text.push_str(&status::table(backends(), now, paint));
    }
    status::without_backends(&mut text, [service]);
    status::sentences(&mut text, backends(), detail);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::service::tests::services;
    use crate::reconcile::fixture::moment;

    fn shown(name: &str, detail: Detail) -> String {
        let services = services();
        text(
            named(&services, name).expect("there"),
            moment(60).wall,
            Paint::Plain,
            detail,
        )
    }

    #[test]
    fn a_service_is_shown_with_its_backends_worst_first() {
        insta::assert_snapshot!(shown("web", Detail::Screen));
        insta::assert_snapshot!(shown("bare", Detail::Screen));
    }

    #[test]
    fn wide_explains_every_backend() {
        insta::assert_snapshot!(shown("web", Detail::Wide));
    }

    #[test]
    fn a_service_that_is_not_there_is_answered_with_those_that_are() {
        let said = named(&services(), "wep").expect_err("not there").to_string();
        assert!(
            said.starts_with("no service wep in the running config; it has: ")
                && said.ends_with("; did you mean web?\n  next: xlb service list"),
            "{said}"
        );
    }
}
