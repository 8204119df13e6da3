//! Backends by name: what can be said of them before anybody has looked them up.

use std::collections::HashMap;

use crate::config::codes;
use crate::config::findings::{Finding, Findings, Span};
use crate::config::raw::{RawConfig, RawService};

/// Reports names that stand twice, and says what is left to the running agent.
pub(super) fn check(raw: &RawConfig, found: &mut Findings) {
    for service in &raw.services {
        twice(service, found);
        for host in service.backends.iter().filter_map(|backend| backend.host.as_ref()) {
            let message = format!("{}: {} is looked up by the running agent", service.title(), host.value);
            let finding = Finding::new(
                &codes::NAME_AT_RUNTIME,
                message,
                host.span.clone(),
                "not looked up here",
            );
            let host = host.value.as_str().trim_end_matches('.');
            found.add(finding.help(format!(
                "see what it is here with 'getent ahosts {host}'; 'xlb status -o wide' shows what the agent found"
            )));
        }
    }
}

fn twice(service: &RawService, found: &mut Findings) {
    let mut seen: HashMap<_, &Span> = HashMap::new();
    for backend in &service.backends {
        let (Some(host), Some(port)) = (&backend.host, service.port_of(backend)) else {
            continue;
        };
        let key = (host.value.as_str().trim_end_matches('.'), port);
        let Some(first) = seen.insert(key, &host.span) else {
            continue;
        };
        let message = format!("{} has backend {} port {port} twice", service.title(), host.value);
        let finding = Finding::new(&codes::BACKEND_CLASH, message, host.span.clone(), "used again here");
        found.add(finding.and(first.clone(), "first used here"));
    }
}
