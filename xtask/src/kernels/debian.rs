//! Debian's kernel packages: which there are, and what of one a machine boots with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// One kernel package.
pub(super) struct Kernel {
    /// Its first two numbers: what a verifier is known by.
    pub(super) series: String,
    /// Its name.
    pub(super) package: String,
    /// All numbers of its name.
    numbers: Vec<u32>,
}

/// What is taken out of a package.
pub(super) struct Files {
    /// The kernel.
    pub(super) kernel: PathBuf,
    /// The module of veth, which these kernels do not have built in.
    pub(super) veth: PathBuf,
}

/// The newest kernel of each series that apt offers; of these series, where some are named.
pub(super) fn newest(series: &[String]) -> Result<Vec<Kernel>> {
    let mut search = Command::new("apt-cache");
    search.args(["search", "--names-only", "^linux-image-[0-9].*-cloud-amd64$"]);
    let list = command::output(&mut search)?;
    let mut kernels: Vec<Kernel> = list.lines().filter_map(parse).collect();
    kernels.sort_by(|a, b| a.numbers.cmp(&b.numbers));
    let mut newest: Vec<Kernel> = Vec::new();
    for kernel in kernels {
        if newest.last().is_some_and(|last| last.series == kernel.series) {
            newest.pop();
        }
        newest.push(kernel);
    }
    let offered: Vec<String> = newest.iter().map(|kernel| kernel.series.clone()).collect();
    if let Some(unknown) = series.iter().find(|wanted| !offered.contains(wanted)) {
        bail!(
            "apt offers no kernel of series {unknown}; it has {}",
            offered.join(", ")
        );
    }
    if !series.is_empty() {
        newest.retain(|kernel| series.contains(&kernel.series));
    }
    if newest.is_empty() {
        bail!("apt offers no package linux-image-*-cloud-amd64; run 'apt-get update', or see apt's sources");
    }
    Ok(newest)
}

/// A package by a line of apt's list. A series' own package ("linux-image-6.12-cloud-amd64") holds no kernel.
fn parse(line: &str) -> Option<Kernel> {
    let package = line.split(' ').next()?;
    let version = package.strip_prefix("linux-image-")?.strip_suffix("-cloud-amd64")?;
    let (upstream, rest) = version.split_at(version.find(['-', '+']).unwrap_or(version.len()));
    let mut numbers = numbers(upstream);
    let [major, minor, _, ..] = numbers[..] else {
        return None;
    };
    numbers.extend(self::numbers(rest));
    Some(Kernel {
        series: format!("{major}.{minor}"),
        package: package.to_owned(),
        numbers,
    })
}

fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// Downloads and unpacks a package, once.
pub(super) fn fetch(kernel: &Kernel, directory: &Path) -> Result<Files> {
    let own = directory.join(&kernel.package);
    if !own.is_dir() {
        let unpacked = directory.join(format!("{}.new", kernel.package));
        if unpacked.exists() {
            // Of a run that was interrupted.
            fs::remove_dir_all(&unpacked).with_context(|| format!("remove {}", unpacked.display()))?;
        }
        fs::create_dir_all(&unpacked).with_context(|| format!("make {}", unpacked.display()))?;
        let mut download = Command::new("apt-get");
        download.args(["download", &kernel.package]).current_dir(&unpacked);
        command::run_with_progress(&format!("apt-get download {}", kernel.package), &mut download)?;
        let archive = find(&unpacked, &|name| {
            Path::new(name).extension().is_some_and(|extension| extension == "deb")
        })?;
        command::output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&unpacked))?;
        fs::rename(&unpacked, &own).with_context(|| format!("rename {}", unpacked.display()))?;
    }
    let veth = find(&own.join("lib/modules"), &|name| name.starts_with("veth.ko"))?;
    if veth.extension().is_some_and(|extension| extension == "xz") {
        command::output(Command::new("xz").args(["--decompress", "--force"]).arg(&veth))?;
    }
    Ok(Files {
        kernel: find(&own.join("boot"), &|name| name.starts_with("vmlinuz-"))?,
        veth: veth.with_file_name("veth.ko"),
    })
}

/// The first file of such a name.
fn find(directory: &Path, is_it: &dyn Fn(&str) -> bool) -> Result<PathBuf> {
    walk(directory, is_it)
        .with_context(|| format!("look into {}", directory.display()))?
        .with_context(|| format!("{} lacks a file it should have", directory.display()))
}

fn walk(directory: &Path, is_it: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if let Some(found) = walk(&entry.path(), is_it)? {
                return Ok(Some(found));
            }
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_it) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_ordered_by_their_numbers() {
        let of = |name: &str| parse(&format!("{name} - Linux for x86-64 cloud (signed)"));
        assert!(of("linux-image-6.12-cloud-amd64").is_none(), "a series' own");
        assert!(of("linux-image-6.1.0-50-amd64").is_none(), "not of this kind");
        let (older, newer) = (
            of("linux-image-6.1.0-9-cloud-amd64"),
            of("linux-image-6.1.0-50-cloud-amd64"),
        );
        let (older, newer) = (older.expect("a kernel"), newer.expect("a kernel"));
        assert_eq!((older.series.as_str(), &older.numbers), ("6.1", &vec![6, 1, 0, 9]));
        assert!(older.numbers < newer.numbers);
        let backport = of("linux-image-6.12.117+deb12-cloud-amd64").expect("a kernel");
        assert_eq!(
            (backport.series.as_str(), &backport.numbers),
            ("6.12", &vec![6, 12, 117, 12])
        );
    }
}
