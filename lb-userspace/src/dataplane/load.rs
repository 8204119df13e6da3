//! Loading: what is pinned is looked at first (`adopt.rs`), and only then anything is created. Fresh maps are pinned after every
//! program has passed the verifier, `xlb_settings` last; so a refused or interrupted load leaves nothing in use.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use aya::maps::{MapError, MapInfo};
use aya::programs::{Program, ProgramError, ProgramFd};
use aya::{Ebpf, EbpfError, EbpfLoader};
use lb_common::names;

use super::abi::{Shape, shapes};
use super::error::DataplaneError;
use super::maps::{Maps, errno, failed};
use super::pins;
use super::tracepoints::Scope;
use super::{Adoption, Dataplane, Options, adopt, bpffs, tracepoints};

const PROGRAMS: [&str; 4] = [
    names::PROGRAM_XDP,
    names::PROGRAM_SWEEP,
    names::PROGRAM_REDIRECT_ERR,
    names::PROGRAM_DEVMAP_XMIT,
];

/// See [`Dataplane::open`].
pub(super) fn open(options: &Options, object: &[u8]) -> Result<(Dataplane, Adoption), DataplaneError> {
    let pin_dir = &options.pin_dir;
    let mut warnings: Vec<_> = bpffs::prepare(pin_dir)?.into_iter().collect();
    bpffs::lift_memory_limit();
    let shapes = shapes(&options.limits);
    let adoption = adopt::look(pin_dir, &shapes)?;

    let scope = Scope::of_this_thread();
    let mut ebpf = load_object(options, object, &shapes, &adoption, &scope)?;
    for program in PROGRAMS {
        load_program(&mut ebpf, program)?;
    }
    if let Adoption::Fresh { leftovers } = &adoption {
        leftovers.iter().try_for_each(|path| pins::remove(path))?;
        pin_maps(pin_dir, &ebpf, &shapes)?;
    }
    for program in PROGRAMS {
        pins::replace(
            program_fd(&ebpf, program)?.as_fd(),
            &pins::program_path(pin_dir, program),
        )?;
    }
    let mut unpinned = Vec::new();
    for attached in tracepoints::attach_all(pin_dir, &ebpf, &scope)? {
        warnings.extend(attached.warning);
        unpinned.extend(attached.unpinned);
    }
    let maps = Maps::take(&mut ebpf)?;
    let dataplane = Dataplane {
        options: options.clone(),
        ebpf,
        maps,
        warnings,
        _unpinned: unpinned,
    };
    Ok((dataplane, adoption))
}

fn load_object(
    options: &Options,
    object: &[u8],
    shapes: &[Shape],
    adoption: &Adoption,
    scope: &io::Result<Scope>,
) -> Result<Ebpf, DataplaneError> {
    let mut loader = EbpfLoader::new();
    loader.override_global(names::RODATA_HZ, &options.hz, true);
    if let Ok(scope) = scope {
        loader.override_global(names::RODATA_IFINDEX_AT, &scope.offsets.ifindex, true);
        loader.override_global(names::RODATA_NET_AT, &scope.offsets.net, true);
        loader.override_global(names::RODATA_INUM_AT, &scope.offsets.inum, true);
        loader.override_global(names::RODATA_NETNS, &scope.namespace, true);
    }
    for shape in shapes {
        loader.map_max_entries(shape.name, shape.entries);
        // With a pin path aya opens the pinned map instead of creating one. Its shape was checked.
        if matches!(adoption, Adoption::Adopted { .. }) {
            loader.map_pin_path(shape.name, options.pin_dir.join(shape.name));
        }
    }
    loader.load(object).map_err(|source| DataplaneError::Load {
        hint: hint(&source),
        source: Box::new(source),
    })
}

fn hint(error: &EbpfError) -> &'static str {
    let errno = match error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => io_error.raw_os_error(),
        EbpfError::MapError(error) => errno(error),
        _ => None,
    };
    refusal(errno)
}

fn refusal(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::EPERM | libc::EACCES) => {
            "; the agent needs root or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and on kernels before 5.11 an unlimited \
             RLIMIT_MEMLOCK"
        }
        Some(libc::ENOMEM | libc::E2BIG) => "; lower [limits], or give the machine or its control group more memory",
        _ => "",
    }
}

/// [`refusal`], where E2BIG is the verifier's: the program, not a map, is too large.
fn verifier_refusal(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::E2BIG | libc::EINVAL | libc::EACCES) => {
            "; this kernel's verifier refuses the program: report it with the output of 'uname -r'"
        }
        other => refusal(other),
    }
}

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<(), DataplaneError> {
    let program = ebpf
        .program_mut(name)
        .ok_or(DataplaneError::ObjectLacks { what: "program", name })?;
    let loaded = match program {
        Program::Xdp(xdp) => uninterrupted(|| xdp.load()),
        Program::RawTracePoint(tracepoint) => uninterrupted(|| tracepoint.load()),
        _ => {
            return Err(DataplaneError::ObjectLacks {
                what: "XDP or raw tracepoint program",
                name,
            });
        }
    };
    loaded.map_err(|error| refused(name, &error))
}

/// Loads again where a signal to the thread broke the verifier's work off, which it reports as EAGAIN. Aya tries a second
/// time by itself, whatever the error.
pub fn uninterrupted(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    const ATTEMPTS: u32 = 5;
    let interrupted = |result: &Result<(), ProgramError>| matches!(result, Err(ProgramError::LoadError { io_error, .. }) if io_error.raw_os_error() == Some(libc::EAGAIN));
    let mut result = load();
    for _ in 1..ATTEMPTS {
        if !interrupted(&result) {
            break;
        }
        result = load();
    }
    result
}

/// The kernel's answer and the last lines of the verifier's log, which name the instruction.
fn refused(program: &'static str, error: &ProgramError) -> DataplaneError {
    const LOG_LINES: usize = 12;
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return DataplaneError::Program {
            program,
            reason: error.to_string(),
            hint: "",
        };
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
    let reason = format!("{io_error}\n  {}", last.join("\n  "));
    DataplaneError::Program {
        program,
        reason: reason.trim_end().to_owned(),
        hint: verifier_refusal(io_error.raw_os_error()),
    }
}

/// Descriptor of a loaded program.
pub(super) fn program_fd<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a ProgramFd, DataplaneError> {
    let program = ebpf
        .program(name)
        .ok_or(DataplaneError::ObjectLacks { what: "program", name })?;
    program.fd().map_err(|error| refused(name, &error))
}

/// Pins fresh maps, the one that says "in use" last. Their shapes are those of this build, or the object is another's.
fn pin_maps(pin_dir: &Path, ebpf: &Ebpf, shapes: &[Shape]) -> Result<(), DataplaneError> {
    let (settings, others): (Vec<&Shape>, Vec<&Shape>) = shapes.iter().partition(|shape| shape.name == names::SETTINGS);
    for shape in others.into_iter().chain(settings) {
        let path = pin_dir.join(shape.name);
        let map = ebpf.map(shape.name).ok_or(DataplaneError::ObjectLacks {
            what: "map",
            name: shape.name,
        })?;
        map.pin(&path)
            .map_err(|error| DataplaneError::pin_dir("pin", &path)(io::Error::other(error)))?;
        let info = MapInfo::from_pin(&path).map_err(failed(shape.name, "open pinned"))?;
        shape.check(&path, &info).map_err(DataplaneError::Shape)?;
    }
    Ok(())
}
