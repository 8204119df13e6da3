//! Reads the flow tables for whoever wants to see connections. It holds descriptors of its own, so readers run beside the
//! task that owns the dataplane and never wait for it, nor it for them.
//!
//! A walk is a moving picture: the program goes on adding and removing. A connection that stays in its table for the whole
//! walk is seen exactly once; one that comes or goes meanwhile once or not at all; one that is promoted meanwhile may be
//! seen as half-open and again as established, never missed, for half-open ones are read first.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::{Map, MapData};
use bytemuck::{Pod, Zeroable};
use lb_common::abi::{FlowKey4, FlowKey6, FlowValue4, FlowValue6, direction, tcp_seen};
use lb_common::names;
use lb_common::net::IPPROTO_TCP;

use super::batch::HashWalk;
use super::maps::descriptor;
use super::sys::{Command, bpf, raw};
use super::tick::{TickClock, TickProgram};
use super::{Dataplane, DataplaneError};

/// Entries read by one system call: a few hundred kilobytes.
const ENTRIES_A_CALL: usize = 2_048;

/// Which table a connection stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `xlb_half4` or `xlb_half6`.
    HalfOpen,
    /// `xlb_flows4` or `xlb_flows6`.
    Established,
}

/// One connection: its forward entry, with what its reply entry adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Never 0 and never used twice.
    pub conn_id: u64,
    /// Which table it stands in.
    pub place: Place,
    /// 6 or 17.
    pub protocol: u8,
    /// One of [`lb_common::abi::mode`].
    pub mode: u8,
    /// [`tcp_seen`] bits of both directions.
    pub tcp_seen: u8,
    /// The client.
    pub client: SocketAddr,
    /// VIP and service port.
    pub vip: SocketAddr,
    /// What the backend sees as the client: the SNAT tuple, in gateway mode the client itself.
    pub source: SocketAddr,
    /// The backend's address and internal port.
    pub backend: SocketAddr,
    /// The membership.
    pub backend_id: u32,
    /// Tick at which the connection was made.
    pub created: u32,
    /// Tick of its last packet in either direction, up to a second old.
    pub last_seen: u32,
}

impl Connection {
    /// Whether a FIN or RST was seen.
    pub const fn is_closing(&self) -> bool {
        self.protocol == IPPROTO_TCP && self.tcp_seen & (tcp_seen::FIN | tcp_seen::RST) != 0
    }
}

/// Descriptors of the flow tables, and the clock their entries count in.
#[derive(Debug)]
pub struct FlowTables {
    half4: OwnedFd,
    half6: OwnedFd,
    flows4: OwnedFd,
    flows6: OwnedFd,
    tick: TickProgram,
    hz: u32,
}

impl Dataplane {
    /// Opens the flow tables for readers beside the owner of the dataplane.
    pub fn flow_tables(&self) -> Result<FlowTables, DataplaneError> {
        let open = |name| descriptor(&self.ebpf, name, data);
        Ok(FlowTables {
            half4: open(names::HALF4)?,
            half6: open(names::HALF6)?,
            flows4: open(names::FLOWS4)?,
            flows6: open(names::FLOWS6)?,
            tick: TickProgram::load().map_err(DataplaneError::kernel("load the program that tells the tick"))?,
            hz: self.options.hz,
        })
    }
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::HashMap(data) | Map::LruHashMap(data) => Some(data),
        _ => None,
    }
}

impl FlowTables {
    /// The present moment as entries see it.
    pub fn clock(&self) -> Result<TickClock, DataplaneError> {
        self.tick
            .clock(self.hz)
            .map_err(DataplaneError::kernel("read the kernel's tick"))
    }

    /// Shows `each` every connection of one table; its `Break` ends the walk. Blocks for as long as that takes.
    pub fn walk(
        &self,
        place: Place,
        family: Family,
        each: &mut dyn FnMut(Connection) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, DataplaneError> {
        let result = match (place, family) {
            (Place::HalfOpen, Family::Ipv4) => walk::<FlowKey4, FlowValue4>(self.half4.as_fd(), place, each),
            (Place::HalfOpen, Family::Ipv6) => walk::<FlowKey6, FlowValue6>(self.half6.as_fd(), place, each),
            (Place::Established, Family::Ipv4) => walk::<FlowKey4, FlowValue4>(self.flows4.as_fd(), place, each),
            (Place::Established, Family::Ipv6) => walk::<FlowKey6, FlowValue6>(self.flows6.as_fd(), place, each),
        };
        result.map_err(DataplaneError::kernel("read the flow tables"))
    }
}

/// Address family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `xlb_half4`, `xlb_flows4`.
    Ipv4,
    /// `xlb_half6`, `xlb_flows6`.
    Ipv6,
}

