//! The changes on top of the file, as they are listed, saved and taken back.

use std::net::SocketAddr;

use super::{Change, Desired, DesiredError, DroppedOverride, Override, apply_all};
use crate::config::write_back::BackendSetting;
use crate::view::OverrideView;

/// Which overrides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// Every one.
    All,
    /// Those of a service.
    Service(String),
    /// Those of one backend, by service and name.
    Backend(String, String),
}

impl Desired {
    /// The state after some of the overrides were written to the file.
    pub fn with_overrides_saved(&self, chosen: &Chosen) -> Result<Self, DesiredError> {
        let (saved, rest) = self.parted(chosen);
        let text = apply_all(&self.text, &saved, self)?;
        self.with_text(text)?.with_overrides(rest)
    }

    /// The state without some of the overrides.
    pub fn with_overrides_dropped(&self, chosen: &Chosen) -> Result<Self, DesiredError> {
        let next = self.with_overrides(self.parted(chosen).1)?;
        Ok(next.without_notices_of(chosen))
    }

    /// With what earlier readings of the file dropped, before what this one did.
    pub fn with_notices(mut self, earlier: &[DroppedOverride]) -> Self {
        let new = std::mem::take(&mut self.dropped);
        let again = |old: &DroppedOverride| new.iter().any(|new| new.change.change == old.change.change);
        self.dropped = earlier.iter().filter(|old| !again(old)).cloned().collect();
        self.dropped.extend(new);
        self
    }

    /// Somebody has seen what became of the changes of this object.
    pub(super) fn without_notices_of(mut self, object: &Chosen) -> Self {
        let mut notices = std::mem::take(&mut self.dropped);
        notices.retain(|notice| !self.is_about(&notice.change.change, object));
        self.dropped = notices;
        self
    }

    /// What a change is about.
    pub(super) fn object_of(&self, change: &Change) -> Chosen {
        let service = change.service().to_owned();
        match self.name_of(change) {
            Some(backend) => Chosen::Backend(service, backend),
            None => Chosen::Service(service),
        }
    }

    /// The chosen overrides and the others, each in their order.
    pub fn parted(&self, chosen: &Chosen) -> (Vec<Override>, Vec<Override>) {
        let is_chosen = |change: &Override| match chosen {
            Chosen::All => true,
            one => self.is_about(&change.change, one),
        };
        self.overrides.iter().cloned().partition(is_chosen)
    }

    /// Whether a change is about a service, or about a backend.
    pub(super) fn is_about(&self, change: &Change, chosen: &Chosen) -> bool {
        match chosen {
            Chosen::All => true,
            Chosen::Service(service) => change.service() == service,
            Chosen::Backend(service, backend) => {
                change.service() == service && self.name_of(change).as_ref() == Some(backend)
            }
        }
    }

    /// The overrides for people and programs.
    pub fn override_views(&self) -> Vec<OverrideView> {
        self.overrides.iter().map(|change| self.override_view(change)).collect()
    }

    /// The name of the backend that a change is about; `None`: it is about a whole service.
    fn name_of(&self, change: &Change) -> Option<String> {
        let (service, address, port) = match change {
            Change::AddService { .. } | Change::RemoveService { .. } => return None,
            Change::Remove { backend, .. } | Change::Set { backend, .. } => return Some(backend.clone()),
            Change::Add { name: Some(name), .. } => return Some(name.clone()),
            Change::Add {
                service, address, port, ..
            } => (service, address, port),
        };
        let added = self.service(service).into_iter().flat_map(|service| &service.backends);
        let mut added = added.filter(|backend| backend.address == *address && backend.from.is_none());
        let added = added.find(|backend| port.is_none_or(|port| backend.port == port));
        let target = || {
            port.map_or_else(
                || address.to_string(),
                |port| SocketAddr::new(*address, port).to_string(),
            )
        };
        Some(added.map_or_else(target, |backend| backend.name.clone()))
    }

    /// An override for people and programs.
    pub fn override_view(&self, change: &Override) -> OverrideView {
        let (action, weight) = match &change.change {
            Change::Add { weight, .. } => ("add", *weight),
            Change::Remove { .. } => ("remove", None),
            Change::AddService { .. } => ("add_service", None),
            Change::RemoveService { .. } => ("remove_service", None),
            Change::Set { setting, .. } => match setting {
                BackendSetting::Weight(weight) => ("weight", Some(*weight)),
                BackendSetting::State(state) => (state.as_str(), None),
            },
        };
        OverrideView {
            action: action.to_owned(),
            weight,
            service: change.change.service().to_owned(),
            backend: self.name_of(&change.change),
            by: change.by.clone(),
            at: change.at,
        }
    }
}
