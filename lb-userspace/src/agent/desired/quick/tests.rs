//! The quick way against the whole one.

use std::cell::Cell;
use std::fmt::Write as _;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::config::AdminState;
use crate::config::write_back::BackendSetting;
use crate::view::Timestamp;

/// How a service is written.
#[derive(Clone, Copy, Debug)]
enum Way {
    Tables,
    Lines,
    OneLine,
}

#[derive(Clone, Debug)]
struct Text {
    ways: Vec<Way>,
    /// Behind which service `[limits]` stands.
    limits: usize,
    /// What the check says something about.
    head: &'static str,
    /// As the first, which every service is without.
    shared: &'static str,
}

#[derive(Clone, Debug)]
enum Step {
    Set(Store, usize, usize, BackendSetting),
    Add(Store, usize, u8),
    Remove(Store, usize, usize),
}

#[derive(Clone, Copy, Debug)]
enum Store {
    Runtime,
    File,
}

fn texts() -> impl Strategy<Value = Text> {
    let way = prop_oneof![
        Just(Way::Tables),
        Just(Way::Tables),
        Just(Way::Lines),
        Just(Way::OneLine)
    ];
    let head = prop_oneof![
        Just(""),
        Just("snat_ports = \"30000-40000\"\n"),
        Just("silence = [{ code = \"XLB0303\", reason = \"none\" }]\n")
    ];
    let shared = prop_oneof![Just(""), Just(""), Just("internal_port = 9000\n")];
    (vec(way, 1..5), 0_usize..5, head, shared).prop_map(|(ways, limits, head, shared)| Text {
        ways,
        limits,
        head,
        shared,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let store = || prop_oneof![Just(Store::Runtime), Just(Store::File)];
    let setting = prop_oneof![
        (0_u32..300).prop_map(BackendSetting::Weight),
        prop_oneof![
            Just(AdminState::Ready),
            Just(AdminState::Drain),
            Just(AdminState::Maint)
        ]
        .prop_map(BackendSetting::State),
    ];
    let set = (store(), 0_usize..5, 0_usize..3, setting).prop_map(|(a, b, c, d)| Step::Set(a, b, c, d));
    let add = (store(), 0_usize..5, 50_u8..60).prop_map(|(a, b, c)| Step::Add(a, b, c));
    let remove = (store(), 0_usize..5, 0_usize..3).prop_map(|(a, b, c)| Step::Remove(a, b, c));
    vec(prop_oneof![6 => set, 1 => add, 1 => remove], 1..8)
}

impl Text {
    fn written(&self) -> String {
        let mut text = format!(
            "# ours\n[agent]\ninterfaces = [\"eth0\"] # uplink\n{}\n# services\n",
            self.head
        );
        for (index, way) in self.ways.iter().enumerate() {
            let backend = |nth: usize| format!("name = \"b{nth}\", address = \"10.0.0.{}\"", nth + 10);
            let (shared, port) = (self.shared, 8_000 + index);
            let own = if shared.is_empty() {
                format!("internal_port = {port}\n")
            } else {
                shared.to_owned()
            };
            write!(text, "# number {index}\n\n[[service]]\nname = \"s{index}\" # [[service]]\nvip = \"203.0.113.{}\"\nport = 80\n{own}", index + 1)
                .expect("to a string");
            match way {
                Way::Tables => {
                    for nth in 0..3 {
                        let lines = backend(nth).replace(", ", "\n");
                        write!(text, "\n# of {index}\n\n[[service.backend]]\n{lines} # here\n").expect("to a string");
                    }
                }
                Way::Lines => {
                    let lines: Vec<String> = (0..3).map(|nth| format!("  {{ {} }}, # one", backend(nth))).collect();
                    writeln!(text, "backend = [\n{}\n]", lines.join("\n")).expect("to a string");
                }
                Way::OneLine => {
                    let all: Vec<String> = (0..3).map(|nth| format!("{{ {} }}", backend(nth))).collect();
                    writeln!(text, "backend = [{}]", all.join(", ")).expect("to a string");
                }
            }
            if index == self.limits {
                text += "\n[limits]\nservices = 20 # enough\n";
            }
        }
        text
    }
}

impl Step {
    fn change(&self, services: usize) -> (Store, Change) {
        let service = |index: usize| format!("s{}", index % services);
        match self {
            Self::Set(store, at, nth, setting) => {
                let (service, backend, setting) = (service(*at), format!("b{nth}"), *setting);
                (
                    *store,
                    Change::Set {
                        service,
                        backend,
                        setting,
                    },
                )
            }
            Self::Add(store, at, last) => {
                let change = Change::Add {
                    service: service(*at),
                    name: None,
                    address: [10, 0, 0, *last].into(),
                    port: None,
                    weight: None,
                };
                (*store, change)
            }
            Self::Remove(store, at, nth) => {
                let (service, backend) = (service(*at), format!("b{nth}"));
                (*store, Change::Remove { service, backend })
            }
        }
    }
}

fn same(quick: &Desired, whole: &Desired) -> Result<(), TestCaseError> {
    prop_assert_eq!(&quick.text, &whole.text);
    prop_assert_eq!(&quick.config, &whole.config);
    prop_assert_eq!(&quick.warnings, &whole.warnings);
    prop_assert_eq!(&quick.overrides, &whole.overrides);
    prop_assert_eq!(&quick.sections, &whole.sections);
    prop_assert_eq!(&quick.trust, &whole.trust);
    prop_assert_eq!(&quick.name_findings, &whole.name_findings);
    prop_assert_eq!(
        (&quick.path, quick.loaded, &quick.host),
        (&whole.path, whole.loaded, &whole.host)
    );
    Ok(())
}

#[test]
fn whatever_is_set_the_quick_way_gives_what_the_whole_way_gives() {
    let (tried, taken) = (Cell::new(0_u32), Cell::new(0_u32));
    let mut runner = TestRunner::default();
    let result = runner.run(&(texts(), steps()), |(text, steps)| {
        let path = Path::new("/etc/xlb/xlb.toml");
        let written = text.written();
        let mut desired = Desired::from_text(path, written, Timestamp { unix_s: 1 })
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        for step in &steps {
            let (store, change) = step.change(text.ways.len());
            let over = Override {
                change: change.clone(),
                by: "a test".to_owned(),
                at: Timestamp { unix_s: 2 },
            };
            let (quick, whole) = match store {
                Store::Runtime => (desired.quick_override(&over), desired.with_one_more(over)),
                Store::File => (desired.quick_saved(&change), desired.wholly_saved(&change)),
            };
            tried.set(tried.get() + u32::from(matches!(step, Step::Set(..))));
            if let Some(quick) = &quick {
                taken.set(taken.get() + 1);
                let whole = whole.as_ref().map_err(|error| TestCaseError::fail(error.to_string()))?;
                same(quick, whole)?;
            }
            if let Some(next) = quick.or(whole.ok()) {
                desired = next;
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(
        taken.get() * 3 > tried.get(),
        "{} of {} were quick",
        taken.get(),
        tried.get()
    );
}

#[test]
fn a_setting_leaves_the_other_services_where_they_are() {
    let text = Text {
        ways: vec![Way::Tables; 3],
        limits: 9,
        head: "",
        shared: "",
    };
    let path = Path::new("/etc/xlb/xlb.toml");
    let before = Desired::from_text(path, text.written(), Timestamp { unix_s: 1 }).expect("a good config");
    let change = Change::Set {
        service: "s1".to_owned(),
        backend: "b0".to_owned(),
        setting: BackendSetting::Weight(7),
    };
    let after = before.quick_saved(&change).expect("the quick way");
    let kept = before.config.services.iter().zip(&after.config.services);
    assert_eq!(
        kept.map(|(old, new)| Arc::ptr_eq(old, new)).collect::<Vec<_>>(),
        [true, false, true]
    );
    let unknown = Change::Set {
        service: "s1".to_owned(),
        backend: "b9".to_owned(),
        setting: BackendSetting::Weight(7),
    };
    assert!(
        before.quick_saved(&unknown).is_none(),
        "the whole way says what there is"
    );
}
