//! What the operator wants: the config file's text with the `--runtime` changes on top, checked as one config.
//!
//! Runtime changes are made to the text in memory by the same code that writes the file, so they pass the same checks.

mod change;
mod error;
mod file;
mod names;
mod overrides;
mod places;
mod quick;
mod warnings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use change::{Change, DroppedOverride, Override};
pub use error::DesiredError;
use error::Misfit;
pub(super) use file::read_config;
pub use file::{read_all, read_config_or_fifo};
pub use overrides::Chosen;
use places::Places;

use super::confine;
use crate::config::{
    self, Answers, BackendConfig, Config, Diagnostic, HostFacts, NameFinding, Sections, ServiceConfig, Severity, expand,
};
use crate::health::{Trust, look_at_roots};
use crate::host;
use crate::view::{Revision, Timestamp};

/// A checked config with its origin.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The file.
    pub path: PathBuf,
    /// The file's text, without the overrides.
    pub text: Arc<str>,
    /// When it was read.
    pub loaded: Timestamp,
    /// The running config: text and overrides, with the addresses of its names.
    pub config: Config,
    /// The addresses of names.
    pub answers: Arc<Answers>,
    /// What is wrong with them.
    pub name_findings: Vec<NameFinding>,
    /// Warnings of the check.
    pub warnings: Vec<Diagnostic>,
    /// What its HTTPS checks believe, read with the config.
    pub trust: Trust,
    /// The host it was checked on, looked at when the file was read.
    pub host: HostFacts,
    /// Changes that are not in the file.
    pub overrides: Vec<Override>,
    /// Those that a reading of the file left no room for, until a command about the same object shows that somebody knows.
    pub dropped: Vec<DroppedOverride>,
    /// Which of the agent's desired states it is.
    pub revision: Revision,
    /// Where the services stand in `text`; `None`: it is written in another way.
    pub(crate) sections: Option<Arc<Sections>>,
    /// Where they stand in `config`.
    pub(crate) places: Places,
}

impl Desired {
    /// Reads and checks the file, with `overrides` on top; those that no longer fit are [`Desired::dropped`].
    pub fn read(path: &Path, overrides: &[Override]) -> Result<Self, DesiredError> {
        let bytes = read_config(path).map_err(|source| DesiredError::Read {
            path: path.to_owned(),
            source,
        })?;
        let text = String::from_utf8(bytes).map_err(|error| DesiredError::Check {
            path: path.to_owned(),
            diagnostics: config::parse_bytes(path, error.as_bytes()).err().unwrap_or_default(),
        })?;
        Ok(Self::on_host(path, text, Timestamp::now(), host::facts(), Quoted::File)?.with_what_fits(overrides))
    }

    /// The state with those overrides on top that fit; the others are [`Desired::dropped`].
    pub fn with_what_fits(self, overrides: &[Override]) -> Self {
        // One check for all where they fit, as they do nearly always.
        if let Ok(all) = self.with_overrides(overrides.to_vec()) {
            return all;
        }
        let mut desired = self;
        for change in overrides {
            match desired.with_one_more(change.clone()) {
                Ok(next) => desired = next,
                Err(error) => desired.dropped.push(DroppedOverride {
                    change: change.clone(),
                    why: error.to_string(),
                }),
            }
        }
        desired
    }

    /// Checks a text that came from `path`, for a host of which nothing is known.
    pub fn from_text(path: &Path, text: String, loaded: Timestamp) -> Result<Self, DesiredError> {
        Self::on_host(path, text, loaded, HostFacts::default(), Quoted::File)
    }

    fn on_host(
        path: &Path,
        text: String,
        loaded: Timestamp,
        host: HostFacts,
        quoted: Quoted,
    ) -> Result<Self, DesiredError> {
        let (config, warnings) = check(path, &text, &host, quoted)?;
        let trust = trust(path, &Trust::default(), &config)?;
        Ok(Self {
            sections: Sections::of(&text, &config).map(Arc::new),
            places: Places::default(),
            path: path.to_owned(),
            text: text.into(),
            loaded,
            config,
            answers: Arc::default(),
            name_findings: Vec::new(),
            warnings,
            trust,
            host,
            overrides: Vec::new(),
            dropped: Vec::new(),
            revision: Revision::default(),
        })
    }

    /// The state after a change that is to be written to the file; the overrides stay on top.
    pub fn with_saved(&self, change: &Change) -> Result<Self, DesiredError> {
        let next = match self.quick_saved(change) {
            Some(next) => next,
            None => self.wholly_saved(change)?,
        };
        Ok(next.without_notices_of(&self.object_of(change)))
    }

    fn wholly_saved(&self, change: &Change) -> Result<Self, DesiredError> {
        let kept = self
            .overrides
            .iter()
            .filter(|earlier| !change.replaces(&earlier.change));
        self.with_text(change.apply(&self.text)?)?
            .with_overrides(kept.cloned().collect())
    }

    /// The state after one more change that is not to be written.
    pub fn with_override(&self, change: Override) -> Result<Self, DesiredError> {
        let object = self.object_of(&change.change);
        let next = match self.quick_override(&change) {
            Some(next) => next,
            None => self.with_one_more(change)?,
        };
        Ok(next.without_notices_of(&object))
    }

    fn with_one_more(&self, change: Override) -> Result<Self, DesiredError> {
        // It must fit what runs, whatever is left of it.
        let text = change.change.apply(&self.running_text()?)?;
        let mut overrides = self.overrides.clone();
        // Drain and ready in turns would grow the list without end, and so would coming and going.
        if let Some(object) = change.change.removes() {
            overrides.retain(|earlier| !self.is_about(&earlier.change, &object));
            let undone = self.with_overrides(overrides.clone());
            if let Ok(undone) = undone
                && check(&self.path, &text, &self.host, Quoted::Running)
                    .is_ok_and(|(config, _)| config == undone.config)
            {
                return Ok(undone);
            }
        } else {
            overrides.retain(|earlier| !change.change.replaces(&earlier.change));
        }
        overrides.push(change);
        self.with_overrides(overrides)
    }

