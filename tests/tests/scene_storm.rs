//! A storm of reloads: a thousand changes from every side, one after another and two at a time, while transfers, open
//! connections and new ones run through both modes and both families. No request fails, every change is acknowledged, and
//! what is in the maps in the end is what an agent that never saw the storm writes.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_userspace::config::write_back::{BackendSetting, set_backend};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use xlb_tests::agent::{Agent, agent_section};
use xlb_tests::alone::alone;
use xlb_tests::api;
use xlb_tests::by_name;
use xlb_tests::client::{Client, backends};
use xlb_tests::config_text::ServiceText;
use xlb_tests::peers::{Load, Nginx, Talk, TalkServer, make_file, sha256_of, start_download, start_upload};
use xlb_tests::process::wait_until;
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology, VIP4, VIP6, host_port};

/// Of each of the two hands.
const CHANGES: u32 = 500;
/// A round takes one backend, and one service, through everything.
const ROUND: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(30);
const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];
/// Name, service port, internal port, mode.
const SERVICES: [(&str, u16, u16, &str); 4] = [
    ("nat", 80, 8081, "full_nat"),
    ("gate", 81, 8082, "gateway"),
    ("nat-web", 82, 8083, "full_nat"),
    ("gate-web", 83, 8084, "gateway"),
];
/// Patient: a busy machine must not make a backend fail, and one that comes back is there soon.
const CHECK: &str = r#"{ tcp = {}, interval = "1s", timeout = "900ms", rise = 1, fall = 10 }"#;
/// Short, so that the end of the storm is seen soon.
const TIMEOUTS: &str = "[timeouts]\nhalf_open = \"2s\"\nclosing = \"2s\"\nudp = \"1s\"\n";
const TRANSFER_MEGABYTES: u32 = 8;
const MEGABYTES_PER_SECOND: u32 = 1;

/// Where a hand's changes are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    File,
    Runtime,
}

impl Store {
    const fn is_runtime(self) -> bool {
        matches!(self, Self::Runtime)
    }

    /// The family of the backends that it changes, all on the second host. Those of the first stay: somebody always answers.
    const fn family(self) -> usize {
        match self {
            Self::File => 0,
            Self::Runtime => 1,
        }
    }

    /// Name and port of the service that it adds and removes.
    const fn guest(self) -> (&'static str, u16) {
        match self {
            Self::File => ("guest-in-file", 90),
            Self::Runtime => ("guest-at-runtime", 91),
        }
    }
}

/// One who makes changes, each acknowledged before the next.
struct Hand<'a> {
    store: Store,
    topology: &'a Topology,
    client: &'a Client,
    config: PathBuf,
    agent: Pid,
    revision: u64,
}

fn revision_of(value: &Value) -> Result<u64> {
    let text = value["revision"]
        .as_str()
        .with_context(|| format!("no revision in {value}"))?;
    let (_, count) = text.split_once('-').with_context(|| format!("revision {text}"))?;
    count.parse().with_context(|| format!("revision {text}"))
}

fn running_revision(client: &Client) -> Result<u64> {
    revision_of(&api::get(client.socket(), "/v1/status")?["agent"]["config"])
}

impl<'a> Hand<'a> {
    fn new(store: Store, topology: &'a Topology, client: &'a Client, config: PathBuf, agent: Pid) -> Result<Self> {
        Ok(Self {
            revision: running_revision(client)?,
            store,
            topology,
            client,
            config,
            agent,
        })
    }

    /// Change number `number`, and its acknowledgement.
    fn change(&mut self, number: u32) -> Result<()> {
        let round = number / ROUND;
        let (service, _, internal_port, _) = SERVICES[round as usize % SERVICES.len()];
        let backend = ["h1-v4", "h1-v6"][self.store.family()];
        let weight = 101 + number % 300;
        match (number % ROUND, self.store) {
            (0, Store::File) => self.rewrite(number, service, backend, weight),
            (1, Store::File) => self.rewrite_and_reload(service, backend, weight),
            (1, Store::Runtime) => self.drop_override(service, backend),
            (0 | 2 | 5, _) => self.set(round, service, backend, &json!({ "weight": weight })),
            (3, _) => self.set(round, service, backend, &json!({ "state": "drain" })),
            (4, _) => self.set(round, service, backend, &json!({ "state": "ready" })),
            (6, _) => self.remove(round, service, backend),
            (7, _) => self.add(round, service, backend, internal_port),
            (8, _) => self.add_service(round),
            _ => self.remove_service(round),
        }
        .with_context(|| format!("change {number}, {service}/{backend}"))
    }

