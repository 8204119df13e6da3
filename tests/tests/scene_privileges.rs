//! The agent with as few rights as it can have: not root, three capabilities, files limited; and root that gives the rest
//! up before there is a second thread.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_userspace::agent::NEEDED_CAPABILITIES;
use xlb_tests::agent::{Agent, Launch, agent_section};
use xlb_tests::alone::shared;
use xlb_tests::client::backends;
use xlb_tests::config_text::{QUICK_TCP_CHECK, ServiceText};
use xlb_tests::peers::{Load, TalkServer};
use xlb_tests::process::Process;
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology, VIP4, VIP6};

/// A user and a group that nobody is.
const USER: u32 = 64_123;
const GROUP: u32 = 64_124;
/// What the agent needs.
const ALL: [&str; 3] = ["bpf", "net_admin", "perfmon"];
/// A group that may use the socket.
const SOCKET_GROUP: u32 = 64_125;

fn services(topology: &Topology) -> String {
    let host = &topology.backends[0];
    ServiceText::new("talk", "tcp", 80)
        .key("check", QUICK_TCP_CHECK)
        .host("one", host, 8081)
        .text()
        .to_owned()
}

/// `setpriv` to that user with these capabilities.
fn as_user(capabilities: &[&str]) -> Vec<String> {
    let set = capabilities
        .iter()
        .fold("-all".to_owned(), |set, name| format!("{set},+{name}"));
    let words = [
        "setpriv",
        "--reuid",
        &USER.to_string(),
        "--regid",
        &GROUP.to_string(),
        "--groups",
        &SOCKET_GROUP.to_string(),
        "--inh-caps",
        &set,
        "--ambient-caps",
        &set,
        "--bounding-set",
        &set,
    ]
    .map(str::to_owned);
    words.to_vec()
}

/// Directories that the user may use: one for config and socket, and one on the bpffs, as docs/running.md says.
fn give(topology: &Topology) -> Result<()> {
    let room = topology.room.file("");
    fs::set_permissions(&room, fs::Permissions::from_mode(0o755)).context("open the room")?;
    let bpffs = topology.room.bpffs();
    fs::set_permissions(&bpffs, fs::Permissions::from_mode(0o711)).context("chmod o+x of the bpffs")?;
    for directory in [topology.room.file("own"), bpffs.join("xlb")] {
        fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
        chown(&directory, Some(USER), Some(GROUP)).with_context(|| format!("chown {}", directory.display()))?;
    }
    Ok(())
}

fn section(topology: &Topology) -> String {
    let section = agent_section(topology);
    let own = topology.room.file("own");
    let moved = |section: String, key: &str, name: &str| {
        let (from, to) = (topology.room.file(name), own.join(name));
        section.replace(
            &format!("{key} = \"{}\"", from.display()),
            &format!("{key} = \"{}\"", to.display()),
        )
    };
    moved(moved(section, "socket", "api.sock"), "state_dir", "state")
}

/// `field` of the status of every thread.
fn of_threads(pid: nix::unistd::Pid, field: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut threads = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task")).context("list threads")? {
        let status =
            fs::read_to_string(entry.context("a thread")?.path().join("status")).context("a thread's status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        found.insert(line.with_context(|| format!("no {field}"))?.trim().to_owned());
        threads += 1;
    }
    ensure!(threads > 3, "only {threads} threads");
    Ok(found)
}

/// The set as /proc shows it.
fn needed() -> String {
    // CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON.
    let bits = [39, 12, 38];
    let mask: u64 = bits.iter().map(|bit| 1_u64 << bit).sum();
    format!("{mask:016x}")
}

fn only(value: &str) -> BTreeSet<String> {
    BTreeSet::from([value.to_owned()])
}

