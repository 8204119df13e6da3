//! `xlb flows` against the real agent: what it lists, what it leaves out, how much memory a large list takes, the log and the
//! way back from a SNAT tuple to its client; completions that know the agent's names.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use lb_common::abi::{FlowKey4, FlowValue4, direction, mode};
use nix::sys::signal::Signal;
use serde_json::Value;
use xlb_tests::agent::{Agent, agent_section};
use xlb_tests::alone::{alone, shared};
use xlb_tests::binary::xlb_binary;
use xlb_tests::config_text::{QUICK_TCP_CHECK, ServiceText};
use xlb_tests::kernel::Wire;
use xlb_tests::peers::{DatagramServer, Talk, TalkServer, ask_datagram};
use xlb_tests::process::{Process, run, wait_until};
use xlb_tests::require;
use xlb_tests::topology::{CLIENT4, Plan, SNAT4, Topology, VIP4, VIP6};

const PATIENCE: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);
const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];

fn lines(text: &str) -> Result<Vec<Value>> {
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

fn flows(agent: &Agent, filters: &[&str]) -> Result<Vec<Value>> {
    let args: Vec<&str> = ["flows", "-o", "json"]
        .into_iter()
        .chain(filters.iter().copied())
        .collect();
    lines(&agent.client().xlb(&args)?)
}

fn socket(flow: &Value, key: &str) -> Option<SocketAddr> {
    flow[key].as_str()?.parse().ok()
}

#[test]
fn connections_of_both_families_modes_and_protocols_are_listed_once_and_filtered() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::gateway(2))?;
    let mut web = ServiceText::new("web", "tcp", 80).key("check", QUICK_TCP_CHECK);
    let mut gate = ServiceText::new("gate", "tcp", 81)
        .key("mode", "\"gateway\"")
        .key("check", QUICK_TCP_CHECK);
    let mut dns = ServiceText::new("dns", "udp", 53);
    let mut kept = (Vec::new(), Vec::new());
    for (host, name) in topology.backends.iter().zip(["a", "b"]) {
        for port in [8081, 8082] {
            kept.0.push(TalkServer::start(&host.namespace, name, port)?);
        }
        kept.1.push(DatagramServer::start(&host.namespace, name, 5300)?);
        web = web.host(name, host, 8081);
        gate = gate.host(name, host, 8082);
        dns = dns.host(name, host, 5300);
    }
    let agent = Agent::start(&topology, &[web.text(), gate.text(), dns.text()].join("\n"))?;
    agent.client().wait_all_up()?;
    let none = agent.client().xlb(&["flows"])?;
    ensure!(none == "no connections\n", "{none}");

    let mut talks = Vec::new();
    let mut datagrams = Vec::new();
    for vip in VIPS {
        for port in [80, 81] {
            for _ in 0..3 {
                let mut talk = Talk::connect(&topology.client, SocketAddr::new(vip, port), PATIENCE)?;
                talk.ask()?;
                talks.push((vip, port, talk.stream().local_addr()?, talk));
            }
        }
        let any: IpAddr = if vip.is_ipv4() {
            [0, 0, 0, 0].into()
        } else {
            [0_u16; 8].into()
        };
        let asking = topology.client.enter(|| UdpSocket::bind((any, 0)))??;
        asking.set_read_timeout(Some(PATIENCE))?;
        // The second one after the answer makes it established.
        ask_datagram(&asking, SocketAddr::new(vip, 53), b"one")?;
        ask_datagram(&asking, SocketAddr::new(vip, 53), b"two")?;
        datagrams.push(asking);
    }

    let all = flows(&agent, &[])?;
    ensure!(all.len() == 14, "{} connections instead of 14: {all:#?}", all.len());
    for (vip, port, client, _) in &talks {
        let mut found = all.iter().filter(|flow| socket(flow, "client") == Some(*client));
        let flow = found.next().with_context(|| format!("{client} is not listed"))?;
        ensure!(found.next().is_none(), "{client} is listed twice");
        ensure!(socket(flow, "vip") == Some(SocketAddr::new(*vip, *port)), "{flow}");
        ensure!(
            flow["state"] == "established" && flow["protocol"] == "tcp" && flow["schema"] == 1,
            "{flow}"
        );
        ensure!(flow["age_s"].as_u64().is_some_and(|age| age < 60), "{flow}");
        let backend = socket(flow, "backend_address").context("a backend")?;
        if *port == 80 {
            ensure!(flow["mode"] == "full_nat" && backend.port() == 8081, "{flow}");
            let snat = socket(flow, "snat").context("a SNAT tuple")?;
            // The very tuple that the backend sees.
            ensure!(
                kept.0
                    .iter()
                    .flat_map(TalkServer::peers)
                    .any(|peer| { (peer.ip().to_canonical(), peer.port()) == (snat.ip(), snat.port()) }),
                "no backend saw {snat}"
            );
        } else {
            ensure!(
                flow["mode"] == "gateway" && backend.port() == 8082 && flow["snat"].is_null(),
                "{flow}"
            );
        }
    }
    for (filters, count) in [
        (&["--service", "web"][..], 6),
        (&["--service", "dns"], 2),
        (&["--family", "ipv6"], 7),
        (&["--family", "ipv4", "--service", "gate"], 3),
        (&["--client", "198.51.100.0/24"], 7),
        (&["--client", "198.51.100.99"], 0),
        (&["--client", "2001:db8:c::/48"], 7),
        (&["--state", "established", "--service", "web"], 6),
        (&["--state", "half_open", "--service", "web"], 0),
        (&["--limit", "4"], 4),
    ] {
        let found = flows(&agent, filters)?;
        ensure!(
            found.len() == count,
            "{filters:?}: {} instead of {count}: {found:#?}",
            found.len()
        );
    }
    let of_a = flows(&agent, &["--backend", "web/a-v4"])?.len();
    let of_b = flows(&agent, &["--service", "web", "--backend", "b-v4"])?.len();
    ensure!(of_a + of_b == 3, "{of_a} and {of_b}");
    let unknown = agent.client().output(&["flows", "--service", "wbe"])?;
    ensure!(unknown.status.code() == Some(1), "{unknown:?}");
    ensure!(String::from_utf8_lossy(&unknown.stderr).contains("no service wbe; there are: "));

    // Whoever closes shows as closing on that side's FIN alone.
    let (.., talk) = talks.swap_remove(0);
    talk.bye()?;
    wait_until("a connection that closes", PATIENCE, || {
        Ok(flows(&agent, &["--state", "closing"])?.len() == 1)
    })?;
    let table = agent
        .client()
        .xlb(&["flows", "--service", "gate", "--family", "ipv4"])?;
    ensure!(
        table.lines().count() == 4 && table.lines().all(|line| line.len() <= 80),
        "{table}"
    );
    let wide = agent.client().xlb(&["flows", "--service", "web", "-o", "wide"])?;
    ensure!(
        wide.contains(&format!("{SNAT4}:")) && wide.contains("203.0.113.10:80"),
        "{wide}"
    );
    completions_know_the_names(&agent)
}

