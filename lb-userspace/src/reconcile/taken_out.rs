//! Services that take no new connections because the operator wants it so: every backend of a family is drained, in
//! maintenance, of weight 0 or removed. Health plays no part ([`crate::state::panic`] has that). Pure.

use std::sync::Arc;

use crate::agent::{Change, Chosen, Desired, Override};
use crate::config::write_back::BackendSetting;
use crate::config::{AdminState, BackendConfig, Panic, ServiceConfig};
use crate::view::WarningView;

/// A sentence for each service and family without a backend that is meant to take new connections.
pub(crate) fn taken_out(desired: &Desired) -> Vec<WarningView> {
    let services = desired.config.services.iter();
    services.flat_map(|service| of_service(desired, service)).collect()
}

/// Those of `next` that `before` has not. Services that are the very same in both are not looked at.
pub(crate) fn newly_taken_out(before: &Desired, next: &Desired) -> Vec<WarningView> {
    let changed = |desired: &Desired, other: &Desired| -> Vec<WarningView> {
        let others = &other.config.services;
        let services = desired.config.services.iter().enumerate();
        let changed = services.filter(|(at, service)| others.get(*at).is_none_or(|same| !Arc::ptr_eq(same, service)));
        changed.flat_map(|(_, service)| of_service(desired, service)).collect()
    };
    let known = changed(before, next);
    let mut found = changed(next, before);
    found.retain(|warning| !known.contains(warning));
    found
}

fn of_service(desired: &Desired, service: &ServiceConfig) -> Vec<WarningView> {
    let family = |ipv4: bool, name: &str| {
        let has_vip = service.vips.iter().any(|vip| vip.is_ipv4() == ipv4);
        let of_family = service.backends.iter().filter(|b| b.address.is_ipv4() == ipv4);
        let backends: Vec<&BackendConfig> = of_family.collect();
        // Of names that have no answer yet nobody knows; their own finding says so.
        let unknown = backends.is_empty() && !service.names.is_empty();
        let nobody = has_vip && !unknown && !backends.iter().any(|backend| takes_new(backend));
        nobody.then(|| sentence(desired, service, name, &backends))
    };
    [family(true, "IPv4"), family(false, "IPv6")]
        .into_iter()
        .flatten()
        .collect()
}

fn takes_new(backend: &BackendConfig) -> bool {
    backend.weight > 0 && backend.state == AdminState::Ready
}

fn sentence(desired: &Desired, service: &ServiceConfig, family: &str, backends: &[&BackendConfig]) -> WarningView {
    let name = &service.name;
    let mut out: Vec<String> = backends
        .iter()
        .map(|backend| format!("{} {}", entry(backend), why(backend)))
        .collect();
    // A name of many addresses is one entry.
    out.dedup();
    let why = match out.as_slice() {
        [] => format!("there is no {family} backend"),
        some => format!("no {family} backend takes new connections ({})", first_few(some)),
    };
    let panic = match (service.panic, backends) {
        (Panic::UseAll, [_, ..]) => "; panic = \"use_all\" does not bring back what was taken out on purpose",
        _ => "",
    };
    WarningView {
        code: "taken_out".to_owned(),
        message: format!(
            "service {name}: {why}: new {family} connections are dropped (no_backend), established ones go on{panic}"
        ),
        next: Some(undo(desired, service, backends.first().copied())),
    }
}

