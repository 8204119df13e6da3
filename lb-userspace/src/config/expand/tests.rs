use std::path::Path;

use super::*;
use crate::config::{AdminState, parse};

const CONFIG: &str = r#"
[agent]
interfaces = ["eth0"]
snat_addresses = ["10.0.0.1"]

[dns]
max_addresses = 3

[[service]]
name = "web"
vip = ["203.0.113.10", "2001:db8::10"]
port = 443
internal_port = 8443

[[service.backend]]
address = "10.0.0.11"

[[service.backend]]
name = "app"
address = "App.internal.example"
weight = 7
state = "drain"
check = { tcp = {} }

[[service.backend]]
address = "more"
port = 9000

[[service]]
name = "v4"
vip = "203.0.113.11"
port = 80

[[service.backend]]
address = "app.internal.example"
"#;

fn config(text: &str) -> Config {
    parse(Path::new("xlb.toml"), text).expect("a good config").0
}

fn answers(of: &[(&str, &[&str])]) -> Answers {
    let address = |text: &&str| text.parse().expect("an address");
    of.iter()
        .map(|(host, addresses)| (host.parse().expect("a name"), addresses.iter().map(address).collect()))
        .collect()
}

fn names(config: &Config, service: &str) -> Vec<String> {
    let found = config
        .services
        .iter()
        .find(|one| one.name == service)
        .expect("the service");
    found.backends.iter().map(|backend| backend.name.clone()).collect()
}

fn said(found: &[NameFinding]) -> Vec<String> {
    found.iter().map(|one| format!("{}: {}", one.object, one.why)).collect()
}

#[test]
fn every_address_of_a_family_with_a_vip_is_a_backend_with_all_its_entry_says() {
    let answers = answers(&[
        ("app.internal.example", &["10.0.0.22", "fd00::1", "10.0.0.21"]),
        ("more", &["10.0.0.30"]),
    ]);
    let (config, found) = expand(config(CONFIG), &answers);
    assert_eq!(said(&found), [""; 0]);
    assert_eq!(
        names(&config, "web"),
        [
            "10.0.0.11:8443",
            "app@10.0.0.21",
            "app@10.0.0.22",
            "app@fd00::1",
            "more:9000@10.0.0.30"
        ]
    );
    assert_eq!(
        names(&config, "v4"),
        ["app.internal.example:80@10.0.0.21", "app.internal.example:80@10.0.0.22"]
    );
    let backend = &config.services[0].backends[1];
    assert_eq!(backend.address, IpAddr::from([10, 0, 0, 21]));
    assert_eq!(
        (backend.port, backend.weight, backend.state),
        (8443, 7, AdminState::Drain)
    );
    assert!(backend.check.is_some());
    let from = backend.from.as_ref().expect("made of a name");
    assert_eq!(
        (from.entry.as_str(), from.host.as_str()),
        ("app", "app.internal.example")
    );
    assert_eq!(config.services[0].backends[4].port, 9000);
}

#[test]
fn a_second_expansion_takes_the_place_of_the_first() {
    let first = answers(&[("app.internal.example", &["10.0.0.21", "10.0.0.22"])]);
    let second = answers(&[("app.internal.example", &["10.0.0.22", "10.0.0.23"])]);
    let once = expand(config(CONFIG), &second);
    let twice = expand(expand(config(CONFIG), &first).0, &second);
    assert_eq!(once, twice);
    assert_eq!(expand(twice.0, &Answers::new()).0, config(CONFIG));
}

#[test]
fn what_a_file_could_not_name_is_left_out_and_said() {
    let answers = answers(&[
        (
            "app.internal.example",
            &["127.0.0.1", "10.0.0.1", "203.0.113.11", "10.0.0.11", "10.0.0.21"],
        ),
        ("more", &["10.0.0.11", "fd00::1"]),
    ]);
    let (config, found) = expand(config(CONFIG), &answers);
    assert_eq!(
        names(&config, "web"),
        [
            "10.0.0.11:8443",
            "app@10.0.0.21",
            "more:9000@10.0.0.11",
            "more:9000@fd00::1"
        ]
    );
    assert_eq!(
        said(&found),
        [
            "web/app@10.0.0.1: 10.0.0.1 is a SNAT address",
            "web/app@10.0.0.11: 10.0.0.11 port 8443 is there already, as 10.0.0.11:8443",
            "web/app@127.0.0.1: 127.0.0.1 is a loopback address",
            "web/app@203.0.113.11: 203.0.113.11 is a VIP of service v4",
            "v4/app.internal.example:80@10.0.0.1: 10.0.0.1 is a SNAT address",
            "v4/app.internal.example:80@127.0.0.1: 127.0.0.1 is a loopback address",
            "v4/app.internal.example:80@203.0.113.11: 203.0.113.11 is a VIP of service v4",
        ]
    );
}

