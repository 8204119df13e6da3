//! Program and model side by side: every frame goes through both, and whatever differs is an error that says what.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use lb_common::abi::{BackendStats, backend_state, direction, flow_flag, iface_flag};

use super::maps::Wire;
use super::{Entry, Kernel, Key, Lab, Object, Output, Side, Sizes};
use crate::model::{Conn, Expected, Model, Observed, Reason, World};
use crate::packets::hex;

/// The loaded program, the model and the interfaces.
pub struct Rig {
    /// Interfaces of this thread's namespace.
    pub lab: Lab,
    /// The program.
    pub kernel: Loaded,
    /// The model.
    pub model: Model,
}

/// A loaded object, borrowed from those that this process keeps: the verifier takes seconds on a busy machine, and
/// tests of one binary need not pay it each. While one test has it the others wait.
pub struct Loaded(MutexGuard<'static, Option<Kernel>>);

type Slot = &'static Mutex<Option<Kernel>>;

static LOADED: Mutex<BTreeMap<(Object, Sizes), Slot>> = Mutex::new(BTreeMap::new());

impl Loaded {
    fn get(object: Object, sizes: Sizes) -> Result<Self> {
        let mut all = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = *all
            .entry((object, sizes))
            .or_insert_with(|| Box::leak(Box::new(Mutex::new(None))));
        drop(all);
        // A test that panicked has only left flows behind; the next one starts by clearing them.
        let mut guard = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = guard.as_mut() {
            // The interfaces of the test before are gone, whatever their numbers.
            kernel.maps.install(&World::default())?;
        } else {
            *guard = Some(Kernel::load(object, sizes)?);
        }
        Ok(Self(guard))
    }
}

impl Deref for Loaded {
    type Target = Kernel;

    fn deref(&self) -> &Kernel {
        self.0.as_ref().expect("filled by get")
    }
}

impl DerefMut for Loaded {
    fn deref_mut(&mut self) -> &mut Kernel {
        self.0.as_mut().expect("filled by get")
    }
}

/// Program and model disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch(pub String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

/// One frame through both.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What the program did.
    pub output: Output,
    /// The reason both counted.
    pub reason: Option<Reason>,
}

impl Rig {
    /// Enters a fresh namespace on CPU 0 and loads the production object. The configuration is empty.
    pub fn new(sizes: Sizes) -> Result<Self> {
        Self::with_object(Object::Production, sizes)
    }

    /// As [`Rig::new`], with the object asked for.
    pub fn with_object(object: Object, sizes: Sizes) -> Result<Self> {
        super::check_hz()?;
        super::pin_to_cpu(0)?;
        let lab = Lab::enter()?;
        let kernel = Loaded::get(object, sizes)?;
        Ok(Self {
            lab,
            kernel,
            model: Model::new(World::default()),
        })
    }

    /// Starts anew with this configuration: no flows, all counters zero.
    pub fn reset(&mut self, world: World) -> Result<()> {
        self.kernel.maps.install(&world)?;
        self.kernel.maps.clear()?;
        self.model = Model::new(world);
        Ok(())
    }

    /// Changes the configuration under living flows.
    pub fn configure(&mut self, change: impl FnOnce(&mut World)) -> Result<()> {
        change(&mut self.model.world);
        self.kernel.maps.install(&self.model.world)
    }

    /// Sets a backend's state.
    pub fn set_state(&mut self, backend_id: u32, state: u8) -> Result<()> {
        debug_assert!(state <= backend_state::REMOVED);
        self.configure(|world| {
            if let Some(backend) = world.backends.get_mut(&backend_id) {
                backend.state = state;
            }
        })
    }

    /// Lets time pass for both.
    pub fn age(&mut self, ticks: u32) -> Result<()> {
        self.model.age(ticks);
        self.kernel.maps.age(ticks)
    }

    /// Does to both what the kernel's LRU may do: a client's half-open connection loses its `REPLY` entry.
    pub fn forget_half_open_reply(&mut self, client: SocketAddr) -> Result<()> {
        let forward = self.model.conns.values().map(|conn| conn.forward);
        let forward = forward
            .into_iter()
            .find(|key| (key.src, key.src_port) == (client.ip(), client.port()));
        let forward = forward.with_context(|| format!("{client} has no connection"))?;
        let reply = self
            .model
            .forget_reply(&forward)
            .context("the connection is in the model")?;
        self.kernel.maps.remove_half_open(&reply)
    }