#[test]
fn three_capabilities_and_no_root_load_attach_forward_and_write_back() -> Result<()> {
    require!("ip", "ethtool", "setpriv");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    give(&topology)?;
    let host = &topology.backends[0];
    let _server = TalkServer::start(&host.namespace, "one", 8081)?;
    let config = topology.room.file("own").join("xlb.toml");
    let own_section = section(&topology);
    fs::write(&config, "").context("make the config")?;
    chown(&config, Some(USER), Some(GROUP)).context("chown the config")?;
    // The harness's client uses the usual place.
    symlink(
        topology.room.file("own").join("api.sock"),
        topology.room.file("api.sock"),
    )
    .context("link the socket")?;
    let mut agent = Agent::launch(
        &topology,
        &own_section.replace("[agent]\n", &format!("[agent]\nsocket_group = \"{SOCKET_GROUP}\"\n")),
        &services(&topology),
        Launch {
            config: Some(config.clone()),
            before: as_user(&ALL),
            ..Launch::default()
        },
    )?;
    agent.client().wait_all_up()?;
    let pid = agent.process()?.pid();
    ensure!(of_threads(pid, "Uid:")? == only(&format!("{USER}\t{USER}\t{USER}\t{USER}")));
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        ensure!(
            of_threads(pid, set)? == only(&needed()),
            "{set} {:?}",
            of_threads(pid, set)?
        );
    }
    let targets = [IpAddr::from(VIP4), IpAddr::from(VIP6)].map(|vip| SocketAddr::new(vip, 80));
    let load = Load::start(&topology.client, &targets, Duration::from_millis(5))?;
    sleep(Duration::from_millis(500));
    load.finish()?.ensure_no_failure(30)?;

    let socket = fs::metadata(topology.room.file("own").join("api.sock")).context("stat the socket")?;
    ensure!(
        socket.mode() & 0o777 == 0o660 && socket.gid() == SOCKET_GROUP && socket.uid() == USER,
        "mode {:o}, {}:{}",
        socket.mode(),
        socket.uid(),
        socket.gid()
    );
    let before = fs::metadata(&config)?.ino();
    let target = format!("{}:9000", host.address4);
    agent
        .client()
        .xlb(&["backend", "add", "talk", &target, "--name", "two"])?;
    let text = fs::read_to_string(&config)?;
    let after = fs::metadata(&config)?;
    ensure!(
        text.contains("\"two\"") && after.ino() != before && after.uid() == USER,
        "{text}"
    );
    let log = agent.log();
    ensure!(
        !log.contains("xlb_devmap_xmit") && !log.contains("not counted"),
        "{log}"
    );
    Ok(())
}

#[test]
fn root_gives_up_the_rest_before_there_is_a_second_thread() -> Result<()> {
    require!("ip", "ethtool", "strace");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let trace = topology.room.file("strace.log");
    let mut agent = Agent::launch(
        &topology,
        &agent_section(&topology),
        &services(&topology),
        Launch {
            before: [
                "strace",
                // The agent stays the process that was started.
                "-D",
                "-f",
                "-qq",
                "-e",
                "trace=landlock_restrict_self,prctl,capset,clone,clone3",
                "-o",
                &trace.to_string_lossy(),
            ]
            .map(str::to_owned)
            .to_vec(),
            ..Launch::default()
        },
    )?;
    let pid = agent.process()?.pid();
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        ensure!(
            of_threads(pid, set)? == only(&needed()),
            "{set} {:?}",
            of_threads(pid, set)?
        );
    }
    ensure!(of_threads(pid, "CapInh:")? == only("0000000000000000"));
    ensure!(of_threads(pid, "NoNewPrivs:")? == only("1"));
    let status = agent.client().status()?;
    ensure!(status["agent"]["confinement"]["files"] == "limited", "{status}");
    let text = fs::read_to_string(&trace).context("read strace's log")?;
    let at = |part: &str| text.lines().position(|line| line.contains(part));
    let limited = at("landlock_restrict_self").with_context(|| format!("no landlock_restrict_self: {text}"))?;
    let first_thread = at("CLONE_THREAD").with_context(|| format!("no thread: {text}"))?;
    let line = text.lines().nth(limited).unwrap_or_default();
    ensure!(line.ends_with("= 0") && limited < first_thread, "{text}");
    Ok(())
}