    /// The file as an editor leaves it: another one renamed over it. The watcher sees it; in the second half it is switched
    /// off, by the file itself, and SIGHUP tells.
    fn rewrite(&self, number: u32, service: &str, backend: &str, weight: u32) -> Result<()> {
        self.replace(service, backend, weight, |text| {
            if number < CHANGES / 2 {
                text
            } else {
                text.replace("watch = true", "watch = false")
            }
        })?;
        if number >= CHANGES / 2 {
            kill(self.agent, Signal::SIGHUP)?;
        }
        self.wait_for_weight(service, backend, weight)
    }

    fn rewrite_and_reload(&self, service: &str, backend: &str, weight: u32) -> Result<()> {
        self.replace(service, backend, weight, |text| text)?;
        let answer: Value = serde_json::from_str(&self.client.xlb(&["reload", "-o", "json"])?)?;
        // The watcher may have been faster.
        ensure!(answer["changed"].is_boolean(), "{answer}");
        self.wait_for_weight(service, backend, weight)
    }

    fn replace(&self, service: &str, backend: &str, weight: u32, edit: impl FnOnce(String) -> String) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        let text = set_backend(&text, service, backend, BackendSetting::Weight(weight))?;
        let new = self.config.with_extension("toml.new");
        fs::write(&new, edit(text))?;
        Ok(fs::rename(&new, &self.config)?)
    }

    fn wait_for_weight(&self, service: &str, backend: &str, weight: u32) -> Result<()> {
        wait_until("the new weight", PATIENCE, || {
            // Asking is work for the agent, too.
            sleep(Duration::from_millis(50));
            let status = api::get(self.client.socket(), "/v1/status")?;
            Ok(backends(&status).iter().any(|row| {
                row.service == service && row.name() == backend && row.number("weight") == u64::from(weight)
            }))
        })
    }

    fn set(&mut self, round: u32, service: &str, backend: &str, setting: &Value) -> Result<()> {
        if is_for_the_cli(round) {
            let weight = setting["weight"].to_string();
            let words = match setting["state"].as_str() {
                Some(state) => vec!["backend", state, service, backend],
                None => vec!["backend", "weight", service, backend, &weight],
            };
            return self.cli(&words);
        }
        let mut body = setting.clone();
        body["runtime"] = self.store.is_runtime().into();
        self.api("PATCH", &format!("/v1/services/{service}/backends/{backend}"), &body)
    }

    fn remove(&mut self, round: u32, service: &str, backend: &str) -> Result<()> {
        if is_for_the_cli(round) {
            return self.cli(&["backend", "remove", service, backend]);
        }
        let runtime = self.store.is_runtime();
        let path = format!("/v1/services/{service}/backends/{backend}?runtime={runtime}");
        self.api("DELETE", &path, &Value::Null)
    }

    fn add(&mut self, round: u32, service: &str, backend: &str, port: u16) -> Result<()> {
        let address = self.address(1);
        if is_for_the_cli(round) {
            let target = host_port(address, port);
            return self.cli(&["backend", "add", service, &target, "--name", backend]);
        }
        let body = json!({
            "service": service, "name": backend, "address": address, "port": port, "runtime": self.store.is_runtime(),
        });
        self.api("POST", "/v1/backends", &body)
    }

    /// A service that is acknowledged answers at once.
    fn add_service(&mut self, round: u32) -> Result<()> {
        let (name, port) = self.store.guest();
        let (vip, address, internal_port) = (VIPS[self.store.family()], self.address(0), 8000 + port);
        if is_for_the_cli(round) {
            let (target, backend) = (host_port(vip, port), host_port(address, internal_port));
            self.cli(&["service", "add", name, &target, "--backend", &backend])?;
        } else {
            let backend = json!({ "address": address, "port": internal_port });
            let service = json!({ "name": name, "vip": [vip], "port": port, "backends": [backend] });
            let body = json!({ "service": service, "runtime": self.store.is_runtime() });
            self.api("POST", "/v1/services", &body)?;
        }
        let mut talk = Talk::connect(&self.topology.client, SocketAddr::new(vip, port), PATIENCE)?;
        ensure!(talk.ask()? == name, "{name} is answered by another");
        Ok(())
    }

    fn remove_service(&mut self, round: u32) -> Result<()> {
        let (name, _) = self.store.guest();
        if is_for_the_cli(round) {
            return self.cli(&["service", "remove", name]);
        }
        let path = format!("/v1/services/{name}?runtime={}", self.store.is_runtime());
        self.api("DELETE", &path, &Value::Null)
    }

    fn drop_override(&mut self, service: &str, backend: &str) -> Result<()> {
        self.api(
            "POST",
            "/v1/overrides/drop",
            &json!({ "service": service, "backend": backend }),
        )
    }

    fn address(&self, host: usize) -> IpAddr {
        let host = &self.topology.backends[host];
        [IpAddr::V4(host.address4), IpAddr::V6(host.address6)][self.store.family()]
    }

    fn cli(&mut self, words: &[&str]) -> Result<()> {
        let mut words = [words, &["-o", "json"]].concat();
        if self.store.is_runtime() {
            words.push("--runtime");
        }
        let answer = self.client.xlb(&words)?;
        self.acknowledged(&serde_json::from_str(&answer).with_context(|| answer.clone())?)
    }

    fn api(&mut self, method: &str, path: &str, body: &Value) -> Result<()> {
        let answer = api::send(self.client.socket(), method, path, body)?;
        self.acknowledged(&answer)
    }

    fn acknowledged(&mut self, answer: &Value) -> Result<()> {
        let revision = revision_of(answer)?;
        ensure!(revision > self.revision, "the revision is still {revision}: {answer}");
        self.revision = revision;
        Ok(())
    }
}

