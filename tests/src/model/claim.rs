//! Section 5.6 of the page: the tuple that a new connection's replies come to.

use std::net::IpAddr;

use lb_common::abi::{Service, direction, mode};
use lb_common::limits::{SNAT_CROWDED_PROBES, SNAT_LARGE_RANGE, SNAT_PROBES};
use lb_common::net::IPPROTO_TCP;
use lb_common::reason::DropReason;

use super::parse::View;
use super::{Forbidden, HZ, Model, Observed};
use crate::kernel::Key;

/// What stands on a SNAT tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tuple {
    Free,
    Expired(u64),
    /// Closing, since this tick.
    Closing(u64, u64),
    /// Half-open, since this tick.
    HalfOpen(u64, u64),
    Live,
}

impl Model {
    /// Section 5.6: the REPLY key of the claimed tuple. The outer error is a choice that was not allowed.
    pub(super) fn claim(
        &mut self,
        view: &View,
        service: &Service,
        backend_id: u32,
        hash: u32,
        observed: &dyn Observed,
    ) -> Result<Result<Key, DropReason>, Forbidden> {
        let backend = self.backend(backend_id);
        let backend_addr = match view.key.dst {
            IpAddr::V4(_) => IpAddr::from(<[u8; 4]>::try_from(&backend.address[12..]).expect("four bytes")),
            IpAddr::V6(_) => IpAddr::from(backend.address),
        };
        let reply_to = |(dst, dst_port): (IpAddr, u16)| Key {
            src: backend_addr,
            dst,
            src_port: backend.internal_port,
            dst_port,
            protocol: view.key.protocol,
        };
        if service.mode == mode::GATEWAY {
            let key = reply_to((view.key.src, view.key.src_port));
            return match self.tuple(&key) {
                Tuple::Free => Ok(Ok(key)),
                Tuple::Expired(id) | Tuple::Closing(id, _) => {
                    self.close(id);
                    Ok(Ok(key))
                }
                Tuple::HalfOpen(id, since) if self.now.saturating_sub(since) >= u64::from(HZ) => {
                    self.close(id);
                    Ok(Ok(key))
                }
                Tuple::HalfOpen(..) | Tuple::Live => Ok(Err(DropReason::GatewayTupleInUse)),
            };
        }
        let candidates: Vec<Key> = self.candidates(view, hash).into_iter().map(reply_to).collect();
        if candidates.is_empty() {
            return Ok(Err(DropReason::NoSnatAddress));
        }
        let entry = observed
            .half_open(&view.key)
            .filter(|entry| entry.direction == direction::FORWARD);
        let chosen = entry.map(|entry| reply_to((entry.new_src, entry.new_src_port)));
        self.judge_search(&candidates, chosen.as_ref())?;
        let Some(chosen) = chosen else {
            return Ok(Err(DropReason::SnatExhausted));
        };
        if let Tuple::Expired(id) | Tuple::Closing(id, _) | Tuple::HalfOpen(id, _) = self.tuple(&chosen) {
            self.close(id);
        }
        Ok(Ok(chosen))
    }

    /// The tuples a claim tries, in order.
    fn candidates(&self, view: &View, hash: u32) -> Vec<(IpAddr, u16)> {
        let addresses = self.world.snat(view.key.dst);
        let settings = &self.world.settings;
        let (min, max) = (settings.snat_port_min, settings.snat_port_max);
        let range = u32::from(max) - u32::from(min) + 1;
        let stride = if range > SNAT_LARGE_RANGE { 509 } else { 1 };
        let count = addresses.len() as u32;
        let own = view.key.src_port;
        (0..if count == 0 { 0 } else { SNAT_PROBES })
            .map(|k| {
                let address = addresses[(hash.wrapping_add(k) % count) as usize];
                let port = min + (((hash >> 8) + k / count * stride) % range) as u16;
                let keeps_own = k == 0 && (min..=max).contains(&own);
                (address, if keeps_own { own } else { port })
            })
            .collect()
    }

