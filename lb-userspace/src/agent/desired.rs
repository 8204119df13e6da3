//! What the operator wants: the config file's text with the `--runtime` changes on top, checked as one config.
//!
//! Runtime changes are made to the text in memory by the same code that writes the file, so they pass the same checks.

mod overrides;

use std::mem::discriminant;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use overrides::Chosen;

use super::confine;
use crate::config::write_back::{self, BackendSetting, WriteBackError};
use crate::config::{self, BackendConfig, Config, Diagnostic, Severity};
use crate::health::{Trust, TrustError, look_at_roots};
use crate::view::Timestamp;

/// A checked config with its origin.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The file.
    pub path: PathBuf,
    /// The file's text, without the overrides.
    pub text: String,
    /// When it was read.
    pub loaded: Timestamp,
    /// The running config: text and overrides.
    pub config: Config,
    /// Warnings of the check.
    pub warnings: Vec<Diagnostic>,
    /// What its HTTPS checks believe, read with the config.
    pub trust: Trust,
    /// Changes that are not in the file.
    pub overrides: Vec<Override>,
    /// Those that the newest reading of the file left no room for, each with the reason.
    pub dropped: Vec<(Override, String)>,
}

/// One change of a service's backends, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Change {
    /// Adds a backend.
    Add {
        /// Service name.
        service: String,
        /// Name; `None`: `address:port`.
        name: Option<String>,
        /// Address.
        address: IpAddr,
        /// Internal port; `None`: the service's.
        port: Option<u16>,
        /// Weight; `None`: the default.
        weight: Option<u32>,
    },
    /// Removes a backend.
    Remove {
        /// Service name.
        service: String,
        /// Backend name.
        backend: String,
    },
    /// Sets a backend's weight or state.
    Set {
        /// Service name.
        service: String,
        /// Backend name, or `address:port`.
        backend: String,
        /// What is set.
        setting: BackendSetting,
    },
}

/// A change that lives only in the running agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// The change.
    #[serde(flatten)]
    pub change: Change,
    /// Who asked for it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Why there is no desired state.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// The file cannot be read.
    #[error("config {}: {source}; next: name another file, or 'ls -l {}'", path.display(), path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The check found errors.
    #[error("config {}: {} error(s)\n{}", path.display(), errors(diagnostics).count(), rendered(diagnostics))]
    Check {
        /// The file.
        path: PathBuf,
        /// Everything it found.
        diagnostics: Vec<Diagnostic>,
    },
    /// What an HTTPS check should believe cannot be used.
    #[error("config {}: {source}", path.display())]
    Trust {
        /// The config file.
        path: PathBuf,
        /// What is wrong.
        source: TrustError,
    },
    /// A change does not fit the config.
    #[error("{0}")]
    Change(#[from] WriteBackError),
}

impl Desired {
    /// Reads and checks the file, with `overrides` on top; those that no longer fit are [`Desired::dropped`].
    pub fn read(path: &Path, overrides: &[Override]) -> Result<Self, DesiredError> {
        let bytes = std::fs::read(path).map_err(|source| DesiredError::Read {
            path: path.to_owned(),
            source,
        })?;
        let text = String::from_utf8(bytes).map_err(|error| DesiredError::Check {
            path: path.to_owned(),
            diagnostics: config::parse_bytes(path, error.as_bytes()).err().unwrap_or_default(),
        })?;
        Ok(Self::from_text(path, text, Timestamp::now())?.with_what_fits(overrides))
    }

    /// The state with those overrides on top that fit; the others are [`Desired::dropped`].
    pub fn with_what_fits(self, overrides: &[Override]) -> Self {
        // One check for all where they fit, as they do nearly always.
        if let Ok(all) = self.with_overrides(overrides.to_vec()) {
            return all;
        }
        let mut desired = self;
        for change in overrides {
            match desired.with_override(change.clone()) {
                Ok(next) => desired = next,
                Err(error) => desired.dropped.push((change.clone(), error.to_string())),
            }
        }
        desired
    }

    /// Checks a text that came from `path`.
    pub fn from_text(path: &Path, text: String, loaded: Timestamp) -> Result<Self, DesiredError> {
        let (config, warnings) = check(path, &text)?;
        let trust = Trust::load(&config).map_err(|source| DesiredError::Trust {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            text,
            loaded,
            config,
            warnings,
            trust,
            overrides: Vec::new(),
            dropped: Vec::new(),
        })
    }

    /// The state after a change that is to be written to the file; the overrides stay on top.
    pub fn with_saved(&self, change: &Change) -> Result<Self, DesiredError> {
        let kept = self
            .overrides
            .iter()
            .filter(|earlier| !change.replaces(&earlier.change));
        self.with_text(change.apply(&self.text)?)?
            .with_overrides(kept.cloned().collect())
    }

    /// The state after one more change that is not to be written.
    pub fn with_override(&self, change: Override) -> Result<Self, DesiredError> {
        let mut overrides = self.overrides.clone();
        // Drain and ready in turns would grow the list without end.
        overrides.retain(|earlier| !change.change.replaces(&earlier.change));
        overrides.push(change);
        self.with_overrides(overrides)
    }

    /// The file with another text, without overrides.
    fn with_text(&self, text: String) -> Result<Self, DesiredError> {
        let mut next = Self::from_text(&self.path, text, self.loaded)?;
        next.dropped.clone_from(&self.dropped);
        Ok(next)
    }

    /// The same file with these overrides on top.
    fn with_overrides(&self, overrides: Vec<Override>) -> Result<Self, DesiredError> {
        let running = overrides
            .iter()
            .try_fold(self.text.clone(), |text, change| change.change.apply(&text))?;
        let (config, warnings) = check(&self.path, &running)?;
        Ok(Self {
            config,
            warnings,
            overrides,
            ..self.clone()
        })
    }