    /// The config as it runs, as text.
    fn running_text(&self) -> Result<String, DesiredError> {
        apply_all(&self.text, &self.overrides, self)
    }

    /// The file with another text, without overrides.
    fn with_text(&self, text: String) -> Result<Self, DesiredError> {
        let mut next = Self::on_host(&self.path, text, self.loaded, self.host.clone(), Quoted::WouldBe)?;
        next.dropped.clone_from(&self.dropped);
        Ok(next.with_answers(&self.answers))
    }

    /// The same file with these overrides on top.
    fn with_overrides(&self, overrides: Vec<Override>) -> Result<Self, DesiredError> {
        let running = apply_all(&self.text, &overrides, self)?;
        let (config, warnings) = match (overrides.as_slice(), self.overrides.as_slice()) {
            // The file alone, as it was checked: a large one takes seconds.
            ([], []) => (self.config.clone(), self.warnings.clone()),
            ([], _) => check(&self.path, &running, &self.host, Quoted::File)?,
            _ => check(&self.path, &running, &self.host, Quoted::Running)?,
        };
        let (config, name_findings) = expand(config, &self.answers);
        Ok(Self {
            trust: trust(&self.path, &self.trust, &config)?,
            config,
            name_findings,
            warnings,
            overrides,
            places: Places::default(),
            ..self.clone()
        })
    }

    /// Whether nobody could tell the two apart by what they want. (What is dropped is only told.)
    pub fn wants_the_same_as(&self, other: &Self) -> bool {
        self.has_text_of(other) && (&self.overrides, &self.trust) == (&other.overrides, &other.trust)
    }

    /// Whether the file says the same. Mostly it is the very same text.
    pub fn has_text_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.text, &other.text) || self.text == other.text
    }

    /// A service by its name.
    pub fn service(&self, name: &str) -> Option<&ServiceConfig> {
        let at = self.places.find(&self.config.services, name)?;
        self.config.services.get(at).map(Arc::as_ref)
    }

    /// A backend by its name, or by its `address:port`.
    pub fn backend(&self, service: &str, backend: &str) -> Option<&BackendConfig> {
        let service = self.service(service)?;
        let by_name = service.backends.iter().find(|known| known.name == backend);
        by_name.or_else(|| {
            let target = |known: &&BackendConfig| SocketAddr::new(known.address, known.port).to_string() == backend;
            service.backends.iter().find(target)
        })
    }

    /// (name, address:port or host:port) of each backend of a service as the config gives it.
    pub fn backends_of(&self, service: &str) -> Vec<(String, String)> {
        let Some(found) = self.service(service) else {
            return Vec::new();
        };
        let given = found.backends.iter().filter(|backend| backend.from.is_none());
        let given = given.map(|backend| {
            let target = SocketAddr::new(backend.address, backend.port);
            (backend.name.clone(), target.to_string())
        });
        let named = found.names.iter();
        given
            .chain(named.map(|entry| (entry.name.clone(), format!("{}:{}", entry.host, entry.port))))
            .collect()
    }
}

/// A text with changes made to it, one after another. `named` knows what they are about.
fn apply_all(text: &str, changes: &[Override], named: &Desired) -> Result<String, DesiredError> {
    changes.iter().try_fold(text.to_owned(), |text, change| {
        change.change.apply(&text).map_err(|why| {
            let view = named.override_view(change);
            DesiredError::Misfit(Box::new(Misfit {
                what: format!("{} {}", view.what(), view.object()),
                service: view.service,
                by: view.by,
                why,
            }))
        })
    })
}

/// What the config's HTTPS checks believe; what is `known` is not read again.
fn trust(path: &Path, known: &Trust, config: &Config) -> Result<Trust, DesiredError> {
    known.adapted_to(config).map_err(|source| DesiredError::Trust {
        path: path.to_owned(),
        source,
    })
}

/// What the lines are that a finding quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quoted {
    /// They stand in the file.
    File,
    /// They would stand there after a change.
    WouldBe,
    /// What runs: the file with the overrides on top.
    Running,
}

impl Quoted {
    fn label(self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::File => path.to_string(),
            Self::WouldBe => format!("{path} as it would be"),
            Self::Running => format!("{path} with the runtime changes"),
        }
    }
}

fn would_break(would_be: String) -> impl FnOnce(Vec<Diagnostic>) -> DesiredError {
    |diagnostics| DesiredError::WouldBreak { would_be, diagnostics }
}

fn check(path: &Path, text: &str, host: &HostFacts, quoted: Quoted) -> Result<(Config, Vec<Diagnostic>), DesiredError> {
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
    let checked = |label: &Path| config::parse_looking(label, text, &look, host);
    let label = quoted.label(path);
    let (config, mut found) = match quoted {
        Quoted::File => checked(path).map_err(|diagnostics| DesiredError::Check {
            path: path.to_owned(),
            diagnostics,
        }),
        // Without an error it is what will stand in the file.
        Quoted::WouldBe => checked(path)
            .or_else(|_| checked(Path::new(&label)))
            .map_err(would_break(label)),
        Quoted::Running => checked(Path::new(&label)).map_err(would_break(label)),
    }?;
    // Hints are for those who write the file: 'xlb check' has them.
    found.retain(|one| one.severity != Severity::Hint);
    Ok((config, found))
}
