//! Which files the agent may reach: it reads its config, /proc, /sys and certificates, and writes beside its config, under
//! the pin directory, in the state directory and beside its socket. Landlock enforces it as far as the kernel can.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, path_beneath_rules,
};

use crate::agent::names::{HOSTS, RESOLV_CONF};
use crate::agent::watch::directory_of;
use crate::config::{CheckKind, Config, Roots, Verify};

/// Rights of this version are asked for; older kernels enforce what they know.
const RIGHTS: ABI = ABI::V5;

/// Read, whatever the config says.
const READ: &[&str] = &[
    "/proc",
    "/sys",
    // Roots of HTTPS checks.
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];

/// What was allowed when the agent started, for [`is_refused`].
static ALLOWED: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// Limits this thread and those it will make; how well that went.
pub(super) fn limit(config: &Config, config_path: &Path) -> Result<&'static str, RulesetError> {
    let written = written(config, config_path);
    let read = read(config, config_path);
    let all = AccessFs::from_all(RIGHTS);
    let no_exec: BitFlags<AccessFs> = all & !BitFlags::from(AccessFs::Execute);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .create()?
        .add_rules(path_beneath_rules(&written, no_exec))?
        .add_rules(path_beneath_rules(&read, AccessFs::ReadFile | AccessFs::ReadDir))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Ok("not limited");
    }
    // Set once: an agent starts once.
    let _ = ALLOWED.set(written.into_iter().chain(read).collect());
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "limited",
        _ => "partly limited",
    })
}

/// Whether the running agent may not reach `path`, because it is not under what it asked for at its start.
pub(in crate::agent) fn is_refused(path: &Path) -> bool {
    let real = real(path);
    let beneath = |allowed: &Vec<PathBuf>| allowed.iter().any(|directory| real.starts_with(directory));
    ALLOWED.get().is_some_and(|allowed| !beneath(allowed))
}

fn written(config: &Config, config_path: &Path) -> Vec<PathBuf> {
    let agent = &config.agent;
    vec![
        real(directory_of(config_path)),
        real(&agent.pin_dir),
        real(directory_of(&agent.socket)),
        real(&agent.state_dir),
    ]
}

fn read(config: &Config, config_path: &Path) -> Vec<PathBuf> {
    // A link may lead elsewhere; where it leads at the start may be read later, too.
    let target = config_path.canonicalize().ok();
    let target = target.as_deref().map(|target| directory_of(target).to_owned());
    let fixed = READ.iter().map(|path| real(Path::new(path)));
    let roots = roots(config).map(|file| real(directory_of(file)));
    fixed.chain(target).chain(roots).chain(of_names(config)).collect()
}

/// Where the files stand that say how names are looked up: their directories, because other programs replace them.
fn of_names(config: &Config) -> impl Iterator<Item = PathBuf> {
    let files = [RESOLV_CONF, HOSTS].into_iter();
    let files = files.filter(|_| config.has_names() && config.dns.servers.is_empty());
    files.flat_map(|file| {
        let target = real(Path::new(file));
        [file.as_ref(), target.as_path()].map(|file| real(directory_of(file)))
    })
}

/// Files of roots that checks name.
fn roots(config: &Config) -> impl Iterator<Item = &Path> {
    let of_services = config.services.iter().filter_map(|service| service.check.as_ref());
    let backends = config.services.iter().flat_map(|service| &service.backends);
    let names = config.services.iter().flat_map(|service| &service.names);
    let all = of_services
        .chain(backends.filter_map(|backend| backend.check.as_ref()))
        .chain(names.filter_map(|entry| entry.check.as_ref()));
    all.filter_map(|check| match &check.kind {
        CheckKind::Https(_, tls) => match &tls.verify {
            Verify::Roots(Roots::File(path)) => Some(path.as_path()),
            Verify::Roots(Roots::System) | Verify::Nothing => None,
        },
        CheckKind::Tcp | CheckKind::Http(_) => None,
    })
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
