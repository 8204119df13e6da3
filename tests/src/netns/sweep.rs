//! Ends namespaces, and finds those that a killed test run left behind: by our own prefix and a process id that is
//! no longer alive. Others' are never touched.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::NETNS_DIR;
use super::room::{TEST_PREFIX, end_room};
use crate::process::run;

/// How often the processes inside are looked for again: a killed parent's children may appear late.
const KILL_ROUNDS: u32 = 20;

/// Kills every process inside the namespace and deletes it.
pub fn end_namespace(name: &str) -> Result<()> {
    for _ in 0..KILL_ROUNDS {
        let inside = run(Command::new("ip").args(["netns", "pids", name]))?;
        let pids: Vec<i32> = inside.lines().filter_map(|line| line.trim().parse().ok()).collect();
        // A thread of ours that is still inside keeps the namespace alive until it ends; it is not to be killed.
        let own = std::process::id().cast_signed();
        let others: Vec<i32> = pids.into_iter().filter(|pid| *pid != own).collect();
        if others.is_empty() {
            break;
        }
        for pid in others {
            // It may have ended on its own since.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(10));
    }
    run(Command::new("ip").args(["netns", "del", name])).map(drop)
}

/// Deletes namespaces and directories of test processes that no longer exist.
pub fn sweep_stale() {
    for name in stale_names(Path::new(NETNS_DIR)) {
        // Another run may sweep at the same time; what it deletes first is an error here and no harm.
        let _ = end_namespace(&name);
    }
    // The demo keeps its files under /run; so does one that a test plays.
    for parent in [env::temp_dir(), PathBuf::from("/run")] {
        for name in stale_names(&parent) {
            end_room(&parent.join(name));
        }
    }
}

/// Ends every namespace `<prefix>-...` and the files of `dir`; whether there was anything.
pub fn end_scene(prefix: &str, dir: &Path) -> bool {
    let start = format!("{prefix}-");
    let names = names_in(Path::new(NETNS_DIR), |name| name.starts_with(&start));
    let found = !names.is_empty() || dir.exists();
    for name in names {
        // What cannot be ended now is found again by the next call.
        let _ = end_namespace(&name);
    }
    end_room(dir);
    found
}

fn stale_names(directory: &Path) -> Vec<String> {
    names_in(directory, |name| {
        owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    })
}

fn names_in(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| wanted(name))
        .collect()
}

/// The process id in `xlbt<pid>-...`.
fn owner(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(TEST_PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_our_prefix_and_a_process_id_have_an_owner() {
        assert_eq!(owner("xlbt4711-0-client"), Some(4711));
        assert_eq!(owner("xlbt-client"), None);
        assert_eq!(owner("xlbt47x-0"), None);
        assert_eq!(owner("xlb-demo-client"), None);
        assert_eq!(owner("cni-4711-0"), None);
    }
}
