//! What works, and could be better.

use crate::config::codes;
use crate::config::findings::{Finding, Findings, Located};
use crate::config::raw::{RawConfig, RawService};
use crate::config::{Check, CheckKind, Mode, Protocol};

/// Ports whose servers speak TLS from the first byte, by IANA's registry and custom: HTTPS, SMTPS, NNTPS, LDAPS, DNS over TLS,
/// FTPS, Telnets, IMAPS, POP3S, SIPS, AMQPS, Kubernetes, syslog, HTTPS again, MQTTS.
const TLS_PORTS: &[u16] = &[
    443, 465, 563, 636, 853, 989, 990, 992, 993, 995, 5_061, 5_671, 6_443, 6_514, 8_443, 8_883,
];

/// Reports hints.
pub(super) fn check(raw: &RawConfig, found: &mut Findings) {
    for service in raw.services.iter().filter(|service| service.dsr.is_none()) {
        plain_check(service, found);
        same_port(service, found);
    }
}

/// TLS passes through to the backend, which would answer a plain request with an alert, or with a redirect that proves little.
fn plain_check(service: &RawService, found: &mut Findings) {
    let Some(port) = service.port.as_ref().filter(|port| TLS_PORTS.contains(&port.value)) else {
        return;
    };
    if service.protocol != Protocol::Tcp {
        return;
    }
    let own = service.backends.iter().filter_map(|backend| backend.check.as_ref());
    // Another port may well be plain, and is meant.
    let plain = |check: &&Located<Check>| matches!(check.value.kind, CheckKind::Http(_)) && !check.value.other_port;
    let Some(check) = service.check.iter().chain(own).find(plain) else {
        return;
    };
    let message = format!(
        "{}: service port {} is usually TLS, its check speaks plain HTTP",
        service.title(),
        port.value
    );
    let label = "a backend that wants TLS fails it";
    let finding = Finding::new(&codes::PLAIN_CHECK, message, check.span.clone(), label);
    found.add(finding.and(port.span.clone(), "the service port").help(
        "check it with https = { ... } (TLS passes through xlb and ends at the backend), or silence this with a reason",
    ));
}

/// Full NAT where nothing about the port needs it.
fn same_port(service: &RawService, found: &mut Findings) {
    let Some(port) = service.port.as_ref().filter(|_| service.mode == Mode::FullNat) else {
        return;
    };
    let same = |backend| service.port_of(backend) == Some(port.value);
    if service.backends.is_empty() || !service.backends.iter().all(same) {
        return;
    }
    let message = format!(
        "{}: full_nat, although every internal port is the service port {}",
        service.title(),
        port.value
    );
    let finding = Finding::new(&codes::SAME_PORT, message, port.span.clone(), "no port is translated");
    let finding = match &service.internal_port {
        Some(internal) => finding.and(internal.span.clone(), "the same"),
        None => finding,
    };
    found.add(finding.help(
        "where the backends can route their answers through this node, mode = \"gateway\" saves a translation and shows them \
         the clients' addresses",
    ));
}