    /// A backend by its name, or by its `address:port`.
    pub fn backend(&self, service: &str, backend: &str) -> Option<&BackendConfig> {
        let service = self.config.services.iter().find(|known| known.name == service)?;
        let by_name = service.backends.iter().find(|known| known.name == backend);
        by_name.or_else(|| {
            let target = |known: &&BackendConfig| SocketAddr::new(known.address, known.port).to_string() == backend;
            service.backends.iter().find(target)
        })
    }

    /// (name, address:port) of each backend of a service.
    pub fn backends_of(&self, service: &str) -> Vec<(String, SocketAddr)> {
        let found = self.config.services.iter().find(|known| known.name == service);
        let backends = found.map_or(&[][..], |known| &known.backends[..]);
        backends
            .iter()
            .map(|backend| (backend.name.clone(), SocketAddr::new(backend.address, backend.port)))
            .collect()
    }
}

impl Change {
    /// The service it is about.
    pub fn service(&self) -> &str {
        match self {
            Self::Add { service, .. } | Self::Remove { service, .. } | Self::Set { service, .. } => service,
        }
    }

    /// With the backend called by its name, where it was asked for by `address:port`.
    pub fn by_name(mut self, desired: &Desired) -> Self {
        if let Self::Remove { service, backend } | Self::Set { service, backend, .. } = &mut self
            && let Some(found) = desired.backend(service, backend)
        {
            backend.clone_from(&found.name);
        }
        self
    }

    /// The changed backend's name and what happened to it in words, given the states around the change.
    pub fn describe(&self, before: &Desired, after: &Desired) -> (String, String) {
        let (old, new) = (before.backends_of(self.service()), after.backends_of(self.service()));
        let only = |these: &[(String, SocketAddr)], those: &[(String, SocketAddr)]| {
            these.iter().find(|backend| !those.contains(backend)).cloned()
        };
        let (changed, verb, preposition) = match self {
            Self::Add { .. } => (only(&new, &old), "added", "to"),
            Self::Remove { .. } => (only(&old, &new), "removed", "from"),
            Self::Set { backend, setting, .. } => return self.describe_set(backend, *setting, before, after),
        };
        let service = self.service();
        let Some((name, target)) = changed else {
            return (
                String::new(),
                format!("the backends of service {service} are as before"),
            );
        };
        let shown = if name == target.to_string() {
            name.clone()
        } else {
            format!("{name} ({target})")
        };
        let done = format!("{verb} backend {shown} {preposition} service {service}");
        (name, done)
    }

    fn describe_set(
        &self,
        backend: &str,
        setting: BackendSetting,
        before: &Desired,
        after: &Desired,
    ) -> (String, String) {
        let service = self.service();
        let shown = |desired: &Desired| {
            desired.backend(service, backend).map(|found| match setting {
                BackendSetting::Weight(_) => found.weight.to_string(),
                BackendSetting::State(_) => found.state.as_str().to_owned(),
            })
        };
        let name = after
            .backend(service, backend)
            .map_or(backend, |found| &found.name)
            .to_owned();
        let (old, new) = (shown(before).unwrap_or_default(), shown(after).unwrap_or_default());
        let what = match setting {
            BackendSetting::Weight(_) => "weight",
            BackendSetting::State(_) => "state",
        };
        let done = if old == new {
            format!("backend {name} of service {service} is as before: {what} {new}")
        } else {
            format!("backend {name} of service {service}: {what} {old} -> {new}")
        };
        (name, done)
    }

    /// Whether this change leaves nothing of an earlier one.
    fn replaces(&self, earlier: &Self) -> bool {
        let Self::Set {
            service: set_service,
            backend: set_backend,
            setting: earlier,
        } = earlier
        else {
            return false;
        };
        let is_same = |service, backend| service == set_service && backend == set_backend;
        match self {
            Self::Add { .. } => false,
            Self::Remove { service, backend } => is_same(service, backend),
            Self::Set {
                service,
                backend,
                setting,
            } => is_same(service, backend) && discriminant(setting) == discriminant(earlier),
        }
    }

    fn apply(&self, text: &str) -> Result<String, WriteBackError> {
        match self {
            Self::Add {
                service,
                name,
                address,
                port,
                weight,
            } => {
                let spec = write_back::BackendSpec {
                    name: name.clone(),
                    address: *address,
                    port: *port,
                    weight: *weight,
                };
                write_back::add_backend(text, service, &spec)
            }
            Self::Remove { service, backend } => write_back::remove_backend(text, service, backend),
            Self::Set {
                service,
                backend,
                setting,
            } => write_back::set_backend(text, service, backend, *setting),
        }
    }
}

fn check(path: &Path, text: &str) -> Result<(Config, Vec<Diagnostic>), DesiredError> {
    let look = |file: &Path| {
        let restart = "the running agent reaches only what it was started with (docs/running.md): restart it";
        look_at_roots(file).map_err(|why| {
            if confine::is_refused(file) {
                format!("{why}; {restart}")
            } else {
                why
            }
        })
    };
    let (config, mut found) = config::parse_looking(path, text, &look).map_err(|diagnostics| DesiredError::Check {
        path: path.to_owned(),
        diagnostics,
    })?;
    // Hints are for those who write the file: 'xlb check' has them.
    found.retain(|one| one.severity != Severity::Hint);
    Ok((config, found))
}

fn errors(diagnostics: &[Diagnostic]) -> impl Iterator<Item = &Diagnostic> {
    diagnostics.iter().filter(|found| found.severity == Severity::Error)
}

fn rendered(diagnostics: &[Diagnostic]) -> String {
    let each: Vec<&str> = diagnostics.iter().map(|found| found.rendered.trim_end()).collect();
    each.join("\n")
}
