//! Checks of health checks: the probed port is the traffic's, and files of roots can be used.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::codes;
use crate::config::findings::{Finding, Findings, Located};
use crate::config::raw::{RawBackend, RawConfig, RawService};
use crate::config::{Check, CheckKind, LookAtRoots, Roots, Verify};

/// Reports what is wrong with any check.
pub(super) fn check(raw: &RawConfig, look: LookAtRoots<'_>, found: &mut Findings) {
    let mut looked_at = BTreeSet::new();
    for service in &raw.services {
        ports(service, found);
        let of_backends = service.backends.iter().filter_map(|backend| backend.check.as_ref());
        for check in service.check.iter().chain(of_backends) {
            if let Some(path) = roots_file(&check.value)
                && looked_at.insert(path.to_owned())
                && let Err(why) = look(path)
            {
                found.add(unusable(check, path, &why));
            }
        }
    }
}

fn roots_file(check: &Check) -> Option<&Path> {
    match &check.kind {
        CheckKind::Https(_, tls) => match &tls.verify {
            Verify::Roots(Roots::File(path)) => Some(path),
            Verify::Roots(Roots::System) | Verify::Nothing => None,
        },
        CheckKind::Tcp | CheckKind::Http(_) => None,
    }
}

fn unusable(check: &Located<Check>, path: &Path, why: &str) -> Finding {
    let shown = path.display();
    let finding = Finding::new(
        &codes::ROOTS_UNUSABLE,
        format!("roots {shown}: {why}"),
        check.span.clone(),
        "this check needs it",
    );
    finding.help(format!(
        "see 'openssl x509 -in {shown} -noout -subject', or name another file"
    ))
}

/// A check of another port than the traffic's must say so. One finding a check.
fn ports(service: &RawService, found: &mut Findings) {
    let own = |backend: &&RawBackend| backend.check.is_some();
    for backend in service.backends.iter().filter(own) {
        other_port(service, backend.check.as_ref(), backend, found);
    }
    for backend in service.backends.iter().filter(|backend| !own(backend)) {
        if other_port(service, service.check.as_ref(), backend, found) {
            return;
        }
    }
}

fn other_port(
    service: &RawService,
    check: Option<&Located<Check>>,
    backend: &RawBackend,
    found: &mut Findings,
) -> bool {
    let (Some(check), Some(traffic)) = (check, service.port_of(backend)) else {
        return false;
    };
    let Some(probed) = check
        .value
        .port
        .filter(|probed| *probed != traffic && !check.value.other_port)
    else {
        return false;
    };
    let finding = Finding::new(
        &codes::OTHER_PORT,
        format!("the check probes port {probed}, the traffic goes to internal port {traffic}"),
        check.span.clone(),
        "probes another port",
    );
    found.add(finding.and(backend.place(), "of this backend").help(
        "take port out of the check, or write other_port = true where a server is there to tell of the other's health",
    ));
    true
}
