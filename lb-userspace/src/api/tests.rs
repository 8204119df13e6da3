//! The API over a real Unix socket and a real config file, asked by the CLI's own client. Only the writer is played: it
//! answers as the test says.

mod revisions;
mod services;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::{ApiState, listen_unix, serve_unix};
use crate::agent::{Admin, Desired, OverrideFile};
use crate::cli::{CliError, Client, Exit};
use crate::dataplane::CpuTotals;
use crate::reconcile::fixture::{CONFIG, Fixture, moment};
use crate::reconcile::{ApplyError, Drops, Event};
use crate::view::{
    AddBackend, ApiError, Changed, DropsView, ErrorCode, OverrideView, OverridesChanged, OverridesView, Reloaded,
    Revision, ServiceView, StatusView,
};

/// What the played writer does with a new desired state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plays {
    /// Applies everything.
    Well,
    /// Fails the first state it gets, takes later ones.
    FailsOnce,
    /// Takes its time for the answer.
    Late,
    /// Is gone.
    Dead,
}

/// Of the played agent's start.
const BOOT: u32 = 0xbeef;
/// How long a late writer takes.
const LATE: Duration = Duration::from_millis(300);

struct Agent {
    directory: tempfile::TempDir,
    client: Client,
    admin: Arc<Admin>,
    /// Names of `web`'s backends in each state that reached the writer.
    reached: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Agent {
    fn start(plays: Plays) -> Self {
        Self::start_with(plays, CONFIG)
    }

    fn start_with(plays: Plays, text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = directory.path().join("xlb.toml");
        fs::write(&config, text).expect("write the config");
        let desired = Desired::read(&config, &[]).expect("a good config");
        let desired = Arc::new(Desired {
            revision: Revision::first(BOOT),
            ..desired
        });
        let (events, queue) = mpsc::channel(16);
        let reached = Arc::default();
        tokio::spawn(play(plays, queue, Arc::clone(&reached), Arc::clone(&desired)));
        let (_, snapshots) = watch::channel(Fixture::new(CONFIG).snapshot(1, HashMap::new()));
        let kept = OverrideFile::open(&directory.path().join("state")).expect("a state directory");
        let admin = Admin::new(desired, events.clone()).keeping(Some(Arc::new(kept)));
        let admin = Arc::new(admin);
        let socket = directory.path().join("api.sock");
        let listener = listen_unix(&socket).expect("listen");
        tokio::spawn(serve_unix(
            listener,
            ApiState::new(snapshots, events, Arc::clone(&admin)),
        ));
        Self {
            client: Client::new(&socket),
            admin,
            directory,
            reached,
        }
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("xlb.toml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.config()).expect("read the config")
    }

    fn reached(&self) -> Vec<Vec<String>> {
        self.reached.lock().expect("not poisoned").clone()
    }

    /// The text in the state directory.
    fn kept(&self) -> String {
        fs::read_to_string(self.directory.path().join("state/overrides.json")).unwrap_or_default()
    }

    /// Codes of the status's warnings.
    async fn warnings(&self) -> Vec<String> {
        let status: StatusView = self.ask(|client| client.get("/v1/status")).await.expect("status");
        status.warnings.into_iter().map(|warning| warning.code).collect()
    }

    async fn settle(&self, path: &'static str, body: serde_json::Value) -> Result<OverridesChanged, CliError> {
        self.ask(move |client| client.post(path, &body)).await
    }

    /// Action and backend of each.
    async fn overrides(&self) -> Vec<String> {
        let overrides = self.admin.overrides().await.overrides;
        let words = |one: &OverrideView| format!("{} {}", one.action, one.backend.as_deref().unwrap_or("-"));
        overrides.iter().map(words).collect()
    }

    /// The client blocks, as it does in the CLI.
    async fn ask<Answer: DeserializeOwned + Send + 'static>(
        &self,
        ask: impl FnOnce(&Client) -> Result<Answer, CliError> + Send + 'static,
    ) -> Result<Answer, CliError> {
        let client = self.client.clone();
        tokio::task::spawn_blocking(move || ask(&client))
            .await
            .expect("the client ends")
    }

    async fn add(&self, request: AddBackend) -> Result<Changed, CliError> {
        self.ask(move |client| client.post("/v1/backends", &request)).await
    }

    async fn patch(&self, path: &'static str, body: serde_json::Value) -> Result<Changed, CliError> {
        self.ask(move |client| client.patch(path, &body)).await
    }

    async fn delete(&self, path: &'static str) -> Result<Changed, CliError> {
        self.ask(move |client| client.delete(path)).await
    }
}

async fn play(
    plays: Plays,
    mut queue: mpsc::Receiver<Event>,
    reached: Arc<Mutex<Vec<Vec<String>>>>,
    desired: Arc<Desired>,
) {
    if plays == Plays::Dead {
        return;
    }
    let mut fixture = Fixture::new(&desired.text);
    fixture.desired = desired;
    let mut generation = 1;
    while let Some(event) = queue.recv().await {
        match event {
            Event::Desired { desired, reply } => {
                let names = desired.backends_of("web").into_iter().map(|(name, _)| name).collect();
                let count = {
                    let mut reached = reached.lock().expect("not poisoned");
                    reached.push(names);
                    reached.len()
                };
                let failed = ApplyError::Ops {
                    op: "backend 4".to_owned(),
                    error: "No space left on device".to_owned(),
                    left: 2,
                };
                generation += 1;
                if plays == Plays::Late {
                    tokio::time::sleep(LATE).await;
                }
                let answer = if plays == Plays::FailsOnce && count == 1 {
                    Err(failed)
                } else {
                    fixture.book.follow(&desired.config, moment(2));
                    fixture.desired = desired;
                    Ok(generation)
                };
                drop(reply.send(answer));
            }
            Event::Sample { reply } => drop(reply.send(fixture.snapshot(2, HashMap::new()))),
            Event::Drops { reply } => {
                let drops = Drops {
                    reasons: Vec::new(),
                    tx_errors: BTreeMap::new(),
                    cpu: CpuTotals::default(),
                    tx_errors_missing: None,
                };
                drop(reply.send(Ok(drops)));
            }
            Event::Probe(_) | Event::Net(_) | Event::Presence(_) | Event::Stop => {}
        }
    }
}

fn backend_at(address: &str) -> AddBackend {
    AddBackend {
        service: "web".to_owned(),
        name: None,
        address: address.parse().expect("an address"),
        port: Some(7000),
        weight: None,
        runtime: false,
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, CliError>) -> ApiError {
    match result {
        Err(CliError::Refused(error)) => error,
        other => panic!("wanted a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_read_is_read() {
    let agent = Agent::start(Plays::Well);
    let status: StatusView = agent.ask(|client| client.get("/v1/status")).await.expect("status");
    let services: Vec<ServiceView> = agent.ask(|client| client.get("/v1/services")).await.expect("services");
    assert_eq!((status.services.len(), services.len()), (2, 2));
    let drops: DropsView = agent.ask(|client| client.get("/v1/drops")).await.expect("drops");
    assert!(drops.drops.iter().any(|row| row.reason == "no_backend"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_added_backend_is_in_the_maps_and_in_the_file() {
    let agent = Agent::start(Plays::Well);
    let changed = agent.add(backend_at("10.0.0.20")).await.expect("added");
    assert_eq!(
        (changed.backend.as_deref(), changed.generation),
        (Some("10.0.0.20:7000"), 2)
    );
    assert!(agent.text().contains("10.0.0.20"), "{}", agent.text());
    assert_eq!(agent.reached(), [["a", "10.0.0.12:9000", "10.0.0.20:7000"]]);
    let again = refusal(agent.add(backend_at("10.0.0.20")).await);
    assert_eq!(again.code, ErrorCode::Exists);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_named_by_address_and_port_can_be_removed() {
    let agent = Agent::start(Plays::Well);
    let changed = agent
        .delete("/v1/services/web/backends/10.0.0.12%3A9000")
        .await
        .expect("removed");
    assert_eq!(
        changed.message.split(';').next(),
        Some("removed backend 10.0.0.12:9000 from service web")
    );
    assert!(!agent.text().contains("10.0.0.12"));
    let unknown = refusal(agent.delete("/v1/services/web/backends/nobody").await);
    assert_eq!(unknown.code, ErrorCode::NotFound);
    let unknown = refusal(agent.delete("/v1/services/nothing/backends/a").await);
    assert_eq!(unknown.code, ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_change_leaves_the_file_alone_and_outlives_a_saved_one() {
    let agent = Agent::start(Plays::Well);
    let changed = agent
        .delete("/v1/services/web/backends/a?runtime=true")
        .await
        .expect("removed");
    assert_eq!((changed.stored.as_str(), agent.text().as_str()), ("runtime", CONFIG));
    agent.add(backend_at("10.0.0.20")).await.expect("added");
    assert_eq!(
        agent.reached().last().map(Vec::as_slice),
        Some(&["10.0.0.12:9000".to_owned(), "10.0.0.20:7000".to_owned()][..])
    );
    assert!(agent.text().contains("name = \"a\""), "the file still has it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_weight_and_state_are_in_the_maps_and_in_the_file() {
    let agent = Agent::start(Plays::Well);
    let drained = agent
        .patch("/v1/services/web/backends/a", json!({"state": "drain"}))
        .await;
    let drained = drained.expect("drained");
    assert_eq!((drained.backend.as_deref(), drained.generation), (Some("a"), 2));
    assert!(
        drained
            .message
            .starts_with("backend a of service web: state ready -> drain; saved in "),
        "{}",
        drained.message
    );
    let by_target = "/v1/services/web/backends/10.0.0.12%3A9000";
    agent.patch(by_target, json!({"weight": 0})).await.expect("weighed");
    let expected = CONFIG
        .replace("port = 8081\n", "port = 8081\nstate = \"drain\"\n")
        .replace("weight = 50", "weight = 0");
    assert_eq!(agent.text(), expected);
    assert_eq!(agent.reached().len(), 2);
    let again = agent.patch(by_target, json!({"weight": 0})).await.expect("as before");
    assert!(
        again
            .message
            .starts_with("backend 10.0.0.12:9000 of service web is as before: weight 0;"),
        "{}",
        again.message
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime_settings_replace_each_other_and_go_with_their_backend() {
    let agent = Agent::start(Plays::Well);
    let a = "/v1/services/web/backends/a";
    for state in ["drain", "ready", "maint"] {
        let body = json!({"state": state, "runtime": true});
        agent
            .patch("/v1/services/web/backends/10.0.0.11%3A8081", body)
            .await
            .expect("set");
    }
    agent
        .patch(a, json!({"weight": 7, "runtime": true}))
        .await
        .expect("set");
    assert_eq!(agent.overrides().await, ["maint a", "weight a"]);
    assert_eq!(agent.text(), CONFIG);
    agent.patch(a, json!({"state": "drain"})).await.expect("saved");
    assert_eq!(agent.overrides().await, ["weight a"], "the file has the newer state");
    agent.delete(a).await.expect("removed, with what was set at run time");
    assert_eq!(agent.overrides().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overrides_are_saved_into_the_file_or_taken_back() {
    let agent = Agent::start(Plays::Well);
    let (a, other) = (
        "/v1/services/web/backends/a",
        "/v1/services/web/backends/10.0.0.12%3A9000",
    );
    agent
        .patch(a, json!({"state": "drain", "runtime": true}))
        .await
        .expect("set");
    agent
        .patch(a, json!({"weight": 7, "runtime": true}))
        .await
        .expect("set");
    agent
        .patch(other, json!({"weight": 0, "runtime": true}))
        .await
        .expect("set");
    let mut added = backend_at("10.0.0.20");
    added.runtime = true;
    agent.add(added).await.expect("added");
    let listed: OverridesView = agent.ask(|client| client.get("/v1/overrides")).await.expect("listed");
    assert_eq!((listed.overrides.len(), listed.not_kept), (4, None));
    assert_eq!(agent.text(), CONFIG);
    assert!(agent.kept().contains("10.0.0.20"), "{}", agent.kept());

    let of_a = json!({"service": "web", "backend": "a"});
    let saved = agent.settle("/v1/overrides/save", of_a).await.expect("saved");
    assert_eq!((saved.overrides.len(), saved.left), (2, 2));
    assert!(
        saved.message.starts_with("saved 2 overrides; 2 left; generation "),
        "{}",
        saved.message
    );
    let expected = CONFIG.replace("port = 8081\n", "port = 8081\nstate = \"drain\"\nweight = 7\n");
    assert_eq!(agent.text(), expected);
    assert_eq!(agent.overrides().await, ["weight 10.0.0.12:9000", "add 10.0.0.20:7000"]);
    assert!(!agent.kept().contains("drain"), "{}", agent.kept());

    let of_web = json!({"service": "web"});
    let dropped = agent.settle("/v1/overrides/drop", of_web).await.expect("dropped");
    assert_eq!((dropped.overrides.len(), dropped.left), (2, 0));
    assert_eq!(agent.text(), expected, "the file is as it was");
    assert_eq!(
        agent.reached().last().map(Vec::as_slice),
        Some(&["a".to_owned(), "10.0.0.12:9000".to_owned()][..])
    );
    let none = agent
        .settle("/v1/overrides/save", json!({}))
        .await
        .expect("nothing to do");
    assert_eq!(none.message, "there are no overrides");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_that_is_not_there_is_answered_with_those_there_are() {
    let agent = Agent::start(Plays::Well);
    let a = "/v1/services/web/backends/a";
    agent
        .patch(a, json!({"weight": 7, "runtime": true}))
        .await
        .expect("set");
    let of_b = json!({"service": "web", "backend": "b"});
    let unknown = refusal(agent.settle("/v1/overrides/drop", of_b).await);
    assert_eq!(
        (unknown.code, unknown.message.as_str()),
        (
            ErrorCode::NotFound,
            "no override of web/b; there are: weight 7 web/a; nothing was changed"
        )
    );
    let half = refusal(agent.settle("/v1/overrides/drop", json!({"backend": "a"})).await);
    assert_eq!(half.code, ErrorCode::BadRequest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_change_that_cannot_be_kept_is_made_and_said() {
    let agent = Agent::start(Plays::Well);
    let a = "/v1/services/web/backends/a";
    // A directory in the way of the temporary file: root is refused, too.
    let obstacle = agent.directory.path().join("state/.overrides.json.new");
    fs::create_dir(&obstacle).expect("mkdir");
    let drain = json!({"state": "drain", "runtime": true});
    let changed = agent.patch(a, drain.clone()).await.expect("made");
    assert!(
        changed.message.contains("; it ends with the agent: "),
        "{}",
        changed.message
    );
    assert!(agent.warnings().await.contains(&"overrides_not_kept".to_owned()));
    fs::remove_dir(&obstacle).expect("rmdir");
    agent.patch(a, drain).await.expect("kept");
    assert!(agent.kept().contains("drain"));
    assert!(!agent.warnings().await.contains(&"overrides_not_kept".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_without_its_backend_is_dropped_at_a_reload_and_said_until_somebody_sees_to_it() {
    let agent = Agent::start(Plays::Well);
    let (a, d) = ("/v1/services/web/backends/a", "/v1/services/dns/backends/d");
    agent
        .patch(a, json!({"weight": 7, "runtime": true}))
        .await
        .expect("set");
    agent
        .patch(d, json!({"weight": 8, "runtime": true}))
        .await
        .expect("set");
    fs::write(agent.config(), CONFIG.replace("name = \"a\"", "name = \"b\"")).expect("write");
    let reload = |client: &Client| client.post::<(), Reloaded>("/v1/reload", &());
    agent.ask(reload).await.expect("reloaded");
    assert_eq!(agent.overrides().await, ["weight d"]);
    let dropped = agent.admin.overrides().await.dropped;
    let why = dropped.iter().map(|gone| (gone.change.what(), gone.why.as_str()));
    assert_eq!(
        why.collect::<Vec<_>>(),
        [(
            "weight 7".to_owned(),
            "no backend a in service web; it has: b, 10.0.0.12:9000"
        )]
    );
    // Reloads come by themselves.
    agent.ask(reload).await.expect("reloaded");
    fs::write(agent.config(), CONFIG.replace("name = \"a\"", "name = \"c\"")).expect("write");
    agent.ask(reload).await.expect("reloaded");
    let dropped = agent.admin.overrides().await.dropped;
    assert_eq!(dropped.len(), 1, "{dropped:?}");
    let kept = OverrideFile::open(&agent.directory.path().join("copy")).expect("another directory");
    fs::write(agent.directory.path().join("copy/overrides.json"), agent.kept()).expect("copy");
    let (overrides, told) = kept.read().expect("read");
    assert_eq!((overrides.len(), told.len()), (1, 1), "the next agent tells of it, too");
    let of_a = json!({"service": "web", "backend": "a"});
    let save = refusal(agent.settle("/v1/overrides/save", of_a.clone()).await);
    assert_eq!(save.code, ErrorCode::NotFound);
    let seen = agent.settle("/v1/overrides/drop", of_a).await.expect("seen");
    assert_eq!((seen.overrides.len(), seen.left), (0, 1));
    assert_eq!(agent.admin.overrides().await.dropped, []);
    assert!(!agent.kept().contains("dropped"), "{}", agent.kept());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_override_that_is_made_again_is_not_told_of_any_more() {
    let agent = Agent::start(Plays::Well);
    let (a, drain) = (
        "/v1/services/web/backends/a",
        json!({"state": "drain", "runtime": true}),
    );
    agent.patch(a, drain.clone()).await.expect("drained");
    let reload = |client: &Client| client.post::<(), Reloaded>("/v1/reload", &());
    fs::write(agent.config(), CONFIG.replace("name = \"a\"", "name = \"b\"")).expect("write");
    agent.ask(reload).await.expect("reloaded");
    fs::write(agent.config(), CONFIG).expect("write");
    agent.ask(reload).await.expect("reloaded");
    let view = agent.admin.overrides().await;
    assert_eq!((view.overrides.len(), view.dropped.len()), (0, 1), "it is not drained");
    agent.patch(a, drain).await.expect("drained again");
    let view = agent.admin.overrides().await;
    assert_eq!((view.overrides.len(), view.dropped.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_name_is_answered_with_those_there_are() {
    let agent = Agent::start(Plays::Well);
    let service = refusal(agent.patch("/v1/services/wep/backends/a", json!({"weight": 1})).await);
    assert_eq!(
        (service.code, service.message.as_str()),
        (
            ErrorCode::NotFound,
            "no service wep in the config; it has: web, dns; did you mean web?; nothing was changed"
        )
    );
    let backend = refusal(
        agent
            .patch("/v1/services/web/backends/10.0.0.12", json!({"weight": 1}))
            .await,
    );
    assert_eq!(
        (backend.message.as_str(), backend.next.as_deref()),
        (
            "no backend 10.0.0.12 in service web; it has: a, 10.0.0.12:9000; nothing was changed",
            Some("xlb backend list web")
        )
    );
    let mut runtime = backend_at("10.0.0.20");
    runtime.runtime = true;
    agent.add(runtime).await.expect("added");
    let saved = agent
        .patch("/v1/services/web/backends/10.0.0.20%3A7000", json!({"weight": 1}))
        .await;
    let next = refusal(saved).next.unwrap_or_default();
    assert!(next.contains("repeat with --runtime"), "{next}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_makes_no_sense_is_refused() {
    let agent = Agent::start(Plays::Well);
    for body in [
        json!({}),
        json!({"weight": 1, "state": "drain"}),
        json!({"state": "asleep"}),
        json!({"weight": -1}),
        json!({"wait": 1}),
    ] {
        let refused = refusal(agent.patch("/v1/services/web/backends/a", body.clone()).await);
        assert_eq!(refused.code, ErrorCode::BadRequest, "{body}: {refused:?}");
    }
    let heavy = refusal(
        agent
            .patch("/v1/services/web/backends/a", json!({"weight": 1_001}))
            .await,
    );
    assert_eq!(heavy.code, ErrorCode::BadConfig);
    assert_eq!((agent.text().as_str(), agent.reached().len()), (CONFIG, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_changes_neither_file_nor_running_state() {
    let agent = Agent::start(Plays::FailsOnce);
    let failed = refusal(agent.add(backend_at("10.0.0.20")).await);
    assert_eq!(failed.code, ErrorCode::ApplyFailed);
    assert!(
        failed
            .message
            .contains("the config file was not changed; the maps were set back"),
        "{}",
        failed.message
    );
    assert_eq!(agent.text(), CONFIG);
    let reached = agent.reached();
    assert_eq!(
        reached.last(),
        Some(&vec!["a".to_owned(), "10.0.0.12:9000".to_owned()]),
        "set back"
    );
    assert_eq!(
        fs::read_dir(agent.directory.path()).expect("list").count(),
        3,
        "config, socket, state directory: no temporary file stays"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_must_not_be_written_is_refused_with_the_way_out() {
    let agent = Agent::start(Plays::Well);
    fs::set_permissions(agent.config(), fs::Permissions::from_mode(0o444)).expect("chmod");
    let refused = refusal(agent.add(backend_at("10.0.0.20")).await);
    assert_eq!(refused.code, ErrorCode::NotWritable);
    assert!(
        refused.next.as_deref().is_some_and(|next| next.contains("--runtime")),
        "{refused:?}"
    );

    let real = agent.directory.path().join("real.toml");
    fs::rename(agent.config(), &real).expect("rename");
    symlink(&real, agent.config()).expect("symlink");
    let refused = refusal(agent.add(backend_at("10.0.0.20")).await);
    assert!(
        refused.message.starts_with("XLB0501: ") && refused.message.contains("symlink"),
        "{refused:?}"
    );
    assert!(agent.reached().is_empty(), "nothing reached the maps");

    let mut runtime = backend_at("10.0.0.20");
    runtime.runtime = true;
    agent.add(runtime).await.expect("--runtime works all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_program_keeps_is_changed_only_at_run_time() {
    let by_key = CONFIG.replace("[agent]\n", "[agent]\nmanaged_by = \"puppet\"\n");
    let by_head = format!("# Ansible managed\n{CONFIG}");
    for (text, how) in [
        (by_key, "[agent] managed_by = \"puppet\""),
        (by_head.clone(), "line 1: # Ansible managed"),
    ] {
        let agent = Agent::start_with(Plays::Well, &text);
        let refused = refusal(agent.add(backend_at("10.0.0.20")).await);
        assert_eq!(refused.code, ErrorCode::NotWritable);
        assert!(
            refused.message.starts_with("XLB0504: ") && refused.message.contains(how),
            "{refused:?}"
        );
        assert_eq!(
            refused.next.as_deref(),
            Some("repeat with --runtime to change only the running state; more: xlb explain XLB0504")
        );
        assert!(agent.reached().is_empty(), "nothing reached the maps");
        let mut runtime = backend_at("10.0.0.20");
        runtime.runtime = true;
        agent.add(runtime).await.expect("--runtime works all the same");
        let saved = refusal(agent.settle("/v1/overrides/save", json!({})).await);
        assert_eq!(saved.code, ErrorCode::NotWritable);
        assert_eq!((agent.text(), agent.overrides().await.len()), (text, 1));
    }
    let nobody = by_head.replace("[agent]\n", "[agent]\nmanaged_by = \"none\"\n");
    let agent = Agent::start_with(Plays::Well, &nobody);
    agent.add(backend_at("10.0.0.20")).await.expect("nobody keeps it");
    assert!(agent.text().contains("10.0.0.20"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_the_change_that_takes_the_last_backend_out_says_so_once() {
    let agent = Agent::start(Plays::Well);
    let one = agent
        .patch("/v1/services/web/backends/a", json!({"state": "drain"}))
        .await;
    assert_eq!(one.expect("drained").warnings, []);
    let other = "/v1/services/web/backends/10.0.0.12%3A9000";
    let last = agent
        .patch(other, json!({"weight": 0, "runtime": true}))
        .await
        .expect("set");
    let said: Vec<&str> = last.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(said, ["taken_out"]);
    let dns = agent.delete("/v1/services/dns/backends/d").await.expect("removed");
    assert_eq!(dns.warnings.len(), 1, "{:?}", dns.warnings);
    assert_eq!(
        dns.warnings[0].next.as_deref(),
        Some("xlb backend add dns ADDRESS:PORT")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_the_check_refuses_is_not_made() {
    let agent = Agent::start(Plays::Well);
    let mut six = backend_at("2001:db8::20");
    six.weight = Some(5_000);
    let refused = refusal(agent.add(six).await);
    assert_eq!(refused.code, ErrorCode::BadConfig);
    assert!(agent.reached().is_empty());
    assert_eq!(agent.text(), CONFIG);
    // What is quoted does not stand in the file; what was only a warning is not why.
    let file = agent.config();
    let file = file.display();
    let first = format!("the change would leave {file} as it would be with 1 error\n");
    assert!(refused.message.starts_with(&first), "{}", refused.message);
    assert!(
        refused.message.contains(&format!("{file} as it would be:24:10\n")),
        "{}",
        refused.message
    );
    assert!(
        refused.message.ends_with("\nnothing was changed"),
        "{}",
        refused.message
    );
    assert!(!refused.message.contains("warning"), "{}", refused.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_answered_with_what_the_check_says_of_it_and_of_nothing_else() {
    let agent = Agent::start(Plays::Well);
    let codes = |changed: &Changed| -> Vec<String> { changed.warnings.iter().map(|one| one.code.clone()).collect() };
    let six = agent.add(backend_at("2001:db8::20")).await.expect("added");
    assert_eq!(codes(&six), ["XLB0306"]);
    let place = format!("{}:22: ", agent.config().display());
    assert!(six.warnings[0].message.starts_with(&place), "{:?}", six.warnings);
    let other = agent.patch("/v1/services/dns/backends/d", json!({"weight": 7})).await;
    assert_eq!(codes(&other.expect("set")), [""; 0]);
    let sibling = agent.patch("/v1/services/web/backends/a", json!({"weight": 7})).await;
    assert_eq!(codes(&sibling.expect("set")), [""; 0]);
    let mut again = backend_at("2001:db8::21");
    again.runtime = true;
    let again = agent.add(again).await.expect("added");
    assert_eq!(codes(&again), ["XLB0306"]);
    assert!(
        again.warnings[0].message.contains(" with the runtime changes:"),
        "{:?}",
        again.warnings
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_changes_nothing_does_not_say_that_it_was_saved() {
    let agent = Agent::start(Plays::Well);
    let same = agent.patch("/v1/services/web/backends/10.0.0.12%3A9000", json!({"weight": 50}));
    let said = same.await.expect("set").message;
    let file = agent.config();
    let wanted = format!(
        "is as before: weight 50; {} says so already and was not written",
        file.display()
    );
    assert!(said.contains(&wanted), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_takes_the_new_text_and_a_bad_one_changes_nothing() {
    let agent = Agent::start(Plays::Well);
    fs::write(agent.config(), CONFIG.replace("10.0.0.11", "10.0.0.21")).expect("write");
    let reload = |client: &Client| client.post::<(), Reloaded>("/v1/reload", &());
    agent.ask(reload).await.expect("reloaded");
    assert_eq!(agent.reached().len(), 1);
    fs::write(agent.config(), CONFIG.replace("port = 8081", "port = 0")).expect("write");
    let refused = refusal(agent.ask(reload).await);
    assert_eq!(refused.code, ErrorCode::BadConfig);
    assert_eq!(agent.reached().len(), 1, "a bad file does not reach the writer");
    let status: StatusView = agent.ask(|client| client.get("/v1/status")).await.expect("status");
    assert!(status.agent.config.last_error.is_some());
    fs::write(agent.config(), CONFIG).expect("write");
    agent.ask(reload).await.expect("reloaded");
    let status: StatusView = agent.ask(|client| client.get("/v1/status")).await.expect("status");
    assert_eq!(status.agent.config.last_error, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_changed_by_hand_is_not_overwritten() {
    let agent = Agent::start(Plays::Well);
    let theirs = CONFIG.replace("weight = 50", "weight = 60");
    fs::write(agent.config(), &theirs).expect("write");
    let refused = refusal(agent.add(backend_at("10.0.0.20")).await);
    assert_eq!(refused.code, ErrorCode::NotWritable);
    assert!(
        refused
            .next
            .as_deref()
            .is_some_and(|next| next.starts_with("xlb reload")),
        "{refused:?}"
    );
    assert_eq!(agent.text(), theirs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_request_gets_a_json_error() {
    let agent = Agent::start(Plays::Well);
    let unknown = refusal(agent.ask(|client| client.get::<StatusView>("/v1/nothing")).await);
    assert_eq!(unknown.code, ErrorCode::NotFound);
    let method = refusal(agent.ask(|client| client.delete::<StatusView>("/v1/status")).await);
    assert_eq!(method.code, ErrorCode::MethodNotAllowed);
    let large = agent
        .ask(|client| client.post::<_, Changed>("/v1/backends", &"x".repeat(3 << 20)))
        .await;
    assert_eq!(refusal(large).code, ErrorCode::TooLarge);
    let body = agent
        .ask(|client| client.post::<_, Changed>("/v1/backends", &"nonsense"))
        .await;
    assert_eq!(refusal(body).code, ErrorCode::BadRequest);
    let query = refusal(agent.delete("/v1/services/web/backends/a?runtime=perhaps").await);
    assert_eq!(query.code, ErrorCode::BadRequest);
    assert!(agent.reached().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_works_is_alive_and_ready_and_a_stuck_one_is_neither() {
    let agent = Agent::start(Plays::Well);
    for (path, body) in [("/livez", "ok"), ("/healthz", "ok"), ("/readyz", "ready")] {
        let answer = agent.raw(&format!("GET {path} HTTP/1.0"), "").await;
        assert!(
            answer.starts_with("HTTP/1.0 200 ") && answer.ends_with(&format!("\r\n\r\n{body}\n")),
            "{answer}"
        );
    }
    let other = agent.raw("POST /readyz HTTP/1.0", "").await;
    assert!(
        other.starts_with("HTTP/1.0 405 ") && other.contains("\r\nallow: GET,HEAD\r\n"),
        "{other}"
    );
    let agent = Agent::start(Plays::Dead);
    for path in ["/livez", "/healthz", "/readyz"] {
        let answer = agent.raw(&format!("GET {path} HTTP/1.0"), "").await;
        assert!(
            answer.starts_with("HTTP/1.0 503 ") && answer.contains("the writer does not answer"),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_a_name_that_is_not_there_are_an_error_with_the_nearest() {
    let agent = Agent::start(Plays::Well);
    for (query, message) in [
        ("service=wbe", "no service wbe; there are: dns, web; did you mean web?"),
        (
            "service=web&backend=10.0.0.12:900",
            "no backend 10.0.0.12:900 in service web; there are: 10.0.0.12:9000, a; did you mean 10.0.0.12:9000?",
        ),
        (
            "backend=web/b",
            "no backend b in service web; there are: 10.0.0.12:9000, a",
        ),
        ("backend=nope", "no backend nope; there are: 10.0.0.12:9000, a, d"),
    ] {
        let path = format!("/v1/flows?{query}");
        let refused = refusal(agent.ask(move |client| client.get::<StatusView>(&path)).await);
        assert_eq!((refused.code, refused.message.as_str()), (ErrorCode::NotFound, message));
    }
    // Those that are there get as far as the tables, which this agent has not.
    for query in ["service=dns", "service=web&backend=a", "backend=dns/d"] {
        let path = format!("/v1/flows?{query}");
        let answer = refusal(agent.ask(move |client| client.get::<StatusView>(&path)).await);
        assert_eq!(answer.code, ErrorCode::Unavailable);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_carry_the_revision_that_a_write_can_be_made_against() {
    let agent = Agent::start(Plays::Well);
    let seen = agent.ask(|client| client.revised::<Vec<ServiceView>>("/v1/services"));
    let (revision, services) = seen.await.expect("services");
    assert_eq!((revision, services.len()), (Revision::first(BOOT), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_agent_is_exit_code_3() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let client = Client::new(&directory.path().join("api.sock"));
    let result = tokio::task::spawn_blocking(move || client.get::<StatusView>("/v1/status")).await;
    let error = result.expect("ends").expect_err("nobody is there");
    assert_eq!(error.exit(), Exit::Unreachable);
}
