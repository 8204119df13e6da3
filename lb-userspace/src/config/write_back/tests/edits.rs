//! Every edit of every way to write a file: the result is a config that differs in the wanted object alone, and whatever
//! people wrote about anything else is still there, where it was.

use toml::{Table, Value};

use super::written::{About, Written, address};
use super::*;

/// Files; each is edited in every way. Enough that each way to write meets each edit many times.
const FILES: u64 = 40;

type Edited = Result<String, WriteBackError>;

/// An edit of a text, what it does to the values, and what it takes away.
struct Edit {
    what: String,
    make: Box<dyn Fn(&str) -> Edited>,
    wanted: Box<dyn Fn(&mut Table)>,
    about: About,
    leaves: Leaves,
}

/// What becomes of the comments about the object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Its,
    None,
}

fn service_of(file: &mut Table, service: usize) -> &mut Table {
    let services = file.get_mut("service").and_then(Value::as_array_mut).expect("services");
    let name = format!("s{service}");
    let mut tables = services.iter_mut().filter_map(Value::as_table_mut);
    let found = tables.find(|table| table.get("name").and_then(Value::as_str) == Some(name.as_str()));
    found.expect("the service")
}

fn backends_of(file: &mut Table, service: usize) -> &mut Vec<Value> {
    let list = service_of(file, service)
        .entry("backend")
        .or_insert(Value::Array(Vec::new()));
    list.as_array_mut().expect("backends")
}

/// What means the same looks the same: no backends and none, ready and no state.
fn normal(text: &str) -> Table {
    let mut file: Table = toml::from_str(text).expect("TOML");
    let services = file.entry("service").or_insert(Value::Array(Vec::new()));
    for service in services.as_array_mut().expect("services") {
        let service = service.as_table_mut().expect("a service");
        let backends = service.entry("backend").or_insert(Value::Array(Vec::new()));
        for backend in backends.as_array_mut().expect("backends") {
            let backend = backend.as_table_mut().expect("a backend");
            if backend.get("state").and_then(Value::as_str) == Some("ready") {
                backend.remove("state");
            }
        }
    }
    file
}

fn edits(file: &Written) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (service, count) in file.backends.iter().copied().enumerate() {
        let name = format!("s{service}");
        edits.push(addition(name.clone(), service));
        let gone = name.clone();
        edits.push(Edit {
            what: format!("remove service {name}"),
            make: Box::new(move |text| remove_service(text, &gone)),
            wanted: Box::new(move |file| {
                let wanted = service_of(file, service).clone();
                let services = file.get_mut("service").and_then(Value::as_array_mut).expect("services");
                services.retain(|one| one.as_table() != Some(&wanted));
            }),
            about: About::Service(service),
            leaves: Leaves::None,
        });
        for backend in 0..count {
            edits.extend(of_backend(&name, service, backend));
        }
    }
    edits.push(Edit {
        what: "add a service".to_owned(),
        make: Box::new(|text| add_service(text, &services::full())),
        wanted: Box::new(|file| {
            let new: Table = toml::from_str(&add_service("", &services::full()).expect("added")).expect("TOML");
            let services = file.get_mut("service").and_then(Value::as_array_mut).expect("services");
            services.extend(new["service"].as_array().expect("one").clone());
        }),
        about: About::Other,
        leaves: Leaves::Its,
    });
    edits
}

fn addition(name: String, service: usize) -> Edit {
    Edit {
        what: format!("add a backend to {name}"),
        make: Box::new(move |text| {
            let weight = Some(33);
            add_backend(
                text,
                &name,
                &BackendSpec {
                    weight,
                    ..spec("10.9.9.9")
                },
            )
        }),
        wanted: Box::new(move |file| {
            let new = toml::toml! { address = "10.9.9.9" weight = 33 };
            backends_of(file, service).push(new.into());
        }),
        about: About::Service(service),
        leaves: Leaves::Its,
    }
}

