//! The config file, watched: a change of its content is reloaded as SIGHUP would. Decides only *when* to look; what the
//! file says is [`Admin::reload`]'s business.
//!
//! It watches the file's directory and never resolves links: an editor replaces the file by renaming another over it, and
//! a Kubernetes ConfigMap swaps a link beside it (`..data`), neither of which a watch on the file itself would see.
//! Content is compared, so that our own write-back, a `touch` or a chmod is no change. A slow look at the file's identity
//! sees what events do not tell: a link's target in another directory, network file systems, a directory made anew.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::admin::{Admin, Caller};
use super::desired::read_config;

/// A writer that is silent for this long has finished.
const QUIET: Duration = Duration::from_millis(150);
/// One that never is gets looked at this often.
const MOST: Duration = Duration::from_secs(2);
/// Looks without events this often.
const POLL: Duration = Duration::from_secs(5);

/// Watches until the process ends.
pub(super) async fn run(path: PathBuf, admin: Arc<Admin>) {
    let (sender, mut events) = mpsc::channel(1);
    let mut follower = Follower::new(path, admin);
    let mut eyes = Eyes::open(&follower.path, &sender);
    loop {
        // The sender is ours, so this ends by an event or by the time.
        if timeout(POLL, events.recv()).await.is_ok() {
            settle(&mut events).await;
        } else {
            eyes.check(&follower.path, &sender);
            if !follower.moved() {
                continue;
            }
        }
        follower.look().await;
    }
}

/// Waits until the writers are done, or have had their time.
async fn settle(events: &mut mpsc::Receiver<()>) {
    let last = Instant::now() + MOST;
    while Instant::now() < last {
        let quiet = timeout_at(last.min(Instant::now() + QUIET), events.recv()).await;
        if quiet.is_err() {
            return;
        }
    }
}

/// What the newest look found, where it was not what runs.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    Text(Vec<u8>),
    Unreadable(io::ErrorKind),
}

struct Follower {
    path: PathBuf,
    admin: Arc<Admin>,
    identity: Option<Identity>,
    refused: Option<Refused>,
}

/// What tells two states of a file apart without reading it: device, inode, size, time of change.
type Identity = (u64, u64, u64, i64, i64);

fn identity(path: &Path) -> Option<Identity> {
    let of = |found: Metadata| {
        (
            found.dev(),
            found.ino(),
            found.size(),
            found.ctime(),
            found.ctime_nsec(),
        )
    };
    fs::metadata(path).ok().map(of)
}

impl Follower {
    fn new(path: PathBuf, admin: Arc<Admin>) -> Self {
        Self {
            identity: identity(&path),
            refused: None,
            path,
            admin,
        }
    }

    /// Whether the file is another one than at the last look.
    fn moved(&self) -> bool {
        identity(&self.path) != self.identity
    }

    /// Reloads when the file holds something that neither runs nor was refused already.
    async fn look(&mut self) {
        self.identity = identity(&self.path);
        // Twice: a write-back may end between reading the file and asking for what runs.
        if self.news().await.is_none() {
            return;
        }
        let Some(found) = self.news().await else { return };
        let result = self.admin.reload(&Caller::agent("file change")).await;
        self.refused = result.is_err().then_some(found);
    }

    /// What the file holds, unless that is known.
    async fn news(&mut self) -> Option<Refused> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read_config(&path)).await.ok()?;
        let found = match read {
            Ok(bytes) => Refused::Text(bytes),
            Err(error) => Refused::Unreadable(error.kind()),
        };
        let running = self.admin.running().await;
        if !running.config.agent.watch || self.refused.as_ref() == Some(&found) {
            return None;
        }
        let runs = matches!(&found, Refused::Text(bytes) if bytes == running.text.as_bytes());
        // A bad file that was set back: the reload takes the error away.
        let cured = runs && self.admin.last_error().is_some();
        (!runs || cured).then_some(found)
    }
}

/// The kernel's eyes on the directory.
struct Eyes {
    watcher: Option<RecommendedWatcher>,
    directory: Option<(u64, u64)>,
    complained: bool,
}

impl Eyes {
    fn open(config: &Path, sender: &mpsc::Sender<()>) -> Self {
        let mut eyes = Self {
            watcher: None,
            directory: None,
            complained: false,
        };
        eyes.check(config, sender);
        eyes
    }

    /// Watches the directory unless it is watched already; one that was made anew is another.
    fn check(&mut self, config: &Path, sender: &mpsc::Sender<()>) {
        let directory = directory_of(config);
        let found = fs::metadata(directory).map(|found| (found.dev(), found.ino())).ok();
        if found == self.directory && self.watcher.is_some() {
            return;
        }
        self.directory = found;
        match watch(directory, sender.clone()) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                self.watcher = None;
                if !std::mem::replace(&mut self.complained, true) {
                    let cause = format!("{error}; the file is looked at every {} s instead", POLL.as_secs());
                    tracing::warn!(object = %directory.display(), old = "unwatched", new = "unwatched", cause, "config directory");
                }
            }
        }
    }
}

fn watch(directory: &Path, sender: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error is a lost event (queue overflow): look. A full channel: somebody will look anyway.
        if event.is_ok_and(|event| !changes(event.kind)) {
            return;
        }
        let _ = sender.try_send(());
    })?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Reading is no change, and our own look must not wake itself.
fn changes(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// The directory that a file's name stands in.
pub(super) fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
