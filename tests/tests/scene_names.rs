//! Backends by name: the agent follows the DNS, and nothing changes while the DNS is away.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xlb_tests::agent::{Agent, Launch, agent_section};
use xlb_tests::alone::shared;
use xlb_tests::client::{BackendStatus, backends};
use xlb_tests::config_text::QUICK_TCP_CHECK;
use xlb_tests::peers::{DnsServer, Nginx, Transfer, http_get, make_file, sha256_of, start_download};
use xlb_tests::process::{run, wait_until};
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology, VIP4, host_port};

const PATIENCE: Duration = Duration::from_secs(20);
const TRANSFER_PATIENCE: Duration = Duration::from_mins(2);
const PORT: u16 = 80;
const HOST: &str = "app.internal.example";
const NEW_CONNECTIONS: usize = 40;
const MEGABYTES: u32 = 24;

/// Three web servers, and a fourth host for name servers.
struct Scene {
    topology: Topology,
    servers: Vec<Nginx>,
    etc: PathBuf,
}

impl Scene {
    fn build() -> Result<Self> {
        let topology = Topology::build(Plan::full_nat(4))?;
        let mut servers = Vec::new();
        for (index, host) in topology.backends.iter().take(3).enumerate() {
            servers.push(Nginx::start(
                &topology.room,
                &host.namespace,
                &format!("h{index}"),
                8080,
            )?);
        }
        // The agent's own /etc, which can be changed.
        let etc = topology.room.file("etc");
        run(Command::new("cp").args(["-a", "/etc"]).arg(&etc))?;
        Ok(Self { topology, servers, etc })
    }

    fn address(&self, host: usize) -> IpAddr {
        IpAddr::V4(self.topology.backends[host].address4)
    }

    fn name_server(&self, host: usize) -> Result<DnsServer> {
        let namespace = &self.topology.backends[host].namespace;
        DnsServer::start(&self.topology.room, namespace, self.address(host), "example")
    }

    /// Has the hosts' addresses as the name's A records.
    fn records(&self, hosts: &[usize]) -> Vec<(&'static str, IpAddr)> {
        hosts.iter().map(|host| (HOST, self.address(*host))).collect()
    }

    /// Replaces resolv.conf as other programs do: by rename.
    fn resolve_by(&self, server: IpAddr) -> Result<()> {
        let new = self.etc.join("resolv.conf.new");
        fs::write(&new, format!("nameserver {server}\noptions timeout:1 attempts:1\n")).context("write resolv.conf")?;
        fs::rename(&new, self.etc.join("resolv.conf")).context("rename resolv.conf")
    }

    /// An agent with that /etc.
    fn agent(&self, dns: &str, backend: &str) -> Result<Agent> {
        let services = format!(
            "[dns]\nmin_ttl = \"1s\"\n{dns}\n[[service]]\nname = \"web\"\nvip = \"{VIP4}\"\nport = {PORT}\ninternal_port = \
             8080\ncheck = {QUICK_TCP_CHECK}\n[[service.backend]]\n{backend}\n"
        );
        let mount = format!("mount --bind {} /etc && exec \"$@\"", self.etc.display());
        let words = ["unshare", "--mount", "sh", "-c", &mount, "sh"].map(str::to_owned);
        let launch = Launch {
            before: words.to_vec(),
            ..Launch::default()
        };
        Agent::launch(&self.topology, &agent_section(&self.topology), &services, launch)
    }

    /// Names of the servers that new connections reach.
    fn reached(&self) -> Result<Vec<String>> {
        let ask = |_| http_get(&self.topology.client, &url("/")).map(|body| body.trim().to_owned());
        let mut names = (0..NEW_CONNECTIONS).map(ask).collect::<Result<Vec<_>>>()?;
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Held-back downloads through the balancer, until one of them is from this host. What arrives says whose it is: the
    /// counts of flows know connections that have ended, too.
    fn transfers_until(&self, host: usize) -> Result<Vec<Transfer>> {
        let wanted = beginning(&self.servers[host].files().join("big"))?.context("the host's file is shorter")?;
        let mut transfers = Vec::new();
        for number in 0..20 {
            let to = self.topology.room.file(&format!("download-{number}"));
            transfers.push(start_download(&self.topology.client, &url("/files/big"), &to, 1)?);
            wait_until("the transfer to begin", PATIENCE, || {
                Ok(to.exists() && beginning(&to)?.is_some())
            })?;
            if beginning(&to)?.is_some_and(|found| found == wanted) {
                return Ok(transfers);
            }
        }
        anyhow::bail!("no transfer of {} came from host {host}", transfers.len())
    }
}

/// A file's first kilobyte, once it has one.
fn beginning(file: &Path) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(1024).read_to_end(&mut bytes)?;
    Ok((bytes.len() == 1024).then_some(bytes))
}