/// Presses TAB in a real bash.
fn completions_know_the_names(agent: &Agent) -> Result<()> {
    let complete = |words: &str| -> Result<Vec<String>> {
        let script = format!(
            "source <(xlb completions bash); COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); COMP_TYPE=9; \
             _clap_complete_xlb xlb \"${{COMP_WORDS[COMP_CWORD]}}\" '' 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let binary = xlb_binary()?;
        let path = std::env::var("PATH").unwrap_or_default();
        let directory = binary.parent().context("the binary's directory")?;
        let text = run(Command::new("bash")
            .args(["-c", &script])
            .env("PATH", format!("{}:{path}", directory.display()))
            .env("XLB_SOCKET", agent.client().socket()))?;
        Ok(text.lines().map(|line| line.trim().to_owned()).collect())
    };
    let services = complete("xlb backend remove ''")?;
    for service in ["web", "gate", "dns"] {
        ensure!(services.contains(&service.to_owned()), "{services:?}");
    }
    ensure!(complete("xlb flows --service w")? == ["web"]);
    let backends = complete("xlb backend remove web a")?;
    ensure!(backends == ["a-v4", "a-v6"], "{backends:?}");
    let commands = complete("xlb fl")?;
    ensure!(commands == ["flows"], "{commands:?}");
    // No agent: no names, no noise.
    let nowhere = complete("xlb --socket /nowhere backend remove web a")?;
    ensure!(nowhere.iter().all(|name| !name.contains("-v4")), "{nowhere:?}");
    Ok(())
}

/// Peak resident memory of a process since its start or [`forget_peak`].
fn peak_kib(pid: impl std::fmt::Display) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM")?;
    line.trim().trim_end_matches(" kB").parse().context("VmHWM")
}

fn forget_peak(pid: impl std::fmt::Display) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("reset VmHWM")
}

