//! Compiles lb-ebpf for BPF, twice (without and with packet logging), and the programs of the benchmark, and hands the
//! objects to `object.rs` through XLB_BPF_OBJECT, XLB_BPF_OBJECT_LOG and XLB_BPF_OBJECT_BENCH.
//!
//! Our own cargo call, not aya-build's: that one overwrites CARGO_ENCODED_RUSTFLAGS, so it cannot
//! ask for `target-cpu=v3`.

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

mod btf_text;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use toolchain::{Linker, Toolchain, Tools};

/// (binary and features, file name, environment variable for object.rs)
const OBJECTS: [(&[&str], &str, &str); 3] = [
    (&["xlb-bpf"], "xlb.bpf.o", "XLB_BPF_OBJECT"),
    (&["xlb-bpf", "--features", "log"], "xlb-log.bpf.o", "XLB_BPF_OBJECT_LOG"),
    (&["xlb-bench-bpf"], "xlb-bench.bpf.o", "XLB_BPF_OBJECT_BENCH"),
];
const BPF_TARGET: &str = "bpfel-unknown-none";
const MISALIGNED_ACCESS: &str = "allows-misaligned-mem-access";
/// The outer cargo's choices: another compiler, clippy as a wrapper, host flags, its locked target
/// directory. None may reach the inner build.
const OUTER_VARIABLES: [&str; 13] = [
    "CARGO",
    // They override the profile: an incremental build is another program, which the verifier refuses.
    "CARGO_BUILD_INCREMENTAL",
    "CARGO_INCREMENTAL",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

fn main() {
    if let Err(message) = build() {
        // cargo shows each as `error: lb-userspace: ...` and stops.
        for line in message.lines() {
            println!("cargo::error={line}");
        }
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
    println!("cargo::rerun-if-changed=btf_text.rs");
    println!("cargo::rerun-if-env-changed={}", toolchain::TOOLCHAIN_VAR);

    let Tools { toolchain, linker } =
        toolchain::find(env!("CARGO_PKG_RUST_VERSION")).map_err(|missing| missing.to_string())?;
    println!("cargo::rerun-if-changed={}", toolchain.rustc.display());
    println!("cargo::rerun-if-changed={}", linker.path.display());
    let out_dir = variable("OUT_DIR")?.into();
    Builder {
        root,
        toolchain,
        linker,
        out_dir,
    }
    .run()
}

fn mark_text(object: &Path) -> Result<(), String> {
    let shown = |error: std::io::Error| format!("{}: {error}", object.display());
    let mut elf = fs::read(object).map_err(shown)?;
    btf_text::mark_text(&mut elf)?;
    fs::write(object, elf).map_err(shown)
}

struct Builder<'a> {
    root: &'a Path,
    toolchain: Toolchain,
    linker: Linker,
    out_dir: PathBuf,
}

impl Builder<'_> {
    fn run(&self) -> Result<(), String> {
        let target_dir = self.target_dir();
        fs::create_dir_all(&target_dir).map_err(|e| format!("{}: {e}", target_dir.display()))?;
        // Two cargo processes (debug and release, say) share the target directory: one at a time
        // from the compile until its output is copied away.
        let lock_path = target_dir.join("xlb-build.lock");
        let _lock = File::create(&lock_path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|e| format!("{}: {e}", lock_path.display()))?;
        for (binary, file_name, variable) in OBJECTS {
            let linked = self.compile(binary, &target_dir)?;
            let object = self.out_dir.join(file_name);
            self.strip(&linked, &object)?;
            // Only the product's maps hold names.
            if binary.contains(&"xlb-bpf") {
                mark_text(&object)?;
            }
            // A copy where people and `cargo xtask check` find it.
            let shown = target_dir.join(file_name);
            fs::copy(&object, &shown).map_err(|e| format!("{}: {e}", shown.display()))?;
            println!("cargo::rustc-env={variable}={}", object.display());
        }
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

    fn compile(&self, binary: &[&str], target_dir: &Path) -> Result<PathBuf, String> {
        let mut command = Command::new(&self.toolchain.cargo);
        for variable in OUTER_VARIABLES {
            command.env_remove(variable);
        }
        command
            .args(["build", "--quiet", "--package", "lb-ebpf", "--profile", "bpf"])
            .arg("--bin")
            .args(binary)
            .args(["--target", BPF_TARGET, "-Z", "build-std=core", "--target-dir"])
            .arg(target_dir)
            .env("RUSTC", &self.toolchain.rustc)
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags()?)
            .current_dir(self.root);
        if !self.toolchain.release.contains("nightly") {
            // For -Z, on this one call: exported wider it leaks into host crates.
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        run(&mut command).map_err(|error| format!("lb-ebpf with {}: {error}", self.toolchain.way))?;
        let [name, ..] = binary else {
            return Err("an object without a binary in OBJECTS".to_owned());
        };
        Ok(target_dir.join(BPF_TARGET).join("bpf").join(name))
    }

    fn rustflags(&self) -> Result<OsString, String> {
        let arch = variable("CARGO_CFG_TARGET_ARCH")?;
        let arch = if arch.starts_with("riscv64") { "riscv64" } else { &arch };
        let mut linker = OsString::from("-Clinker=");
        linker.push(&self.linker.path);
        let mut flags: Vec<OsString> = vec![
            // The architecture of the kernel, for aya's pt_regs.
            format!("--cfg=bpf_target_arch=\"{arch}\"").into(),
            // v3: atomics that return a value (compare-exchange), 32-bit jumps.
            "-Ctarget-cpu=v3".into(),
            "-Cdebuginfo=2".into(),
            "-Clink-arg=--btf".into(),
            linker,
        ];
        let mut features = Command::new(&self.toolchain.rustc);
        features.args(["--print", "target-features", "--target", BPF_TARGET]);
        if toolchain::output(&mut features)?.contains(MISALIGNED_ACCESS) {
            // From LLVM 22 on: a u32 at an odd packet offset is one load, not four and three shifts.
            flags.push(format!("-Ctarget-feature=+{MISALIGNED_ACCESS}").into());
        }
        Ok(flags.join("\x1f".as_ref()))
    }

    /// Drops the debug sections and keeps .BTF and .BTF.ext. Without a tool for it the object is
    /// embedded as it is: larger, not wrong.
    fn strip(&self, from: &Path, to: &Path) -> Result<(), String> {
        let Some(objcopy) = self.find_objcopy() else {
            println!("cargo::warning=no llvm-objcopy here: the BPF object keeps its debug info");
            return fs::copy(from, to)
                .map(drop)
                .map_err(|e| format!("{}: {e}", from.display()));
        };
        run(Command::new(objcopy).arg("--strip-debug").args([from, to]))
    }

    /// LLVM's objcopy of the compiler's version, or the copy that rustup ships with a toolchain.
    fn find_objcopy(&self) -> Option<PathBuf> {
        let Toolchain {
            sysroot,
            host,
            llvm_major,
            ..
        } = &self.toolchain;
        let llvm = PathBuf::from(format!("/usr/lib/llvm-{llvm_major}/bin/llvm-objcopy"));
        let shipped = |sysroot: &Path| sysroot.join("lib/rustlib").join(host).join("bin/rust-objcopy");
        let outer = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let outer = toolchain::output(Command::new(outer).args(["--print", "sysroot"])).ok();
        [
            Some(llvm),
            Some(shipped(sysroot)),
            outer.map(|outer| shipped(Path::new(&outer))),
        ]
        .into_iter()
        .flatten()
        .find(|path| path.is_file())
        .or_else(|| toolchain::find_program("llvm-objcopy"))
    }
}

/// Runs a command; its warnings pass through, and so does all of its output when it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!(
            "the BPF object (lb-ebpf) was not built; {program} says:\n{text}"
        ));
    }
    let about_our_flag = "unstable feature specified for `-Ctarget-feature`";
    let others = text.split("\n\n").filter(|message| !message.contains(about_our_flag));
    for line in others.flat_map(str::lines) {
        println!("cargo::warning={line}");
    }
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}; cargo sets it for build scripts"))
}
