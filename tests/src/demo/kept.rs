//! Whose the demo's namespaces are, and how a scene that was kept is looked at and ended.
//!
//! There is one demo at a time: its names are fixed, so that they can be typed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, bail};

use super::screen::Screen;
use super::stage::{HOSTS, Stage};
use super::traffic::{ECHO_PORT, WEB_PORT};
use crate::binary::xlb_binary;
use crate::client::backends;
use crate::netns::end_scene;
use crate::process::run;
use crate::topology::{VIP4, VIP6};

/// Prefix of the namespaces and name of the directory under /run.
const NAME: &str = "xlb-demo";
/// Another name, for a test that plays a demo of its own beside others'.
const NAME_VAR: &str = "XLB_DEMO_NAME";
/// What the owner file holds when nobody plays and the scene stays.
const KEPT: &str = "kept";

/// Prefix of the namespaces.
pub(super) fn prefix() -> String {
    env::var(NAME_VAR)
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| NAME.to_owned())
}

/// Directory of files and of the demo's bpffs.
pub(super) fn dir() -> PathBuf {
    Path::new("/run").join(prefix())
}

fn owner_file() -> PathBuf {
    dir().join("owner")
}

/// Makes the demo's names free; an error while another demo has them. What a killed demo left is deleted.
pub(super) fn claim() -> Result<()> {
    match fs::read_to_string(owner_file()) {
        Ok(owner) if owner == KEPT => {
            bail!("a demo was kept; end it with 'cargo xtask demo --end', then start a new one")
        }
        Ok(owner) if alive(&owner) => {
            bail!("a demo is running (process {owner}); end it with Ctrl-C there, or 'kill {owner}'")
        }
        _ => {
            end_scene(&prefix(), &dir());
            Ok(())
        }
    }
}

/// Writes that this process plays. The directory is there by now.
pub(super) fn write_player() -> Result<()> {
    write_owner(&process::id().to_string())
}

/// Writes that the scene stays.
pub(super) fn write_kept() -> Result<()> {
    write_owner(KEPT)
}

/// Ends a kept demo, or what is left of one; whether there was any.
pub fn end() -> Result<bool> {
    if let Ok(owner) = fs::read_to_string(owner_file())
        && alive(&owner)
    {
        bail!("a demo is running (process {owner}); end it with Ctrl-C there, or 'kill {owner}'");
    }
    Ok(end_scene(&prefix(), &dir()))
}

/// What to look at while the scene is there, and one of the commands at work.
pub(super) fn look_for_yourself(stage: &Stage, screen: &mut Screen) -> Result<()> {
    screen.headline("See for yourself: everything in the kernel can be read with bpftool")?;
    let pins = stage.xlb().pin_dir();
    for map in [
        "xlb_services",
        "xlb_backends",
        "xlb_backend_st",
        "xlb_flows4",
        "xlb_names",
    ] {
        screen.indented(&format!("bpftool map dump pinned {}", pins.join(map).display()))?;
    }
    screen.indented("bpftool net    # in the balancer's namespace: what is attached where")?;
    screen.line("")?;
    let mut lookup = process::Command::new("bpftool");
    lookup
        .args(["map", "lookup", "pinned"])
        .arg(pins.join("xlb_backends"))
        .arg("key")
        .args(first_backend(stage)?.to_ne_bytes().map(|byte| byte.to_string()));
    let shown: Vec<_> = lookup.get_args().map(|argument| argument.to_string_lossy()).collect();
    screen.indented(&format!("$ bpftool {}", shown.join(" ")))?;
    screen.indented(&run(&mut lookup)?)?;
    screen.indented(&format!(
        "$ nsenter --net={} bpftool net",
        stage.topology.balancer.path().display()
    ))?;
    screen.indented(&run(stage.topology.balancer.command("bpftool").arg("net"))?)
}

/// Id in the maps of the first backend of the status.
fn first_backend(stage: &Stage) -> Result<u32> {
    let status = stage.xlb().status()?;
    let id = backends(&status).first().and_then(|backend| backend.row["id"].as_u64());
    let id = id.with_context(|| format!("no backend with an id: {status}"))?;
    u32::try_from(id).context("an id of 32 bits")
}

/// How to enter and how to end what stays.
pub(super) fn instructions(stage: &Stage, screen: &mut Screen) -> Result<()> {
    look_for_yourself(stage, screen)?;
    let enter = |name: PathBuf| format!("nsenter --net={}", name.display());
    let topology = &stage.topology;
    screen.headline("Everything stays as it is. Enter a namespace with (as root)")?;
    for namespace in [&topology.client, &topology.router, &topology.balancer, &topology.switch] {
        screen.indented(&enter(namespace.path()))?;
    }
    for (host, (name, _, _)) in topology.backends.iter().zip(HOSTS) {
        screen.indented(&format!("{}   # {name}", enter(host.namespace.path())))?;
    }
    screen.headline("Try")?;
    let client = enter(topology.client.path());
    screen.indented(&format!("{client} curl http://{VIP4}:{WEB_PORT}/"))?;
    screen.indented(&format!("{client} curl 'http://[{VIP6}]:{WEB_PORT}/'"))?;
    // bash's own UDP: set-up installs no netcat.
    screen.indented(&format!(
        "{client} bash -c 'exec 3<>/dev/udp/{VIP4}/{ECHO_PORT}; echo hello >&3; timeout 2 head -n 1 <&3'"
    ))?;
    let xlb = xlb_binary()?;
    screen.indented(&format!("export XLB_SOCKET={}", stage.xlb().socket().display()))?;
    screen.indented(&format!("{} status", xlb.display()))?;
    screen.indented(&format!("{} drops", xlb.display()))?;
    screen.indented(&format!(
        "$EDITOR {} && {} reload",
        stage.config().display(),
        xlb.display()
    ))?;
    screen.headline("End it with")?;
    screen.indented("cargo xtask demo --end")
}

fn write_owner(text: &str) -> Result<()> {
    let file = owner_file();
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}

/// Whether the process exists and is a demo: process ids are used again.
fn alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/comm", pid.trim())).is_ok_and(|name| name.trim_end() == "xlb-demo")
}
