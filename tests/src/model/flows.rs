//! Sections 4 and 7 of the page: established flows, lifetimes; and what both kinds of flow share, forwarding.

use lb_common::abi::{BackendStats, Iface, backend_state, direction, hop_flag, iface_flag, tcp_seen};
use lb_common::net::{IPPROTO_TCP, IPPROTO_UDP, Mac};
use lb_common::reason::DropReason;

use super::frame::{Rewrite, rewrite};
use super::parse::View;
use super::{Arrival, Expected, HZ, Model};
use crate::kernel::{Key, action};
use crate::packets::flags;

/// One connection: what its two entries say.
#[expect(clippy::struct_excessive_bools, reason = "each mirrors a flag of the entries")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conn {
    /// Key of packets from the client.
    pub forward: Key,
    /// Key of packets from the backend.
    pub reply: Key,
    /// Membership.
    pub backend_id: u32,
    /// One of [`lb_common::abi::mode`].
    pub mode: u8,
    /// Which table it stands in.
    pub established: bool,
    /// The backend's initial sequence number, once seen.
    pub isn: Option<u32>,
    /// Made in mid-connection.
    pub recovered: bool,
    /// The backend has answered (UDP).
    pub answered: bool,
    /// `tcp_seen` of the `FORWARD` and the `REPLY` entry.
    pub tcp_seen: [u8; 2],
    /// `last_seen` likewise.
    pub last_seen: [u64; 2],
    /// When it was made.
    pub created: u64,
    /// Source MAC of the client's packets.
    pub peer_mac: Mac,
    /// Our interface on the client's side.
    pub iface: Iface,
    /// Half-open, and the kernel evicted its `REPLY` entry.
    pub reply_forgotten: bool,
}

impl Conn {
    /// Closed by both sides or reset.
    pub(super) fn is_closing(&self) -> bool {
        let [forward, reply] = self.tcp_seen;
        (forward | reply) & tcp_seen::RST != 0 || forward & reply & tcp_seen::FIN != 0
    }

    fn side(&self, key: &Key) -> u8 {
        if *key == self.forward {
            direction::FORWARD
        } else {
            direction::REPLY
        }
    }
}

impl Model {
    /// The connection and direction of a key, in the table asked for.
    pub(super) fn find(&self, key: &Key) -> Option<(u64, u8)> {
        let id = *self.keys.get(key)?;
        Some((id, self.conns[&id].side(key)))
    }

    pub(super) fn insert(&mut self, conn: Conn) -> u64 {
        let id = self.next_conn;
        self.next_conn += 1;
        self.keys.insert(conn.forward, id);
        self.keys.insert(conn.reply, id);
        self.conns.insert(id, conn);
        id
    }

    /// Removes a connection from whichever table; an established one counts as closed.
    pub(super) fn close(&mut self, id: u64) {
        let Some(conn) = self.conns.remove(&id) else { return };
        self.keys.remove(&conn.forward);
        // The tuple may be another connection's by now.
        if !conn.reply_forgotten {
            self.keys.remove(&conn.reply);
        }
        if conn.established {
            self.stats(conn.backend_id).flows_closed += 1;
        }
    }

    /// Section 7.
    pub(super) fn has_expired(&self, conn: &Conn) -> bool {
        let settings = &self.world.settings;
        let idle = |since: u64| self.now.saturating_sub(since);
        if !conn.established {
            return if conn.forward.protocol == IPPROTO_UDP || conn.recovered {
                conn.last_seen
                    .iter()
                    .all(|seen| idle(*seen) > u64::from(settings.udp_ticks))
            } else {
                idle(conn.created) > u64::from(settings.half_open_ticks)
            };
        }
        conn.tcp_seen.iter().zip(conn.last_seen).all(|(seen, last)| {
            let lifetime = match (conn.forward.protocol, *seen, conn.answered) {
                (IPPROTO_TCP, 0, _) => settings.established_ticks,
                (IPPROTO_TCP, _, _) => settings.closing_ticks,
                (_, _, true) => settings.udp_answered_ticks,
                (_, _, false) => settings.udp_ticks,
            };
            idle(last) > u64::from(lifetime)
        })
    }

    /// Section 4. `None` is a miss.
    pub(super) fn hit(&mut self, arrival: Arrival<'_>, view: &View) -> Option<Expected> {
        let (id, side) = self.find(&view.key).filter(|(id, _)| self.conns[id].established)?;
        let conn = &self.conns[&id];
        let state = self.backend(conn.backend_id).state;
        if side == direction::FORWARD {
            if !view.is_tcp() && gone(state) {
                self.close(id);
                return None;
            }
            let silent = self.now.saturating_sub(conn.last_seen[1]) > 5 * u64::from(HZ) / 2;
            if view.is_plain_syn() && gone(state) && silent {
                self.close(id);
                return None;
            }
            if view.is_plain_syn() && conn.is_closing() {
                if state != backend_state::ACTIVE {
                    self.close(id);
                    return None;
                }
                let now = self.now;
                let conn = self.conns.get_mut(&id)?;
                conn.tcp_seen = [0, 0];
                conn.created = now;
                conn.last_seen = [now; 2];
            }
        }
        if let Some(dropped) = unforwardable(view) {
            return Some(dropped);
        }
        self.follow_client(id, side, arrival);
        self.note_tcp(id, side, view);
        self.touch(id, side);
        if side == direction::REPLY && !view.is_tcp() {
            self.conns.get_mut(&id)?.answered = true;
        }
        Some(self.forward(id, side, arrival, view))
    }

