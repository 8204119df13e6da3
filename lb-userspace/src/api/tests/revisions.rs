//! Which desired state answers show and writes are made against.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::*;

const A: &str = "/v1/services/web/backends/a";

impl Agent {
    async fn revision(&self) -> Revision {
        let status: StatusView = self.ask(|client| client.get("/v1/status")).await.expect("status");
        status.agent.config.revision
    }

    /// One request as another program would send it; the answer with its head.
    pub(super) async fn raw(&self, head: &str, body: &str) -> String {
        let request = format!("{head}\r\nhost: xlb\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let mut stream = self.send(&request);
        let answer = tokio::task::spawn_blocking(move || {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            answer
        });
        answer.await.expect("read")
    }

    fn send(&self, request: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.directory.path().join("api.sock")).expect("connect");
        stream.write_all(request.as_bytes()).expect("send");
        stream
    }
}

fn revision(count: u64) -> Revision {
    (1..count).fold(Revision::first(BOOT), |revision, _| revision.next())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_that_shows_or_changes_the_desired_state_names_its_revision() {
    let agent = Agent::start(Plays::Well);
    for path in ["/v1/status", "/v1/services", "/v1/overrides"] {
        let answer = agent.raw(&format!("GET {path} HTTP/1.0"), "").await;
        assert!(answer.contains("\r\netag: \"0000beef-1\"\r\n"), "{path}: {answer}");
    }
    let patch = format!("PATCH {A} HTTP/1.0");
    let answer = agent.raw(&patch, "{\"weight\":7}").await;
    assert!(answer.contains("\r\netag: \"0000beef-2\"\r\n"), "{answer}");
    assert!(answer.contains("\"revision\":\"0000beef-2\""), "{answer}");
    assert_eq!(agent.revision().await, revision(2));
    let again = agent.raw(&patch, "{\"weight\":7}").await;
    assert!(
        again.contains("\"revision\":\"0000beef-2\""),
        "nothing else is wanted: {again}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_made_against_another_revision_is_refused_whatever_it_is() {
    let agent = Agent::start(Plays::Well);
    agent
        .patch(A, json!({"weight": 7, "runtime": true}))
        .await
        .expect("set");
    let (reached, kept) = (agent.reached().len(), agent.kept());
    type Call = fn(&Client) -> Result<serde_json::Value, CliError>;
    let calls: [Call; 6] = [
        |client| client.post("/v1/backends", &backend_at("10.0.0.20")),
        |client| client.delete(A),
        |client| client.patch(A, &json!({"state": "drain"})),
        |client| client.post("/v1/overrides/save", &json!({})),
        |client| client.post("/v1/overrides/drop", &json!({})),
        |client| client.post("/v1/reload", &()),
    ];
    for (index, call) in calls.into_iter().enumerate() {
        let stale = move |client: &Client| call(&client.clone().against(Some(revision(1))));
        let error = agent.ask(stale).await.expect_err("it has moved");
        assert_eq!(error.exit(), Exit::Problem, "call {index}");
        let refused = refusal::<()>(Err(error));
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (
                ErrorCode::RevisionMoved,
                "the change was made against revision 0000beef-1, and 0000beef-2 is what runs: somebody changed it in \
                 between; nothing was changed"
            ),
            "call {index}"
        );
        let next = refused.next.unwrap_or_default();
        assert!(next.ends_with("--if-revision 0000beef-2"), "{next}");
    }
    assert_eq!((agent.reached().len(), agent.text()), (reached, CONFIG.to_owned()));
    assert_eq!(agent.kept(), kept);
    assert!(agent.admin.last_error().is_none(), "the file is not to blame");

    let mut seen = agent.revision().await;
    for call in calls {
        let fresh = move |client: &Client| call(&client.clone().against(Some(seen)));
        // Whether there is still something to do is not the question here.
        if let Err(error) = agent.ask(fresh).await {
            assert_ne!(refusal::<()>(Err(error)).code, ErrorCode::RevisionMoved);
        }
        seen = agent.revision().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_match_is_read_as_http_has_it() {
    let agent = Agent::start(Plays::Well);
    for (tags, status) in [
        ("\"0000beef-1\"", 200),
        ("*", 200),
        ("\"00000000-9\", \"0000beef-1\"", 200),
        ("\"0000dead-1\"", 412),
        ("\"soup\"", 412),
        ("W/\"0000beef-1\"", 412),
        ("0000beef-1", 400),
        ("", 400),
    ] {
        // As it is already.
        let head = format!("PATCH {A} HTTP/1.0\r\nif-match: {tags}");
        let answer = agent.raw(&head, "{\"state\":\"ready\"}").await;
        assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{tags}: {answer}");
        let foreign = answer.contains("no state since this agent's start has that name");
        assert_eq!(foreign, status == 412, "{tags}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_was_set_back_does_not_give_its_revision_to_another() {
    let agent = Agent::start(Plays::FailsOnce);
    let refused = refusal(agent.patch(A, json!({"weight": 7})).await);
    assert_eq!(refused.code, ErrorCode::ApplyFailed);
    assert_eq!(agent.revision().await, revision(1));
    let changed = agent.patch(A, json!({"weight": 8})).await.expect("set");
    assert_eq!(changed.revision, revision(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_of_the_same_file_does_nothing_and_says_so() {
    let agent = Agent::start(Plays::Well);
    let reload = |client: &Client| client.post::<(), Reloaded>("/v1/reload", &());
    let same = agent.ask(reload).await.expect("read");
    assert!(!same.changed);
    assert!(
        same.message
            .contains("xlb.toml is unchanged, and so is what it refers to: nothing to do; generation "),
        "{}",
        same.message
    );
    assert_eq!((agent.reached().len(), same.revision), (0, revision(1)));
    fs::write(agent.config(), CONFIG.replace("weight = 50", "weight = 60")).expect("write");
    let other = agent.ask(reload).await.expect("read");
    assert_eq!((other.changed, other.revision), (true, revision(2)));
    assert!(other.message.starts_with("reloaded "), "{}", other.message);
    assert_eq!(agent.reached().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_of_the_same_file_takes_new_certificates() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let roots = directory.path().join("roots.pem");
    let root = |name: &str| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.self_signed(&key).expect("a certificate").pem()
    };
    fs::write(&roots, root("old")).expect("write");
    let https = format!("check = {{ https = {{ roots = \"{}\" }}, ", roots.display());
    let agent = Agent::start_with(Plays::Well, &CONFIG.replace("check = { tcp = {}, ", &https));
    let reload = |client: &Client| client.post::<(), Reloaded>("/v1/reload", &());
    assert!(!agent.ask(reload).await.expect("read").changed);
    fs::write(&roots, root("new")).expect("write");
    let changed = agent.ask(reload).await.expect("read");
    assert!(
        changed.changed
            && changed
                .message
                .contains("is unchanged; what it refers to has changed and was reloaded"),
        "{}",
        changed.message
    );
    assert_eq!(agent.reached().len(), 1);
    fs::write(&roots, "no certificate").expect("write");
    assert_eq!(refusal(agent.ask(reload).await).code, ErrorCode::BadConfig);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_made_to_the_end_when_the_asker_hangs_up() {
    let agent = Agent::start(Plays::Late);
    let body = "{\"weight\":7}";
    let length = body.len();
    let request = format!("PATCH {A} HTTP/1.1\r\nhost: xlb\r\ncontent-length: {length}\r\n\r\n{body}");
    let stream = agent.send(&request);
    let end = Instant::now() + Duration::from_secs(20);
    while agent.reached().is_empty() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The maps are being written; the file comes after that.
    drop(stream);
    while agent.text() == CONFIG && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        agent.text().contains("weight = 7"),
        "the maps have it and the file has not"
    );
}