fn url(path: &str) -> String {
    format!("http://{}{path}", host_port(VIP4, PORT))
}

/// Backends that take new connections, with their ids.
fn active(status: &Value) -> BTreeMap<String, u64> {
    let rows = backends(status);
    let up = rows.iter().filter(|row| row.is_up());
    up.map(|row| (row.name().to_owned(), row.number("id"))).collect()
}

fn wait_active(agent: &Agent, addresses: &[IpAddr]) -> Result<BTreeMap<String, u64>> {
    let wanted: Vec<String> = addresses.iter().map(|address| format!("app@{address}")).collect();
    agent
        .client()
        .wait_for(&format!("{wanted:?} to be the active backends"), |status| {
            active(status).into_keys().eq(wanted.iter().cloned())
        })?;
    Ok(active(&agent.client().status()?))
}

fn warnings(status: &Value, code: &str) -> Vec<String> {
    let all = status["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let wanted = all.iter().filter(|warning| warning["code"] == code);
    wanted
        .map(|warning| warning["message"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_backends_of_a_name_follow_the_dns_and_stay_while_it_is_away() -> Result<()> {
    require!("ip", "ethtool", "dnsmasq", "nginx", "curl", "unshare");
    let _share = shared();
    let scene = Scene::build()?;
    let mut hashes = Vec::new();
    for server in &scene.servers {
        hashes.push(make_file(&server.files().join("big"), MEGABYTES)?);
    }
    let dns = scene.name_server(3)?;
    dns.set(&scene.records(&[0, 1]))?;
    scene.resolve_by(scene.address(3))?;
    let mut agent = scene.agent("", &format!("name = \"app\"\naddress = \"{HOST}\""))?;
    let before = wait_active(&agent, &[scene.address(0), scene.address(1)])?;
    ensure!(scene.reached()? == ["h0", "h1"], "{:?}", scene.reached()?);

    // The first leaves the zone while something is transferred from it, and a third one comes.
    let mut transfers = scene.transfers_until(0)?;
    dns.set(&scene.records(&[1, 2]))?;
    let after = wait_active(&agent, &[scene.address(1), scene.address(2)])?;
    let second = format!("app@{}", scene.address(1));
    ensure!(before[&second] == after[&second], "the one that stayed has another id");
    ensure!(scene.reached()? == ["h1", "h2"], "{:?}", scene.reached()?);
    let last = transfers.last_mut().context("a transfer")?;
    last.ensure_running()?;
    for transfer in &mut transfers {
        transfer.finish(TRANSFER_PATIENCE)?;
        let hash = sha256_of(&transfer.file)?;
        ensure!(hashes.contains(&hash), "what came is no server's file");
    }
    let last = transfers.last().context("a transfer")?;
    ensure!(sha256_of(&last.file)? == hashes[0], "it was the first server's file");
    let log = agent.log();
    let (old, new) = (
        format!("old=\"{} {}\"", scene.address(0), scene.address(1)),
        format!("new=\"{} {}\"", scene.address(1), scene.address(2)),
    );
    let of_name = log
        .lines()
        .filter(|line| line.contains(&old) && line.contains(&new) && line.contains("ttl 1 s"));
    ensure!(of_name.count() == 1, "one line for the change of the name\n{log}");
    for (address, change) in [
        (scene.address(0), "new=\"removed\""),
        (scene.address(2), "old=\"absent\""),
    ] {
        let object = format!("object=\"web/app@{address}\"");
        let lines = log
            .lines()
            .filter(|line| line.contains(&object) && line.contains(change));
        ensure!(lines.count() == 1, "one line with {object} {change}\n{log}");
    }

    // Nobody answers any more: everything stays, and is said.
    drop(dns);
    agent.client().wait_for("the name to fail", |status| {
        status["names"][0]["failures"].as_u64().unwrap_or(0) > 1
    })?;
    let status = agent.client().status()?;
    ensure!(active(&status) == after, "{:?}", active(&status));
    let said = warnings(&status, "name_failing");
    ensure!(
        said.len() == 1 && said[0].contains(HOST) && said[0].contains("its 2 addresses of "),
        "{said:?}"
    );
    let wide = String::from_utf8(agent.client().output(&["status", "-o", "wide"])?.stdout)?;
    ensure!(
        wide.contains(&format!("name       {HOST} IPv4  ")) && wide.contains("FAILING: "),
        "{wide}"
    );

    // Not even a new agent changes anything.
    agent.terminate()?;
    agent.run(&scene.topology.balancer)?;
    ensure!(
        wait_active(&agent, &[scene.address(1), scene.address(2)])? == after,
        "other ids"
    );
    ensure!(scene.reached()? == ["h1", "h2"], "{:?}", scene.reached()?);
    agent.client().wait_for("the new agent to say it", |status| {
        let said = warnings(status, "name_failing");
        said.iter()
            .any(|text| text.contains("that the last agent knew stay in use"))
    })?;

    // Another server, in a resolv.conf that took the place of the old one.
    let dns = scene.name_server(2)?;
    dns.set(&scene.records(&[0]))?;
    scene.resolve_by(scene.address(2))?;
    wait_active(&agent, &[scene.address(0)])?;
    agent.client().wait_for("nothing to be said any more", |status| {
        warnings(status, "name_failing").is_empty() && status["names"][0]["error"].is_null()
    })?;
    ensure!(scene.reached()? == ["h0"], "{:?}", scene.reached()?);
    Ok(())
}

#[test]
fn the_first_name_comes_by_reload_and_commands_are_about_its_entry() -> Result<()> {
    require!("ip", "ethtool", "dnsmasq", "nginx", "curl", "unshare");
    let _share = shared();
    let scene = Scene::build()?;
    let dns = scene.name_server(3)?;
    dns.set(&scene.records(&[0, 1]))?;
    scene.resolve_by(scene.address(3))?;
    let (address, by_name) = (
        format!("name = \"app\"\naddress = \"{}\"", scene.address(2)),
        format!("name = \"app\"\naddress = \"{HOST}\""),
    );
    let agent = scene.agent("", &address)?;
    agent.client().wait_all_up()?;
    let client = agent.client();

    // Files that were out of reach at the start stay so; servers need none.
    let text = fs::read_to_string(agent.config())?.replace(&address, &by_name);
    fs::write(agent.config(), &text)?;
    client.xlb(&["reload"])?;
    client.wait_for("the sandbox to be named", |status| {
        let said = warnings(status, "name_failing");
        said.iter().any(|text| text.contains("may not read it: restart it"))
    })?;
    let servers = format!("min_ttl = \"1s\"\nservers = \"{}\"\n", scene.address(3));
    let text = text.replace("min_ttl = \"1s\"\n", &servers);
    fs::write(agent.config(), &text)?;
    client.xlb(&["reload"])?;
    wait_active(&agent, &[scene.address(0), scene.address(1)])?;
    ensure!(scene.reached()? == ["h0", "h1"], "{:?}", scene.reached()?);

    let one = format!("app@{}", scene.address(0));
    let refused = client.output(&["backend", "drain", "web", &one])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1) && said.contains("is one address of app.internal.example"),
        "{}: {said}",
        refused.status
    );
    let said = client.xlb(&["backend", "weight", "web", "app", "7"])?;
    ensure!(
        said.starts_with("backend app of service web: weight 100 -> 7; saved"),
        "{said}"
    );
    ensure!(
        fs::read_to_string(agent.config())?.contains(&format!("{by_name}\nweight = 7\n")),
        "the file: {}",
        fs::read_to_string(agent.config())?
    );
    let status = client.status()?;
    let rows: Vec<_> = backends(&status).into_iter().filter(BackendStatus::is_up).collect();
    ensure!(
        rows.len() == 2 && rows.iter().all(|row| row.number("weight") == 7),
        "{status}"
    );
    ensure!(
        rows.iter()
            .all(|row| row.row["from"]["entry"] == "app" && row.row["from"]["host"] == HOST),
        "{status}"
    );

    // A name without records keeps what it had; a record of the VIP itself makes no backend.
    dns.set(&[(HOST, IpAddr::V4(VIP4)), (HOST, scene.address(1))])?;
    wait_active(&agent, &[scene.address(1)])?;
    let said = warnings(&client.status()?, "name_left_out");
    let wanted = format!("web/app@{VIP4}: {VIP4} is a VIP of service web");
    ensure!(said == [wanted.clone()], "{said:?}, not {wanted:?}");
    dns.set(&[])?;
    client.wait_for("NXDOMAIN to be said", |status| {
        let said = warnings(status, "name_failing");
        said.iter().any(|text| text.contains("NXDOMAIN"))
    })?;
    wait_active(&agent, &[scene.address(1)])?;
    ensure!(scene.reached()? == ["h1"], "{:?}", scene.reached()?);
    Ok(())
}