fn of_backend(name: &str, service: usize, backend: usize) -> Vec<Edit> {
    let at = address(service, backend);
    // By target, which every backend has: port 81 is one of its own.
    let by_target =
        move |edit: &dyn Fn(&str) -> Edited| edit(&format!("{at}:80")).or_else(|_| edit(&format!("{at}:81")));
    let mut edits = Vec::new();
    let (of, find) = (name.to_owned(), by_target.clone());
    edits.push(Edit {
        what: format!("remove backend {backend} of {name}"),
        make: Box::new(move |text| find(&|target| remove_backend(text, &of, target))),
        wanted: Box::new(move |file| drop(backends_of(file, service).remove(backend))),
        about: About::Backend(service, backend),
        leaves: Leaves::None,
    });
    let states = [AdminState::Ready, AdminState::Drain, AdminState::Maint].map(BackendSetting::State);
    for setting in [BackendSetting::Weight(33)].into_iter().chain(states) {
        let (of, find) = (name.to_owned(), by_target.clone());
        edits.push(Edit {
            what: format!("{setting:?} of backend {backend} of {name}"),
            make: Box::new(move |text| find(&|target| set_backend(text, &of, target, setting))),
            wanted: Box::new(move |file| {
                let table = backends_of(file, service)[backend].as_table_mut().expect("a backend");
                match setting {
                    BackendSetting::Weight(weight) => table.insert("weight".to_owned(), i64::from(weight).into()),
                    BackendSetting::State(AdminState::Ready) => table.remove("state"),
                    BackendSetting::State(state) => table.insert("state".to_owned(), state.as_str().into()),
                };
            }),
            about: About::Backend(service, backend),
            leaves: Leaves::Its,
        });
    }
    edits
}

/// Each comment in the order of the text: its number, and what else stands on its line, whatever is set there.
fn comments(text: &str) -> Vec<(usize, String)> {
    let found = text.lines().filter_map(|line| {
        let (code, comment) = line.split_once("#c")?;
        let (number, _) = comment.split_once(';')?;
        let code = code
            .replace([' ', ',', '[', ']', '{', '}'], "")
            .replace("weight=33", "weight=7");
        let code = code
            .replace("ready", "")
            .replace("drain", "")
            .replace("maint", "")
            .replace("backend=", "")
            .replace("service=", "");
        Some((number.parse().ok()?, code))
    });
    found.collect()
}

#[test]
fn no_edit_breaks_a_file_or_loses_a_word_about_something_else() {
    for seed in 0..FILES {
        let file = Written::from_seed(seed);
        let text = &file.text;
        checked(text.clone());
        let before = normal(text);
        for edit in edits(&file) {
            let context = || format!("seed {seed}: {}\n{text}", edit.what);
            let edited = (edit.make)(text).unwrap_or_else(|error| panic!("{error}\n{}", context()));
            if let Err(errors) = config::parse(Path::new("x.toml"), &edited) {
                panic!("{}\n{}\nbecame\n{edited}", errors[0].rendered, context());
            }
            let mut wanted = before.clone();
            (edit.wanted)(&mut wanted);
            assert_eq!(normal(&edited), wanted, "{}\nbecame\n{edited}", context());
            stays(&file, &edit, &edited, &context);
            let crlf = (edit.make)(&text.replace('\n', "\r\n")).expect("as with other line ends");
            assert_eq!(crlf, edited.replace('\n', "\r\n"), "{}", context());
        }
    }
}

/// What was said of anything else is there once, in its order, on its line.
fn stays(file: &Written, edit: &Edit, edited: &str, context: &dyn Fn() -> String) {
    let is_its = |about: About| match (edit.about, about) {
        (About::Service(service), About::Backend(of, _)) => service == of,
        (own, about) => own == about,
    };
    let stays = |number: &usize| edit.leaves == Leaves::Its || !is_its(file.comments[*number]);
    let (before, after) = (comments(&file.text), comments(edited));
    let only_what_stays =
        |all: &[(usize, String)]| -> Vec<usize> { all.iter().map(|(number, _)| *number).filter(stays).collect() };
    assert_eq!(
        only_what_stays(&after),
        only_what_stays(&before),
        "{}\nbecame\n{edited}",
        context()
    );
    // Of a line that the object ends on, the rest goes on wherever that line then ends.
    let ends_on = |code: &str| match edit.about {
        About::Backend(service, backend) => code.contains(&address(service, backend)),
        About::Service(service) => !code.contains("10.0.") || code.contains(&format!("10.0.{service}.")),
        About::Other => false,
    };
    let others = before.iter().filter(|(number, code)| stays(number) && !ends_on(code));
    for (number, code) in others {
        let (_, now) = after.iter().find(|(other, _)| other == number).expect("it is there");
        // A line that it shares with the object, or with a bracket, has less on it, or more.
        assert!(
            is_part(now, code) || is_part(code, now),
            "#c{number}: {now:?}, was {code:?}, of\n{}\nbecame\n{edited}",
            context()
        );
    }
}

/// Whether one text is the other with something taken out.
fn is_part(part: &str, whole: &str) -> bool {
    let mut letters = whole.chars();
    part.chars().all(|letter| letters.any(|other| other == letter))
}
