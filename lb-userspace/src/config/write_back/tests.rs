//! What people wrote stays as it was; what the agent writes looks like it.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::{self, AdminState};

mod edits;
mod services;
mod written;

const FILE: &str = r#"# our edge
[agent]
interfaces = ["eth0"] # uplink

# --- web ---
[[service]]
name = "web"   # the shop
vip = "203.0.113.10"
port = 443
internal_port = 8443

# rack 1
[[service.backend]]
name = "a"
address = "10.0.0.11"

# rack 2

# the big one
[[service.backend]]
address = "10.0.0.12" # ask ops
weight = 200

# --- dns ---
[[service]]
name = "dns"
vip = "203.0.113.10"
port = 53
protocol = "udp"
backend = [
    # first of two
    { address = "10.0.0.21" }, # left
    { address = "10.0.0.22" }, # right
    # no more
]

[[service]]
vip = "203.0.113.11"
name = "bare"
port = 22

[limits]
services = 10 # enough
"#;

fn spec(address: &str) -> BackendSpec {
    BackendSpec {
        name: None,
        address: address.parse().expect("address"),
        port: None,
        weight: None,
    }
}

fn added(text: &str, service: &str, spec: &BackendSpec) -> String {
    checked(add_backend(text, service, spec).expect("added"))
}

fn removed(text: &str, service: &str, backend: &str) -> String {
    checked(remove_backend(text, service, backend).expect("removed"))
}

/// The result is still a config.
fn checked(text: String) -> String {
    if let Err(errors) = config::parse(Path::new("x.toml"), &text) {
        panic!("{}\n{text}", errors[0].rendered);
    }
    text
}

