//! Section 5.1 of the page: packets of half-open connections.

use lb_common::abi::{backend_state, direction};
use lb_common::reason::DropReason;

use super::flows::{gone, unforwardable};
use super::parse::View;
use super::{Arrival, Conn, Expected, HZ, Model};
use crate::packets::flags;

impl Model {
    /// Section 5.1. `None`: go on as if there had been no entry.
    pub(super) fn half_hit(&mut self, id: u64, side: u8, arrival: Arrival<'_>, view: &View) -> Option<Expected> {
        let conn = self.conns[&id].clone();
        let state = self.backend(conn.backend_id).state;
        let must_choose_again = side == direction::FORWARD
            && if view.is_tcp() {
                view.is_plain_syn() && state != backend_state::ACTIVE
            } else {
                gone(state)
            };
        if must_choose_again {
            self.close(id);
            return None;
        }
        let effect = match self.half_effect(&conn, side, view) {
            Ok(effect) => effect,
            Err(reason) => return Some(Expected::drop(reason)),
        };
        if let Some(dropped) = unforwardable(view) {
            return Some(dropped);
        }
        self.follow_client(id, side, arrival);
        let now = self.now;
        self.conns.get_mut(&id)?.last_seen[usize::from(side)] = now;
        match effect {
            Effect::None => {}
            Effect::Retransmission => self.conns.get_mut(&id)?.created = self.now,
            Effect::Isn(isn) => self.conns.get_mut(&id)?.isn = Some(isn),
            Effect::Refused => self.stats(conn.backend_id).flows_refused += 1,
            Effect::Promote { answered } => {
                if let Err(reason) = self.may_promote(&conn) {
                    return Some(Expected::drop(reason));
                }
                let conn = self.conns.get_mut(&id)?;
                conn.last_seen = [now; 2];
                conn.established = true;
                conn.answered |= answered == Answered::Yes;
                self.stats(self.conns[&id].backend_id).flows_opened += 1;
            }
        }
        Some(self.forward(id, side, arrival, view))
    }

    fn may_promote(&self, conn: &Conn) -> Result<(), DropReason> {
        if conn.reply_forgotten {
            return Err(DropReason::HandshakeUnproven);
        }
        if self.planted.contains(&conn.reply) {
            return Err(DropReason::ClaimLost);
        }
        let is_v4 = conn.forward.src.is_ipv4();
        let full = self
            .conns
            .values()
            .filter(|c| c.established && c.forward.src.is_ipv4() == is_v4)
            .count();
        if full >= self.connections {
            Err(DropReason::FlowTableFull)
        } else {
            Ok(())
        }
    }

    fn half_effect(&self, conn: &Conn, side: u8, view: &View) -> Result<Effect, DropReason> {
        match (side == direction::FORWARD, view.is_tcp()) {
            (true, true) => {
                if view.is_plain_syn() {
                    return Ok(Effect::Retransmission);
                }
                if view.has(flags::RST) || conn.recovered {
                    return Ok(Effect::None);
                }
                let proves = view.has(flags::ACK) && conn.isn.is_some_and(|isn| view.ack == isn.wrapping_add(1));
                if proves {
                    Ok(Effect::Promote { answered: Answered::No })
                } else {
                    Err(DropReason::HandshakeUnproven)
                }
            }
            (false, true) => Ok(if view.has(flags::RST) {
                Effect::Refused
            } else if conn.recovered {
                Effect::Promote {
                    answered: Answered::Yes,
                }
            } else if view.has(flags::SYN | flags::ACK) {
                Effect::Isn(view.seq)
            } else {
                Effect::None
            }),
            (true, false) if self.now - conn.created > u64::from(HZ) => Ok(Effect::Promote { answered: Answered::No }),
            (true, false) => Ok(Effect::None),
            (false, false) => Ok(Effect::Promote {
                answered: Answered::Yes,
            }),
        }
    }
}

/// What a packet does to the half-open connection it belongs to.
enum Effect {
    None,
    Retransmission,
    Isn(u32),
    Refused,
    Promote { answered: Answered },
}

#[derive(PartialEq, Eq)]
enum Answered {
    Yes,
    No,
}