fn walk<K: FlowKey, V: FlowValue<K>>(
    map: BorrowedFd<'_>,
    place: Place,
    each: &mut dyn FnMut(Connection) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut walk = HashWalk::<K, V>::new(ENTRIES_A_CALL);
    while let Some(entries) = walk.next(map)? {
        for (key, value) in entries {
            // Both directions are entries; the forward one stands for the connection. Id 0 is being deleted.
            if value.direction() != direction::FORWARD || value.conn_id() == 0 {
                continue;
            }
            let reply = lookup::<K, V>(map, &value.reply_key(key))?;
            let reply = reply.filter(|reply| reply.conn_id() == value.conn_id());
            if each(value.connection(key, reply.as_ref(), place)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct LookupAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn lookup<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let mut attr = LookupAttr {
        map_fd: raw(map),
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_mut(&mut value) as u64,
        ..Zeroable::zeroed()
    };
    match bpf(Command::MapLookup, &mut attr) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What both keys have in common.
trait FlowKey: Pod {}
impl FlowKey for FlowKey4 {}
impl FlowKey for FlowKey6 {}

/// What both values have in common.
trait FlowValue<K>: Pod {
    fn direction(&self) -> u8;
    fn conn_id(&self) -> u64;
    /// The key of the reply entry, asked of the forward one.
    fn reply_key(&self, key: &K) -> K;
    fn connection(&self, key: &K, reply: Option<&Self>, place: Place) -> Connection;
}

macro_rules! flow_value {
    ($key:ident, $value:ident) => {
        impl FlowValue<$key> for $value {
            fn direction(&self) -> u8 {
                self.direction
            }

            fn conn_id(&self) -> u64 {
                self.conn_id
            }

            fn reply_key(&self, key: &$key) -> $key {
                $key {
                    src: self.new_dst,
                    dst: self.new_src,
                    src_port: self.new_dst_port,
                    dst_port: self.new_src_port,
                    protocol: key.protocol,
                }
            }

            fn connection(&self, key: &$key, reply: Option<&Self>, place: Place) -> Connection {
                let socket = |address, port| SocketAddr::new(IpAddr::from(address), port);
                Connection {
                    conn_id: self.conn_id,
                    place,
                    protocol: key.protocol as u8,
                    mode: self.mode,
                    tcp_seen: self.tcp_seen | reply.map_or(0, |reply| reply.tcp_seen),
                    client: socket(key.src, key.src_port),
                    vip: socket(key.dst, key.dst_port),
                    source: socket(self.new_src, self.new_src_port),
                    backend: socket(self.new_dst, self.new_dst_port),
                    backend_id: self.backend_id,
                    created: self.created,
                    last_seen: reply.map_or(self.last_seen, |reply| later(self.last_seen, reply.last_seen)),
                }
            }
        }
    };
}

flow_value!(FlowKey4, FlowValue4);
flow_value!(FlowKey6, FlowValue6);

/// The later of two ticks less than half a turn apart.
const fn later(a: u32, b: u32) -> u32 {
    if a.wrapping_sub(b) <= u32::MAX / 2 { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_tick_is_found_across_the_turn() {
        assert_eq!(later(5, 3), 5);
        assert_eq!(later(u32::MAX, 3), 3);
        assert_eq!(later(3, u32::MAX), 3);
    }

    #[test]
    fn both_directions_give_one_connection() {
        let key = FlowKey4 {
            src: [198, 51, 100, 2],
            dst: [203, 0, 113, 10],
            src_port: 4_000,
            dst_port: 80,
            protocol: 6,
        };
        let forward = FlowValue4 {
            conn_id: 7,
            new_src: [10, 0, 0, 1],
            new_dst: [10, 0, 0, 11],
            new_src_port: 10_240,
            new_dst_port: 8_081,
            last_seen: 10,
            ..FlowValue4::default()
        };
        let reply = FlowValue4 {
            conn_id: 7,
            last_seen: 12,
            tcp_seen: tcp_seen::FIN,
            ..FlowValue4::default()
        };
        let back = forward.reply_key(&key);
        assert_eq!((back.src, back.dst), ([10, 0, 0, 11], [10, 0, 0, 1]));
        assert_eq!((back.src_port, back.dst_port), (8_081, 10_240));
        let connection = forward.connection(&key, Some(&reply), Place::Established);
        assert!(connection.is_closing());
        assert_eq!(connection.last_seen, 12);
        assert_eq!(connection.source.to_string(), "10.0.0.1:10240");
        assert_eq!(connection.backend.to_string(), "10.0.0.11:8081");
    }
}
