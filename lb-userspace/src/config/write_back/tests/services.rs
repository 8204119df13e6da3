//! Whole services.

use super::*;

fn service(name: &str) -> ServiceSpec {
    ServiceSpec {
        name: name.to_owned(),
        vip: vec!["203.0.113.12".parse().expect("address")],
        port: 8080,
        protocol: None,
        mode: None,
        internal_port: None,
        check: None,
        backends: Vec::new(),
    }
}

pub(super) fn full() -> ServiceSpec {
    let mut named = spec("10.0.0.51");
    (named.name, named.port, named.weight) = (Some("one".to_owned()), Some(9000), Some(50));
    ServiceSpec {
        vip: vec![
            "203.0.113.12".parse().expect("address"),
            "203.0.113.13".parse().expect("address"),
        ],
        protocol: Some(config::Protocol::Tcp),
        mode: Some(config::Mode::FullNat),
        internal_port: Some(8081),
        check: Some(CheckSpec::Http {
            path: Some("/healthz".to_owned()),
        }),
        backends: vec![named, spec("10.0.0.52")],
        ..service("full")
    }
}

fn with(text: &str, spec: &ServiceSpec) -> String {
    checked(add_service(text, spec).expect("added"))
}

fn without(text: &str, name: &str) -> String {
    checked(remove_service(text, name).expect("removed"))
}

#[test]
fn a_service_is_added_after_the_last_one_with_all_it_was_given() {
    insta::assert_snapshot!(changes(FILE, &with(FILE, &service("new"))));
    insta::assert_snapshot!(changes(FILE, &with(FILE, &full())));
}

#[test]
fn a_first_service_is_added_to_a_file_without_any() {
    let text = "# ours\n[agent]\ninterfaces = [\"eth0\"]\n\n[limits]\nservices = 10 # enough\n# the end\n";
    insta::assert_snapshot!(with(text, &full()));
    assert_eq!(without(&with(text, &full()), "full"), text);
}

#[test]
fn a_service_is_added_to_and_removed_from_a_list_of_lines() {
    let text = "agent.interfaces = [\"eth0\"]\nservice = [\n  # ours\n  { name = \"a\", vip = \"203.0.113.10\", port = 1 }, # first\n]\n";
    let more = with(text, &full());
    insta::assert_snapshot!(changes(text, &more));
    assert_eq!(without(&more, "full"), text);
    insta::assert_snapshot!(changes(&more, &without(&more, "a")));
}

#[test]
fn a_removed_service_takes_its_own_comments_with_it_and_no_others() {
    let text = FILE.replace("# --- web ---\n", "# all of them are ours\n\n# --- web ---\n");
    insta::assert_snapshot!(changes(&text, &without(&text, "web")));
    insta::assert_snapshot!(changes(FILE, &without(FILE, "dns")));
    insta::assert_snapshot!(changes(FILE, &without(FILE, "bare")));
}

#[test]
fn a_service_that_is_there_or_is_not_there_is_said() {
    let there = add_service(FILE, &service("dns"))
        .expect_err("there already")
        .to_string();
    assert_eq!(
        there,
        "the config already has service dns; remove it first, or add it under another name"
    );
    let missing = remove_service(FILE, "dnss").expect_err("not there").to_string();
    assert_eq!(
        missing,
        "no service dnss in the config; it has: web, dns, bare; did you mean dns?"
    );
    let none = remove_service("[agent]\n", "web").expect_err("not there").to_string();
    assert_eq!(none, "no service web in the config; it has: none");
    assert!(matches!(
        add_service("service = 1\n", &service("web")),
        Err(WriteBackError::Shape { key: "service" })
    ));
}

#[test]
fn line_ends_of_windows_stay_when_a_service_comes_or_goes() {
    let text = FILE.replace('\n', "\r\n");
    for edited in [with(&text, &full()), without(&text, "web"), without(&text, "dns")] {
        assert_eq!(edited.matches('\n').count(), edited.matches("\r\n").count());
    }
}

proptest! {
    #[test]
    fn no_text_makes_an_edit_of_services_panic(text in "\\PC{0,200}", name in "[a-z]{0,3}") {
        let _ = (add_service(&text, &service(&name)), remove_service(&text, &name));
    }

    #[test]
    fn adding_a_service_and_removing_it_again_gives_the_same_text(name in "[a-z]{4,10}", backends in 0_u8..4) {
        let backends = (1..=backends).map(|last| spec(&format!("10.0.1.{last}"))).collect();
        let spec = ServiceSpec { backends, ..service(&name) };
        prop_assert_eq!(without(&with(FILE, &spec), &name), FILE);
    }
}
