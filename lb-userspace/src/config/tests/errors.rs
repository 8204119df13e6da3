//! Every code, as people see it.

use std::collections::BTreeSet;
use std::path::Path;

use super::{SMALL, parse, parse_bytes, shown};
use crate::config::{CODES, Diagnostic, HostFacts, Listener, PortRange, Protocol, examine, parse_looking};

fn found(text: &str) -> Vec<Diagnostic> {
    match parse(Path::new("xlb.toml"), text) {
        Ok((_, warnings)) => warnings,
        Err(errors) => errors,
    }
}

#[test]
fn what_is_silenced_keeps_its_finding_and_its_reason() {
    let text = SMALL.replace("port = 80\n", "port = 53\nprotocol = \"udp\"\ncheck = { tcp = {} }\n");
    let examine = |text: &str| examine(Path::new("x"), text.as_bytes(), &|_| Ok(()), &HostFacts::default());
    let loud = examine(&text);
    assert!(loud.findings.iter().any(|one| one.code == "XLB0303"), "{loud:?}");
    let silence = "check = { tcp = {} }\nsilence = [{ code = \"xlb0303\", reason = \"both protocols\" }]\n";
    let quiet = examine(&text.replace("check = { tcp = {} }\n", silence));
    assert!(quiet.config.is_some());
    assert!(
        !quiet
            .findings
            .iter()
            .any(|one| one.code == "XLB0303" || one.code == "XLB0310"),
        "{quiet:?}"
    );
    let reasons = quiet.silenced.iter().map(|one| (one.code, one.silenced.as_deref()));
    assert_eq!(reasons.collect::<Vec<_>>(), [("XLB0303", Some("both protocols"))]);
}