    /// Section 4.4.
    pub(super) fn follow_client(&mut self, id: u64, side: u8, arrival: Arrival<'_>) {
        if side != direction::FORWARD {
            return;
        }
        let (peer_mac, iface) = (source_mac(arrival), self.world.ifaces[&arrival.ifindex]);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.peer_mac != peer_mac || conn.iface.ifindex != arrival.ifindex {
            (conn.peer_mac, conn.iface) = (peer_mac, iface);
            self.hops_moved += 1;
        }
    }

    /// Section 4.5.
    fn note_tcp(&mut self, id: u64, side: u8, view: &View) {
        if !view.is_tcp() {
            return;
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if view.has(flags::RST) {
            conn.tcp_seen.iter_mut().for_each(|seen| *seen |= tcp_seen::RST);
            return;
        }
        if conn.tcp_seen[usize::from(side)] & tcp_seen::RST != 0 {
            conn.tcp_seen.iter_mut().for_each(|seen| *seen &= !tcp_seen::RST);
        }
        if view.has(flags::FIN) {
            conn.tcp_seen[usize::from(side)] |= tcp_seen::FIN;
        }
    }

    /// Section 4.6.
    pub(super) fn touch(&mut self, id: u64, side: u8) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let seen = &mut conn.last_seen[usize::from(side)];
        if now - *seen >= u64::from(HZ) {
            *seen = now;
        }
    }

    /// Section 4.7.
    pub(super) fn forward(&mut self, id: u64, side: u8, arrival: Arrival<'_>, view: &View) -> Expected {
        let conn = &self.conns[&id];
        let backend = self.backend(conn.backend_id);
        if side == direction::FORWARD && backend.hop_flags & hop_flag::VALID == 0 {
            return Expected::drop(DropReason::NoNeighbour);
        }
        let (to, ifindex, by_tx) = if side == direction::FORWARD {
            let to = Rewrite {
                src: (conn.reply.dst, conn.reply.dst_port),
                dst: (conn.reply.src, conn.reply.src_port),
                src_mac: backend.hop_src_mac,
                dst_mac: backend.hop_dst_mac,
            };
            (to, backend.hop_ifindex, backend.hop_flags & hop_flag::TX != 0)
        } else {
            let to = Rewrite {
                src: (conn.forward.dst, conn.forward.dst_port),
                dst: (conn.forward.src, conn.forward.src_port),
                src_mac: conn.iface.mac,
                dst_mac: conn.peer_mac,
            };
            (to, conn.iface.ifindex, conn.iface.flags & iface_flag::TX != 0)
        };
        let frame = rewrite(arrival.frame, &view.ip, &to);
        let bytes = arrival.frame.len() as u64;
        count(self.stats(conn.backend_id), side, bytes);
        let way = if by_tx { Way::TxWhereItCame } else { Way::Redirect };
        self.way_out(arrival.ifindex, ifindex, way)
            .map_or_else(Expected::drop, |action| Expected {
                action,
                reason: None,
                frame: Some(frame),
            })
    }

    /// `XDP_TX` or redirect, as the way out allows.
    pub(super) fn way_out(&self, ingress: u32, egress: u32, way: Way) -> Result<u32, DropReason> {
        if ingress == egress && way == Way::TxWhereItCame {
            return Ok(action::TX);
        }
        if self.world.tx_ports.contains(&egress) {
            return Ok(action::REDIRECT);
        }
        Err(DropReason::NoTxPort)
    }
}

/// Section 4.3: what no flow may be forwarded with.
pub(super) fn unforwardable(view: &View) -> Option<Expected> {
    if !view.is_tcp() && view.ip.src.is_ipv6() && view.udp_checksum == 0 {
        return Some(Expected::drop(DropReason::Udp6ZeroChecksum));
    }
    (view.ip.ttl <= 1).then(|| Expected::drop(DropReason::TtlExpired))
}

/// How a packet leaves by the interface it came in on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    TxWhereItCame,
    Redirect,
}

fn count(stats: &mut BackendStats, side: u8, bytes: u64) {
    if side == direction::FORWARD {
        stats.packets_in += 1;
        stats.bytes_in += bytes;
    } else {
        stats.packets_out += 1;
        stats.bytes_out += bytes;
    }
}

/// States in which even existing UDP flows choose again.
pub(super) fn gone(state: u8) -> bool {
    matches!(
        state,
        backend_state::DOWN | backend_state::REMOVED | backend_state::EMPTY
    )
}

pub(super) fn source_mac(arrival: Arrival<'_>) -> Mac {
    let mut mac = Mac::default();
    mac.copy_from_slice(&arrival.frame[6..12]);
    mac
}