#[test]
fn two_names_of_one_machine_make_one_backend() {
    let text = CONFIG.replace("port = 9000\n", "");
    let answers = answers(&[
        ("app.internal.example", &["10.0.0.21"]),
        ("more", &["10.0.0.21", "fd00::1"]),
    ]);
    let (config, found) = expand(config(&text), &answers);
    assert_eq!(
        names(&config, "web"),
        ["10.0.0.11:8443", "app@10.0.0.21", "more:8443@fd00::1"]
    );
    assert_eq!(
        said(&found),
        ["web/more:8443@10.0.0.21: 10.0.0.21 port 8443 is there already, as app@10.0.0.21"]
    );
}

#[test]
fn gateway_services_do_not_share_an_address_and_port_that_a_name_has() {
    let text = CONFIG
        .replace("internal_port = 8443\n", "internal_port = 8443\nmode = \"gateway\"\n")
        .replace("port = 80\n", "port = 80\ninternal_port = 8443\nmode = \"gateway\"\n");
    let answers = answers(&[("app.internal.example", &["10.0.0.21"]), ("more", &["fd00::1"])]);
    let (config, found) = expand(config(&text), &answers);
    assert_eq!(names(&config, "v4"), [""; 0]);
    assert_eq!(
        said(&found)[0],
        "v4/app.internal.example:8443@10.0.0.21: 10.0.0.21 port 8443 is a backend of the gateway service web, too"
    );
}

#[test]
fn more_addresses_than_the_limits_are_left_out_and_counted() {
    let many: Vec<String> = (21..40).map(|host| format!("10.0.0.{host}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let answers = answers(&[("app.internal.example", &many), ("more", &["fd00::1"])]);
    let (expanded, found) = expand(config(CONFIG), &answers);
    assert_eq!(names(&expanded, "v4").len(), 3);
    assert_eq!(
        said(&found),
        [
            "web/app: 16 more addresses of app.internal.example than [dns] max_addresses = 3",
            "v4/app.internal.example:80: 16 more addresses of app.internal.example than [dns] max_addresses = 3",
        ]
    );
    let (expanded, found) = expand(config(&format!("{CONFIG}\n[limits]\nbackends = 4\n")), &answers);
    assert_eq!((names(&expanded, "web").len(), names(&expanded, "v4").len()), (4, 0));
    assert_eq!(
        said(&found)[1],
        "web/more:9000@fd00::1: there is room for [limits] backends = 4 only"
    );
}

#[test]
fn a_vip_for_which_no_name_has_an_address_is_said() {
    let answers = answers(&[("app.internal.example", &["10.0.0.21"])]);
    let (_, found) = expand(config(CONFIG), &answers);
    assert_eq!(
        said(&found),
        ["web: VIP 2001:db8::10 has no backend: no name of the service has a usable IPv6 address"]
    );
}

#[test]
fn a_check_of_a_name_asks_for_the_name_unless_it_says_otherwise() {
    let host_of = |check: &str, port: u16| {
        let text = format!(
            "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\nport = 443\ncheck = {{ {check} }}\n\
             [[service.backend]]\naddress = \"App.example.\"\nport = {port}\n[[service.backend]]\naddress = \"10.0.0.9\"\n"
        );
        let answers = answers(&[("app.example.", &["10.0.0.1"])]);
        let (config, found) = expand(config(&text), &answers);
        assert_eq!(found, []);
        let service = &config.services[0];
        let of = |backend: &BackendConfig| match &service.check_of(backend).expect("a check").kind {
            CheckKind::Tcp => None,
            CheckKind::Http(http) | CheckKind::Https(http, _) => http.host.clone(),
        };
        let [by_address, by_name] = service.backends.as_slice() else {
            panic!("{:?}", service.backends);
        };
        (of(by_name), of(by_address))
    };
    let some = |host: &str| Some(host.to_owned());
    assert_eq!(host_of("http = {}", 80), (some("app.example"), None));
    assert_eq!(host_of("http = {}", 8080), (some("app.example:8080"), None));
    assert_eq!(host_of("https = {}", 443), (some("app.example"), None));
    assert_eq!(host_of("https = { sni = \"other\" }", 443), (some("app.example"), None));
    assert_eq!(
        host_of("https = { host = \"given\" }", 443),
        (some("given"), some("given"))
    );
    assert_eq!(host_of("tcp = {}", 443), (None, None));
}