/// Lines that differ, as `diff` shows them, in order.
fn changes(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[same..]
        .iter()
        .rev()
        .zip(new[same..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let gone = old[same..old.len() - tail].iter().map(|line| format!("-{line}\n"));
    let come = new[same..new.len() - tail].iter().map(|line| format!("+{line}\n"));
    gone.chain(come).collect()
}

#[test]
fn a_backend_is_added_after_the_last_one_of_its_service() {
    let full = BackendSpec {
        name: Some("c".to_owned()),
        port: Some(9443),
        weight: Some(50),
        ..spec("10.0.0.13")
    };
    let text = added(FILE, "web", &full);
    insta::assert_snapshot!(changes(FILE, &text));
}

#[test]
fn a_backend_is_added_to_a_list_of_lines() {
    let text = added(
        FILE,
        "dns",
        &BackendSpec {
            port: Some(5353),
            ..spec("10.0.0.23")
        },
    );
    insta::assert_snapshot!(changes(FILE, &text));
}

#[test]
fn a_first_backend_is_added_to_a_service_without_any() {
    insta::assert_snapshot!(changes(FILE, &added(FILE, "bare", &spec("10.0.0.31"))));
}

#[test]
fn a_removed_backend_takes_its_own_comments_with_it_and_no_others() {
    insta::assert_snapshot!(changes(FILE, &removed(FILE, "web", "a")));
    insta::assert_snapshot!(changes(FILE, &removed(FILE, "web", "10.0.0.12:8443")));
    insta::assert_snapshot!(changes(FILE, &removed(FILE, "dns", "10.0.0.21:53")));
    insta::assert_snapshot!(changes(FILE, &removed(FILE, "dns", "10.0.0.22:53")));
}

#[test]
fn a_named_backend_can_be_removed_by_its_target() {
    assert_eq!(removed(FILE, "web", "10.0.0.11:8443"), removed(FILE, "web", "a"));
}

#[test]
fn the_last_backend_can_be_removed_and_one_added_again() {
    let text = removed(&removed(FILE, "web", "a"), "web", "10.0.0.12:8443");
    assert!(text.contains("# rack 2\n"), "{text}");
    let text = added(&text, "web", &spec("10.0.0.14"));
    insta::assert_snapshot!(changes(FILE, &text));
    let text = removed(&removed(FILE, "dns", "10.0.0.21:53"), "dns", "10.0.0.22:53");
    insta::assert_snapshot!(changes(FILE, &added(&text, "dns", &spec("10.0.0.24"))));
}

#[test]
fn lists_on_one_line_stay_on_one_line() {
    let text = FILE.replace(
        "name = \"bare\"\n",
        "name = \"bare\"\nbackend = [{ address = \"10.0.0.41\" }, { address = \"10.0.0.42\" } ]\n",
    );
    insta::assert_snapshot!(changes(&text, &added(&text, "bare", &spec("10.0.0.43"))));
    insta::assert_snapshot!(changes(&text, &removed(&text, "bare", "10.0.0.41:22")));
    insta::assert_snapshot!(changes(&text, &removed(&text, "bare", "10.0.0.42:22")));
}

#[test]
fn a_comment_without_a_comma_before_it_does_not_swallow_the_comma() {
    let text = FILE.replace(
        "name = \"bare\"\n",
        "name = \"bare\"\nbackend = [\n  { address = \"10.0.0.41\" } # only\n]\n",
    );
    insta::assert_snapshot!(changes(&text, &added(&text, "bare", &spec("10.0.0.43"))));
    insta::assert_snapshot!(changes(&text, &removed(&text, "bare", "10.0.0.41:22")));
}

#[test]
fn services_written_inline_are_edited_inline() {
    let text = "agent.interfaces = [\"eth0\"]\nservice = [\n  { name = \"a\", vip = \"203.0.113.10\", port = 1 },\n]\n";
    let one = added(text, "a", &spec("10.0.0.1"));
    insta::assert_snapshot!(changes(text, &one));
    insta::assert_snapshot!(changes(text, &added(&one, "a", &spec("10.0.0.2"))));
    assert_eq!(removed(&one, "a", "10.0.0.1:1").matches("address").count(), 0);
}

#[test]
fn windows_line_ends_stay() {
    let text = FILE.replace('\n', "\r\n");
    for edited in [
        added(&text, "web", &spec("10.0.0.13")),
        added(&text, "dns", &spec("10.0.0.23")),
        removed(&text, "dns", "10.0.0.21:53"),
        removed(&text, "web", "a"),
    ] {
        assert_eq!(edited.matches('\n').count(), edited.matches("\r\n").count());
        assert!(!edited.contains("\r\r"));
    }
}

#[test]
fn what_is_not_there_or_there_already_is_said_with_what_is_there() {
    let errors = [
        add_backend(FILE, "wob", &spec("10.0.0.1")),
        add_backend(FILE, "web", &spec("10.0.0.11")),
        add_backend(
            FILE,
            "web",
            &BackendSpec {
                name: Some("a".to_owned()),
                ..spec("10.0.0.99")
            },
        ),
        add_backend(
            FILE,
            "dns",
            &BackendSpec {
                port: Some(53),
                ..spec("10.0.0.21")
            },
        ),
        remove_backend(FILE, "web", "b"),
        remove_backend(FILE, "bare", "b"),
        remove_backend("[agent", "web", "b"),
        add_backend("service = [{ name = \"a\", backend = 1 }]", "a", &spec("10.0.0.1")),
    ];
    let text: Vec<String> = errors
        .into_iter()
        .map(|result| result.expect_err("refused").to_string())
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

proptest! {
    #[test]
    fn no_text_makes_an_edit_panic(text in "\\PC{0,200}", name in "[a-z]{0,3}") {
        let _ = (add_backend(&text, &name, &spec("10.0.0.1")), remove_backend(&text, &name, "a"));
    }

    #[test]
    fn adding_and_removing_again_gives_the_same_config(
        service in prop_oneof![Just("web"), Just("dns"), Just("bare")], last in 100_u8..200, port in proptest::option::of(1_u16..),
    ) {
        let spec = BackendSpec { port, ..spec(&format!("10.0.0.{last}")) };
        let text = added(FILE, service, &spec);
        let default = match service { "web" => 8443, "dns" => 53, _ => 22 };
        let target = SocketAddr::new(spec.address, port.unwrap_or(default)).to_string();
        let parsed = |text: &str| config::parse(Path::new("x.toml"), text).map(|(config, _)| config);
        prop_assert_eq!(parsed(&removed(&text, service, &target)), parsed(FILE));
        // And not one line of the file was lost on the way.
        for line in FILE.lines() {
            prop_assert!(text.lines().any(|other| other == line), "{}", line);
        }
    }
}

#[test]
fn a_set_weight_keeps_its_line_and_its_comment() {
    let text = FILE.replace("weight = 200\n", "weight = 200 # for now\n");
    let set = |backend: &str, weight| set_backend(&text, "web", backend, BackendSetting::Weight(weight)).expect("set");
    assert_eq!(
        set("10.0.0.12:8443", 50),
        text.replace("weight = 200 # for now", "weight = 50 # for now")
    );
    assert_eq!(
        set("a", 0),
        text.replace("address = \"10.0.0.11\"\n", "address = \"10.0.0.11\"\nweight = 0\n")
    );
}

#[test]
fn a_state_is_set_and_ready_needs_no_key() {
    let set = |text: &str, service: &str, backend: &str, state| {
        set_backend(text, service, backend, BackendSetting::State(state)).expect("set")
    };
    assert_eq!(set(FILE, "web", "a", AdminState::Ready), FILE);
    let drained = set(FILE, "web", "a", AdminState::Drain);
    assert_eq!(
        drained,
        FILE.replace(
            "address = \"10.0.0.11\"\n",
            "address = \"10.0.0.11\"\nstate = \"drain\"\n"
        )
    );
    // Back to what it was; where somebody said why, the key stays with that.
    assert_eq!(set(&drained, "web", "a", AdminState::Ready), FILE);
    for said in ["state = \"drain\" # ticket 7\n", "# ticket 7\nstate = \"drain\"\n"] {
        let said = drained.replace("state = \"drain\"\n", said);
        assert_eq!(
            set(&said, "web", "a", AdminState::Ready),
            said.replace("\"drain\"", "\"ready\"")
        );
    }
    let inline = set(FILE, "dns", "10.0.0.22:53", AdminState::Maint);
    assert_eq!(set(&inline, "dns", "10.0.0.22:53", AdminState::Ready), FILE);
    assert_eq!(
        set(FILE, "dns", "10.0.0.22:53", AdminState::Maint),
        FILE.replace(
            "{ address = \"10.0.0.22\" }, # right",
            "{ address = \"10.0.0.22\", state = \"maint\" }, # right"
        )
    );
}

#[test]
fn a_backend_that_is_not_there_is_not_set() {
    let setting = BackendSetting::Weight(1);
    let error = set_backend(FILE, "web", "c", setting).expect_err("no such backend");
    assert_eq!(
        error.to_string(),
        "no backend c in service web; it has: a, 10.0.0.12:8443"
    );
    assert!(matches!(
        set_backend(FILE, "bare", "c", setting),
        Err(WriteBackError::NoSuchBackend { .. })
    ));
}