/// As many as one sentence may hold.
fn first_few(all: &[String]) -> String {
    const FEW: usize = 4;
    let (named, rest) = all.split_at(all.len().min(FEW));
    let named = named.join(", ");
    match rest.len() {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// What commands call it: the entry of the config, which may be a name for several addresses.
fn entry(backend: &BackendConfig) -> &str {
    backend.from.as_ref().map_or(&backend.name, |from| &from.entry)
}

fn why(backend: &BackendConfig) -> &'static str {
    match backend.state {
        AdminState::Drain => "drained",
        AdminState::Maint => "in maintenance",
        AdminState::Ready => "of weight 0",
    }
}

/// The command that brings one back, from where it was taken out.
fn undo(desired: &Desired, service: &ServiceConfig, backend: Option<&BackendConfig>) -> String {
    let name = &service.name;
    let Some(backend) = backend else {
        let (ours, _) = desired.parted(&Chosen::Service(name.clone()));
        return if ours.is_empty() {
            format!("xlb backend add {name} ADDRESS:PORT")
        } else {
            format!("xlb override list, then xlb override drop {name}")
        };
    };
    let entry = entry(backend);
    let chosen = Chosen::Backend(name.clone(), entry.to_owned());
    let took_it_out = |change: &Override| match &change.change {
        Change::Set { setting, .. } => match setting {
            BackendSetting::State(state) => *state != AdminState::Ready && *state == backend.state,
            BackendSetting::Weight(weight) => *weight == 0 && backend.state == AdminState::Ready,
        },
        _ => false,
    };
    if desired.parted(&chosen).0.iter().any(took_it_out) {
        return format!("xlb override drop {name} {entry}");
    }
    match backend.state {
        AdminState::Drain | AdminState::Maint => format!("xlb backend ready {name} {entry}"),
        AdminState::Ready => format!("xlb backend weight {name} {entry} 100"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::reconcile::fixture::CONFIG;
    use crate::view::Timestamp;

    fn desired(text: &str) -> Desired {
        Desired::from_text(Path::new("/etc/xlb/xlb.toml"), text.to_owned(), Timestamp::now()).expect("a good config")
    }

    fn set(backend: &str, setting: BackendSetting) -> Change {
        Change::Set {
            service: "web".to_owned(),
            backend: backend.to_owned(),
            setting,
        }
    }

    fn said(desired: &Desired) -> String {
        let lines = taken_out(desired).into_iter().map(|warning| {
            let next = warning.next.unwrap_or_default();
            format!("{}\n  next: {next}\n", warning.message)
        });
        lines.collect()
    }

    #[test]
    fn a_service_is_named_when_its_last_backend_is_taken_out_and_not_before() {
        let both = desired(CONFIG);
        assert_eq!(said(&both), "");
        let drained = both.with_saved(&set("a", BackendSetting::State(AdminState::Drain)));
        let drained = drained.expect("drained");
        assert_eq!(said(&drained), "", "one is left");
        let light = drained.with_saved(&set("10.0.0.12:9000", BackendSetting::Weight(0)));
        insta::assert_snapshot!(said(&light.expect("of weight 0")));
    }

    #[test]
    fn what_was_taken_out_at_run_time_is_taken_back_there_and_panic_is_no_hope() {
        let panic = CONFIG.replacen("protocol = \"tcp\"", "protocol = \"tcp\"\npanic = \"use_all\"", 1);
        let mut state = desired(&panic);
        for backend in ["a", "10.0.0.12:9000"] {
            let change = Override {
                change: set(backend, BackendSetting::State(AdminState::Maint)),
                by: "api uid 0".to_owned(),
                at: Timestamp::now(),
            };
            state = state.with_override(change).expect("in maintenance");
        }
        insta::assert_snapshot!(said(&state));
    }

    #[test]
    fn a_command_that_undoes_something_else_is_not_advised() {
        let mut state = desired(CONFIG);
        for backend in ["a", "10.0.0.12:9000"] {
            state = state
                .with_saved(&set(backend, BackendSetting::State(AdminState::Drain)))
                .expect("drained");
        }
        let lighter = Override {
            change: set("a", BackendSetting::Weight(50)),
            by: "api uid 0".to_owned(),
            at: Timestamp::now(),
        };
        let state = state.with_override(lighter).expect("lighter");
        assert!(
            said(&state).contains("next: xlb backend ready web a"),
            "{}",
            said(&state)
        );
    }

    #[test]
    fn of_very_many_the_first_are_named() {
        let all: Vec<String> = (1..=5_000).map(|number| format!("b{number} drained")).collect();
        assert_eq!(
            first_few(&all),
            "b1 drained, b2 drained, b3 drained, b4 drained and 4996 more"
        );
        assert_eq!(first_few(&all[..4]), "b1 drained, b2 drained, b3 drained, b4 drained");
    }

    #[test]
    fn names_without_an_answer_are_no_decision_of_the_operator() {
        let start = CONFIG.find("[[service.backend]]").expect("a backend");
        let named = format!(
            "{}[[service.backend]]\nname = \"a\"\naddress = \"web.example\"\nport = 8080\n",
            &CONFIG[..start]
        );
        assert_eq!(said(&desired(&named)), "");
    }

    #[test]
    fn a_service_whose_last_backend_was_removed_says_how_to_add_one() {
        let mut state = desired(CONFIG);
        for backend in ["a", "10.0.0.12:9000"] {
            let change = Change::Remove {
                service: "web".to_owned(),
                backend: backend.to_owned(),
            };
            state = state.with_saved(&change).expect("removed");
        }
        insta::assert_snapshot!(said(&state));
    }
}
