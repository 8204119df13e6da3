//! The packet path as a plain Rust model, written from docs/packet-path.md and the ABI alone: it never saw the program.
//! Checksums are computed from scratch (RFC 1071), flows live in ordinary hash maps, time is a number that tests move.
//!
//! Where the page leaves the program a choice (which free SNAT tuple, whether a reset had a token), the model is shown
//! what the program chose and judges whether it was allowed to.

mod answer;
mod claim;
mod flows;
mod frame;
mod half;
mod headers;
mod miss;
mod parse;
pub mod sample;
mod world;

use std::collections::{HashMap, HashSet};

use lb_common::abi::{Backend, BackendStats};
use lb_common::reason::{AnswerReason, DropReason, PassReason};

use crate::kernel::{Entry, Key, action};

pub use flows::Conn;
pub use frame::{ExpectedFrame, SumRule};
pub use world::{BackendSpec, HZ, ServiceSpec, World, endpoint_key, iface_mac, mapped, word};

/// Why a packet ended, of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Dropped.
    Drop(DropReason),
    /// Left to the kernel.
    Pass(PassReason),
    /// Answered.
    Answer(AnswerReason),
}

impl Reason {
    /// Index into `xlb_reason_st`.
    #[must_use]
    pub fn index(self) -> u32 {
        match self {
            Self::Drop(reason) => reason.index(),
            Self::Pass(reason) => reason.index(),
            Self::Answer(reason) => reason.index(),
        }
    }

    /// Every reason there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let drops = DropReason::ALL.iter().map(|reason| Self::Drop(*reason));
        let passes = PassReason::ALL.iter().map(|reason| Self::Pass(*reason));
        let answers = AnswerReason::ALL.iter().map(|reason| Self::Answer(*reason));
        drops.chain(passes).chain(answers)
    }

    /// Its label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drop(reason) => reason.as_str(),
            Self::Pass(reason) => reason.as_str(),
            Self::Answer(reason) => reason.as_str(),
        }
    }
}

/// What must happen to a frame.
#[derive(Clone, Debug)]
pub struct Expected {
    /// XDP action number.
    pub action: u32,
    /// The reason counted; `None` for a forwarded packet.
    pub reason: Option<Reason>,
    /// The frame afterwards; `None` where nobody sees it.
    pub frame: Option<ExpectedFrame>,
}

impl Expected {
    fn drop(reason: DropReason) -> Self {
        Self {
            action: action::DROP,
            reason: Some(Reason::Drop(reason)),
            frame: None,
        }
    }

    fn pass(reason: PassReason, frame: &[u8]) -> Self {
        let untouched = ExpectedFrame::exactly(frame.to_vec());
        Self {
            action: action::PASS,
            reason: Some(Reason::Pass(reason)),
            frame: Some(untouched),
        }
    }
}

/// What the program did, as far as the model needs it to follow a free choice.
pub trait Observed {
    /// Packets counted under a reason, this one included.
    fn counted(&self, reason: Reason) -> u64;
    /// The half-open entry that now stands under a key.
    fn half_open(&self, key: &Key) -> Option<Entry>;
}

/// A choice the page does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden(pub String);

/// The model: a configuration, the flows, the counters and the time.
#[derive(Clone, Debug)]
pub struct Model {
    /// The configuration. Tests change it as they change the maps.
    pub world: World,
    /// Ticks since the model was made.
    pub now: u64,
    /// Connections by a number of the model's own.
    pub conns: HashMap<u64, Conn>,
    /// Counters by backend id.
    pub backends: HashMap<u32, BackendStats>,
    /// Packets and bytes by reason index.
    pub reasons: HashMap<u32, (u64, u64)>,
    /// `hops_moved`.
    pub hops_moved: u64,
    /// Established connections of one family that the tables hold.
    pub connections: usize,
    /// Established `REPLY` keys that belong to nobody the model knows: promotion onto one is `claim_lost`.
    pub planted: HashSet<Key>,
    keys: HashMap<Key, u64>,
    next_conn: u64,
    resets_sent: u64,
}

/// A frame with where it came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) ifindex: u32,
    pub(crate) frame: &'a [u8],
}

impl Model {
    /// A model without flows.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self {
            world,
            now: 1 << 32,
            conns: HashMap::new(),
            backends: HashMap::new(),
            reasons: HashMap::new(),
            hops_moved: 0,
            connections: usize::MAX,
            planted: HashSet::new(),
            keys: HashMap::new(),
            next_conn: 1,
            resets_sent: 0,
        }
    }

    /// What must happen to a frame; the model's flows and counters afterwards are those the program must have.
    pub fn step(&mut self, ifindex: u32, frame: &[u8], observed: &dyn Observed) -> Result<Expected, Forbidden> {
        let arrival = Arrival { ifindex, frame };
        let expected = match self.parse(arrival) {
            Err(done) => done,
            Ok(parse::Arrived::Echo(echo)) => self.echo(arrival, &echo),
            Ok(parse::Arrived::Segment(view)) => match self.hit(arrival, &view) {
                Some(done) => done,
                None => self.miss(arrival, &view, observed)?,
            },
        };
        if let Some(reason) = expected.reason {
            self.count(reason, expected.frame.as_ref().map_or(frame.len(), ExpectedFrame::len));
        }
        Ok(expected)
    }

    /// Counted at the exit: the bytes are those of the frame as it is then.
    fn count(&mut self, reason: Reason, frame_bytes: usize) {
        let (packets, bytes) = self.reasons.entry(reason.index()).or_default();
        *packets += 1;
        *bytes += frame_bytes as u64;
    }

    /// Lets time pass.
    pub fn age(&mut self, ticks: u32) {
        self.now += u64::from(ticks);
    }

    /// Reclaims every expired established connection, as a sweep over the whole queue does.
    pub fn sweep(&mut self) {
        let expired: Vec<u64> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.established && self.has_expired(conn))
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.close(id);
        }
    }

    /// What the kernel's LRU may do to a half-open connection: its `REPLY` entry is gone, the `FORWARD` one stays.
    pub fn forget_reply(&mut self, forward: &Key) -> Option<Key> {
        let (id, _) = self.find(forward)?;
        let conn = self.conns.get_mut(&id)?;
        conn.reply_forgotten = true;
        let reply = conn.reply;
        self.keys.remove(&reply);
        Some(reply)
    }

    fn backend(&self, id: u32) -> Backend {
        self.world.backends.get(&id).copied().unwrap_or_default()
    }

    fn stats(&mut self, backend_id: u32) -> &mut BackendStats {
        self.backends.entry(backend_id).or_default()
    }
}