/// Each seventh round goes through the command, the others straight through the API that it calls: in a debug build a
/// thousand commands take minutes. Seven: it comes to every service.
const fn is_for_the_cli(round: u32) -> bool {
    round.is_multiple_of(7)
}

/// Transfers one after another until the storm is over; how many came through intact.
fn transfers(topology: &Topology, servers: &[Nginx], worker: usize, hash: &str, over: &AtomicBool) -> Result<u32> {
    let (_, port, _, _) = SERVICES[2 + worker % 2];
    let vip = VIPS[worker / 2 % 2];
    let original = topology.room.file("original");
    let mut done = 0;
    while !over.load(Ordering::Relaxed) {
        let name = format!("{worker}-{done}");
        let base = format!("http://{}/files", host_port(vip, port));
        let arrived = if worker < 4 {
            let file = topology.room.file("down").join(&name);
            let url = format!("{base}/bulk");
            start_download(&topology.client, &url, &file, MEGABYTES_PER_SECOND)?.finish(PATIENCE)?;
            file
        } else {
            let url = format!("{base}/{name}");
            start_upload(&topology.client, &original, &url, MEGABYTES_PER_SECOND)?.finish(PATIENCE)?;
            let mut files = servers.iter().map(|server| server.files().join(&name));
            files.find(|file| file.exists()).context("the upload reached nobody")?
        };
        ensure!(
            sha256_of(&arrived)? == hash,
            "{} is not what was sent",
            arrived.display()
        );
        fs::remove_file(&arrived)?;
        done += 1;
    }
    Ok(done)
}

/// Open connections through every service that talks.
fn hold(topology: &Topology) -> Result<Vec<(String, Talk)>> {
    let mut held = Vec::new();
    for target in talk_targets() {
        for _ in 0..5 {
            let mut talk = Talk::connect(&topology.client, target, PATIENCE)?;
            held.push((talk.ask()?, talk));
        }
    }
    Ok(held)
}

fn talk_targets() -> Vec<SocketAddr> {
    let ports = SERVICES[..2].iter().map(|(_, port, _, _)| *port);
    ports
        .flat_map(|port| VIPS.map(|vip| SocketAddr::new(vip, port)))
        .collect()
}

fn ask_again(held: &mut [(String, Talk)]) -> Result<()> {
    for (name, talk) in held {
        let answer = talk.ask()?;
        ensure!(answer == *name, "an open connection moved from {name} to {answer}");
    }
    Ok(())
}

