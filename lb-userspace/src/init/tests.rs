use std::path::Path;

use super::*;

fn interface(name: &str, fit: Fit, is_default: bool, addresses: &[&str]) -> Interface {
    Interface {
        name: name.to_owned(),
        up: true,
        fit,
        is_default,
        addresses: addresses.iter().map(|net| net.parse().expect("an address")).collect(),
    }
}

/// A router with two good interfaces and some of everything else.
fn survey(ways: &[&str]) -> Survey {
    let mut down = interface("eth9", Fit::Good, false, &["10.9.0.1/24"]);
    down.up = false;
    Survey {
        interfaces: vec![
            interface("lo", Fit::NotEthernet, false, &[]),
            interface("eth1", Fit::Good, false, &["10.0.0.1/24", "fd00::1/64"]),
            interface(
                "eth0",
                Fit::Good,
                true,
                &["203.0.113.5/24", "2001:db8::5/64", "203.0.113.9/32"],
            ),
            interface("br0", Fit::Kind("bridge".to_owned()), false, &["10.7.0.1/24"]),
            interface("eth2", Fit::Port { of: "br0".to_owned() }, false, &[]),
            interface("eth3", Fit::Good, false, &["10.3.0.1/24"]),
            interface("eth4", Fit::Good, false, &[]),
            down,
        ],
        ways: ways.iter().map(|name| Way::Out((*name).to_owned())).collect(),
    }
}

fn wishes(vip: &str, backends: &[&str]) -> Wishes {
    Wishes {
        vip: (!vip.is_empty()).then(|| vip.parse().expect("an address")),
        backends: backends
            .iter()
            .map(|one| (one.parse().expect("an address"), Some(8080)))
            .collect(),
        ..Wishes::default()
    }
}

/// The file and the notes; what is written passes the check with these codes and no others.
fn proposed(survey: &Survey, wishes: &Wishes, codes: &[&str]) -> String {
    let proposal = propose(survey, wishes).unwrap_or_else(|error| panic!("{error}"));
    let text = proposal.text();
    let (_, found) = crate::config::parse(Path::new("xlb.toml"), &text).unwrap_or_else(|all| panic!("{all:?}\n{text}"));
    let said: Vec<&str> = found.iter().map(|one| one.code).collect();
    assert_eq!(said, codes, "{text}");
    format!("{text}--\n{}", proposal.notes().join("\n"))
}

#[test]
fn clients_come_by_the_default_route_and_backends_by_theirs() {
    let text = proposed(
        &survey(&["eth1", "eth1"]),
        &wishes("", &["10.0.0.11", "10.0.0.12"]),
        &[],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn without_backends_the_file_says_how_to_add_one() {
    insta::assert_snapshot!(proposed(&survey(&[]), &Wishes::default(), &["XLB0301"]));
}

#[test]
fn a_vip_on_an_interfaces_network_is_managed_and_one_elsewhere_is_for_the_router() {
    let near = proposed(&survey(&["eth1"]), &wishes("203.0.113.10", &["10.0.0.11"]), &[]);
    assert!(near.contains("manage_vip = true"), "{near}");
    let far = proposed(&survey(&["eth1"]), &wishes("198.51.100.10", &["10.0.0.11"]), &[]);
    assert!(!far.contains("manage_vip"), "{far}");
    assert!(
        far.contains("VIP 198.51.100.10 is on no network of this host: a router must send"),
        "{far}"
    );
    let own = proposed(&survey(&["eth1"]), &wishes("203.0.113.9", &["10.0.0.11"]), &[]);
    assert!(!own.contains("manage_vip"), "{own}");
}

#[test]
fn the_family_is_the_backends_and_its_source_too() {
    let text = proposed(&survey(&["eth1"]), &wishes("", &["fd00::11"]), &[]);
    assert!(
        text.contains("vip = \"2001:db8::5\"") && text.contains("snat_addresses = [\"fd00::1\"]"),
        "{text}"
    );
}

#[test]
fn named_interfaces_are_taken_as_they_are_once_and_in_their_order() {
    let wishes = Wishes {
        interfaces: ["br0", "eth0", "br0"].map(str::to_owned).to_vec(),
        port: Some(8443),
        ..Wishes::default()
    };
    let text = proposed(&survey(&[]), &wishes, &["XLB0301"]);
    assert!(
        text.contains("interfaces = [\"br0\", \"eth0\"]") && text.contains("port = 8443"),
        "{text}"
    );
    assert!(
        text.contains("br0: a bridge has no XDP of its own; 'xlb run' may refuse it"),
        "{text}"
    );
}

#[test]
fn without_a_default_route_every_good_interface_is_taken() {
    let mut survey = survey(&[]);
    survey.interfaces[2].is_default = false;
    let text = proposed(&survey, &Wishes::default(), &["XLB0301"]);
    assert!(text.contains("interfaces = [\"eth1\", \"eth0\", \"eth3\"]"), "{text}");
}

#[test]
fn what_is_in_the_way_is_said_with_the_next_step() {
    let nothing = Survey {
        interfaces: vec![interface("lo", Fit::NotEthernet, false, &[])],
        ways: Vec::new(),
    };
    let here = Survey {
        ways: vec![Way::Here],
        ..survey(&[])
    };
    let nowhere = Survey {
        ways: vec![Way::Nowhere],
        ..survey(&[])
    };
    let mut unknown = Wishes::default();
    unknown.interfaces.push("eth7".to_owned());
    let mut only_v4 = Wishes {
        vip: "2001:db8::80".parse().ok(),
        ..Wishes::default()
    };
    only_v4.interfaces.push("eth3".to_owned());
    let said = [
        propose(&nothing, &Wishes::default()),
        propose(&here, &wishes("", &["10.0.0.1"])),
        propose(&nowhere, &wishes("", &["10.55.0.1"])),
        propose(&survey(&[]), &unknown),
        propose(&survey(&[]), &only_v4),
        propose(&survey(&["eth1"]), &wishes("2001:db8::80", &["10.0.0.11"])),
    ]
    .map(|result| result.expect_err("no proposal").to_string());
    insta::assert_snapshot!(said.join("\n\n"));
}