#[test]
fn what_lies_elsewhere_cannot_be_read_and_the_answer_says_restart() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let own = topology.room.file("etc");
    fs::create_dir(&own).context("make etc")?;
    let config = own.join("xlb.toml");
    let agent = Agent::launch(
        &topology,
        &agent_section(&topology).replace("pin_dir", "watch = false\npin_dir"),
        &services(&topology),
        Launch {
            config: Some(config.clone()),
            ..Launch::default()
        },
    )?;
    // The same config in a place that the agent did not know at its start.
    let elsewhere = tempfile::tempdir().context("another place")?;
    let file = elsewhere.path().join("xlb.toml");
    fs::copy(&config, &file).context("copy the config")?;
    fs::remove_file(&config).context("make room for a link")?;
    symlink(&file, &config).context("link to the other place")?;
    let refused = || -> Result<()> {
        let answer = agent.client().output(&["reload"])?;
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        ensure!(answer.status.code() == Some(1), "{answer:?}");
        ensure!(
            said.contains("Permission denied") && said.contains("restart it"),
            "{said}"
        );
        Ok(())
    };
    refused()?;
    // A good place again, and in it a file of roots in another.
    fs::remove_file(&config).context("remove the link")?;
    let roots = elsewhere.path().join("roots.pem");
    fs::write(&roots, "").context("write roots")?;
    let check = format!("{{ https = {{ path = \"/\", roots = \"{}\" }} }}", roots.display());
    let text = fs::read_to_string(&file)?.replace(QUICK_TCP_CHECK, &check);
    fs::write(&config, text).context("write the config")?;
    refused()?;
    ensure!(backends(&agent.client().status()?).len() == 2);
    Ok(())
}

#[test]
fn a_pin_directory_that_is_not_ours_is_named_with_the_command_that_helps() -> Result<()> {
    require!("ip", "ethtool", "setpriv");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    give(&topology)?;
    let pins = topology.room.bpffs().join("xlb");
    chown(&pins, Some(0), Some(0)).context("take it back")?;
    fs::set_permissions(&pins, fs::Permissions::from_mode(0o700)).context("close it")?;
    let config = topology.room.file("own").join("xlb.toml");
    fs::write(&config, format!("{}\n{}", section(&topology), services(&topology))).context("write the config")?;
    let words = as_user(&ALL);
    let mut command: Command = topology.balancer.command(&words[0]);
    let own = xlb_tests::binary::xlb_binary()?;
    let output = command
        .args(&words[1..])
        .arg(own)
        .args(["run", "--config"])
        .arg(&config)
        .output();
    let output = output.context("run the agent")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(5), "{output:?}");
    let remedy = format!("install -d -o {USER} -m 0700 {}", pins.display());
    ensure!(said.contains(&remedy), "{said}");
    Ok(())
}

#[test]
fn each_of_the_three_capabilities_is_missed_by_name_with_how_to_give_it() -> Result<()> {
    require!("ip", "ethtool", "setpriv");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    give(&topology)?;
    let config = topology.room.file("own").join("xlb.toml");
    fs::write(&config, format!("{}\n{}", section(&topology), services(&topology))).context("write the config")?;
    for without in ALL {
        let rest: Vec<&str> = ALL.into_iter().filter(|name| *name != without).collect();
        let words = as_user(&rest);
        let mut command: Command = topology.balancer.command(&words[0]);
        let own = xlb_tests::binary::xlb_binary()?;
        command
            .args(&words[1..])
            .arg(own)
            .args(["run", "--config"])
            .arg(&config);
        let log = topology.room.file(&format!("without-{without}.log"));
        let mut agent = Process::start("xlb run", &mut command, &log)?;
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let status = agent
            .wait(Duration::from_mins(1))
            .with_context(|| format!("without {without} it runs"))?;
        let name = format!("CAP_{}", without.to_uppercase());
        ensure!(
            status.code() == Some(5)
                && said().contains(&format!("error: the agent has no {name}, "))
                && said().contains("AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_PERFMON")
                && said().contains("'setcap cap_bpf,cap_net_admin,cap_perfmon+ep /")
                && !said().contains("report it"),
            "without {without}: {status}: {}",
            said()
        );
    }
    Ok(())
}

#[test]
fn the_unit_grants_what_the_agent_needs_and_nothing_else() -> Result<()> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/xlb.service");
    let text = fs::read_to_string(&unit).with_context(|| format!("read {}", unit.display()))?;
    let mut wanted: Vec<&str> = NEEDED_CAPABILITIES.to_vec();
    wanted.sort_unstable();
    for key in ["AmbientCapabilities=", "CapabilityBoundingSet="] {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .with_context(|| format!("no {key}"))?;
        let mut granted: Vec<&str> = line.split(' ').collect();
        granted.sort_unstable();
        ensure!(granted == wanted, "{key} {granted:?} against {wanted:?}");
    }
    Ok(())
}
