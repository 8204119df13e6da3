//! Replaces the config file in one step: a temporary file beside it, fsync, rename, fsync of the directory. At every
//! moment the path holds either the whole old or the whole new text.
//!
//! Killed anywhere in between, or on a full disk, it leaves the old text (tests/tests/write_back.rs kills it before and
//! after each system call and makes each of them fail).
//!
//! It refuses what a rename would break: a symlink (the link would be replaced by a file), a file without write
//! permission or with an attribute against it (someone said "do not write"), a file that is not what the agent read, one
//! that another program keeps. Each refusal has a code.

mod codes;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

pub use codes::WRITE_CODES;

use crate::config::Code;

/// A new text on disk that is not in place yet; dropped without [`Staged::commit`], it is deleted.
#[derive(Debug)]
pub struct Staged {
    target: PathBuf,
    temporary: PathBuf,
    expected: String,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Committed,
}

/// Why the file was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It is a symlink.
    #[error("config {} is a symlink; replacing it would cut the link", .0.display())]
    Symlink(PathBuf),
    /// It is a directory, device, ...
    #[error("config {} is no regular file", .0.display())]
    NotAFile(PathBuf),
    /// No one may write it.
    #[error("config {} is read-only (mode {mode:04o})", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// An attribute of the file is against it.
    #[error("config {} is immutable or append-only (lsattr {})", .0.display(), .0.display())]
    Immutable(PathBuf),
    /// Another program keeps it.
    #[error("config {} is kept by another program ({how}), which would undo the change", path.display())]
    Managed {
        /// The file.
        path: PathBuf,
        /// How that is known.
        how: String,
    },
    /// Someone else has written it.
    #[error("config {} is not what the agent has read: it was changed since", .0.display())]
    ChangedOnDisk(PathBuf),
    /// The system said no.
    #[error("config {}: {step}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What it said.
        source: io::Error,
    },
}

impl StageError {
    /// What `xlb explain` explains.
    pub fn code(&self) -> &'static Code {
        match self {
            Self::Symlink(_) => &codes::SYMLINK,
            Self::NotAFile(_) => &codes::NOT_A_FILE,
            Self::ReadOnly { .. } => &codes::READ_ONLY,
            Self::Immutable(_) => &codes::IMMUTABLE,
            Self::Managed { .. } => &codes::MANAGED,
            Self::ChangedOnDisk(_) => &codes::CHANGED,
            Self::Io { .. } => &codes::FAILED,
        }
    }
}

impl Staged {
    /// Writes `text` beside `target`, which must hold `expected`.
    pub fn write(target: &Path, expected: &str, text: &str) -> Result<Self, StageError> {
        let metadata = fs::symlink_metadata(target).map_err(io_error(target, "stat"))?;
        if metadata.file_type().is_symlink() {
            return Err(StageError::Symlink(target.to_owned()));
        }
        if !metadata.is_file() {
            return Err(StageError::NotAFile(target.to_owned()));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o222 == 0 {
            return Err(StageError::ReadOnly {
                path: target.to_owned(),
                mode,
            });
        }
        unchanged(target, expected)?;
        refuse_immutable(target)?;
        let staged = Self {
            target: target.to_owned(),
            temporary: temporary_path(target),
            expected: expected.to_owned(),
            state: State::Waiting,
        };
        let mut file = create(&staged.temporary).map_err(io_error(target, "create a file beside it"))?;
        file.write_all(text.as_bytes())
            .map_err(io_error(target, "write the new text beside it"))?;
        fchown(&file, Some(metadata.uid()), Some(metadata.gid())).map_err(io_error(target, "keep its owner"))?;
        file.set_permissions(metadata.permissions())
            .map_err(io_error(target, "keep its mode"))?;
        file.sync_all().map_err(io_error(target, "fsync the new text"))?;
        Ok(staged)
    }

    /// Puts the new text in place.
    pub fn commit(mut self) -> Result<(), StageError> {
        unchanged(&self.target, &self.expected)?;
        fs::rename(&self.temporary, &self.target).map_err(io_error(&self.target, "rename the new text into place"))?;
        self.state = State::Committed;
        let directory = self.target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let synced = File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all());
        if let Err(error) = synced {
            // The new text is in place; only its surviving a power cut is not certain.
            tracing::warn!(object = %self.target.display(), %error, "fsync of the config's directory failed");
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.state == State::Waiting {
            // Best effort: the next write replaces a leftover.
            drop(fs::remove_file(&self.temporary));
        }
    }
}

fn unchanged(target: &Path, expected: &str) -> Result<(), StageError> {
    let found = fs::read(target).map_err(io_error(target, "read"))?;
    if found == expected.as_bytes() {
        Ok(())
    } else {
        Err(StageError::ChangedOnDisk(target.to_owned()))
    }
}

/// The rename would say so, too, but only when the maps are written. Attributes stop an open for writing with EPERM, rights
/// with EACCES; those of the directory are what counts for a rename.
fn refuse_immutable(target: &Path) -> Result<(), StageError> {
    match OpenOptions::new().write(true).open(target) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(StageError::Immutable(target.to_owned())),
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
            Err(io_error(target, "look whether it may be written")(error))
        }
        _ => Ok(()),
    }
}

