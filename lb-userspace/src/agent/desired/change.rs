//! One change as it is asked for: what it does to the config's text, and how it is told.

use std::mem::discriminant;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Chosen, Desired};
use crate::config::many;
use crate::config::write_back::{self, BackendSetting, ServiceSpec, WriteBackError};
use crate::view::Timestamp;

/// One change of the services or of a service's backends, as it is asked for.
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
    /// Adds a service.
    AddService {
        /// All of it.
        service: ServiceSpec,
    },
    /// Removes a service with its backends.
    RemoveService {
        /// Service name.
        service: String,
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

/// A change that a reading of the config file left no room for. It is told until somebody has seen to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedOverride {
    /// What it was.
    #[serde(flatten)]
    pub change: Override,
    /// Why it does not fit.
    pub why: String,
}

impl Change {
    /// The service it is about.
    pub fn service(&self) -> &str {
        match self {
            Self::Add { service, .. } | Self::Remove { service, .. } | Self::Set { service, .. } => service,
            Self::AddService { service } => &service.name,
            Self::RemoveService { service } => service,
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

    /// The changed backend's name, where it is about one, and what happened in words, given the states around the change.
    pub fn describe(&self, before: &Desired, after: &Desired) -> (Option<String>, String) {
        let (verb, preposition) = match self {
            Self::Add { .. } => ("added", "to"),
            Self::Remove { .. } => ("removed", "from"),
            Self::Set { backend, setting, .. } => {
                let (name, done) = self.describe_set(backend, *setting, before, after);
                return (Some(name), done);
            }
            Self::AddService { .. } => return (None, describe_service("added", self.service(), after)),
            Self::RemoveService { .. } => return (None, describe_service("removed", self.service(), before)),
        };
        let (old, new) = (before.backends_of(self.service()), after.backends_of(self.service()));
        let gone = old.iter().find(|backend| !new.contains(backend));
        let changed = gone.or_else(|| new.iter().find(|backend| !old.contains(backend)));
        let service = self.service();
        let Some((name, target)) = changed else {
            return (None, format!("the backends of service {service} are as before"));
        };
        let shown = if name == target {
            name.clone()
        } else {
            format!("{name} ({target})")
        };
        let done = format!("{verb} backend {shown} {preposition} service {service}");
        (Some(name.clone()), done)
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
            let (weight, state) = desired.set_in(service, backend)?;
            Some(match setting {
                BackendSetting::Weight(_) => weight.to_string(),
                BackendSetting::State(_) => state.as_str().to_owned(),
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
    pub(super) fn replaces(&self, earlier: &Self) -> bool {
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
            // Those of a removed service are somebody's: the removal says which are in its way.
            Self::Add { .. } | Self::AddService { .. } | Self::RemoveService { .. } => false,
            Self::Remove { service, backend } => is_same(service, backend),
            Self::Set {
                service,
                backend,
                setting,
            } => is_same(service, backend) && discriminant(setting) == discriminant(earlier),
        }
    }

    /// What it takes away.
    pub(super) fn removes(&self) -> Option<Chosen> {
        match self {
            Self::Remove { service, backend } => Some(Chosen::Backend(service.clone(), backend.clone())),
            Self::RemoveService { service } => Some(Chosen::Service(service.clone())),
            Self::Add { .. } | Self::Set { .. } | Self::AddService { .. } => None,
        }
    }

    pub(super) fn apply(&self, text: &str) -> Result<String, WriteBackError> {
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
            Self::AddService { service } => write_back::add_service(text, service),
            Self::RemoveService { service } => write_back::remove_service(text, service),
        }
    }
}

fn describe_service(verb: &str, name: &str, desired: &Desired) -> String {
    let Some(service) = desired.service(name) else {
        return format!("{verb} service {name}");
    };
    let vips = service.vips.iter().map(|vip| SocketAddr::new(*vip, service.port));
    let vips: Vec<String> = vips.map(|target| target.to_string()).collect();
    let backends = many(service.backends.len(), "backend");
    let protocol = service.protocol.as_str();
    format!("{verb} service {name} ({protocol} {}, {backends})", vips.join(" "))
}
