//! Nothing is lost: a write-back that is killed at any of its system calls, or that one of them fails, leaves the old
//! text or the new one, whole, and nothing that is in the way of the next.
//!
//! strace delivers SIGKILL when a call is entered, which the kernel then skips. So the kill before a call is the kill after the
//! one before it, and the calls that are killed go on to the end of the process.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use xlb_tests::require;

const OLD: &str = "# old\n";
const SIGKILL: i32 = 9;

/// A directory with the config and the text that is to replace it.
struct Place {
    directory: tempfile::TempDir,
    new: String,
}

impl Place {
    fn new() -> Result<Self> {
        let place = Self {
            directory: tempfile::tempdir().context("a temporary directory")?,
            // Longer than a page, so that half of it could be told from all of it.
            new: format!("# new\n{}", "# the same line again and again\n".repeat(500)),
        };
        fs::create_dir(place.directory.path().join("etc")).context("make etc")?;
        fs::write(place.text(), &place.new).context("write the new text")?;
        place.reset()?;
        Ok(place)
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("etc/xlb.toml")
    }

    fn text(&self) -> PathBuf {
        self.directory.path().join("new.toml")
    }

    fn reset(&self) -> Result<()> {
        fs::write(self.config(), OLD).context("write the old text")
    }

    /// Runs one write-back, `prefix` before its command.
    fn write_back(&self, prefix: &[&str]) -> Result<Output> {
        let own = env!("CARGO_BIN_EXE_xlb-write-back");
        let mut words = prefix.iter().copied().chain([own]);
        let mut command = Command::new(words.next().context("a program")?);
        command.args(words).arg(self.config()).arg(self.text());
        let output = command.stdin(Stdio::null()).output();
        output.with_context(|| format!("run {command:?}"))
    }

    fn strace(&self, inject: &str) -> Result<Output> {
        let log = self.directory.path().join("strace.log");
        self.write_back(&["strace", "-o", &log.to_string_lossy(), "-e", inject])
    }

    /// `true`: the new text; `false`: the old one.
    fn is_new(&self) -> Result<bool> {
        let found = fs::read_to_string(self.config()).context("read the config")?;
        ensure!(
            found == OLD || found == self.new,
            "neither old nor new: {} bytes: {found:.40?}",
            found.len()
        );
        Ok(found == self.new)
    }

    /// Names beside the config.
    fn others(&self) -> Result<Vec<PathBuf>> {
        let directory = self.config().parent().map(Path::to_owned).context("a parent")?;
        let entries = fs::read_dir(directory).context("list")?;
        let paths = entries.map(|entry| Ok(entry?.path()));
        let paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
        Ok(paths.into_iter().filter(|path| *path != self.config()).collect())
    }
}

/// The calls of one write-back, in order, each as (name, how many of that name came before it in the process, and one).
fn calls(place: &Place) -> Result<Vec<(String, usize)>> {
    let log = place.directory.path().join("calls.log");
    let output = place.write_back(&["strace", "-o", &log.to_string_lossy()])?;
    ensure!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(&log).context("read strace's log")?;
    let config = place.config().to_string_lossy().into_owned();
    let mut counts = BTreeMap::<String, usize>::new();
    let mut found = Vec::new();
    let mut begun = false;
    for line in text.lines() {
        let Some((name, arguments)) = line.split_once('(') else {
            continue;
        };
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        begun |= name != "execve" && arguments.contains(&config);
        if begun {
            found.push((name.to_owned(), *count));
        }
    }
    Ok(found)
}

#[test]
fn killed_at_any_system_call_it_leaves_the_old_or_the_new_text() -> Result<()> {
    require!("strace");
    let place = Place::new()?;
    let calls = calls(&place)?;
    for needed in ["openat", "write", "fsync", "rename", "close", "exit_group"] {
        ensure!(calls.iter().any(|(name, _)| name == needed), "no {needed} in {calls:?}");
    }
    let mut after = Vec::new();
    for (name, count) in &calls {
        place.reset()?;
        let output = place.strace(&format!("inject={name}:signal=SIGKILL:when={count}"))?;
        ensure!(
            output.status.signal() == Some(SIGKILL),
            "{name} {count}: not killed: {output:?}"
        );
        let is_new = place.is_new().with_context(|| format!("killed at {name} {count}"))?;
        after.push((name.as_str(), is_new));
        // The next agent writes without help.
        place.reset()?;
        let next = place.write_back(&[])?;
        ensure!(next.status.success(), "after a kill at {name} {count}: {next:?}");
        ensure!(place.is_new()?, "after a kill at {name} {count}");
        let others = place.others()?;
        ensure!(others.is_empty(), "after a kill at {name} {count}: {others:?}");
    }
    // One step divides them, and it is the rename.
    let steps = after.windows(2).filter(|pair| pair[0].1 != pair[1].1);
    let steps: Vec<_> = steps.map(|pair| (pair[0], pair[1])).collect();
    ensure!(
        matches!(steps.as_slice(), [(("rename", false), (_, true))]),
        "{after:?}"
    );
    Ok(())
}

