//! `xlb service ...`: what clients dial.

mod list;
mod show;

use super::args::{ServiceAddArgs, ServiceCommand, ServiceRemoveArgs};
use super::backend::print;
use super::client::{Client, path_segment};
use super::exit::{CliError, Exit};
use super::removed::removed;
use super::target::Target;
use crate::config::names_there;
use crate::view::{AddService, BackendSpec, ServiceSpec, ServiceState, ServiceView};

/// Runs `xlb service ...`.
pub(super) fn service(command: &ServiceCommand) -> Result<Exit, CliError> {
    match command {
        ServiceCommand::List(args) => list::list(args),
        ServiceCommand::Show(args) => show::show(args),
        ServiceCommand::Add(args) => add(args),
        ServiceCommand::Remove(args) => remove(args),
    }
}

/// The service of this name; an error names those there are.
pub(super) fn named<'v>(services: &'v [ServiceView], name: &str) -> Result<&'v ServiceView, CliError> {
    services.iter().find(|service| service.name == name).ok_or_else(|| {
        let there = services.iter().filter(|service| service.state != ServiceState::Removed);
        let names: Vec<&str> = there.map(|service| service.name.as_str()).collect();
        CliError::Problem(format!(
            "no service {name} in the running config; it has: {}\n  next: xlb service list",
            names_there(name, &names)
        ))
    })
}

fn add(args: &ServiceAddArgs) -> Result<Exit, CliError> {
    let request = AddService {
        service: spec(args),
        runtime: args.change.runtime,
    };
    let changed = Client::from(&args.change.to).post("/v1/services", &request)?;
    print(&changed, &args.change)
}

fn spec(args: &ServiceAddArgs) -> ServiceSpec {
    let backend = |target: &Target| BackendSpec {
        name: None,
        address: target.address,
        port: target.port,
        weight: None,
    };
    ServiceSpec {
        name: args.name.clone(),
        vip: [args.target.ip()].into_iter().chain(args.vip.iter().copied()).collect(),
        port: args.target.port(),
        protocol: args.protocol.map(Into::into),
        mode: args.mode.map(Into::into),
        internal_port: args.internal_port,
        check: args.check.clone(),
        backends: args.backend.iter().map(backend).collect(),
    }
}

fn remove(args: &ServiceRemoveArgs) -> Result<Exit, CliError> {
    let path = format!(
        "/v1/services/{}?runtime={}",
        path_segment(&args.service),
        args.change.runtime
    );
    let changed = Client::from(&args.change.to).delete(&path)?;
    removed(&changed, &args.change)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use std::collections::HashMap;

    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::health::PortVerdict;
    use crate::reconcile::fixture::{CONFIG, Fixture, moment};
    use crate::reconcile::status_view;
    use crate::view::CheckSpec;

    /// `web` with a backend that is up and one that refuses; `dns` without a check; `bare` without backends, on two VIPs.
    pub(super) fn services() -> Vec<ServiceView> {
        let bare = "\n[[service]]\nname = \"bare\"\nvip = [\"203.0.113.10\", \"2001:db8::10\"]\nport = 81\n";
        let mut fixture = Fixture::new(&format!("{CONFIG}{bare}"));
        fixture.probe("web/a", &PortVerdict::Open, 1, 30);
        fixture.probe("web/10.0.0.12:9000", &PortVerdict::Open, 1, 1);
        fixture.probe("web/10.0.0.12:9000", &PortVerdict::Refused, 40, 12);
        let snapshot = fixture.snapshot(60, HashMap::new());
        status_view(&snapshot, None, moment(60).wall).services
    }

    fn spec_of(words: &[&str]) -> ServiceSpec {
        let words = ["xlb", "service", "add"].iter().chain(words);
        match Cli::try_parse_from(words).expect("a good line").command {
            Command::Service {
                command: ServiceCommand::Add(args),
            } => spec(&args),
            other => panic!("wanted an add, got {other:?}"),
        }
    }

    #[test]
    fn a_service_without_a_port_is_refused_with_an_example() {
        for (typed, example) in [
            ("203.0.113.10", "203.0.113.10:443"),
            ("2001:db8::1", "[2001:db8::1]:443"),
        ] {
            let error = Cli::try_parse_from(["xlb", "service", "add", "web", typed]).expect_err("no port");
            let wanted = format!(
                "'{typed}' has no port, which clients dial and a service needs; give VIP:PORT, such as {example}"
            );
            assert!(error.to_string().contains(&wanted), "{error}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_services_that_are_wanted() {
        let mut services = services();
        services[0].state = ServiceState::Removed;
        let removed = services[0].name.clone();
        assert!(named(&services, &removed).is_ok(), "it can still be looked at");
        let error = named(&services, "nope").expect_err("unknown").to_string();
        assert!(!error.contains(&removed) && error.contains("it has: "), "{error}");
    }

    #[test]
    fn a_service_is_asked_for_as_it_was_typed() {
        let short = spec_of(&["web", "203.0.113.10:80"]);
        let json = serde_json::to_string(&short).expect("JSON");
        assert_eq!(json, r#"{"name":"web","vip":["203.0.113.10"],"port":80}"#);
        let long = spec_of(&[
            "dns",
            "[2001:db8::1]:53",
            "--vip=203.0.113.10",
            "--protocol=udp",
            "--mode=full-nat",
            "--internal-port=5353",
            "--backend=[2001:db8::9]:53",
            "--backend=10.0.0.9",
            "--check=http:/healthz",
        ]);
        assert_eq!(
            serde_json::to_value(&long).expect("JSON"),
            serde_json::json!({
                "name": "dns", "vip": ["2001:db8::1", "203.0.113.10"], "port": 53, "protocol": "udp", "mode": "full_nat",
                "internal_port": 5353, "check": {"http": {"path": "/healthz"}},
                "backends": [{"address": "2001:db8::9", "port": 53}, {"address": "10.0.0.9"}],
            })
        );
        assert_eq!(
            long.check,
            Some(CheckSpec::Http {
                path: Some("/healthz".to_owned())
            })
        );
    }
}
