//! `xlb service list`: one row a service, worst first.

use std::net::SocketAddr;

use serde::Serialize;

use crate::cli::args::{ServiceListArgs, WideFormat};
use crate::cli::client::Client;
use crate::cli::exit::{CliError, Exit};
use crate::cli::output::{self, Paint};
use crate::cli::status::{self, Detail};
use crate::cli::table::{Rows, Tone, plain, short};
use crate::view::{BackendState, Revision, SCHEMA, ServiceState, ServiceView, Timestamp, ago};

const HEADINGS: &[&str] = &[
    "SERVICE", "ADDRESS", "STATE", "SINCE", "BACKENDS", ">FLOWS", ">NEW/s", ">PPS", ">BPS",
];
const WIDE_HEADINGS: &[&str] = &[
    "SERVICE", "ADDRESS", "STATE", "SINCE", "BACKENDS", ">FLOWS", ">NEW/s", ">PPS", ">BPS", "MODE", ">OPENED",
    ">REFUSED", ">PACKETS", ">BYTES",
];

/// The JSON answer.
#[derive(Debug, Serialize)]
struct ListView<'v> {
    schema: u32,
    revision: Revision,
    services: &'v [ServiceView],
}

/// Asks and prints.
pub(super) fn list(args: &ServiceListArgs) -> Result<Exit, CliError> {
    let (revision, services) = Client::from(&args.socket).revised::<Vec<ServiceView>>("/v1/services")?;
    let shown = |detail| output::text(&text(&services, Timestamp::now(), Paint::for_stdout(), detail));
    match args.output {
        WideFormat::Json => output::json(&ListView {
            schema: SCHEMA,
            revision,
            services: &services,
        })?,
        WideFormat::Table => shown(Detail::Screen)?,
        WideFormat::Wide => shown(Detail::Wide)?,
    }
    Ok(Exit::Ok)
}

fn text(services: &[ServiceView], now: Timestamp, paint: Paint, detail: Detail) -> String {
    if services.is_empty() {
        return "no services; next: xlb service add NAME VIP:PORT\n".to_owned();
    }
    let mut text = match detail {
        Detail::Screen => {
            let mut rows = Rows::new(HEADINGS, paint);
            for service in services {
                rows.push(row(service, now));
            }
            rows.text()
        }
        Detail::Wide => {
            let mut rows = Rows::new(WIDE_HEADINGS, paint);
            for service in services {
                rows.push(wide_row(service, now));
            }
            rows.text()
        }
    };
    status::without_backends(&mut text, services);
    text
}

fn row(service: &ServiceView, now: Timestamp) -> [(String, Tone); 9] {
    let more = match service.vips.len() {
        0 | 1 => String::new(),
        count => format!(" +{}", count - 1),
    };
    let first = service
        .vips
        .iter()
        .take(1)
        .map(|vip| SocketAddr::new(*vip, service.port));
    let address: String = first.map(|target| target.to_string()).collect();
    cells(service, now, format!("{} {address}{more}", service.protocol))
}

fn wide_row(service: &ServiceView, now: Timestamp) -> [(String, Tone); 14] {
    let [name, address, state, since, backends, flows, new, packets, bits] = cells(service, now, addresses(service));
    let counters = &service.counters;
    [
        name,
        address,
        state,
        since,
        backends,
        flows,
        new,
        packets,
        bits,
        plain(&service.mode),
        plain(counters.flows_opened.to_string()),
        plain(counters.flows_refused.to_string()),
        plain((counters.packets_in + counters.packets_out).to_string()),
        plain((counters.bytes_in + counters.bytes_out).to_string()),
    ]
}

fn cells(service: &ServiceView, now: Timestamp, address: String) -> [(String, Tone); 9] {
    let tone = match service.state {
        ServiceState::Down => Tone::Bad,
        ServiceState::Degraded | ServiceState::Removed => Tone::Warn,
        ServiceState::Up => Tone::Good,
    };
    let flows: u64 = service.backends.iter().map(|backend| backend.flows).sum();
    [
        plain(&service.name),
        plain(address.trim_end()),
        (service.state.as_str().to_owned(), tone),
        plain(since(service).map_or_else(|| "-".to_owned(), |since| ago(since.age(now)))),
        plain(taking(service)),
        plain(flows.to_string()),
        plain(short(service.rates.new_per_s)),
        plain(short(service.rates.packets_per_s)),
        plain(short(service.rates.bits_per_s)),
    ]
}

/// When one of its backends last became what it is.
pub(super) fn since(service: &ServiceView) -> Option<Timestamp> {
    let since = service.backends.iter().filter_map(|backend| backend.since);
    since.max_by_key(|since| since.unix_s)
}

/// Backends that take new connections, of all that are not removed.
pub(super) fn taking(service: &ServiceView) -> String {
    let there = service
        .backends
        .iter()
        .filter(|backend| backend.state != BackendState::Removed);
    let active = there.clone().filter(|backend| backend.state == BackendState::Active);
    format!("{}/{}", active.count(), there.count())
}

/// `tcp 203.0.113.10:80 [2001:db8::1]:80`.
pub(super) fn addresses(service: &ServiceView) -> String {
    let vips = service.vips.iter().map(|vip| SocketAddr::new(*vip, service.port));
    vips.fold(service.protocol.clone(), |text, target| format!("{text} {target}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::service::tests::services;
    use crate::reconcile::fixture::moment;

    fn shown(detail: Detail) -> String {
        text(&services(), moment(60).wall, Paint::Plain, detail)
    }

    #[test]
    fn services_are_listed_worst_first_one_row_each() {
        insta::assert_snapshot!(shown(Detail::Screen));
    }

    #[test]
    fn the_wide_list_has_every_vip_and_counters() {
        insta::assert_snapshot!(shown(Detail::Wide));
    }

    #[test]
    fn no_services_are_said_with_the_next_step() {
        let none = text(&[], moment(60).wall, Paint::Plain, Detail::Screen);
        assert_eq!(none, "no services; next: xlb service add NAME VIP:PORT\n");
    }
}