/// One snapshot a file of several errors.
macro_rules! files {
    ($($name:ident: $text:expr;)+) => {
        $(#[test] fn $name() { insta::assert_snapshot!(shown(&found($text))); })+

        #[test]
        fn every_code_is_reached_by_one_of_these_files() {
            let mut reached: BTreeSet<&str> = BTreeSet::new();
            $(reached.extend(found($text).iter().map(|one| one.code));)+
            reached.extend(parse_bytes(Path::new("x"), b"\xff").expect_err("not UTF-8").iter().map(|one| one.code));
            reached.extend(without_roots().iter().map(|one| one.code));
            reached.extend(on_a_host(LISTENED_ON).iter().map(|one| one.code));
            let missing: Vec<&str> = CODES.iter().map(|code| code.id).filter(|id| !reached.contains(id)).collect();
            assert_eq!(missing, Vec::<&str>::new());
        }
    };
}

files! {
    an_empty_file_names_what_it_lacks: "";

    what_stands_twice_is_shown_with_the_first: r#"
[agent]
interfaces = ["eth0"]
watch = true
watch = false
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11", port = 8080, address = "10.0.0.12" }]
port = 81
[limits]
services = 3
[dns]
[limits]
"#;

    a_service_that_is_no_list_is_told_how_one_is_written: r#"
[agent]
interfaces = ["eth0"]
[service]
name = "web"
"#;

    names_that_are_options_or_directories_are_refused_and_so_is_nobody: r#"
[agent]
interfaces = ["eth0"]
managed_by = " "
[[service]]
name = "--runtime"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11", name = "..", port = 8080 }, { address = "10.0.0.12", name = "-", port = 8080 }]
[[service]]
name = "."
vip = "203.0.113.10"
port = 81
backend = [{ address = "10.0.0.11", name = "a-b..", port = 8081 }]
"#;

    names_of_hosts_are_left_to_the_agent: r#"
[agent]
interfaces = ["eth0"]
[dns]
servers = "192.0.2.53"
max_ttl = "2s"
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
[[service.backend]]
address = "app.internal.example."
[[service.backend]]
address = "App.internal.example"
"#;

    what_is_no_name_of_a_host_is_said: r#"
[agent]
interfaces = ["eth0"]
snat_addresses = ["lb.internal.example"]
[dns]
servers = ["ns.example"]
min_ttl = "0s"
max_ttl = "8d"
max_addresses = 257
on_empty = "forget"
search = "internal.example"
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
[[service.backend]]
address = "10.0.0.l1"
[[service.backend]]
address = "app.internal.example:8080"
[[service.backend]]
address = "10.0.0.11/32"
[[service.backend]]
address = "my host"
"#;

    several_syntax_errors_are_said_at_once: r#"
[agent
interfaces = ["eth0"]
[[service]]
name = "web
port == 80
vip = "203.0.113.10"
"#;

    unknown_keys_are_errors_with_the_nearest_known_one: r#"
[agent]
interface = ["eth0"]
interfaces = ["eth0"]
colour = "red"
[limit]
connections = 1000
[timeouts]
establish = "1h"
[[services]]
name = "web"
[[service]]
name = "web"
vips = "203.0.113.10"
vip = "203.0.113.10"
port = 80
internal-port = 8080
[[service.backend]]
adress = "10.0.0.11"
address = "10.0.0.11"
check = { tcp = { x = 1 }, riise = 2 }
"#;

    wrong_types_ranges_and_words_are_said_at_once: r#"
[agent]
interfaces = []
xdp_mode = "nativ"
snat_ports = "32767-10240"
check_ports = 9216
manage_vip = "yes"
hash_seed = 4294967296
rst_per_second = -1
socket = "run/xlb.sock"
http = "localhost:9180"
pin_dir = 7
socket_group = "a group"
watch = "on"
[limits]
connections = 1.5
services = 0
[timeouts]
half_open = 10
established = "1 hour"
udp = "999d"
[[service]]
name = "front end"
vip = ["203.0.113.10/32", "example.org", "203.0.113.10:80"]
port = "80"
protocol = "sctp"
mode = "fullnat"
on_miss = true
check = { http = { path = "healthz", status = [99, "200"], host = "a b" }, interval = "1ms", rise = 0 }
backend = [{ address = "10.0.0.11", weight = 1001 }, 7]
"#;

    sections_of_the_wrong_shape_are_said: r#"
agent = 1
limits = []
timeouts = "x"
service = { name = "web" }
"#;

    missing_keys_are_said_where_they_are_missing: "
[agent]
[[service]]
[[service.backend]]
";

    modes_of_a_later_release_are_refused: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
mode = "dsr_ipip"
internal_port = 8080
backend = [{ address = "10.0.0.11" }]
"#;

    a_mode_that_would_ignore_an_internal_port_is_said_with_both_places: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
mode = "dsr_l2"
internal_port = 80
[[service.backend]]
address = "10.0.0.11"
[[service.backend]]
address = "10.0.0.12"
port = 8080
"#;

    a_backend_port_behind_two_services_is_said_once_a_pair: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
internal_port = 8080
backend = [{ address = "10.0.0.11" }, { address = "10.0.0.12" }, { address = "10.0.0.13", port = 81 }]
[[service]]
name = "shop"
vip = "203.0.113.11"
port = 80
internal_port = 8080
backend = [{ address = "10.0.0.11" }, { address = "10.0.0.12" }, { address = "10.0.0.13", port = 82 }]
[[service]]
name = "routed"
vip = "203.0.113.12"
port = 80
mode = "gateway"
backend = [{ address = "10.0.0.13", port = 82 }]
[[service]]
name = "udp"
vip = "203.0.113.13"
port = 80
protocol = "udp"
internal_port = 8080
backend = [{ address = "10.0.0.11" }]
"#;

    two_vips_of_a_family_in_gateway_mode_are_said: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = ["203.0.113.10", "2001:db8::10", "203.0.113.11", "203.0.113.12"]
port = 80
mode = "gateway"
backend = [{ address = "10.0.0.11" }, { address = "2001:db8:1::11" }]
[[service]]
name = "nat"
vip = ["203.0.113.13", "203.0.113.14"]
port = 80
backend = [{ address = "10.0.0.12", port = 8080 }]
"#;

    a_plain_check_of_a_tls_port_is_a_hint: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 443
internal_port = 8443
check = { http = {} }
backend = [{ address = "10.0.0.11" }]
[[service]]
name = "amqps"
vip = "203.0.113.10"
port = 5671
internal_port = 5672
check = { tcp = {} }
[[service.backend]]
address = "10.0.0.12"
check = { http = {}, port = 15672, other_port = true }
[[service.backend]]
address = "10.0.0.13"
check = { http = { path = "/up" } }
"#;

    an_internal_port_that_is_the_service_port_is_a_hint: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11" }]
[[service]]
name = "written"
vip = "203.0.113.11"
port = 80
internal_port = 80
backend = [{ address = "10.0.0.12" }, { address = "10.0.0.13", port = 80 }]
[[service]]
name = "one-differs"
vip = "203.0.113.12"
port = 80
backend = [{ address = "10.0.0.14" }, { address = "10.0.0.15", port = 8080 }]
[[service]]
name = "routed"
vip = "203.0.113.13"
port = 80
mode = "gateway"
backend = [{ address = "10.0.0.16" }]
"#;

    the_agents_own_listener_inside_snat_ports_is_refused: r#"
[agent]
interfaces = ["eth0"]
snat_addresses = ["10.0.0.1"]
snat_ports = "12000-20000"
http = "10.0.0.1:12000"
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11", port = 8080 }]
"#;

    the_default_listener_on_every_address_is_inside_the_default_snat_ports_too: r#"
[agent]
interfaces = ["eth0"]
http = "[::]:12000"
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11", port = 8080 }]
"#;

    ports_of_0_are_refused: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 0
internal_port = 0
backend = [{ address = "10.0.0.11", port = 0 }]
"#;

    two_services_on_one_port_show_both_places: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = ["203.0.113.10", "203.0.113.11"]
port = 80
backend = [{ address = "10.0.0.11", port = 8080 }]
[[service]]
name = "dns"
vip = "203.0.113.10"
port = 80
protocol = "udp"
backend = [{ address = "10.0.0.11", port = 8080 }]
[[service]]
name = "web"
vip = "203.0.113.11"
port = 80
backend = [{ address = "10.0.0.11", port = 8080 }]
"#;

    a_backend_listed_twice_shows_both_places: r#"
[agent]
interfaces = ["eth0", "eth1", "eth0"]
[[service]]
name = "web"
vip = ["203.0.113.10", "203.0.113.10"]
port = 80
internal_port = 8080
[[service.backend]]
address = "10.0.0.11"
[[service.backend]]
name = "b"
address = "10.0.0.11"
port = 8080
[[service.backend]]
name = "b"
address = "10.0.0.12"
[[service.backend]]
name = "10.0.0.11:8080"
address = "10.0.0.13"
"#;

    families_without_a_partner_are_said: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = ["203.0.113.10", "2001:db8::10"]
port = 80
backend = [{ address = "10.0.0.11" }]
[[service]]
name = "old"
vip = "203.0.113.11"
port = 80
backend = [{ address = "10.0.0.11", weight = 0 }, { address = "2001:db8::11" }]
[[service]]
name = "empty"
vip = "203.0.113.12"
port = 80
"#;

    overlapping_port_ranges_show_both_places: r#"
[agent]
interfaces = ["eth0"]
snat_ports = "9000-40000"
check_ports = "8000-9000"
"#;

    a_range_that_overlaps_a_default_is_said_too: r#"
[agent]
interfaces = ["eth0"]
check_ports = "20000-20010"
"#;

    addresses_that_cannot_be_used_are_said: r#"
[agent]
interfaces = ["eth0", "much-too-long-name0", "a/b"]
snat_addresses = ["127.0.0.1", "10.0.0.1", "10.0.0.1"]
[[service]]
name = "web"
vip = ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1", "fe80::1", "::ffff:192.0.2.1", "169.254.1.1"]
port = 80
backend = [{ address = "10.0.0.11" }, { address = "0.1.2.3" }, { address = "2001:db8::1" }]
"#;

    addresses_in_two_roles_show_both_places: r#"
[agent]
interfaces = ["eth0"]
snat_addresses = ["10.0.0.12", "203.0.113.10"]
http = "0.0.0.0:9180"
[[service]]
name = "web"
vip = "203.0.113.10"
port = 12000
backend = [{ address = "10.0.0.11" }, { address = "10.0.0.12" }]
[[service]]
name = "second"
vip = "10.0.0.11"
port = 9180
backend = [{ address = "10.0.0.13" }]
"#;

    a_backend_port_in_two_gateway_services_is_refused: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
mode = "gateway"
internal_port = 8080
backend = [{ address = "10.0.0.11" }]
[[service]]
name = "web2"
vip = "203.0.113.11"
port = 80
mode = "gateway"
backend = [{ address = "10.0.0.11", port = 8080 }, { address = "10.0.0.12" }]
[[service]]
name = "nat"
vip = "203.0.113.12"
port = 80
backend = [{ address = "10.0.0.11", port = 8080 }]
"#;

    checks_that_make_no_sense_are_said: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
check = { tcp = {}, http = {} }
backend = [{ address = "10.0.0.11", check = { interval = "1s" } }, { address = "10.0.0.12", check = { tcp = {}, timeout = "3s" } }]
[[service]]
name = "dns"
vip = "203.0.113.10"
port = 53
protocol = "udp"
check = { tcp = {}, interval = "1s", timeout = "2s" }
backend = [{ address = "10.0.0.11" }]
"#;

    https_checks_that_make_no_sense_are_said: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 443
check = { https = { roots = "none", sni = "a.example:443" } }
[[service.backend]]
address = "10.0.0.11"
check = { https = { roots = "/etc/ca.pem", verify = false } }
[[service.backend]]
address = "10.0.0.12"
check = { https = { roots = "ca.pem", sni = "10.0.0.12", body = "", bdy = "x" }, http = {} }
[[service.backend]]
address = "10.0.0.13"
check = { https = { verify = 0 }, port = 0, other_port = "yes" }
"#;

    checks_of_another_port_must_be_meant: r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
internal_port = 8080
check = { tcp = {}, port = 9000 }
[[service.backend]]
address = "10.0.0.11"
port = 9000
[[service.backend]]
address = "10.0.0.12"
[[service.backend]]
address = "10.0.0.13"
[[service.backend]]
address = "10.0.0.14"
check = { tcp = {}, port = 9001 }
[[service.backend]]
address = "10.0.0.15"
check = { tcp = {}, port = 9001, other_port = true }
[[service.backend]]
address = "10.0.0.16"
check = { tcp = {}, port = 8080 }
"#;

    a_silence_must_name_a_code_that_can_be_silenced_and_say_why: r#"
[agent]
interfaces = ["eth0"]
silence = [{ code = "XLB0303" }, { code = "XLB9999", reason = "x" }, { code = "XLB0330", reason = "x" }]
[[service]]
name = "dns"
vip = "203.0.113.10"
port = 53
silence = [{ code = "XLB0203", reason = "x" }, { code = "XLB0310", reason = "x" }]
[[service.backend]]
address = "10.0.0.11"
silence = [{ code = "XLB0303", reason = " " }, { code = "XLB0303", reason = "x", by = "me" }, 7]
"#;

    a_silence_covers_its_own_object_and_nothing_else: r#"
[agent]
interfaces = ["eth0"]
silence = [{ code = "XLB0303", reason = "agent does not cover services" }]
[[service]]
name = "dns"
vip = "203.0.113.10"
port = 53
protocol = "udp"
check = { tcp = {} }
silence = [{ code = "XLB0303", reason = "both protocols" }, { code = "XLB0301", reason = "has backends by now" }]
backend = [{ address = "10.0.0.11", check = { tcp = {} } }]
[[service]]
name = "second"
vip = "203.0.113.11"
port = 53
protocol = "udp"
check = { tcp = {} }
backend = [{ address = "10.0.0.11", port = 5353, silence = [{ code = "XLB0303", reason = "stands at the service, not here" }] }]
"#;

    more_than_the_limits_is_said: r#"
[agent]
interfaces = ["eth0"]
[limits]
services = 1
backends = 2
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11" }, { address = "10.0.0.12" }]
[[service]]
name = "dns"
vip = "203.0.113.10"
port = 53
backend = [{ address = "10.0.0.11" }]
"#;
}

/// What is found where no file of roots is there.
fn without_roots() -> Vec<Diagnostic> {
    let text = r#"
[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 443
check = { https = { roots = "/etc/ca.pem" } }
backend = [{ address = "10.0.0.11" }, { address = "10.0.0.12", check = { https = { roots = "/etc/ca.pem" } } }]
"#;
    parse_looking(
        Path::new("xlb.toml"),
        text,
        &|_| Err("No such file or directory".to_owned()),
        &HostFacts::default(),
    )
    .expect_err("no file")
}

#[test]
fn roots_that_are_not_there_are_said_once_with_the_check_that_needs_them() {
    insta::assert_snapshot!(shown(&without_roots()));
}

/// Its interface has 10.0.0.1 and the VIP.
const LISTENED_ON: &str = r#"
[agent]
interfaces = ["eth0"]
snat_ports = "10240-32767"
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11", port = 8080 }]
"#;

/// What is found on a host with a small range, something reserved, and servers of all kinds.
fn on_a_host(text: &str) -> Vec<Diagnostic> {
    let at = |protocol, at: &str| Listener {
        protocol,
        at: at.parse().expect("an address and port"),
    };
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let address = |interface: &str, address: &str| (interface.to_owned(), address.parse().expect("an address"));
    let host = HostFacts {
        ephemeral: Some(PortRange {
            min: 20_000,
            max: 60_999,
        }),
        reserved: Some(vec![
            PortRange { min: 5_000, max: 5_000 },
            PortRange {
                min: 30_000,
                max: 30_010,
            },
        ]),
        listeners: Some(vec![
            at(tcp, "127.0.0.1:12000"),
            at(tcp, "10.0.0.1:12001"),
            at(udp, "0.0.0.0:12002"),
            at(udp, "[::]:12003"),
            at(tcp, "10.9.9.9:12004"),
            at(tcp, "0.0.0.0:9999"),
            at(tcp, "203.0.113.10:80"),
            at(udp, "203.0.113.10:80"),
            at(tcp, "0.0.0.0:80"),
            at(tcp, "10.0.0.1:12005"),
            at(tcp, "10.0.0.1:12006"),
        ]),
        interfaces: Some(vec!["lo".to_owned(), "eth1".to_owned()]),
        addresses: Some(vec![
            address("lo", "127.0.0.1"),
            address("eth0", "10.0.0.1"),
            address("eth0", "203.0.113.10"),
            address("eth9", "10.9.9.9"),
        ]),
    };
    let examined = examine(Path::new("xlb.toml"), text.as_bytes(), &|_| Ok(()), &host);
    examined.findings
}

#[test]
fn what_clashes_with_the_host_is_said_with_the_sysctl_that_helps() {
    insta::assert_snapshot!(shown(&on_a_host(LISTENED_ON)));
}

#[test]
fn nothing_is_said_of_a_host_whose_range_is_reserved_and_which_is_not_known_otherwise() {
    let host = HostFacts {
        ephemeral: Some(PortRange {
            min: 1_024,
            max: 65_535,
        }),
        reserved: Some(vec![PortRange {
            min: 10_240,
            max: 32_767,
        }]),
        ..HostFacts::default()
    };
    let examined = examine(Path::new("xlb.toml"), LISTENED_ON.as_bytes(), &|_| Ok(()), &host);
    assert_eq!(examined.findings, []);
}

#[test]
fn a_shared_backend_can_be_silenced_at_either_service() {
    let text = r#"
agent.interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11", port = 8080 }]
@web@
[[service]]
name = "shop"
vip = "203.0.113.11"
port = 80
backend = [{ address = "10.0.0.11", port = 8080 }]
@shop@
"#;
    let silence = "silence = [{ code = \"XLB0311\", reason = \"one server, two names\" }]";
    for (place, other) in [("@web@", "@shop@"), ("@shop@", "@web@")] {
        assert_eq!(found(&text.replace(place, silence).replace(other, "")), [], "{place}");
    }
    let loud = found(&text.replace("@web@", "").replace("@shop@", ""));
    assert_eq!(loud.iter().map(|one| one.code).collect::<Vec<_>>(), ["XLB0311"]);
}

#[test]
fn a_silence_of_what_depends_on_the_host_is_not_called_unused() {
    let silence = "interfaces = [\"eth0\"]\nsilence = [{ code = \"XLB0314\", reason = \"a lab\" }]\n";
    let text = SMALL.replace("interfaces = [\"eth0\"]\n", silence);
    assert_eq!(found(&text), []);
}

#[test]
fn of_a_line_that_nobody_can_read_only_the_place_is_shown() {
    let many = "\"203.0.113.10\", ".repeat(2_000);
    let errors = found(&SMALL.replace("\"203.0.113.10\"", &format!("[{many}]")));
    assert_eq!(errors.len(), 200);
    assert!(
        errors.iter().all(|one| one.rendered.len() < 300),
        "{}",
        errors[0].rendered
    );
    assert!(errors[0].rendered.contains("xlb.toml:7:24"), "{}", errors[0].rendered);
}

#[test]
fn a_warning_is_not_hidden_by_hints_before_it() {
    let service = |index: u8| {
        let backend = format!("backend = [{{ address = \"10.0.0.{index}\" }}]");
        format!("[[service]]\nname = \"s{index}\"\nvip = \"203.0.113.{index}\"\nport = 80\n{backend}\n")
    };
    let many: String = (1..=250).map(service).collect();
    let last = "[[service]]\nname = \"last\"\nvip = \"198.51.100.1\"\nport = 80\n";
    let all = found(&format!("agent.interfaces = [\"eth0\"]\n{many}{last}"));
    assert_eq!((all.len(), all[0].code), (200, "XLB0301"));
    assert_eq!(all[0].about[0].service, "last");
}

#[test]
fn two_places_far_apart_are_shown_without_what_stands_between_them() {
    let second = "\n[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\nport = 81\n";
    let errors = found(&format!("{SMALL}{}{second}", "# filler\n".repeat(5_000)));
    let clash = errors
        .iter()
        .find(|one| one.code == "XLB0205")
        .expect("a clash of names");
    insta::assert_snapshot!(clash.rendered);
}

#[test]
fn a_carriage_return_moves_no_column() {
    let text = SMALL.replace('\n', "\r\n").replace("port = 80\r\n", "prot = 80\r\n");
    let errors = found(&text);
    let places: Vec<_> = errors.iter().map(|one| (one.code, one.line, one.column)).collect();
    assert_eq!(places, [("XLB0102", 5, 1), ("XLB0101", 8, 1)]);
}
