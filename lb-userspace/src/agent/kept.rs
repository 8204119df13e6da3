//! `overrides.json` in the state directory: the changes made with `--runtime`, so that they outlive the agent. It is
//! replaced as a whole or not at all; one that cannot be read is set aside and never guessed at.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::desired::{Desired, DroppedOverride, Override};
use super::names::KeptNames;

/// Of the file's shape.
const VERSION: u32 = 1;
const FILE: &str = "overrides.json";

/// The file of one agent; the state directory is locked as long as this lives.
#[derive(Debug)]
pub struct OverrideFile {
    directory: PathBuf,
    lock: Flock<File>,
}

/// What a start finds in the state directory.
#[derive(Debug)]
pub(super) struct Kept {
    /// `None`: it cannot be used.
    pub(super) file: Option<OverrideFile>,
    /// Of the last agent.
    pub(super) overrides: Vec<Override>,
    /// What the last agent told of as dropped.
    pub(super) dropped: Vec<DroppedOverride>,
    /// Addresses of names, of the last agent.
    pub(super) names: KeptNames,
    /// What the log and the status should say.
    pub(super) warnings: Vec<String>,
}

/// Why the overrides are not kept, or not read.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The system said no.
    #[error("{}: {step}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// Another agent has the directory.
    #[error("state directory {} is another agent's; give each its own [agent] state_dir", .0.display())]
    Taken(PathBuf),
    /// The file's text means nothing here; it was set aside.
    #[error("{} was set aside as {}: {why}; what is in it is not in force", path.display(), aside.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        aside: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    overrides: Vec<Override>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dropped: Vec<DroppedOverride>,
}

/// What [`OverrideFile::read`] finds: those in force, and those that were dropped and are still told of.
pub(crate) type KeptOverrides = (Vec<Override>, Vec<DroppedOverride>);

/// Read before the rest: a later version may have another shape.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl Kept {
    /// Looks; nothing there, or nothing usable, does not stop a start.
    pub(super) fn open(directory: &Path) -> Self {
        let unusable = |error: KeepError| Self {
            file: None,
            overrides: Vec::new(),
            dropped: Vec::new(),
            names: KeptNames::default(),
            warnings: vec![format!("changes made with --runtime end with the agent: {error}")],
        };
        let file = match OverrideFile::open(directory) {
            Ok(file) => file,
            Err(error) => return unusable(error),
        };
        let ((overrides, dropped), warnings) = match file.read() {
            Ok(kept) => (kept, Vec::new()),
            Err(error @ KeepError::Corrupt { .. }) => (KeptOverrides::default(), vec![error.to_string()]),
            // It must not be overwritten by those that come.
            Err(error) => return unusable(error),
        };
        let (names, unreadable) = KeptNames::open(&file);
        Self {
            file: Some(file),
            overrides,
            dropped,
            names,
            warnings: warnings.into_iter().chain(unreadable).collect(),
        }
    }

    /// Those that did not fit are no overrides any more (a backend that comes back much later is another one), and are told of
    /// until somebody has seen to them.
    pub(super) fn note_dropped(&mut self, desired: &Desired) {
        if let Some(file) = self.file.as_ref().filter(|_| desired.dropped != self.dropped)
            && let Err(error) = file.write(&desired.overrides, &desired.dropped)
        {
            self.warnings.push(error.to_string());
        }
    }
}

impl OverrideFile {
    /// Makes the state directory where it is missing, and takes it for this process.
    ///
    /// # Errors
    /// When it cannot be made or opened, or another agent has it.
    pub fn open(directory: &Path) -> Result<Self, KeepError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(directory)
            .map_err(io_error(directory, "make the state directory"))?;
        let opened = File::open(directory).map_err(io_error(directory, "open the state directory"))?;
        match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self {
                directory: directory.to_owned(),
                lock,
            }),
            Err((_, Errno::EWOULDBLOCK)) => Err(KeepError::Taken(directory.to_owned())),
            Err((_, error)) => Err(io_error(directory, "lock the state directory")(error.into())),
        }
    }

    /// What was written last; nothing when nothing was.
    ///
    /// # Errors
    /// [`KeepError::Corrupt`] when it means nothing here (the file is set aside then), [`KeepError::Io`] when it cannot be
    /// read (the file stays).
    pub(crate) fn read(&self) -> Result<KeptOverrides, KeepError> {
        Ok(read(&self.directory, FILE, parse)?.unwrap_or_default())
    }

    /// The state directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Replaces what was written: temporary file, fsync, rename, fsync of the directory.
    ///
    /// # Errors
    /// When the system refuses; the old file is in place then.
    pub fn write(&self, overrides: &[Override], dropped: &[DroppedOverride]) -> Result<(), KeepError> {
        let document = Document {
            version: VERSION,
            overrides: overrides.to_vec(),
            dropped: dropped.to_vec(),
        };
        replace(&self.directory, FILE, &document)?;
        self.lock.sync_all().map_err(io_error(&self.directory, "fsync"))
    }

    #[cfg(test)]
    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }
}

