//! `xlb init` in a network of its own: what it writes passes `xlb check` as it stands, runs as it stands, and nothing is
//! written that would not.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xlb_tests::alone::shared;
use xlb_tests::binary::xlb_binary;
use xlb_tests::netns::{Namespace, Room, connect};
use xlb_tests::peers::{Talk, TalkServer};
use xlb_tests::process::{Process, wait_until};
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology, VIP4, host_port};

/// Runs `xlb ARGS` in the namespace, without a capability.
fn xlb(namespace: &Namespace, args: &[&str]) -> Result<Output> {
    let mut command = namespace.command("setpriv");
    command.args(["--inh-caps", "-all", "--bounding-set", "-all"]);
    let output = command.arg(xlb_binary()?).args(args).output();
    output.with_context(|| format!("run xlb {args:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A router: clients by the default route, backends on a network of their own, a bridge, and a link that is down.
fn router(room: &Room) -> Result<(Namespace, Namespace)> {
    let (router, outside) = (room.namespace("router")?, room.namespace("outside")?);
    connect(&router, "front0", &outside, "clients")?;
    connect(&router, "back0", &outside, "backends")?;
    router.ip(
        "addr add 203.0.113.5/24 dev front0\naddr add 2001:db8::5/64 dev front0 nodad\naddr add 10.0.0.1/24 dev back0
         route add default via 203.0.113.1
         link add br0 type bridge\naddr add 10.7.0.1/24 dev br0\nlink set br0 up
         link add spare0 type veth peer name spare1\naddr add 10.9.0.1/24 dev spare0",
    )?;
    Ok((router, outside))
}

#[test]
fn what_init_writes_passes_the_check_as_it_stands() -> Result<()> {
    require!("ip", "nsenter", "setpriv");
    let _share = shared();
    let room = Room::for_test()?;
    let (router, _outside) = router(&room)?;
    let file = room.file("xlb.toml");
    let path = file.to_string_lossy();

    let made = xlb(
        &router,
        &["init", &path, "--backend", "10.0.0.11:8080", "--backend", "10.0.0.12"],
    )?;
    ensure!(made.status.code() == Some(0), "{made:?}");
    let written = fs::read_to_string(&file)?;
    for wanted in [
        "interfaces = [\"front0\", \"back0\"]",
        "snat_addresses = [\"10.0.0.1\"]",
        "vip = \"203.0.113.5\"",
        "{ address = \"10.0.0.11\", port = 8080 }, { address = \"10.0.0.12\", port = 80 }",
    ] {
        ensure!(written.contains(wanted), "{wanted} is not in:\n{written}");
    }
    let notes = text(&made.stderr);
    for wanted in [
        "left out lo: not an Ethernet",
        "left out br0: a bridge has no XDP",
        "left out spare0: down",
    ] {
        ensure!(notes.contains(wanted), "{wanted} is not in:\n{notes}");
    }
    let checked = xlb(&router, &["check", &path])?;
    let said = text(&checked.stdout);
    ensure!(checked.status.code() == Some(0), "{checked:?}");
    ensure!(said.contains("VIP 203.0.113.5: local on front0"), "{said}");
    ensure!(said.contains("1 service, 2 backends, 0 warnings"), "{said}");

    let again = xlb(&router, &["init", &path, "--vip", "203.0.113.80:443"])?;
    ensure!(
        again.status.code() == Some(1) && text(&again.stderr).contains("--force"),
        "{again:?}"
    );
    ensure!(fs::read_to_string(&file)? == written, "the file was touched");
    let forced = xlb(&router, &["init", &path, "--vip", "203.0.113.80:443", "--force"])?;
    ensure!(forced.status.code() == Some(0), "{forced:?}");
    let checked = xlb(&router, &["check", &path])?;
    let said = text(&checked.stdout);
    ensure!(said.contains("XLB0301") && said.contains("1 warning"), "{said}");
    ensure!(said.contains("the agent adds it (manage_vip)"), "{said}");
    let left: Vec<_> = fs::read_dir(room.file(""))?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    ensure!(
        !left.iter().any(|name| name.to_string_lossy().contains(".init-")),
        "{left:?}"
    );
    Ok(())
}

#[test]
fn without_a_file_it_goes_to_standard_output_and_what_cannot_work_is_refused() -> Result<()> {
    require!("ip", "nsenter", "setpriv");
    let _share = shared();
    let room = Room::for_test()?;
    let (router, _outside) = router(&room)?;
    let shown = xlb(&router, &["init", "--backend", "10.0.0.11:8080"])?;
    ensure!(
        shown.status.code() == Some(0) && text(&shown.stdout).starts_with("[agent]\n"),
        "{shown:?}"
    );
    for (args, why) in [
        (&["--backend", "10.0.0.1:80"][..], "an address of this host"),
        (&["--backend", "2001:db8:7::1"], "no route to backend"),
        (&["--interface", "eth7"], "has no interface eth7; it has: lo"),
        (&["--vip", "10.0.0.11", "--backend", "10.0.0.11:81"], "XLB0208"),
        (&["--vip", "127.0.0.2"], "XLB0209"),
    ] {
        let refused = xlb(&router, &[&["init"], args].concat())?;
        ensure!(
            refused.status.code() == Some(1) && refused.stdout.is_empty(),
            "{args:?}: {refused:?}"
        );
        ensure!(text(&refused.stderr).contains(why), "{args:?}: {refused:?}");
    }
    Ok(())
}

/// The agent in a mount namespace of its own, where the places that a config without paths names are the room's: neither
/// this machine's agent nor its files are touched.
fn run_where_the_defaults_lead(topology: &Topology, config: &str) -> Result<Process> {
    let room = &topology.room;
    let mut mounts = String::new();
    for (own, standard) in [("run", "/run"), ("lib", "/var/lib"), ("bpf", "/sys/fs/bpf")] {
        let own = room.file(own);
        fs::create_dir_all(&own)?;
        // Writing to a String does not fail.
        let _ = write!(mounts, "mount --bind {} {standard} && ", own.display());
    }
    let mut command = topology.balancer.command("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(format!("{mounts}exec \"$@\""))
        .arg("sh")
        .arg(xlb_binary()?)
        .args(["run", "--config", config]);
    Process::start("xlb run", &mut command, &room.file("agent.log"))
}

#[test]
fn an_agent_started_with_what_init_writes_forwards() -> Result<()> {
    require!("ip", "ethtool", "nsenter", "setpriv", "unshare");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0];
    let _server = TalkServer::start(&host.namespace, "one", 8081)?;
    let file = topology.room.file("xlb.toml");
    let (vip, backend) = (host_port(VIP4, 80), host_port(host.address4, 8081));
    let path = file.to_string_lossy();
    let made = xlb(
        &topology.balancer,
        &["init", &path, "--vip", &vip, "--backend", &backend],
    )?;
    ensure!(made.status.code() == Some(0), "{made:?}");
    let written = fs::read_to_string(&file)?;

    let mut agent = run_where_the_defaults_lead(&topology, &path)?;
    let target = SocketAddr::from((VIP4, 80));
    let asked = wait_until("an answer through the service", Duration::from_mins(1), || {
        let answer = Talk::connect(&topology.client, target, Duration::from_secs(1))?.ask()?;
        ensure!(answer == "one", "{answer} answers");
        Ok(true)
    });
    asked.with_context(|| format!("with\n{written}\n{}", agent.output()))?;
    ensure!(agent.ended()?.is_none(), "the agent ended: {}", agent.output());
    ensure!(
        topology.room.file("run/xlb/api.sock").exists(),
        "another agent answered"
    );
    ensure!(fs::read_to_string(&file)? == written, "the file was touched");
    Ok(())
}