fn temporary_path(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.xlb-new"))
}

fn create(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match open() {
        // Left by an agent that died here; only this agent writes that name.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            open()
        }
        result => result,
    }
}

fn io_error(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> StageError {
    let path = path.to_owned();
    move |source| StageError::Io { path, step, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    fn file(directory: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = directory.path().join("xlb.toml");
        fs::write(&path, text).expect("write the test file");
        path
    }

    fn entries(directory: &tempfile::TempDir) -> usize {
        fs::read_dir(directory.path()).expect("list").count()
    }

    #[test]
    fn a_commit_replaces_the_text_and_keeps_the_mode() {
        let directory = directory();
        let path = file(&directory, "old");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        let staged = Staged::write(&path, "old", "new").expect("stage");
        assert_eq!(fs::read_to_string(&path).expect("read"), "old");
        staged.commit().expect("commit");
        assert_eq!(fs::read_to_string(&path).expect("read"), "new");
        assert_eq!(fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o640);
        assert_eq!(entries(&directory), 1);
    }

    #[test]
    fn a_drop_leaves_nothing_behind() {
        let directory = directory();
        let path = file(&directory, "old");
        drop(Staged::write(&path, "old", "new").expect("stage"));
        assert_eq!(fs::read_to_string(&path).expect("read"), "old");
        assert_eq!(entries(&directory), 1);
    }

    #[test]
    fn a_leftover_of_a_dead_agent_is_replaced() {
        let directory = directory();
        let path = file(&directory, "old");
        fs::write(temporary_path(&path), "half").expect("leftover");
        Staged::write(&path, "old", "new")
            .expect("stage")
            .commit()
            .expect("commit");
        assert_eq!(fs::read_to_string(&path).expect("read"), "new");
        assert_eq!(entries(&directory), 1);
    }

    #[test]
    fn symlinks_read_only_files_and_foreign_changes_are_refused() {
        let directory = directory();
        let path = file(&directory, "old");
        let link = directory.path().join("link.toml");
        symlink(&path, &link).expect("symlink");
        assert!(matches!(
            Staged::write(&link, "old", "new"),
            Err(StageError::Symlink(_))
        ));
        assert!(matches!(
            Staged::write(&path, "older", "new"),
            Err(StageError::ChangedOnDisk(_))
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("chmod");
        assert!(matches!(
            Staged::write(&path, "old", "new"),
            Err(StageError::ReadOnly { mode: 0o444, .. })
        ));
    }

    #[test]
    fn a_change_between_stage_and_commit_is_not_overwritten() {
        let directory = directory();
        let path = file(&directory, "old");
        let staged = Staged::write(&path, "old", "new").expect("stage");
        fs::write(&path, "theirs").expect("their write");
        assert!(matches!(staged.commit(), Err(StageError::ChangedOnDisk(_))));
        assert_eq!(fs::read_to_string(&path).expect("read"), "theirs");
        assert_eq!(entries(&directory), 1);
    }
}
