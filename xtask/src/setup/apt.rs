//! Debian packages: what apt offers, and installing it without starting services.

use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;
use crate::toolchain::find_program;

/// How commands get root's rights.
pub(crate) enum Root {
    /// We are root.
    Own,
    /// sudo works without asking.
    Sudo,
}

/// What apt knows of a package.
pub(crate) enum Offer {
    /// No such package in its lists.
    Nothing,
    /// This version could be installed.
    Version(String),
}

/// Runs as root: $1 is the number of services, then their names, then the packages.
///
/// policy-rc.d keeps a package from starting its service; disabling it keeps it off at the next boot.
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
count=$1
shift
services=
while [ "$count" -gt 0 ]; do
    services="$services $1"
    shift
    count=$((count - 1))
done
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" || exit
for service in $services; do
    update-rc.d "$service" disable || exit
done
"#;

/// Whether this machine installs packages with apt.
pub(crate) fn present() -> bool {
    find_program("apt-get").is_some()
}

/// How to become root, or what to run instead.
pub(crate) fn root(purpose: &str) -> Result<Root> {
    if is_root() {
        return Ok(Root::Own);
    }
    if find_program("sudo").is_none() {
        bail!("{purpose} needs root and there is no sudo; run the command again as root");
    }
    let mut probe = Command::new("sudo");
    if probe
        .args(["-n", "true"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return Ok(Root::Sudo);
    }
    bail!("{purpose} needs root and sudo asks for a password; run 'sudo -v', then the command again");
}

/// Whether this process has user id 0.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // The owner of /proc/self is the effective user: std alone has no geteuid.
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The version that apt would install.
pub(crate) fn offer(package: &str) -> Offer {
    let policy = command::output(Command::new("apt-cache").args(["policy", package])).unwrap_or_default();
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    match candidate {
        Some(version) if version != "(none)" => Offer::Version(version.to_owned()),
        _ => Offer::Nothing,
    }
}

/// Refreshes apt's lists.
pub(crate) fn update(root: &Root) -> Result<()> {
    let mut command = as_root(root, "apt-get");
    command.args(["update", "-o", "DPkg::Lock::Timeout=300"]);
    command::run_with_progress("apt-get update", &mut command)
}

/// Installs packages. Refuses when apt would remove something for them: that is the owner's choice.
pub(crate) fn install(root: &Root, packages: &[String], services: &[&str]) -> Result<()> {
    let mut simulation = Command::new("apt-get");
    simulation
        .args(["install", "--simulate", "--no-install-recommends"])
        .args(packages);
    let plan = command::output(&mut simulation)?;
    let removed: Vec<&str> = plan
        .lines()
        .filter_map(|line| line.strip_prefix("Remv ")?.split(' ').next())
        .collect();
    if !removed.is_empty() {
        bail!(
            "apt-get install {} would remove {}; install them by hand if that is what you want",
            packages.join(" "),
            removed.join(" ")
        );
    }
    let mut command = as_root(root, "sh");
    command
        .args(["-c", INSTALL, "sh", &services.len().to_string()])
        .args(services)
        .args(packages);
    let label = format!("apt-get install {}", packages.join(" "));
    command::run_with_progress(&label, &mut command)
        .map_err(|_| anyhow::anyhow!("'{label}' failed; its messages are above"))
}

fn as_root(root: &Root, program: &str) -> Command {
    match root {
        Root::Own => Command::new(program),
        Root::Sudo => {
            let mut command = Command::new("sudo");
            command.args(["-n", program]);
            command
        }
    }
}
