//! Configured interfaces and whether the program is attached to them. An interface that does not exist yet, is gone, or
//! refuses the program is shown and tried again; it never falls to generic mode by itself.

use std::collections::BTreeMap;
use std::time::Instant;

use super::backoff::Backoff;
use crate::dataplane::{AttachMode, Dataplane, DataplaneError};
use crate::state::Links;

/// One configured interface.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Whether packets are taken there.
    pub state: PortState,
}

/// Whether packets are taken at an interface.
#[derive(Clone, Debug, PartialEq)]
pub enum PortState {
    /// The program is attached.
    Attached {
        /// Interface index it is attached to.
        ifindex: u32,
        /// How.
        mode: AttachMode,
    },
    /// An earlier agent's program is attached.
    Adopted,
    /// There is no such interface.
    Missing,
    /// The kernel refused.
    Failed {
        /// Interface index it was tried on.
        ifindex: u32,
        /// Why.
        error: String,
        /// When to try again.
        backoff: Backoff,
    },
}

/// All configured interfaces.
#[derive(Debug, Default)]
pub(super) struct Ports {
    states: BTreeMap<String, PortState>,
}

/// Whether anything is different from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Synced {
    /// Nothing.
    Same,
    /// Some interface.
    Changed,
}

impl Ports {
    /// For the snapshot, in the config's order of names.
    pub(super) fn list(&self) -> Vec<Port> {
        let port = |(name, state): (&String, &PortState)| Port {
            name: name.clone(),
            state: state.clone(),
        };
        self.states.iter().map(port).collect()
    }

    /// Takes over what an earlier agent attached, so that what the config no longer names is detached.
    pub(crate) fn adopt(&mut self, dataplane: &Dataplane) {
        match dataplane.attached() {
            Ok(links) => {
                for link in links {
                    // Attached again by the next sync, which swaps in this build's program.
                    self.states.insert(link.ifname, PortState::Adopted);
                }
            }
            Err(error) => tracing::warn!(object = "interfaces", cause = %error, "earlier attachments are not known"),
        }
    }

    /// Looks whether what was attached still is: a link ends with its interface's stay in this network namespace, and the
    /// interface may be back under its index before netlink has told of either. Those are attached again by the next
    /// sync.
    pub(crate) fn recheck(&mut self, dataplane: &Dataplane) -> Synced {
        let links = match dataplane.attached() {
            Ok(links) => links,
            Err(error) => {
                // The counters' reading, which fails for the same causes, tells.
                tracing::debug!(object = "interfaces", cause = %error, "attachments not read");
                return Synced::Same;
            }
        };
        let mut synced = Synced::Same;
        for (name, state) in &mut self.states {
            let PortState::Attached { ifindex, .. } = state else {
                continue;
            };
            if !links.iter().any(|link| link.ifindex == Some(*ifindex)) {
                tracing::warn!(
                    object = name,
                    old = "attached",
                    new = "detached",
                    cause = "its link ended",
                    "interface"
                );
                *state = PortState::Missing;
                synced = Synced::Changed;
            }
        }
        synced
    }

    /// When the next failed attach is due.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let next = |state: &PortState| match state {
            PortState::Failed { backoff, .. } => Some(backoff.next),
            PortState::Attached { .. } | PortState::Adopted | PortState::Missing => None,
        };
        self.states.values().filter_map(next).min()
    }

    /// Attaches what is configured and there, detaches what is not configured any more.
    pub(super) fn sync(
        &mut self,
        dataplane: &mut Dataplane,
        interfaces: &[String],
        links: &Links,
        now: Instant,
    ) -> Synced {
        let before = self.states.clone();
        for name in interfaces {
            let next = self.next_state(dataplane, name, links, now);
            self.note(name, next);
        }
        let gone: Vec<String> = self
            .states
            .keys()
            .filter(|name| !interfaces.contains(name))
            .cloned()
            .collect();
        for name in gone {
            self.states.remove(&name);
            detach(dataplane, &name, "no longer in the config");
        }
        if before == self.states {
            Synced::Same
        } else {
            Synced::Changed
        }
    }

    fn next_state(&self, dataplane: &mut Dataplane, name: &str, links: &Links, now: Instant) -> PortState {
        let current = self.states.get(name);
        let Some(link) = links.by_name.get(name) else {
            if let Some(PortState::Attached { .. } | PortState::Adopted) = current {
                // The device is gone and its link with it; the pin would stand in the way of its successor.
                detach(dataplane, name, "the interface is gone");
            }
            return PortState::Missing;
        };
        match current {
            Some(state @ PortState::Attached { ifindex, .. }) if *ifindex == link.ifindex => return state.clone(),
            Some(state @ PortState::Failed { ifindex, backoff, .. })
                if *ifindex == link.ifindex && now < backoff.next =>
            {
                return state.clone();
            }
            Some(PortState::Attached { .. }) => detach(dataplane, name, "another interface has its name now"),
            _ => {}
        }
        match dataplane.attach(name, link.ifindex) {
            Ok(attached) => PortState::Attached {
                ifindex: link.ifindex,
                mode: attached.mode,
            },
            Err(error) => PortState::Failed {
                ifindex: link.ifindex,
                backoff: match current {
                    Some(PortState::Failed { ifindex, backoff, .. }) if *ifindex == link.ifindex => backoff.again(now),
                    _ => Backoff::first(now),
                },
                error: error.to_string(),
            },
        }
    }

    fn note(&mut self, name: &str, next: PortState) {
        let old = self.states.insert(name.to_owned(), next.clone());
        let was = old.as_ref().map_or("new", PortState::word);
        match &next {
            _ if old.as_ref().map(PortState::word) == Some(next.word()) => {}
            PortState::Attached { mode, .. } => {
                tracing::info!(
                    object = name,
                    old = was,
                    new = "attached",
                    cause = mode.as_str(),
                    "interface"
                );
            }
            // Never entered by a sync.
            PortState::Adopted => {}
            PortState::Missing => {
                tracing::warn!(
                    object = name,
                    old = was,
                    new = "missing",
                    cause = "no such interface",
                    "interface"
                );
            }
            PortState::Failed { error, .. } => {
                tracing::error!(
                    object = name,
                    old = was,
                    new = "not attached",
                    cause = error,
                    "interface"
                );
            }
        }
    }
}

impl PortState {
    const fn word(&self) -> &'static str {
        match self {
            Self::Attached { .. } => "attached",
            Self::Adopted => "adopted",
            Self::Missing => "missing",
            Self::Failed { .. } => "not attached",
        }
    }
}

fn detach(dataplane: &mut Dataplane, name: &str, cause: &str) {
    match dataplane.detach(name) {
        Ok(_) => tracing::info!(object = name, old = "attached", new = "detached", cause, "interface"),
        Err(error @ DataplaneError::InterfaceGone { .. }) => tracing::debug!(object = name, %error, "interface"),
        Err(error) => tracing::warn!(object = name, old = "attached", new = "detached", cause, %error, "interface"),
    }
}
