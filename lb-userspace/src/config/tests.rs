//! Whole files through [`super::parse`].

use std::path::Path;

use super::{Config, Diagnostic, Mode, Protocol, parse, parse_bytes};

mod docs;
mod errors;
mod fuzz;
mod schema;

/// The least that is a config.
const SMALL: &str = r#"
[agent]
interfaces = ["eth0"]

[[service]]
name = "web"
vip = "203.0.113.10"
port = 80

[[service.backend]]
address = "10.0.0.11"
port = 8080
"#;

fn parsed(text: &str) -> (Config, Vec<Diagnostic>) {
    let parsed = parse(Path::new("xlb.toml"), text).unwrap_or_else(|errors| panic!("{}", shown(&errors)));
    assert_eq!(schema::faults(text), Vec::<String>::new(), "{text}");
    parsed
}

fn shown(diagnostics: &[Diagnostic]) -> String {
    let all: Vec<&str> = diagnostics.iter().map(|one| one.rendered.as_str()).collect();
    all.join("\n\n")
}

#[test]
fn the_smallest_config_takes_every_default() {
    let (config, warnings) = parsed(SMALL);
    assert_eq!(warnings, []);
    insta::assert_debug_snapshot!(config);
}

#[test]
fn the_shape_of_the_design_is_accepted() {
    let (config, warnings) = parsed(include_str!("../../../examples/xlb.toml"));
    assert_eq!(shown(&warnings), "");
    insta::assert_debug_snapshot!(config);
}

#[test]
fn an_internal_port_is_the_backends_then_the_services_then_the_service_port() {
    let text = r#"
agent.interfaces = ["eth0"]
[[service]]
name = "a"
vip = "203.0.113.10"
port = 80
internal_port = 8080
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2", port = 9090 }]
[[service]]
name = "b"
vip = ["203.0.113.10", "2001:db8::10"]
port = 53
protocol = "udp"
mode = "gateway"
backend = [{ address = "10.0.0.1" }, { address = "2001:db8:1::1" }]
"#;
    let (config, _) = parsed(text);
    let [a, b] = config.services.as_slice() else {
        panic!("two services")
    };
    assert_eq!((a.backends[0].port, a.backends[1].port), (8080, 9090));
    assert_eq!(
        (b.backends[0].port, b.protocol, b.mode),
        (53, Protocol::Udp, Mode::Gateway)
    );
    assert_eq!(a.backends[0].name, "10.0.0.1:8080");
    assert_eq!(b.backends[1].name, "[2001:db8:1::1]:53");
}

#[test]
fn a_backends_own_check_wins() {
    let text = SMALL.replace("port = 80\n", "port = 80\ncheck = { tcp = {} }\n")
        + "check = { http = { path = \"/up\" }, interval = \"200ms\" }\n[[service.backend]]\naddress = \"10.0.0.12\"\n";
    let (config, _) = parsed(&text);
    let service = &config.services[0];
    let kinds: Vec<_> = service
        .backends
        .iter()
        .map(|b| service.check_of(b).map(|c| (&c.kind, c.timeout)))
        .collect();
    insta::assert_debug_snapshot!(kinds);
}

#[test]
fn a_backends_check_takes_nothing_over_from_the_services() {
    let text = SMALL.replace(
        "port = 80\n",
        "port = 80\ncheck = { tcp = {}, interval = \"9s\", rise = 7, fall = 8 }\n",
    ) + "check = { tcp = {}, fall = 5 }\n";
    let (config, _) = parsed(&text);
    let service = &config.services[0];
    let check = service.check_of(&service.backends[0]).expect("a check");
    assert_eq!((check.rise, check.fall, check.interval.as_secs()), (2, 5, 2));
}

#[test]
fn bytes_that_are_not_utf8_are_an_error_with_a_place() {
    let errors = parse_bytes(Path::new("xlb.toml"), b"[agent]\n# caf\xe9\n").expect_err("not UTF-8");
    assert_eq!((errors[0].code, errors[0].line, errors[0].column), ("XLB0002", 2, 6));
}
