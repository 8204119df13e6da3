//! The capabilities that the agent needs, and the loss of all others.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use caps::errors::CapsError;
use caps::{CapSet, Capability};
use nix::unistd::{Gid, getegid, geteuid, getgroups, setgroups};

/// Programs and maps; attaching, neighbours, addresses; the verifier's pointer comparisons, and tracing. ICMP errors of probes
/// come from the socket's own error queue, so that no raw socket is needed.
const NEEDED: [Capability; 3] = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];

/// The same by name, as a unit grants them.
pub const NEEDED_CAPABILITIES: [&str; 3] = ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"];

/// Keeps [`NEEDED`], as far as they are there, and nothing else.
pub(super) fn give_up(config_path: &Path) -> io::Result<()> {
    join_group_of(config_path);
    drop_others().map_err(io::Error::other)?;
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}

fn drop_others() -> Result<(), CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept: caps::CapsHashSet = permitted
        .iter()
        .copied()
        .filter(|capability| NEEDED.contains(capability))
        .collect();
    // Without this one the bounding set stays; no_new_privs makes it useless.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::read(None, CapSet::Bounding)? {
            if !NEEDED.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability)?;
            }
        }
    }
    // First, because the ambient set is what an exec would hand on; empty sets on old kernels may not be cleared.
    let _ = caps::clear(None, CapSet::Ambient);
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

/// A write-back keeps the file's group, which without `CAP_CHOWN` takes membership.
fn join_group_of(config_path: &Path) {
    let Ok(metadata) = std::fs::metadata(config_path) else {
        return;
    };
    let group = Gid::from_raw(metadata.gid());
    let Ok(mut groups) = getgroups() else { return };
    if !geteuid().is_root() || group == getegid() || groups.contains(&group) {
        return;
    }
    groups.push(group);
    // Without it write-back says what it could not do.
    if let Err(error) = setgroups(&groups) {
        tracing::debug!(object = %config_path.display(), cause = %error, "group of the config file not joined");
    }
}

/// Names of what the process has, and of what it lacks of [`NEEDED`].
pub(super) fn held() -> (Vec<String>, Vec<String>) {
    let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
    let mut names: Vec<String> = effective.iter().map(ToString::to_string).collect();
    names.sort();
    // The kernel takes this one, from which both were split (Linux 5.8), in their place.
    let in_place = |capability: &Capability| {
        effective.contains(&Capability::CAP_SYS_ADMIN) && *capability != Capability::CAP_NET_ADMIN
    };
    let missing = NEEDED
        .iter()
        .filter(|capability| !effective.contains(capability) && !in_place(capability));
    (names, missing.map(ToString::to_string).collect())
}

/// The refusal of a start without some of [`NEEDED`], and how to give them.
pub(in crate::agent) fn refusal(missing: &[String]) -> String {
    let all = NEEDED_CAPABILITIES.join(" ");
    let program = std::env::current_exe().map_or_else(|_| "xlb".to_owned(), |path| path.display().to_string());
    format!(
        "the agent has no {}, and the kernel refuses what it does without; nothing was loaded\n  next: in its unit \
         AmbientCapabilities={all} and CapabilityBoundingSet={all} (packaging/xlb.service), without systemd 'setcap {}+ep \
         {program}', or start it as root",
        missing.join(", "),
        NEEDED_CAPABILITIES.join(",").to_lowercase(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_set() {
        assert_eq!(NEEDED.map(|capability| capability.to_string()), NEEDED_CAPABILITIES);
    }
}
