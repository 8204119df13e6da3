//! Compiles lb-ebpf for BPF, twice (without and with packet logging), and hands both objects to
//! `object.rs` through XLB_BPF_OBJECT and XLB_BPF_OBJECT_LOG.
//!
//! Our own cargo call, not aya-build's: that one overwrites CARGO_ENCODED_RUSTFLAGS, so it cannot
//! ask for `target-cpu=v3`.

#[path = "../xtask/src/toolchain.rs"]
#[expect(dead_code, reason = "xtask uses the rest of this file")]
mod toolchain;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use toolchain::Toolchain;

/// (feature list, file name, environment variable for object.rs)
const OBJECTS: [(&[&str], &str, &str); 2] = [
    (&[], "xlb.bpf.o", "XLB_BPF_OBJECT"),
    (&["--features", "log"], "xlb-log.bpf.o", "XLB_BPF_OBJECT_LOG"),
];

fn main() {
    if let Err(message) = build() {
        // cargo prints this as `error: lb-userspace: ...` and stops.
        println!("cargo::error={message}");
    }
}

fn build() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("lb-userspace has no parent directory; build it inside its workspace")?;
    let inputs = [
        "lb-ebpf",
        "lb-common",
        "Cargo.toml",
        "Cargo.lock",
        "xtask/src/toolchain.rs",
    ];
    for input in inputs {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={}", toolchain::TOOLCHAIN_VAR);
    println!("cargo::rerun-if-env-changed=PATH");

    let toolchain = toolchain::find(env!("CARGO_PKG_RUST_VERSION")).map_err(|missing| missing.to_string())?;
    let linker = toolchain::find_linker().map_err(|missing| missing.to_string())?;
    println!("cargo::rerun-if-changed={}", toolchain.rustc.display());
    println!("cargo::rerun-if-changed={}", linker.display());
    let builder = Builder {
        root,
        toolchain,
        linker,
        out_dir: variable("OUT_DIR")?.into(),
    };
    builder.run()
}

struct Builder<'a> {
    root: &'a Path,
    toolchain: Toolchain,
    linker: PathBuf,
    out_dir: PathBuf,
}

impl Builder<'_> {
    fn run(&self) -> Result<(), String> {
        let target_dir = self.target_dir();
        fs::create_dir_all(&target_dir).map_err(|e| format!("{}: {e}", target_dir.display()))?;
        // Two cargo processes (debug and release, say) share the target directory: one at a time
        // from the compile until its output is copied away.
        let lock_path = target_dir.join("xlb-build.lock");
        let lock = File::create(&lock_path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|e| format!("{}: {e}", lock_path.display()))?;
        for (features, file_name, variable) in OBJECTS {
            let linked = self.compile(features, &target_dir)?;
            let object = self.out_dir.join(file_name);
            self.strip(&linked, &object)?;
            // A copy where people and `cargo xtask check` find it.
            let shown = target_dir.join(file_name);
            fs::copy(&object, &shown).map_err(|e| format!("{}: {e}", shown.display()))?;
            println!("cargo::rustc-env={variable}={}", object.display());
        }
        drop(lock);
        Ok(())
    }

    /// Not the outer cargo's own directory, which it holds locked, but inside it, so that debug
    /// and release builds share one compiled `core`.
    fn target_dir(&self) -> PathBuf {
        self.out_dir
            .ancestors()
            .find(|directory| directory.join("CACHEDIR.TAG").is_file())
            .unwrap_or(&self.out_dir)
            .join("bpf")
    }

    fn compile(&self, features: &[&str], target_dir: &Path) -> Result<PathBuf, String> {
        let arch = variable("CARGO_CFG_TARGET_ARCH")?;
        let arch = if arch.starts_with("riscv64") { "riscv64" } else { &arch };
        let mut command = self.toolchain.cargo_build(&self.linker, arch, target_dir);
        command.args(features).arg("--quiet").current_dir(self.root);
        run(&mut command)?;
        Ok(target_dir.join(toolchain::BPF_TARGET).join("bpf/xlb-bpf"))
    }

    /// Drops the debug sections and keeps .BTF and .BTF.ext. Without a tool for it the object is
    /// embedded as it is: larger, not wrong.
    fn strip(&self, from: &Path, to: &Path) -> Result<(), String> {
        let Some(objcopy) = toolchain::find_objcopy(&self.toolchain) else {
            println!("cargo::warning=no llvm-objcopy here: the BPF object keeps its debug info");
            return fs::copy(from, to)
                .map(drop)
                .map_err(|e| format!("{}: {e}", from.display()));
        };
        run(Command::new(objcopy).arg("--strip-debug").args([from, to]))
    }
}

/// Runs a command; its warnings pass through, and so does all of its output when it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let about_our_flag = "unstable feature specified for `-Ctarget-feature`";
        let others = text.split("\n\n").filter(|message| !message.contains(about_our_flag));
        for line in others.flat_map(str::lines) {
            println!("cargo::warning={line}");
        }
        return Ok(());
    }
    // The compiler's own message, to be read as it is; cargo shows a failed script's stderr.
    eprintln!("{text}");
    println!("cargo::error={program} could not build the BPF object (lb-ebpf); its messages:");
    for line in text.lines() {
        println!("cargo::error={line}");
    }
    std::process::exit(1);
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}; cargo sets it for build scripts"))
}
