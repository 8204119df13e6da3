//! The config file, watched: a change of its content is reloaded as SIGHUP would. Decides only *when* to look; what the
//! file says is [`Admin::reload`]'s business.
//!
//! It watches the file's directory and never resolves links: an editor replaces the file by renaming another over it, and
//! a Kubernetes ConfigMap swaps a link beside it (`..data`), neither of which a watch on the file itself would see.
//! Content is compared, so that our own write-back, a `touch` or a chmod is no change. A slow look at the file's identity
//! sees what events do not tell: a link's target in another directory, network file systems, a directory made anew.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout};

use super::admin::{Admin, Caller};
use super::desired::read_config;

/// A file that nobody has changed for this long is finished.
const QUIET: Duration = Duration::from_millis(150);
/// One that never is gets looked at this often.
const MOST: Duration = Duration::from_secs(2);
/// Looks without events this often.
const POLL: Duration = Duration::from_secs(5);

/// Watches until the process ends.
pub(super) async fn run(path: PathBuf, admin: Arc<Admin>) {
    let mut follower = Follower::new(path, admin);
    let mut eyes = Eyes::default();
    eyes.check(&follower.path);
    loop {
        let woken = timeout(POLL, eyes.changed()).await.is_ok();
        let settled = if woken || follower.moved() {
            settle(&follower.path).await
        } else {
            true
        };
        eyes.check(&follower.path);
        if follower.moved() || follower.is_unreadable() {
            follower.look().await;
        }
        if !settled {
            // It may have changed again within one tick of the file system's clock: look once more.
            follower.identity = None;
        }
    }
}

/// Waits until the file has been one and the same for a while, as an event says that something happened, not that it is
/// over. False: its writers have had their time.
async fn settle(path: &Path) -> bool {
    let last = Instant::now() + MOST;
    let mut seen = identity(path);
    while Instant::now() < last {
        sleep(QUIET).await;
        let now = identity(path);
        if now == seen {
            return true;
        }
        seen = now;
    }
    false
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
            // None yet: the file may have changed since the agent read it at its start.
            identity: None,
            refused: None,
            path,
            admin,
        }
    }

    /// Whether the file is another one than at the last look.
    fn moved(&self) -> bool {
        identity(&self.path) != self.identity
    }

    /// Whether the newest look could not read it; that may end without a change of the file itself.
    fn is_unreadable(&self) -> bool {
        matches!(self.refused, Some(Refused::Unreadable(_)))
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
#[derive(Default)]
struct Eyes {
    watch: Option<AsyncFd<Watch>>,
    directory: Option<(u64, u64)>,
    complained: bool,
}

impl Eyes {
    /// Watches the directory unless it is watched already; one that was made anew is another.
    fn check(&mut self, config: &Path) {
        let directory = directory_of(config);
        let found = fs::metadata(directory).map(|found| (found.dev(), found.ino())).ok();
        if found == self.directory && self.watch.is_some() {
            return;
        }
        self.directory = found;
        match watch(directory) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => {
                self.watch = None;
                if !std::mem::replace(&mut self.complained, true) {
                    let cause = format!("{error}; the file is looked at every {} s instead", POLL.as_secs());
                    tracing::warn!(object = %directory.display(), old = "unwatched", new = "unwatched", cause, "config directory");
                }
            }
        }
    }

    /// Ends when something happened in the directory, and never where it is not watched.
    async fn changed(&mut self) {
        let Some(watch) = &self.watch else {
            return std::future::pending().await;
        };
        let gone = AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_UNMOUNT;
        let taken = watch.async_io(Interest::READABLE, |watch| Ok(watch.0.read_events()?));
        // Which file it was does not matter. A watch that fails, or whose directory is another one now, is made anew.
        if taken
            .await
            .is_ok_and(|events| !events.iter().any(|event| event.mask.intersects(gone)))
        {
            return;
        }
        self.watch = None;
    }
}

/// inotify's descriptor, as tokio wants it.
struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

fn watch(directory: &Path) -> io::Result<AsyncFd<Watch>> {
    // Not MODIFY: a neighbour that is written all the time must not wake us. (The notify crate has no choice of events.)
    let what = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        // A file that may be read now.
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    inotify.add_watch(directory, what)?;
    // SAFETY: the descriptor stays open, and inotify's, until it is dropped, and AsyncFd owns it.
    let watch = unsafe { AsyncFd::register_with_interest(Watch(inotify), Interest::READABLE) };
    Ok(watch?)
}

/// The directory that a file's name stands in.
pub(super) fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_file_that_is_being_written_wakes_nobody_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("xlb.toml");
        let mut eyes = Eyes::default();
        eyes.check(&config);
        let mut neighbour = fs::File::create(directory.path().join("neighbour.log")).unwrap();
        timeout(SOON, eyes.changed()).await.expect("a new file is seen");
        for _ in 0..100 {
            neighbour.write_all(b"a line\n").unwrap();
            neighbour.flush().unwrap();
        }
        assert!(timeout(QUIET, eyes.changed()).await.is_err(), "woken by a write");
        drop(neighbour);
        timeout(SOON, eyes.changed()).await.expect("its end is seen");
        fs::rename(directory.path().join("neighbour.log"), &config).unwrap();
        timeout(SOON, eyes.changed()).await.expect("a rename is seen");
        fs::remove_file(&config).unwrap();
        timeout(SOON, eyes.changed()).await.expect("a removal is seen");
    }

    #[tokio::test]
    async fn a_directory_that_was_made_anew_is_watched_anew() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("etc");
        let config = directory.join("xlb.toml");
        fs::create_dir(&directory).unwrap();
        let mut eyes = Eyes::default();
        eyes.check(&config);
        // Again and again: a file system may give the new one the inode of the old one.
        for _ in 0..5 {
            fs::remove_dir_all(&directory).unwrap();
            fs::create_dir(&directory).unwrap();
            timeout(SOON, eyes.changed()).await.expect("its going is seen");
            eyes.check(&config);
            fs::write(&config, "").unwrap();
            timeout(SOON, eyes.changed()).await.expect("the new one's file is seen");
        }
    }

    #[tokio::test]
    async fn a_file_that_somebody_still_writes_is_not_settled() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("xlb.toml");
        let mut file = fs::File::create(&config).unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            let (mut longest, mut newest) = (Duration::ZERO, std::time::Instant::now());
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                file.write_all(b"# a line\n").unwrap();
                longest = longest.max(newest.elapsed());
                newest = std::time::Instant::now();
                std::thread::sleep(Duration::from_millis(5));
            }
            longest
        });
        let ended = timeout(QUIET * 4, settle(&config)).await;
        drop(stop);
        let longest_pause = writer.join().unwrap();
        // A writer that the machine held up for so long has paused.
        assert!(
            ended.is_err() || longest_pause > QUIET / 2,
            "settled beside a writer that pauses for {longest_pause:?} at most"
        );
        assert!(timeout(SOON, settle(&config)).await.unwrap(), "it is finished now");
    }

    #[tokio::test]
    async fn a_file_whose_writers_never_end_is_looked_at_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("xlb.toml");
        // Another file at each look.
        let turns = async {
            loop {
                fs::write(directory.path().join("next"), "").unwrap();
                fs::rename(directory.path().join("next"), &config).unwrap();
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = turns => {}
            settled = timeout(SOON, settle(&config)) => settled.map(drop).unwrap(),
        }
    }
}