    /// Puts a stranger's established `REPLY` entry onto the tuple of a client's half-open connection: what a claim and a
    /// promotion on another CPU between two of our packets would leave.
    pub fn plant_stranger(&mut self, client: SocketAddr) -> Result<()> {
        let conn = self.model.conns.values().find(|conn| conn.forward.src == client.ip());
        let reply = conn.with_context(|| format!("{client} has no connection"))?.reply;
        self.model.planted.insert(reply);
        self.kernel.maps.plant_established(&reply)
    }

    /// Runs the sweep until it has looked at every connection.
    pub fn sweep(&mut self) -> Result<()> {
        let queued = self.model.conns.len() + 256;
        self.model.sweep();
        for _ in 0..queued.div_ceil(256) {
            self.kernel.sweep()?;
        }
        Ok(())
    }

    /// Sends a frame through both and compares verdict, frame and the expected reason's counters. The outer error is
    /// the machine's, the inner one a disagreement.
    pub fn try_send(&mut self, ifindex: u32, frame: &[u8]) -> Result<Result<Sent, Mismatch>> {
        let output = self.kernel.run(ifindex, frame)?;
        let observed = Seen(&self.kernel);
        let expected = match self.model.step(ifindex, frame, &observed) {
            Ok(expected) => expected,
            Err(forbidden) => return Ok(Err(Mismatch(forbidden.0))),
        };
        if let Some(difference) = self.compare(&expected, &output)? {
            let wanted = expected.reason.map_or("forwarded", Reason::as_str);
            return Ok(Err(Mismatch(format!("model: {wanted}; {difference}"))));
        }
        Ok(Ok(Sent {
            output,
            reason: expected.reason,
        }))
    }

    /// [`Rig::try_send`] where a disagreement is the test's failure.
    pub fn send(&mut self, ifindex: u32, frame: &[u8]) -> Result<Sent> {
        self.try_send(ifindex, frame)?
            .with_context(|| format!("interface {ifindex}, frame {}", hex(frame)))
    }

    fn compare(&self, expected: &Expected, output: &Output) -> Result<Option<String>> {
        if expected.action != output.action {
            let counted = self.surplus_reasons()?;
            let (found, wanted) = (output.action, expected.action);
            return Ok(Some(format!(
                "program: action {found}, must be {wanted}; counted {counted}"
            )));
        }
        if let Some(reason) = expected.reason {
            let (packets, bytes) = self.model.reasons.get(&reason.index()).copied().unwrap_or_default();
            let found = self.kernel.reason(reason.index())?;
            if (found.packets, found.bytes) != (packets, bytes) {
                let counted = self.surplus_reasons()?;
                return Ok(Some(format!(
                    "reason counter {found:?}, must be {packets} and {bytes}; counted {counted}"
                )));
            }
        }
        Ok(expected
            .frame
            .as_ref()
            .and_then(|frame| frame.difference(&output.frame)))
    }

    /// Reasons whose counters differ from the model's.
    fn surplus_reasons(&self) -> Result<String> {
        let mut text = String::from("[");
        for reason in Reason::all() {
            let wanted = self.model.reasons.get(&reason.index()).copied().unwrap_or_default().0;
            let found = self.kernel.reason(reason.index())?.packets;
            if found != wanted {
                // Writing to a String cannot fail.
                let _ = write!(text, "{} {found} model {wanted}, ", reason.as_str());
            }
        }
        Ok(text + "]")
    }

    /// Compares everything that outlives a packet: flow tables, counters of reasons and backends.
    pub fn check_state(&self) -> Result<Result<(), Mismatch>> {
        let surplus = self.surplus_reasons()?;
        if surplus != "[]" {
            return Ok(Err(Mismatch(format!("reason counters differ: {surplus}"))));
        }
        for id in self.model.world.backends.keys() {
            let found = self.kernel.backend(*id)?;
            let wanted: BackendStats = self.model.backends.get(id).copied().unwrap_or_default();
            if found != wanted {
                return Ok(Err(Mismatch(format!("backend {id}: {found:?}, must be {wanted:?}"))));
            }
        }
        let moved = self.kernel.cpu_totals()?.hops_moved;
        if moved != self.model.hops_moved {
            return Ok(Err(Mismatch(format!(
                "hops_moved {moved}, must be {}",
                self.model.hops_moved
            ))));
        }
        self.check_flows()
    }

