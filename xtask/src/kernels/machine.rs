//! A machine of nothing but busybox, the tests and what they run, and booting it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::debian::Files;
use crate::command::{self, Event};
use crate::toolchain::find_program;

/// Programs that tests start; `sh` and the rest are busybox.
const PROGRAMS: [&str; 4] = ["ip", "ethtool", "bpftool", "busybox"];
/// A machine that is still running then is ended.
const SECONDS: &str = "1500";

/// What the machine runs in place of init. Each test's line begins with one of [`PASS`] and [`FAIL`].
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /busybox
export PATH=/bin:/busybox CI=true CARGO_MANIFEST_DIR=/ RUST_BACKTRACE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /run /var/run/netns
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmp /tmp
ulimit -l unlimited
ip link set lo up
insmod /veth.ko
uname -r
for test in /t/*; do
    name=${test##*/}
    echo "running $name"
    if $test --test-threads=2 >/tmp/output 2>&1; then
        echo "kernel-test-passed $name $(grep '^test result' /tmp/output)"
    else
        tail -n 80 /tmp/output
        echo "kernel-test-failed $name"
    fi
done
poweroff -f
"#;
const PASS: &str = "kernel-test-passed ";
const FAIL: &str = "kernel-test-failed ";

/// How a test ended.
pub(super) enum Outcome {
    /// Well, with the runner's closing line.
    Passed(String),
    /// Not well.
    Failed,
}

/// What the machine said of its tests.
#[derive(Default)]
pub(super) struct Report(BTreeMap<String, Outcome>);

impl Report {
    /// How this test ended, if it did.
    pub(super) fn of(&self, test: &str) -> Option<&Outcome> {
        self.0.get(test)
    }

    fn read(&mut self, line: &str) {
        if let Some((_, rest)) = line.split_once(PASS) {
            let (name, closing) = rest.split_once(' ').unwrap_or((rest, ""));
            let outcome = if closing.starts_with("test result: ok") {
                Outcome::Passed(closing.to_owned())
            } else {
                Outcome::Failed
            };
            self.0.insert(name.to_owned(), outcome);
        } else if let Some((_, name)) = line.split_once(FAIL) {
            self.0.insert(name.trim().to_owned(), Outcome::Failed);
        }
    }
}

/// Makes the archive the kernel unpacks as its root.
pub(super) fn image(files: &Files, tests: &[PathBuf], directory: &Path) -> Result<PathBuf> {
    let root = directory.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("empty {}", root.display()))?;
    }
    for name in ["proc", "sys", "dev", "tmp", "run", "bin", "busybox", "t"] {
        let path = root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    }
    for program in PROGRAMS {
        let path = find_program(program).with_context(|| format!("{program} is not in PATH"))?;
        copy(&path, &root.join("bin").join(program))?;
        copy_libraries(&path, &root)?;
    }
    for test in tests {
        let name = super::stem(test).context("a test's executable without a name")?;
        // Their debug information is most of them.
        let to = root.join("t").join(name);
        command::output(Command::new("strip").arg("-o").arg(&to).arg(test))?;
        copy_libraries(test, &root)?;
    }
    copy(&files.veth, &root.join("veth.ko"))?;
    let init = root.join("init");
    fs::write(&init, INIT).with_context(|| format!("write {}", init.display()))?;
    command::output(Command::new("chmod").arg("755").arg(&init))?;
    let image = directory.join("root.cpio.gz");
    let mut pack = Command::new("sh");
    pack.args([
        "-ec",
        "find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 > \"$1\"",
        "sh",
    ])
    .arg(&image)
    .current_dir(&root);
    command::output(&mut pack)?;
    Ok(image)
}

/// Boots it and follows what it says. A machine that ends badly has said nothing of the tests it did not come to.
pub(super) fn boot(kernel: &Path, image: &Path) -> Result<Report> {
    let mut qemu = Command::new("timeout");
    qemu.args([
        SECONDS,
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "3000",
        "-smp",
        "2",
    ])
    .args([
        "-nic",
        "none",
        "-nographic",
        "-no-reboot",
        "-append",
        "console=ttyS0 quiet panic=-1",
    ])
    .arg("-kernel")
    .arg(kernel)
    .arg("-initrd")
    .arg(image);
    let mut report = Report::default();
    let status = command::stream(&mut qemu, Duration::from_secs(60), |event| match event {
        Event::Line(line) => {
            println!("{line}");
            report.read(line);
        }
        Event::Idle => println!("   ... still running"),
    })?;
    if !status.success() {
        println!("'{}' failed ({status})", command::shown(&qemu));
    }
    Ok(report)
}

fn copy_libraries(program: &Path, root: &Path) -> Result<()> {
    // It fails for a static program, which needs none.
    let list = command::output(Command::new("ldd").arg(program)).unwrap_or_default();
    for library in libraries(&list) {
        copy(Path::new(library), &root.join(library.trim_start_matches('/')))?;
    }
    Ok(())
}

/// The paths in what ldd says: "libc.so.6 => /lib/libc.so.6 (0x7f)" and "/lib64/ld.so (0x7f)".
fn libraries(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| {
        let (path, _) = line.rsplit_once(" (")?;
        let path = path.rsplit_once("=> ").map_or(path, |(_, path)| path).trim();
        path.starts_with('/').then_some(path)
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_names_libraries_with_and_without_an_arrow() {
        let list =
            "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\t/lib64/ld.so.2 (0x00007f)\n";
        assert_eq!(
            libraries(list).collect::<Vec<_>>(),
            ["/lib/libc.so.6", "/lib64/ld.so.2"]
        );
    }

    #[test]
    fn only_a_good_closing_line_is_a_pass() {
        let mut report = Report::default();
        report.read("kernel-test-passed a test result: ok. 3 passed; 0 failed");
        report.read("kernel-test-passed b ");
        report.read("[   12.3] noise kernel-test-failed c");
        assert!(matches!(report.of("a"), Some(Outcome::Passed(line)) if line.contains("3 passed")));
        assert!(matches!(report.of("b"), Some(Outcome::Failed)));
        assert!(matches!(report.of("c"), Some(Outcome::Failed)));
        assert!(report.of("d").is_none());
    }
}