/// The storm: both hands at once, and everything else beside them.
fn storm(topology: &Topology, servers: &[Nginx], hash: &str, agent: &mut Agent) -> Result<()> {
    let (config, pid) = (agent.config().to_owned(), agent.process()?.pid());
    let client = agent.client();
    let hand = |store| Hand::new(store, topology, client, config.clone(), pid);
    let (mut file, mut runtime) = (hand(Store::File)?, hand(Store::Runtime)?);
    let mut held = hold(topology)?;
    let load = Load::start(&topology.client, &talk_targets(), Duration::from_millis(50))?;
    let over = AtomicBool::new(false);
    let (made, intact) = thread::scope(|scope| -> Result<_> {
        let transfers: Vec<_> = (0..8)
            .map(|worker| {
                let over = &over;
                scope.spawn(move || transfers(topology, servers, worker, hash, over))
            })
            .collect();
        let other = scope.spawn(|| (0..CHANGES).try_for_each(|number| runtime.change(number)));
        let made = (0..CHANGES).try_for_each(|number| {
            file.change(number)?;
            if number % ROUND == 0 {
                ask_again(&mut held)
            } else {
                Ok(())
            }
        });
        let other = other.join().expect("the other hand");
        over.store(true, Ordering::Relaxed);
        let intact: Vec<Result<u32>> = transfers
            .into_iter()
            .map(|worker| worker.join().expect("a transfer"))
            .collect();
        Ok((made.and(other), intact))
    })?;
    made?;
    for (worker, transfers) in intact.into_iter().enumerate() {
        let transfers = transfers.with_context(|| format!("transfers of worker {worker}"))?;
        ensure!(transfers > 0, "worker {worker} transferred nothing");
    }
    load.finish()?.ensure_no_failure(100)?;
    ask_again(&mut held)
}

#[test]
fn a_thousand_changes_fail_no_request_and_leave_the_maps_of_a_fresh_start() -> Result<()> {
    require!("ip", "nginx", "curl", "ethtool");
    let _machine = alone();
    // The backends' default route is the balancer, which full NAT does not need.
    let topology = Topology::build(Plan::gateway(2))?;
    let file = topology.room.file("original");
    let hash = make_file(&file, TRANSFER_MEGABYTES)?;
    // Not beside the config: the watcher waits until the directory is quiet.
    fs::create_dir(topology.room.file("down"))?;
    let (mut talks, mut servers) = (Vec::new(), Vec::new());
    let mut text = TIMEOUTS.to_owned();
    for (name, port, internal_port, mode) in SERVICES {
        let mut service = ServiceText::new(name, "tcp", port)
            .key("mode", &format!("\"{mode}\""))
            .key("check", CHECK);
        for (index, host) in topology.backends.iter().enumerate() {
            let host_name = format!("h{index}");
            service = service.host(&host_name, host, internal_port);
            if name.ends_with("web") {
                let nginx = Nginx::start(&topology.room, &host.namespace, &host_name, internal_port)?;
                fs::copy(&file, nginx.files().join("bulk"))?;
                servers.push(nginx);
            } else {
                talks.push(TalkServer::start(&host.namespace, &host_name, internal_port)?);
            }
        }
        text += service.text();
    }
    for store in [Store::File, Store::Runtime] {
        let (name, port) = store.guest();
        talks.push(TalkServer::start(&topology.backends[0].namespace, name, 8000 + port)?);
    }
    let section = format!("{}watch = true\n", agent_section(&topology));
    let mut agent = Agent::start_with(&topology, &section, &text)?;
    agent.client().wait_all_up()?;

    let before = running_revision(agent.client())?;
    storm(&topology, &servers, &hash, &mut agent)?;
    let made = running_revision(agent.client())? - before;
    ensure!(
        made == u64::from(2 * CHANGES),
        "{made} revisions for {} changes",
        2 * CHANGES
    );

    agent.client().wait_all_up()?;
    agent.client().wait_for("the last connections to be gone", |status| {
        backends(status).iter().all(|row| row.number("flows") == 0)
    })?;
    // What was kept for half-open connections, which nobody counts, has had its time; the next change lets it go.
    sleep(Duration::from_secs(3));
    agent.client().xlb(&["backend", "weight", "nat", "h1-v4", "77"])?;
    agent.terminate()?;
    let after_the_storm = by_name::read(&topology.balancer, agent.client())?;
    agent.client().xlb(&["unload"])?;
    agent.run(&topology.balancer)?;
    agent.client().wait_all_up()?;
    agent.terminate()?;
    let fresh = by_name::read(&topology.balancer, agent.client())?;
    by_name::ensure_equal(&after_the_storm, &fresh).context("after the storm, against a fresh start")
}
