//! Claims that the config no longer makes and live connections may still need: the bits of a removed service, of a SNAT
//! address taken out, of a moved `snat_ports`. Without its bit an established connection's packets would go to the
//! kernel, which resets it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_common::abi::role;

use super::image::Image;
use super::ours::{self, Claim};

/// How long claims are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holds {
    /// At least this long: half-open connections are in no count.
    pub(super) least: Duration,
    /// At most this long: by then an idle connection has expired.
    pub(super) most: Duration,
    /// Live connections of all backends.
    pub(super) live_flows: u64,
}

impl Holds {
    fn keeps(&self, since: Duration, now: Duration) -> bool {
        let age = now.saturating_sub(since);
        age < self.least || (age < self.most && self.live_flows > 0)
    }

    /// Until when something kept since then is kept at least.
    fn until(&self, since: Duration, now: Duration) -> Duration {
        let least = since + self.least;
        if now < least { least } else { since + self.most }
    }
}

/// Withdrawn claims and since when.
#[derive(Clone, Debug, Default)]
pub(super) struct Retired {
    claims: BTreeMap<Claim, Duration>,
    /// Bits found in the kernel at start that nothing explains: claims retired by the agent before.
    inherited: Option<(BTreeMap<u32, u64>, Duration)>,
}

impl Retired {
    /// Keeps the bits of a pinned image that its own entries do not explain.
    pub(super) fn recover(image: &Image, now: Duration) -> Self {
        let explained = ours::bitmap(&ours::claims(image));
        let left = |(block, bits): (&u32, &u64)| {
            let left = bits & !explained.get(block).copied().unwrap_or(0);
            (left != 0).then_some((*block, left))
        };
        let inherited: BTreeMap<u32, u64> = image.ours.iter().filter_map(left).collect();
        Self {
            claims: BTreeMap::new(),
            inherited: (!inherited.is_empty()).then_some((inherited, now)),
        }
    }

    /// The bitmap of an image: its own claims and those that still have to be kept.
    pub(super) fn bitmap(
        &mut self,
        previous: &Image,
        wanted: &Image,
        holds: Holds,
        now: Duration,
    ) -> BTreeMap<u32, u64> {
        let between = between(previous, wanted);
        let wanted: BTreeSet<Claim> = ours::claims(wanted);
        for claim in ours::claims(previous).into_iter().chain(between) {
            // An address without its ports only matters to echo and fragments: neither belongs to a connection.
            if !matches!(claim, Claim::Address { .. }) {
                self.claims.entry(claim).or_insert(now);
            }
        }
        self.claims
            .retain(|claim, since| !wanted.contains(claim) && holds.keeps(*since, now));
        self.inherited.take_if(|(_, since)| !holds.keeps(*since, now));
        let mut blocks = ours::bitmap(wanted.iter().chain(self.claims.keys()));
        for (block, bits) in self.inherited.iter().flat_map(|(blocks, _)| blocks) {
            *blocks.entry(*block).or_default() |= bits;
        }
        blocks
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.inherited.is_none()
    }

    /// Whether something that is kept may go now.
    pub(super) fn may_go(&self, holds: Holds, now: Duration) -> bool {
        let inherited = self.inherited.iter().map(|(_, since)| since);
        let mut kept = self.claims.values().chain(inherited);
        kept.any(|since| !holds.keeps(*since, now))
    }

    /// When a kept claim goes at the earliest, if as many connections live on.
    pub(super) fn next_due(&self, holds: Holds, now: Duration) -> Option<Duration> {
        let inherited = self.inherited.iter().map(|(_, since)| *since);
        let kept = self.claims.values().copied().chain(inherited);
        kept.map(|since| holds.until(since, now)).min()
    }
}

/// New SNAT addresses with the old ports: the addresses are written before the settings that hold the new ports.
fn between(previous: &Image, wanted: &Image) -> impl Iterator<Item = Claim> {
    let (min, max) = (previous.settings.snat_port_min, previous.settings.snat_port_max);
    let snat = wanted.addrs.iter().filter(|(_, value)| value.roles & role::SNAT != 0);
    let claims = snat.map(move |(key, _)| Claim::Destination {
        address: key.address,
        min,
        max,
    });
    // All zero: no agent has written settings yet.
    claims.filter(move |_| max != 0)
}