/// Connections written to the map by hand, as the program would.
fn fill(agent: &Agent, count: u32) -> Result<()> {
    let data = MapData::from_pin(agent.client().pin_dir().join("xlb_flows4"))?;
    let mut map: HashMap<_, Wire<FlowKey4>, Wire<FlowValue4>> = Map::HashMap(data).try_into()?;
    for index in 0..count {
        let [_, a, b, c] = index.to_be_bytes();
        let forward = FlowKey4 {
            src: [100, a, b, c],
            dst: VIP4.octets(),
            src_port: 4_000,
            dst_port: 80,
            protocol: 6,
        };
        let value = FlowValue4 {
            conn_id: 1 << 50 | u64::from(index),
            new_src: [10, 1, a, b],
            new_dst: [10, 0, 0, 11],
            new_src_port: 10_240 + u16::from(c),
            new_dst_port: 8_081,
            backend_id: 1,
            direction: direction::FORWARD,
            mode: mode::FULL_NAT,
            ..FlowValue4::default()
        };
        let reply = FlowKey4 {
            src: value.new_dst,
            dst: value.new_src,
            src_port: value.new_dst_port,
            dst_port: value.new_src_port,
            protocol: 6,
        };
        map.insert(Wire(forward), Wire(value), 0)?;
        let back = FlowValue4 {
            direction: direction::REPLY,
            ..value
        };
        map.insert(Wire(reply), Wire(back), 0)?;
    }
    Ok(())
}

