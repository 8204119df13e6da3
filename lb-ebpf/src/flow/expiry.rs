//! When a connection has expired. Ticks are 32 bits and wrap; an age is at most half of that.

use lb_common::{
    abi::{Settings, flow_flag},
    net::IPPROTO_TCP,
};

use super::Life;

/// Ticks from `then` to `now`; 0 when `then` is a moment ahead (another CPU's write).
#[inline(always)]
#[must_use]
pub const fn idle_ticks(now: u32, then: u32) -> u32 {
    let age = now.wrapping_sub(then);
    if age > u32::MAX / 2 { 0 } else { age }
}

/// Whether one established entry has been idle for longer than its lifetime. The *connection* has expired when both
/// of its entries have.
#[inline(always)]
#[must_use]
pub fn is_expired(life: &Life, protocol: u8, settings: &Settings, now: u32) -> bool {
    let lifetime = match (protocol, life.tcp_seen, life.flags & flow_flag::ANSWERED) {
        (IPPROTO_TCP, 0, _) => settings.established_ticks,
        (IPPROTO_TCP, _, _) => settings.closing_ticks,
        (_, _, 0) => settings.udp_ticks,
        _ => settings.udp_answered_ticks,
    };
    idle_ticks(now, life.last_seen) > lifetime
}

/// Whether a half-open entry may be taken away from its connection.
#[inline(always)]
#[must_use]
pub fn half_open_expired(life: &Life, protocol: u8, settings: &Settings, now: u32) -> bool {
    let lifetime = if is_handshake(life, protocol) {
        settings.half_open_ticks
    } else {
        settings.udp_ticks
    };
    half_open_idle(life, protocol, now) > lifetime
}

/// Ticks that a half-open connection has waited: since its latest SYN, or (UDP, or met in mid-connection) since its last
/// packet.
#[inline(always)]
#[must_use]
pub fn half_open_idle(life: &Life, protocol: u8, now: u32) -> u32 {
    let since = if is_handshake(life, protocol) {
        life.created
    } else {
        life.last_seen
    };
    idle_ticks(now, since)
}

#[inline(always)]
fn is_handshake(life: &Life, protocol: u8) -> bool {
    protocol == IPPROTO_TCP && life.flags & flow_flag::RECOVERED == 0
}