    /// A search in a large range ends early where the first candidates all closed lately and one of them may be taken.
    fn judge_search(&self, candidates: &[Key], chosen: Option<&Key>) -> Result<(), Forbidden> {
        let settings = &self.world.settings;
        let range = u32::from(settings.snat_port_max) - u32::from(settings.snat_port_min) + 1;
        let first = &candidates[..candidates.len().min(SNAT_CROWDED_PROBES as usize)];
        let can_take = first.iter().any(|key| matches!(self.tuple(key), Tuple::Closing(..)));
        // `last_seen` is no finer than a second; within it both ends of the search are right.
        let (half, second) = (u64::from(settings.closing_ticks / 2), u64::from(HZ));
        let all_within = |ticks: u64| first.iter().all(|key| self.backend_closed_within(key, ticks));
        if range <= SNAT_LARGE_RANGE || !can_take || !all_within(half + second) {
            return self.judge_choice(candidates, chosen);
        }
        let early = self.judge_choice(first, chosen);
        if all_within(half.saturating_sub(second)) {
            return early;
        }
        early.or_else(|_| self.judge_choice(candidates, chosen))
    }

    /// Whether an established connection stands on a tuple whose backend sent FIN, or one side RST, and whose backend
    /// was last heard at most so long ago.
    fn backend_closed_within(&self, key: &Key, ticks: u64) -> bool {
        self.find(key).is_some_and(|(id, _)| {
            let conn = &self.conns[&id];
            let [_, heard] = conn.last_seen;
            conn.established && conn.tcp_seen[1] != 0 && self.now.saturating_sub(heard) < ticks
        })
    }

    /// The first candidate that is free or expired, else the one closed longest (at most a second is not told apart:
    /// `last_seen` is no finer), else the half-open one that has waited longest, a second at least, else none.
    fn judge_choice(&self, candidates: &[Key], chosen: Option<&Key>) -> Result<(), Forbidden> {
        let is_free = |key: &&Key| matches!(self.tuple(key), Tuple::Free | Tuple::Expired(_));
        let closed_at = |key: &Key| match self.tuple(key) {
            Tuple::Closing(_, since) => Some(since),
            _ => None,
        };
        let half_since = |key: &Key| match self.tuple(key) {
            Tuple::HalfOpen(_, since) => Some(since),
            _ => None,
        };
        let waited = |since: u64| self.now.saturating_sub(since);
        // The program's tick and the model's may lie a few apart.
        let (second, slack) = (u64::from(HZ), u64::from(HZ) / 4);
        let first_free = candidates.iter().find(is_free);
        let first_closed = candidates.iter().filter_map(closed_at).min();
        let first_half = candidates.iter().filter_map(half_since).min();
        let is_right = match (first_free, first_closed, first_half, chosen) {
            (Some(free), _, _, Some(chosen)) => free == chosen,
            (None, Some(first), _, Some(chosen)) => {
                candidates.contains(chosen) && closed_at(chosen).is_some_and(|at| at <= first + second)
            }
            (None, None, Some(first), Some(chosen)) => {
                let oldest = |since: u64| since <= first + slack && waited(since) + slack >= second;
                candidates.contains(chosen) && half_since(chosen).is_some_and(oldest)
            }
            (None, None, Some(first), None) => waited(first) <= second + slack,
            (None, None, None, None) => true,
            _ => false,
        };
        if is_right {
            return Ok(());
        }
        let all: Vec<_> = candidates
            .iter()
            .map(|key| (key.dst, key.dst_port, self.tuple(key)))
            .collect();
        Err(Forbidden(format!("claimed {chosen:?} out of {all:?}")))
    }

    fn tuple(&self, key: &Key) -> Tuple {
        let Some((id, _)) = self.find(key) else {
            return Tuple::Free;
        };
        let conn = &self.conns[&id];
        if self.has_expired(conn) {
            Tuple::Expired(id)
        } else if conn.established && conn.is_closing() {
            Tuple::Closing(id, conn.last_seen[0].max(conn.last_seen[1]))
        } else if !conn.established {
            let handshake = conn.forward.protocol == IPPROTO_TCP && !conn.recovered;
            Tuple::HalfOpen(id, if handshake { conn.created } else { conn.last_seen[1] })
        } else {
            Tuple::Live
        }
    }
}
