//! Writes a new config file whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::cli::exit::CliError;

/// Whether a file that is there may be written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overwrite {
    Never,
    Force,
}

/// Writes `text` to `path` through a file beside it.
pub(super) fn write(path: &Path, text: &str, overwrite: Overwrite) -> Result<(), CliError> {
    // Where the file is a link, what it leads to is replaced, and not the link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let beside = beside(&target);
    let written = create(&beside, text).and_then(|()| match overwrite {
        Overwrite::Never => fs::hard_link(&beside, &target),
        Overwrite::Force => fs::rename(&beside, &target),
    });
    // Gone already where it was renamed.
    let _ = fs::remove_file(&beside);
    written.map_err(|error| refused(path, &error))
}

fn beside(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".init-{}", std::process::id()));
    target.with_file_name(name)
}

fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn refused(path: &Path, error: &io::Error) -> CliError {
    let shown = path.display();
    match error.kind() {
        ErrorKind::AlreadyExists => CliError::Problem(format!(
            "{shown} is there already and was left as it is\n  next: name another file, or overwrite it with --force"
        )),
        ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(path).display();
            CliError::Problem(format!("write {shown}: {error}\n  next: mkdir -p {directory}"))
        }
        ErrorKind::PermissionDenied => CliError::NotPermitted(format!(
            "write {shown}: {error}\n  next: run as a user that may write there, or name another file"
        )),
        _ => CliError::Problem(format!("write {shown}: {error}\n  next: name another file")),
    }
}