#[test]
fn a_system_call_that_fails_is_an_error_with_nothing_changed() -> Result<()> {
    require!("strace");
    let place = Place::new()?;
    let calls = calls(&place)?;
    let first = |name: &str| {
        let found = calls.iter().find(|(known, _)| known == name);
        found
            .map(|(_, count)| *count)
            .with_context(|| format!("no {name} in {calls:?}"))
    };
    // The fourth open is the new file's: the first reads the config, `Staged` reads it again and looks whether it may be
    // written.
    let opens: Vec<usize> = calls
        .iter()
        .filter(|(name, _)| name == "openat")
        .map(|(_, count)| *count)
        .collect();
    let may = *opens.get(2).with_context(|| format!("opens: {opens:?}"))?;
    let create = *opens.get(3).with_context(|| format!("opens: {opens:?}"))?;
    for (name, count, error, step) in [
        ("openat", may, "EPERM", "is immutable or append-only"),
        ("openat", may, "EROFS", "look whether it may be written"),
        ("openat", create, "ENOSPC", "create a file beside it"),
        ("write", first("write")?, "ENOSPC", "write the new text beside it"),
        ("write", first("write")?, "EDQUOT", "write the new text beside it"),
        ("fchown", first("fchown")?, "EPERM", "keep its owner"),
        ("fchmod", first("fchmod")?, "EPERM", "keep its mode"),
        ("fsync", first("fsync")?, "ENOSPC", "fsync the new text"),
        ("fsync", first("fsync")?, "EIO", "fsync the new text"),
        ("rename", first("rename")?, "ENOSPC", "rename the new text into place"),
    ] {
        place.reset()?;
        let output = place.strace(&format!("inject={name}:error={error}:when={count}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{name} {error}: {output:?}");
        ensure!(
            said.contains(step) && said.contains("xlb.toml"),
            "{name} {error}: {said}"
        );
        ensure!(!place.is_new()?, "{name} {error}: the text was changed");
        let others = place.others()?;
        ensure!(others.is_empty(), "{name} {error}: left {others:?}");
    }
    // The new text is in place by then; that it may not survive a power cut is a warning.
    place.reset()?;
    let directory = first("fsync")? + 1;
    let output = place.strace(&format!("inject=fsync:error=EIO:when={directory}"))?;
    ensure!(output.status.success() && place.is_new()?, "{output:?}");
    Ok(())
}

/// Takes the attribute away, or the directory could not be removed.
struct Immutable(PathBuf);

impl Immutable {
    /// `None`: the file system has no attributes.
    fn set(path: &Path) -> Result<Option<Self>> {
        let output = Command::new("chattr")
            .arg("+i")
            .arg(path)
            .output()
            .context("run chattr")?;
        Ok(output.status.success().then(|| Self(path.to_owned())))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        // The test has its verdict by then.
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn an_immutable_file_is_refused_before_anything_is_written() -> Result<()> {
    require!("chattr");
    let place = Place::new()?;
    let Some(immutable) = Immutable::set(&place.config())? else {
        xlb_tests::skip::skip(
            "an_immutable_file",
            "the file system of temporary files has no attributes",
        );
        return Ok(());
    };
    let output = place.write_back(&[])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1) && said.contains("is immutable or append-only (lsattr "),
        "{said}"
    );
    ensure!(!place.is_new()? && place.others()?.is_empty(), "something was written");
    drop(immutable);
    ensure!(
        place.write_back(&[])?.status.success() && place.is_new()?,
        "without the attribute it is written"
    );
    Ok(())
}

/// A file system of 64 KiB, gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Result<Self> {
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("size=64k"))
            .with_context(|| format!("mount a tmpfs at {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The directory below is a temporary one in any case.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_is_an_error_and_not_an_empty_config() -> Result<()> {
    require!();
    let place = Place::new()?;
    let _disk = SmallDisk::mount(&place.directory.path().join("etc"))?;
    place.reset()?;
    let filler = place.config().with_file_name("filler");
    let page = [b'x'; 4096];
    let mut file = fs::File::create(&filler).context("create the filler")?;
    while std::io::Write::write_all(&mut file, &page).is_ok() {}
    drop(file);

    let output = place.write_back(&[])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1) && said.contains("No space left on device"),
        "{output:?}"
    );
    ensure!(!place.is_new()?);
    ensure!(place.others()? == [filler.clone()], "{:?}", place.others()?);

    fs::remove_file(&filler).context("make room")?;
    let output = place.write_back(&[])?;
    ensure!(output.status.success() && place.is_new()?, "{output:?}");
    Ok(())
}