/// Reads a file of the state directory; `None` where there is none. One that `parse` cannot read is set aside.
pub(super) fn read<T>(
    directory: &Path,
    file: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<Option<T>, KeepError> {
    let path = directory.join(file);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(&path, "read")(error)),
    };
    match parse(&bytes) {
        Ok(read) => Ok(Some(read)),
        Err(why) => {
            let aside = directory.join(format!("{file}.bad"));
            fs::rename(&path, &aside).map_err(io_error(&path, "set the unreadable file aside"))?;
            Err(KeepError::Corrupt { path, aside, why })
        }
    }
}

/// Replaces a file of the state directory as a whole: temporary file, fsync, rename. The fsync of the directory is the
/// caller's.
pub(super) fn replace(directory: &Path, file: &str, document: &impl Serialize) -> Result<(), KeepError> {
    let path = directory.join(file);
    let mut text = serde_json::to_vec_pretty(document).map_err(|error| io_error(&path, "encode")(error.into()))?;
    text.push(b'\n');
    let temporary = directory.join(format!(".{file}.new"));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(&temporary)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    written.map_err(io_error(&temporary, "write"))?;
    fs::rename(&temporary, &path).map_err(io_error(&path, "rename the new text into place"))
}

fn parse(bytes: &[u8]) -> Result<KeptOverrides, String> {
    let wrong = |error: serde_json::Error| error.to_string();
    let head: Head = serde_json::from_slice(bytes).map_err(wrong)?;
    if head.version != VERSION {
        return Err(format!("it has version {}, this xlb reads {VERSION}", head.version));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(wrong)?;
    Ok((document.overrides, document.dropped))
}

pub(super) fn io_error(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> KeepError {
    let path = path.to_owned();
    move |source| KeepError::Io { path, step, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Change;
    use crate::config::write_back::BackendSetting;
    use crate::config::{AdminState, Mode};
    use crate::view::{BackendSpec, CheckSpec, ServiceSpec, Timestamp};

    fn overrides() -> Vec<Override> {
        let changes = [
            Change::Add {
                service: "web".to_owned(),
                name: None,
                address: "2001:db8::9".parse().expect("an address"),
                port: Some(8080),
                weight: None,
            },
            Change::Set {
                service: "web".to_owned(),
                backend: "a".to_owned(),
                setting: BackendSetting::State(AdminState::Drain),
            },
            Change::Set {
                service: "web".to_owned(),
                backend: "b".to_owned(),
                setting: BackendSetting::Weight(7),
            },
            Change::Remove {
                service: "dns".to_owned(),
                backend: "10.0.0.1:53".to_owned(),
            },
            Change::AddService {
                service: ServiceSpec {
                    name: "mail".to_owned(),
                    vip: vec!["203.0.113.10".parse().expect("an address")],
                    port: 25,
                    protocol: None,
                    mode: Some(Mode::FullNat),
                    internal_port: Some(2525),
                    check: Some(CheckSpec::Tcp {}),
                    backends: vec![BackendSpec {
                        name: None,
                        address: "10.0.0.9".parse().expect("an address"),
                        port: None,
                        weight: Some(0),
                    }],
                },
            },
            Change::RemoveService {
                service: "old".to_owned(),
            },
        ];
        let by_us = |change| Override {
            change,
            by: "api uid 0 pid 7".to_owned(),
            at: Timestamp { unix_s: 1_000_000_000 },
        };
        changes.into_iter().map(by_us).collect()
    }

    fn dropped() -> Vec<DroppedOverride> {
        let change = overrides().swap_remove(1);
        let why = "no backend a in service web; it has: b".to_owned();
        vec![DroppedOverride { change, why }]
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let room = tempfile::tempdir().expect("a temporary directory");
        let directory = room.path().join("lib").join("xlb");
        (room, directory)
    }

    #[test]
    fn what_is_written_is_read_by_the_next_agent() {
        let (_room, directory) = place();
        let file = OverrideFile::open(&directory).expect("made and taken");
        assert_eq!(file.read().expect("nothing yet"), KeptOverrides::default());
        file.write(&overrides(), &dropped()).expect("written");
        drop(file);
        let file = OverrideFile::open(&directory).expect("taken again");
        assert_eq!(file.read().expect("read"), (overrides(), dropped()));
        file.write(&[], &[]).expect("written");
        assert_eq!(file.read().expect("read"), KeptOverrides::default());
        assert_eq!(
            fs::read_dir(&directory).expect("list").count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn the_shape_of_version_1_stays() {
        let (_room, directory) = place();
        let file = OverrideFile::open(&directory).expect("made and taken");
        file.write(&overrides(), &dropped()).expect("written");
        insta::assert_snapshot!(fs::read_to_string(file.path()).expect("text"));
    }

    #[test]
    fn a_file_that_means_nothing_is_set_aside_and_said() {
        let (_room, directory) = place();
        let file = OverrideFile::open(&directory).expect("made and taken");
        for (text, why) in [
            ("{\"version\":1,\"overrides\":[{\"act", "EOF while parsing"),
            ("", "EOF while parsing"),
            ("{\"version\":2,\"later\":{}}", "it has version 2, this xlb reads 1"),
            (
                "{\"version\":1,\"overrides\":[{\"action\":\"dance\"}]}",
                "missing field `by`",
            ),
        ] {
            fs::write(file.path(), text).expect("write");
            let error = file.read().expect_err("no overrides").to_string();
            assert!(
                error.contains(why) && error.contains("overrides.json.bad"),
                "{text}: {error}"
            );
            assert_eq!(
                fs::read_to_string(directory.join("overrides.json.bad")).expect("kept"),
                text
            );
            assert_eq!(file.read().expect("nothing left"), KeptOverrides::default());
        }
    }

    #[test]
    fn a_start_goes_on_without_what_cannot_be_read() {
        let (room, directory) = place();
        OverrideFile::open(&directory)
            .expect("made and taken")
            .write(&overrides(), &dropped())
            .expect("written");
        let kept = Kept::open(&directory);
        assert_eq!(
            (kept.overrides, kept.dropped, kept.warnings),
            (overrides(), dropped(), Vec::new())
        );
        drop(kept.file);
        fs::write(directory.join(FILE), "{").expect("write");
        let kept = Kept::open(&directory);
        assert_eq!((kept.overrides.len(), kept.warnings.len()), (0, 1));
        assert!(kept.file.is_some(), "new ones are kept");
        let nowhere = room.path().join("file");
        fs::write(&nowhere, "").expect("write");
        let kept = Kept::open(&nowhere);
        assert!(kept.file.is_none());
        assert!(
            kept.warnings[0].starts_with("changes made with --runtime end with the agent: "),
            "{:?}",
            kept.warnings
        );
    }

    #[test]
    fn two_agents_do_not_share_a_directory() {
        let (_room, directory) = place();
        let _first = OverrideFile::open(&directory).expect("made and taken");
        let second = OverrideFile::open(&directory).expect_err("taken");
        assert!(matches!(second, KeepError::Taken(_)), "{second}");
    }

    #[test]
    fn a_failed_write_keeps_the_old_text() {
        let (_room, directory) = place();
        let file = OverrideFile::open(&directory).expect("made and taken");
        file.write(&overrides(), &dropped()).expect("written");
        // A directory in the way of the temporary file: root is refused, too.
        fs::create_dir(directory.join(".overrides.json.new")).expect("mkdir");
        assert!(file.write(&[], &[]).is_err());
        assert_eq!(file.read().expect("read"), (overrides(), dropped()));
    }
}