#[test]
fn three_hundred_thousand_entries_stream_in_little_memory_and_readers_that_leave_end_their_walk() -> Result<()> {
    const CONNECTIONS: u32 = 160_000;
    require!("ip", "ethtool");
    let _alone = alone();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = topology.backends.first().context("a backend")?;
    let web = ServiceText::new("web", "tcp", 80).host("a", host, 8081);
    let mut agent = Agent::start(&topology, web.text())?;
    fill(&agent, CONNECTIONS)?;
    let pid = agent.process()?.pid();
    forget_peak(pid)?;
    let before = peak_kib(pid)?;

    // Two at once, one of them watched while it reads.
    let mut other = agent
        .client()
        .command(&["flows", "-o", "json"])?
        .stdout(Stdio::piped())
        .spawn()?;
    let other_out = other.stdout.take().context("its output")?;
    let counter = std::thread::spawn(move || BufReader::new(other_out).lines().count());
    let mut watched = agent
        .client()
        .command(&["flows", "-o", "json"])?
        .stdout(Stdio::piped())
        .spawn()?;
    let out = BufReader::new(watched.stdout.take().context("its output")?);
    let (mut count, mut first, mut last) = (0_u32, 0, 0);
    for line in out.lines() {
        line?;
        count += 1;
        if count == 5_000 {
            first = peak_kib(watched.id())?;
        }
        if count.is_multiple_of(10_000) {
            // It may have ended with the rest in the pipe.
            last = peak_kib(watched.id()).unwrap_or(last);
        }
    }
    ensure!(watched.wait()?.success() && other.wait()?.success());
    ensure!(count == CONNECTIONS, "{count} lines");
    ensure!(
        counter.join().ok() == Some(CONNECTIONS as usize),
        "the second reader missed some"
    );
    ensure!(last < first + 8 * 1024, "the CLI grew from {first} to {last} KiB");
    let after = peak_kib(pid)?;
    ensure!(
        after < before + 16 * 1024,
        "the agent grew from {before} to {after} KiB"
    );

    // More hang-ups than readers are allowed at once: each gave its place back. The table, too, ends quietly.
    for format in ["json", "table", "wide"].repeat(4) {
        let mut child = agent
            .client()
            .command(&["flows", "-o", format])?
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    wait_until("a free reader", LONG, || {
        Ok(flows(&agent, &["--limit", "1"])?.len() == 1)
    })?;
    let few = flows(&agent, &["--client", "100.0.0.7"])?;
    ensure!(
        few.len() == 1 && few.iter().all(|flow| flow["backend"] == "a-v4"),
        "{few:?}"
    );
    Ok(())
}

#[test]
fn the_log_tells_which_client_used_a_snat_tuple() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = topology.backends.first().context("a backend")?;
    let _server = TalkServer::start(&host.namespace, "a", 8081)?;
    let web = ServiceText::new("web", "tcp", 80)
        .key("check", QUICK_TCP_CHECK)
        .host("a", host, 8081);
    let section = format!("{}\n[timeouts]\nclosing = \"2s\"\n", agent_section(&topology));
    let agent = Agent::start_with(&topology, &section, web.text())?;
    agent.client().wait_all_up()?;
    let (file, rotated) = (topology.room.file("flows.log"), topology.room.file("flows.log.1"));
    let name = file.to_string_lossy().into_owned();
    let mut command = agent
        .client()
        .command(&["flows", "--log", &name, "--interval", "200ms"])?;
    let mut log = Process::start("xlb flows --log", &mut command, &topology.room.file("log.out"))?;
    let events = |path: &std::path::Path, event: &str| -> Result<Vec<Value>> {
        let mut all = lines(&fs::read_to_string(path)?)?;
        all.retain(|record| record["event"] == event);
        Ok(all)
    };

    let mut talk = Talk::connect(&topology.client, SocketAddr::new(VIP4.into(), 80), PATIENCE)?;
    talk.ask()?;
    let client = talk.stream().local_addr()?;
    wait_until("the begin of a connection", LONG, || {
        Ok(events(&file, "begin")?.len() == 1)
    })?;
    let begin = events(&file, "begin")?.remove(0);
    ensure!(
        socket(&begin, "client") == Some(client) && client.ip() == IpAddr::from(CLIENT4),
        "{begin}"
    );
    let tuple = begin["snat"].as_str().context("a tuple")?.to_owned();
    ensure!(tuple.starts_with(&SNAT4.to_string()), "{begin}");

    // logrotate: the file moves, SIGHUP, a new one is written.
    fs::rename(&file, &rotated)?;
    log.signal(Signal::SIGHUP)?;
    talk.bye()?;
    wait_until("the end of a connection in a new file", LONG, || {
        Ok(file.exists() && events(&file, "end")?.len() == 1)
    })?;
    let end = events(&file, "end")?.remove(0);
    for key in ["id", "client", "snat", "first_seen", "backend_address", "service"] {
        ensure!(end[key] == begin[key], "{key}: {begin} and {end}");
    }
    ensure!(end["state"] == "closing", "{end}");

    let who = agent
        .client()
        .xlb(&["flows", "--who", &tuple, "--log", &rotated.to_string_lossy()])?;
    ensure!(who.contains(&client.to_string()) && who.contains("web/a-v4"), "{who}");
    let text = agent
        .client()
        .xlb(&["flows", "--who", &tuple, "--at", "2001-01-01T00:00:00Z", "--log", &name]);
    ensure!(text.is_err(), "nobody used it then: {text:?}");
    let at = begin["first_seen"].as_str().context("a time")?;
    let json = agent
        .client()
        .xlb(&["flows", "--who", &tuple, "--at", at, "--log", &name, "-o", "json"])?;
    let answer: Value = serde_json::from_str(&json)?;
    ensure!(answer["users"][0]["client"] == begin["client"], "{answer}");

    // A stop tells what is open; a disk without room is an error.
    let mut open = Talk::connect(&topology.client, SocketAddr::new(VIP6.into(), 80), PATIENCE)?;
    open.ask()?;
    wait_until("the begin of another", LONG, || Ok(events(&file, "begin")?.len() == 1))?;
    ensure!(log.terminate()?.success(), "{}", log.output());
    ensure!(events(&file, "open")?.len() == 1);
    let full = agent
        .client()
        .output(&["flows", "--log", "/dev/full", "--interval", "200ms"])?;
    ensure!(full.status.code() == Some(1), "{full:?}");
    ensure!(
        String::from_utf8_lossy(&full.stderr).contains("No space left"),
        "{full:?}"
    );
    Ok(())
}

#[test]
fn man_pages_and_scripts_pass_their_own_readers() -> Result<()> {
    require!("groff", "bash");
    let directory = tempfile::tempdir()?;
    let xlb = xlb_binary()?;
    run(Command::new(&xlb).arg("man").arg(directory.path()))?;
    let mut pages = 0;
    for entry in fs::read_dir(directory.path())? {
        let page = entry?.path();
        let output = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(&page)
            .output()?;
        ensure!(
            output.status.success() && output.stderr.is_empty(),
            "{}: {}",
            page.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        pages += 1;
    }
    ensure!(pages > 10, "{pages} pages");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(Command::new(&xlb).args(["completions", shell]))?;
        ensure!(script.contains("XLB_COMPLETE"), "{shell}: {script}");
        // Where the shell is installed it reads the script itself.
        let file = directory.path().join(shell);
        fs::write(&file, script)?;
        if matches!(shell, "bash" | "zsh" | "fish") && xlb_tests::process::find_program(shell).is_some() {
            run(Command::new(shell).arg("-n").arg(&file))?;
        }
    }
    Ok(())
}