    fn check_flows(&self) -> Result<Result<(), Mismatch>> {
        let found: BTreeMap<(Side, Key), Entry> = self
            .kernel
            .maps
            .entries()?
            .into_iter()
            .map(|(side, key, entry)| ((side, key), entry))
            .collect();
        let mut wanted = BTreeMap::new();
        for conn in self.model.conns.values() {
            let side = if conn.established {
                Side::Established
            } else {
                Side::HalfOpen
            };
            wanted.insert((side, conn.forward), (conn, direction::FORWARD));
            if !conn.reply_forgotten {
                wanted.insert((side, conn.reply), (conn, direction::REPLY));
            }
        }
        let is_known = |place: &(Side, Key)| wanted.contains_key(place) || self.model.planted.contains(&place.1);
        if let Some((place, entry)) = found.iter().find(|(place, _)| !is_known(place)) {
            return Ok(Err(Mismatch(format!("entry {place:?} must not exist: {entry:?}"))));
        }
        for (place, (conn, side)) in &wanted {
            let Some(entry) = found.get(place) else {
                return Ok(Err(Mismatch(format!(
                    "entry {place:?} is missing; the model has {conn:?}"
                ))));
            };
            if let Some(difference) = entry_difference(entry, conn, *side) {
                return Ok(Err(Mismatch(format!(
                    "entry {place:?}: {difference}; {entry:?}, the model has {conn:?}"
                ))));
            }
        }
        Ok(Ok(()))
    }
}

fn entry_difference(entry: &Entry, conn: &Conn, side: u8) -> Option<String> {
    let (src, dst) = if side == direction::FORWARD {
        (
            (conn.reply.dst, conn.reply.dst_port),
            (conn.reply.src, conn.reply.src_port),
        )
    } else {
        (
            (conn.forward.dst, conn.forward.dst_port),
            (conn.forward.src, conn.forward.src_port),
        )
    };
    let rewrite = ((entry.new_src, entry.new_src_port), (entry.new_dst, entry.new_dst_port));
    let checks = [
        ("direction", entry.direction == side),
        ("rewrite", rewrite == (src, dst)),
        ("backend_id", entry.backend_id == conn.backend_id),
        ("mode", entry.mode == conn.mode),
        ("peer_mac", entry.peer_mac == conn.peer_mac),
        ("own_mac", entry.own_mac == conn.iface.mac),
        ("ifindex", entry.ifindex == conn.iface.ifindex),
        ("tcp_seen", entry.tcp_seen == conn.tcp_seen[usize::from(side)]),
        (
            "TX flag",
            // Only replies leave by the client's interface.
            side == direction::FORWARD
                || (entry.flags & flow_flag::TX != 0) == (conn.iface.flags & iface_flag::TX != 0),
        ),
        (
            "ANSWERED",
            !conn.established || (entry.flags & flow_flag::ANSWERED != 0) == conn.answered,
        ),
        ("conn_id", entry.conn_id != 0),
    ];
    checks
        .iter()
        .find(|(_, same)| !same)
        .map(|(name, _)| format!("{name} differs"))
}

struct Seen<'a>(&'a Kernel);

impl Observed for Seen<'_> {
    fn counted(&self, reason: Reason) -> u64 {
        self.0.reason(reason.index()).map_or(0, |stats| stats.packets)
    }

    fn half_open(&self, key: &Key) -> Option<Entry> {
        self.0.half_open(key)
    }
}

impl Kernel {
    /// The half-open entry under a key.
    #[must_use]
    pub fn half_open(&self, key: &Key) -> Option<Entry> {
        let four = key
            .to_v4()
            .and_then(|key| self.maps.half4.get(&Wire(key), 0).ok())
            .map(|v| Entry::from(v.0));
        four.or_else(|| {
            key.to_v6()
                .and_then(|key| self.maps.half6.get(&Wire(key), 0).ok())
                .map(|v| Entry::from(v.0))
        })
    }
}
