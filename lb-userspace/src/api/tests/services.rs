//! Services that come and go.

use super::*;
use crate::view::ServiceState;

fn extra() -> serde_json::Value {
    json!({
        "name": "extra", "vip": ["203.0.113.10"], "port": 8080, "internal_port": 9000, "check": {"tcp": {}},
        "backends": [{"address": "10.0.0.21"}, {"name": "two", "address": "10.0.0.22", "port": 9001, "weight": 5}],
    })
}

impl Agent {
    async fn add_service(&self, service: serde_json::Value) -> Result<Changed, CliError> {
        let body = json!({"service": service});
        self.ask(move |client| client.post("/v1/services", &body)).await
    }

    async fn add_service_at_runtime(&self, service: serde_json::Value) -> Result<Changed, CliError> {
        let body = json!({"service": service, "runtime": true});
        self.ask(move |client| client.post("/v1/services", &body)).await
    }

    /// Those that are wanted: a removed one stays in the maps for a while.
    async fn services(&self) -> Vec<String> {
        let services: Vec<ServiceView> = self.ask(|client| client.get("/v1/services")).await.expect("services");
        let wanted = services
            .into_iter()
            .filter(|service| service.state != ServiceState::Removed);
        let mut names: Vec<String> = wanted.map(|service| service.name).collect();
        names.sort();
        names
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_added_to_the_maps_and_the_file_and_removed_again() {
    let agent = Agent::start(Plays::Well);
    let added = agent.add_service(extra()).await.expect("added");
    assert_eq!((added.service.as_str(), added.backend), ("extra", None));
    assert!(
        added
            .message
            .starts_with("added service extra (tcp 203.0.113.10:8080, 2 backends); saved in "),
        "{}",
        added.message
    );
    assert_eq!(agent.services().await, ["dns", "extra", "web"]);
    let text = agent.text();
    assert!(
        text.starts_with(CONFIG) && text.contains("check = { tcp = {} }\n"),
        "{text}"
    );
    let again = refusal(agent.add_service(extra()).await);
    assert_eq!(again.code, ErrorCode::Exists);

    let removed = agent.delete("/v1/services/extra").await.expect("removed");
    assert!(
        removed
            .message
            .starts_with("removed service extra (tcp 203.0.113.10:8080, 2 backends); saved in "),
        "{}",
        removed.message
    );
    assert_eq!(agent.text(), CONFIG);
    assert_eq!(agent.services().await, ["dns", "web"]);
    let gone = refusal(agent.delete("/v1/services/extra").await);
    assert_eq!(
        (gone.code, gone.message.as_str(), gone.next.as_deref()),
        (
            ErrorCode::NotFound,
            "no service extra in the config; it has: web, dns; nothing was changed",
            Some("xlb service list")
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_passes_the_same_check_as_a_file_or_is_not_made() {
    let agent = Agent::start(Plays::Well);
    let with = |key: &str, value: serde_json::Value| {
        let mut service = extra();
        service[key] = value;
        service
    };
    for (service, said) in [
        (with("port", json!(80)), "XLB0203"),
        (with("port", json!(0)), "XLB0202"),
        (with("name", json!("a b")), "XLB0109"),
        (with("vip", json!([])), "XLB0110"),
        (with("vip", json!(["127.0.0.1"])), "XLB0209"),
        (with("backends", json!([{"address": "203.0.113.10"}])), "XLB0208"),
        (with("check", json!({"http": {"path": "healthz"}})), "XLB0111"),
    ] {
        let refused = refusal(agent.add_service(service.clone()).await);
        assert_eq!(refused.code, ErrorCode::BadConfig, "{service}: {refused:?}");
        assert!(refused.message.contains(said), "{service}: {}", refused.message);
    }
    for wrong in [
        with("ports", json!(1)),
        with("protocol", json!("sctp")),
        with("check", json!({"icmp": {}})),
        with("backends", json!([{"adress": "10.0.0.1"}])),
        json!({"name": "extra"}),
    ] {
        let refused = refusal(agent.add_service(wrong.clone()).await);
        assert_eq!(refused.code, ErrorCode::BadRequest, "{wrong}: {refused:?}");
    }
    assert!(agent.reached().is_empty());
    assert_eq!(agent.text(), CONFIG);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_made_at_run_time_is_an_override_with_all_that_is_changed_of_it() {
    let agent = Agent::start(Plays::Well);
    agent.add_service_at_runtime(extra()).await.expect("added");
    let weight = json!({"weight": 7, "runtime": true});
    agent
        .patch("/v1/services/extra/backends/two", weight)
        .await
        .expect("set");
    assert_eq!(agent.overrides().await, ["add_service -", "weight two"]);
    assert_eq!((agent.text().as_str(), agent.services().await.len()), (CONFIG, 3));
    assert!(agent.kept().contains("add_service"), "{}", agent.kept());
    let saved = refusal(agent.delete("/v1/services/extra").await);
    assert!(
        saved
            .next
            .as_deref()
            .is_some_and(|next| next.contains("repeat with --runtime")),
        "{saved:?}"
    );
    let twice = refusal(agent.add_service(extra()).await);
    assert_eq!(twice.code, ErrorCode::OverrideInTheWay, "{twice:?}");

    let settled = agent.settle("/v1/overrides/save", json!({"service": "extra"})).await;
    assert_eq!(settled.expect("saved").left, 0);
    assert!(agent.text().contains("weight = 7"), "{}", agent.text());
    agent.delete("/v1/services/extra?runtime=true").await.expect("removed");
    assert_eq!(agent.overrides().await, ["remove_service -"]);
    assert_eq!(agent.services().await, ["dns", "web"]);
    let dropped = agent.settle("/v1/overrides/drop", json!({"service": "extra"})).await;
    assert_eq!(dropped.expect("dropped").left, 0);
    assert_eq!(agent.services().await, ["dns", "extra", "web"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_and_goes_at_run_time_leaves_no_override() {
    let agent = Agent::start(Plays::Well);
    for _ in 0..3 {
        agent.add_service_at_runtime(extra()).await.expect("added");
        let weight = json!({"weight": 7, "runtime": true});
        agent
            .patch("/v1/services/extra/backends/two", weight)
            .await
            .expect("set");
        agent.delete("/v1/services/extra?runtime=true").await.expect("removed");
        assert_eq!(agent.overrides().await, [""; 0]);
        let mut added = backend_at("10.0.0.20");
        added.runtime = true;
        agent.add(added).await.expect("added");
        agent
            .delete("/v1/services/web/backends/10.0.0.20%3A7000?runtime=true")
            .await
            .expect("removed");
        assert_eq!(agent.overrides().await, [""; 0]);
    }
    assert_eq!(agent.services().await, ["dns", "web"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_in_the_way_of_a_removal_is_named() {
    let agent = Agent::start(Plays::Well);
    let a = "/v1/services/web/backends/a";
    agent
        .patch(a, json!({"state": "drain", "runtime": true}))
        .await
        .expect("set");
    let refused = refusal(agent.delete("/v1/services/web").await);
    assert_eq!(refused.code, ErrorCode::OverrideInTheWay);
    assert!(
        refused
            .message
            .starts_with("the runtime change drain web/a by api uid ")
            && refused
                .message
                .ends_with(" would not fit any more: no service web in the config; it has: dns; nothing was changed"),
        "{}",
        refused.message
    );
    assert_eq!(
        refused.next.as_deref(),
        Some("xlb override save web or xlb override drop web, then again")
    );
    assert_eq!(agent.text(), CONFIG);
    agent
        .settle("/v1/overrides/drop", json!({"service": "web"}))
        .await
        .expect("dropped");
    agent.delete("/v1/services/web").await.expect("removed");
    assert_eq!(agent.services().await, ["dns"]);
}
