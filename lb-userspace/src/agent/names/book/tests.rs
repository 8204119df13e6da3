use super::*;

const START: Timestamp = Timestamp { unix_s: 1_000_000_000 };

struct Scene {
    book: Book,
    dns: DnsConfig,
    start: Instant,
}

fn question(host: &str, family: Family) -> Question {
    Question {
        host: host.parse().expect("a name"),
        family,
    }
}

fn app() -> Question {
    question("app.example", Family::V4)
}

fn addresses(of: &[&str]) -> BTreeSet<IpAddr> {
    of.iter().map(|text| text.parse().expect("an address")).collect()
}

fn answer(of: &[&str], ttl_s: u64) -> Outcome {
    Outcome::Answer {
        addresses: addresses(of),
        ttl: Duration::from_secs(ttl_s),
    }
}

fn wanted(questions: &[Question]) -> BTreeMap<Question, BTreeSet<String>> {
    let users = |one: &Question| (one.clone(), BTreeSet::from(["web/app".to_owned()]));
    questions.iter().map(users).collect()
}

impl Scene {
    fn new(kept: Answers) -> Self {
        let mut scene = Self {
            book: Book::new(kept),
            dns: DnsConfig::default(),
            start: Instant::now(),
        };
        scene.book.follow(&wanted(&[app()]), &scene.dns, scene.start);
        scene
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn take(&mut self, second: u64, outcome: Outcome) -> Option<Turn> {
        let now = self.at(second);
        assert_eq!(self.book.due(now), [app()], "due at {second} s");
        let wall = Timestamp {
            unix_s: START.unix_s + second,
        };
        self.book.take(&app(), outcome, &self.dns, Moment { now, wall }, 0.0)
    }

    /// Seconds from the start until it is asked again.
    fn next_s(&self) -> u64 {
        (self.book.next().expect("it waits") - self.start).as_secs()
    }

    fn known(&self) -> BTreeSet<IpAddr> {
        self.book.answers().remove(&app().host).unwrap_or_default()
    }
}

#[test]
fn an_answer_is_good_for_its_ttl_within_the_bounds() {
    let mut scene = Scene::new(Answers::new());
    for (ttl_s, wait_s) in [(60, 60), (0, 5), (86_400, 300)] {
        let begun = (scene.next_s(), scene.take(scene.next_s(), answer(&["10.0.0.1"], ttl_s))).0;
        assert_eq!(scene.next_s() - begun, wait_s, "ttl {ttl_s}");
        assert_eq!(scene.book.due(scene.at(scene.next_s() - 1)), []);
    }
    assert_eq!(longer(Duration::from_secs(100), 1.0), Duration::from_secs(110));
    assert_eq!(longer(Duration::from_secs(100), 0.0), Duration::from_secs(100));
}

#[test]
fn failures_keep_the_addresses_and_are_tried_again_at_growing_intervals() {
    let mut scene = Scene::new(Answers::new());
    assert_eq!(scene.take(0, answer(&["10.0.0.1", "10.0.0.2"], 10)), None);
    let failed = |why: &str| Outcome::Failed(why.to_owned());
    assert_eq!(
        scene.take(10, failed("SERVFAIL")),
        Some(Turn::Failing("SERVFAIL".to_owned()))
    );
    let mut waits = Vec::new();
    let mut second = 10;
    for _ in 0..7 {
        waits.push(scene.next_s() - second);
        second = scene.next_s();
        assert_eq!(scene.take(second, failed("SERVFAIL")), None, "said once");
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(scene.known(), addresses(&["10.0.0.1", "10.0.0.2"]));
    let said = scene.book.problems();
    assert_eq!(
        said[0].message,
        "name app.example IPv4: SERVFAIL (since 2001-09-09T01:46:50Z, 8 times); its 2 addresses of 2001-09-09T01:46:40Z stay in \
         use; asked again at 2001-09-09T01:48:51Z"
    );
    let second = scene.next_s();
    assert_eq!(
        scene.take(second, failed("timeout")),
        Some(Turn::Failing("timeout".to_owned()))
    );
    let second = scene.next_s();
    assert_eq!(scene.take(second, answer(&["10.0.0.3"], 10)), Some(Turn::Answered(9)));
    assert_eq!(
        (scene.known(), scene.book.problems()),
        (addresses(&["10.0.0.3"]), Vec::new())
    );
}

#[test]
fn an_answer_without_addresses_keeps_them_unless_told_otherwise() {
    let empty = || Outcome::Empty {
        ttl: Duration::from_secs(20),
    };
    let mut scene = Scene::new(Answers::new());
    assert_eq!(scene.take(0, empty()), None, "there was none before");
    assert_eq!((scene.next_s(), scene.book.problems()), (20, Vec::new()));
    scene.take(20, answer(&["10.0.0.1"], 10));
    assert!(matches!(scene.take(30, empty()), Some(Turn::Failing(_))));
    assert_eq!(scene.known(), addresses(&["10.0.0.1"]));
    scene.dns.on_empty = OnEmpty::Remove;
    scene.take(31, empty());
    assert_eq!((scene.known(), scene.next_s()), (BTreeSet::new(), 51));
}

#[test]
fn what_the_last_agent_knew_is_there_before_the_first_answer() {
    let host = app().host;
    let kept = Answers::from([(host, addresses(&["10.0.0.1", "fd00::1"]))]);
    let mut scene = Scene::new(kept);
    assert_eq!(
        scene.known(),
        addresses(&["10.0.0.1"]),
        "of the family that is asked for"
    );
    scene.take(0, Outcome::Failed("timeout".to_owned()));
    assert_eq!(scene.known(), addresses(&["10.0.0.1"]));
    let said = &scene.book.problems()[0].message;
    assert!(
        said.contains("the 1 addresses that the last agent knew stay in use"),
        "{said}"
    );
}

#[test]
fn names_come_and_go_with_the_config_and_new_servers_are_asked_at_once() {
    let mut scene = Scene::new(Answers::new());
    scene.take(0, answer(&["10.0.0.1"], 100));
    let other = question("other.example", Family::V6);
    scene
        .book
        .follow(&wanted(&[app(), other.clone()]), &scene.dns, scene.at(1));
    assert_eq!(scene.book.due(scene.at(1)), vec![other.clone()]);
    scene.dns.servers = vec![IpAddr::from([192, 0, 2, 53])];
    scene
        .book
        .follow(&wanted(&[app(), other.clone()]), &scene.dns, scene.at(2));
    assert_eq!(scene.book.due(scene.at(2)), [app()], "the other one is being asked");
    scene.book.follow(&wanted(&[other]), &scene.dns, scene.at(3));
    let late = Moment {
        now: scene.at(3),
        wall: START,
    };
    assert_eq!(
        scene.book.take(&app(), answer(&["10.0.0.9"], 5), &scene.dns, late, 0.5),
        None
    );
    assert_eq!(scene.book.answers(), Answers::new());
}
