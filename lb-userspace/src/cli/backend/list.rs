//! `xlb backend list`: every backend of one service or of all, as `xlb status` shows them, worst first.

use serde::Serialize;

use crate::cli::args::{BackendListArgs, Format};
use crate::cli::client::Client;
use crate::cli::exit::{CliError, Exit};
use crate::cli::output::{self, Paint};
use crate::cli::service::named;
use crate::cli::status;
use crate::view::{BackendView, Revision, SCHEMA, ServiceView, Timestamp};

/// The JSON answer.
#[derive(Debug, Serialize)]
struct ListView<'v> {
    schema: u32,
    revision: Revision,
    backends: Vec<RowView<'v>>,
}

/// One backend with its service's name.
#[derive(Debug, Serialize)]
struct RowView<'v> {
    service: &'v str,
    #[serde(flatten)]
    backend: &'v BackendView,
}

/// Asks and prints.
pub(super) fn list(args: &BackendListArgs) -> Result<Exit, CliError> {
    let (revision, services) = Client::from(&args.socket).revised::<Vec<ServiceView>>("/v1/services")?;
    let wanted = wanted(&services, args.service.as_deref())?;
    match args.output {
        Format::Json => output::json(&document(revision, &wanted))?,
        Format::Table => output::text(&text(&wanted, Timestamp::now(), Paint::for_stdout()))?,
    }
    Ok(Exit::Ok)
}

/// The service of this name, or all of them.
fn wanted<'v>(services: &'v [ServiceView], name: Option<&str>) -> Result<Vec<&'v ServiceView>, CliError> {
    let Some(name) = name else {
        return Ok(services.iter().collect());
    };
    named(services, name).map(|found| vec![found])
}

fn document<'v>(revision: Revision, services: &[&'v ServiceView]) -> ListView<'v> {
    ListView {
        schema: SCHEMA,
        revision,
        backends: rows(services)
            .into_iter()
            .map(|(service, backend)| RowView {
                service: &service.name,
                backend,
            })
            .collect(),
    }
}

fn text(services: &[&ServiceView], now: Timestamp, paint: Paint) -> String {
    if services.is_empty() {
        return "no services; next: xlb service add NAME VIP:PORT\n".to_owned();
    }
    let rows = rows(services);
    let mut text = if rows.is_empty() {
        String::new()
    } else {
        status::table(rows.into_iter(), now, paint)
    };
    status::without_backends(&mut text, services.iter().copied());
    text
}

/// Worst first over all services.
fn rows<'v>(services: &[&'v ServiceView]) -> Vec<(&'v ServiceView, &'v BackendView)> {
    let mut rows: Vec<_> = services
        .iter()
        .flat_map(|service| service.backends.iter().map(|backend| (*service, backend)))
        .collect();
    rows.sort_by_key(|(_, backend)| backend.state);
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::health::PortVerdict;
    use crate::reconcile::fixture::{CONFIG, Fixture, moment};
    use crate::reconcile::status_view;

    /// `web` with one backend drained, one in maintenance and one that refuses; `dns` with one; `bare` with none.
    fn services() -> Vec<ServiceView> {
        let third = "port = 9000\nweight = 50\nstate = \"maint\"\n\n[[service.backend]]\nname = \"c\"\naddress = \"10.0.0.14\"\nport = 8081\n";
        let config = CONFIG
            .replace("port = 8081\n", "port = 8081\nstate = \"drain\"\n")
            .replace("port = 9000\nweight = 50\n", third);
        let bare = "\n[[service]]\nname = \"bare\"\nvip = [\"203.0.113.10\"]\nport = 81\nprotocol = \"tcp\"\n";
        let mut fixture = Fixture::new(&format!("{config}{bare}"));
        fixture.probe("web/a", &PortVerdict::Open, 1, 30);
        fixture.probe("web/c", &PortVerdict::Open, 1, 1);
        fixture.probe("web/c", &PortVerdict::Refused, 40, 12);
        let snapshot = fixture.snapshot(60, HashMap::new());
        status_view(&snapshot, None, moment(60).wall).services
    }

    fn shown(name: Option<&str>) -> String {
        let services = services();
        let wanted = wanted(&services, name).expect("a known service");
        text(&wanted, moment(60).wall, Paint::Plain)
    }

    #[test]
    fn every_backend_stands_in_the_list_worst_first() {
        insta::assert_snapshot!(shown(None));
    }

    #[test]
    fn a_service_has_its_own_backends_or_is_said_to_have_none() {
        insta::assert_snapshot!(shown(Some("web")));
        insta::assert_snapshot!(shown(Some("bare")));
    }

    #[test]
    fn the_json_list_names_the_service_in_each_row() {
        let services = services();
        let wanted = wanted(&services, Some("web")).expect("a known service");
        insta::assert_snapshot!(serde_json::to_string_pretty(&document(Revision::first(7), &wanted)).expect("JSON"));
    }

    #[test]
    fn an_unknown_service_is_answered_with_what_there_is() {
        let services = services();
        let error = wanted(&services, Some("wep")).expect_err("no such service");
        let said = error.to_string();
        assert!(
            said.starts_with("no service wep in the running config; it has: "),
            "{said}"
        );
        assert!(said.contains("; did you mean web?\n  next: xlb service list"), "{said}");
    }
}
