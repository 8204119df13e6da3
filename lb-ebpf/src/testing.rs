//! The two seams over a buffer and `std` collections, for unit tests on the host. The loaded program is tested in the
//! `tests` crate; this is for what wants many small cases.

use std::{
    boxed::Box,
    cell::{Cell, RefCell, UnsafeCell},
    collections::{HashMap, VecDeque},
    ops::ControlFlow,
    vec::Vec,
};

use lb_common::{
    abi::{
        ABI_VERSION, AddrKey, Backend, BackendStats, CpuState, Endpoint, EndpointKey, FlowKey4, FlowValue4, Iface,
        Service, Settings, SnatAddr, SweepItem4, backend_state, endpoint_kind, hop_flag, mode,
    },
    hash::{self, OursBit, OursSide},
    net::{IPPROTO_TCP, map_v4},
};

use crate::{
    family::V4,
    fast::Known,
    flow::Entry,
    packet::{CutError, Header, Offset, Packet},
    pipeline::{decide, prepare},
    tables::{FlowTables, InsertError, Tables},
    verdict::Verdict,
    work::Work,
};

/// A frame during whose rewriting another CPU does something.
pub(crate) struct Meanwhile<A> {
    pub(crate) frame: Frame,
    pub(crate) act: A,
}

impl<A: Fn()> Packet for Meanwhile<A> {
    fn get<T: Header>(&self, at: Offset) -> Option<&T> {
        self.frame.get(at)
    }

    fn get_mut<T: Header>(&mut self, at: Offset) -> Option<&mut T> {
        (self.act)();
        self.frame.get_mut(at)
    }

    fn linear_bytes(&self) -> u32 {
        self.frame.linear_bytes()
    }

    fn frame_bytes(&self) -> u32 {
        self.frame.frame_bytes()
    }

    fn ingress_ifindex(&self) -> u32 {
        self.frame.ingress_ifindex()
    }

    fn cut(&mut self, bytes: u32) -> Result<(), CutError> {
        self.frame.cut(bytes)
    }
}

/// A frame in memory.
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
}

impl Packet for Frame {
    fn get<T: Header>(&self, at: Offset) -> Option<&T> {
        let start = at.bytes() as usize;
        let bytes = self.bytes.get(start..start + size_of::<T>())?;
        // SAFETY: `Header` promises alignment 1 and no invalid value; the slice has the size.
        Some(unsafe { &*bytes.as_ptr().cast() })
    }

    fn get_mut<T: Header>(&mut self, at: Offset) -> Option<&mut T> {
        let start = at.bytes() as usize;
        let bytes = self.bytes.get_mut(start..start + size_of::<T>())?;
        // SAFETY: as in `get`.
        Some(unsafe { &mut *bytes.as_mut_ptr().cast() })
    }

    fn linear_bytes(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn frame_bytes(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn ingress_ifindex(&self) -> u32 {
        IFINDEX
    }

    fn cut(&mut self, bytes: u32) -> Result<(), CutError> {
        self.bytes.resize(bytes as usize, 0);
        Ok(())
    }
}

pub(crate) const IFINDEX: u32 = 7;
pub(crate) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
pub(crate) const VIP: [u8; 4] = [203, 0, 113, 10];
pub(crate) const CLIENT: [u8; 4] = [198, 51, 100, 7];
pub(crate) const BACKEND: [u8; 4] = [10, 0, 0, 11];
pub(crate) const SNAT: [u8; 4] = [192, 0, 2, 10];
pub(crate) const HZ: u32 = 100;

type Slot = Box<UnsafeCell<FlowValue4>>;

/// Maps in memory. Deleted values are kept: an [`Entry`] may still point to them.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) settings: Settings,
    pub(crate) iface: Iface,
    pub(crate) service: Service,
    pub(crate) backend: Backend,
    pub(crate) snat: SnatAddr,
    pub(crate) now: Cell<u32>,
    pub(crate) capacity: Cell<usize>,
    pub(crate) established: RefCell<HashMap<FlowKey4, Slot>>,
    pub(crate) half: RefCell<HashMap<FlowKey4, Slot>>,
    pub(crate) queue: RefCell<VecDeque<SweepItem4>>,
    pub(crate) stats: RefCell<BackendStats>,
    pub(crate) cpu: RefCell<CpuState>,
    graveyard: RefCell<Vec<Slot>>,
}

impl Host {
    /// One full NAT service on port 80 with one backend on internal port 8081.
    pub(crate) fn full_nat() -> Self {
        let seconds = |s: u32| s * HZ;
        Self {
            settings: Settings {
                abi_version: ABI_VERSION,
                snat4_count: 1,
                snat_port_min: 10240,
                snat_port_max: 32767,
                half_open_ticks: seconds(10),
                established_ticks: seconds(3600),
                closing_ticks: seconds(30),
                udp_ticks: seconds(60),
                udp_answered_ticks: seconds(180),
                ..Settings::default()
            },
            iface: Iface {
                ifindex: IFINDEX,
                mac: OWN_MAC,
                abi_version: ABI_VERSION,
                ..Iface::default()
            },
            service: Service {
                ring4_size: 1,
                service_port: 80,
                protocol: 6,
                mode: mode::FULL_NAT,
                ..Service::default()
            },
            backend: Backend {
                address: map_v4(BACKEND),
                hop_dst_mac: BACKEND_MAC,
                hop_src_mac: OWN_MAC,
                hop_ifindex: IFINDEX,
                service_id: 1,
                internal_port: 8081,
                state: backend_state::ACTIVE,
                hop_flags: hop_flag::VALID,
                ..Backend::default()
            },
            snat: SnatAddr { address: map_v4(SNAT) },
            now: Cell::new(1_000_000),
            capacity: Cell::new(64),
            ..Self::default()
        }
    }

    /// Runs the slow path over a frame.
    pub(crate) fn run(&self, frame: &mut Frame) -> Verdict {
        // SAFETY: all fields are integers and arrays of them, for which zero is a value.
        let mut work: Work<V4> = unsafe { core::mem::zeroed() };
        prepare::<V4, _, _>(frame, self, &mut work)
            .unwrap_or_else(|| decide::<V4, _, _>(frame, self, &mut work, Known::Nothing))
    }

    fn insert(
        &self,
        map: &RefCell<HashMap<FlowKey4, Slot>>,
        key: FlowKey4,
        value: FlowValue4,
    ) -> Result<(), InsertError> {
        let mut map = map.borrow_mut();
        if map.contains_key(&key) {
            return Err(InsertError::Exists);
        }
        if map.len() >= self.capacity.get() {
            return Err(InsertError::Full);
        }
        map.insert(key, Box::new(UnsafeCell::new(value)));
        Ok(())
    }

    fn delete(&self, map: &RefCell<HashMap<FlowKey4, Slot>>, key: &FlowKey4) {
        self.graveyard.borrow_mut().extend(map.borrow_mut().remove(key));
    }
}

fn entry(map: &RefCell<HashMap<FlowKey4, Slot>>, key: &FlowKey4) -> Option<Entry<V4>> {
    // SAFETY: the value is boxed and, once deleted, kept in the graveyard for as long as the tables live.
    map.borrow().get(key).map(|slot| unsafe { Entry::new(slot.get()) })
}

impl Tables for Host {
    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }
    fn iface(&self, _ifindex: u32) -> Option<&Iface> {
        Some(&self.iface)
    }
    fn ours(&self, bit: OursBit) -> bool {
        let vip = hash::word4(VIP);
        let snat = hash::word4(SNAT);
        let snat_blocks = (10..32).map(|group| hash::ours(OursSide::Destination, snat, group << 10).block);
        bit == hash::ours(OursSide::Destination, vip, 80)
            || bit == hash::ours_address(vip)
            || bit == hash::ours_address(snat)
            || snat_blocks.into_iter().any(|block| block == bit.block)
    }
    fn endpoint(&self, key: &EndpointKey) -> Endpoint {
        let service = EndpointKey {
            address: map_v4(VIP),
            port: 80,
            protocol: self.service.protocol,
            reserved: 0,
        };
        if *key != service {
            return Endpoint::default();
        }
        Endpoint {
            service_id: 1,
            kind: endpoint_kind::SERVICE,
        }
    }
    fn roles(&self, key: &AddrKey) -> u32 {
        use lb_common::abi::role;
        match key.address {
            address if address == map_v4(VIP) => role::VIP,
            address if address == map_v4(SNAT) => role::SNAT,
            _ => 0,
        }
    }
    fn service(&self, id: u32) -> Option<&Service> {
        (id == 1).then_some(&self.service)
    }
    fn backend(&self, id: &u32) -> Option<&Backend> {
        (*id == 1).then_some(&self.backend)
    }
    fn ring_slot(&self, _index: u32) -> Option<u32> {
        Some(1)
    }
    fn snat(&self, _index: u32) -> Option<&SnatAddr> {
        Some(&self.snat)
    }
    fn count(&self, _backend_id: &u32, change: impl FnOnce(&mut BackendStats)) {
        change(&mut self.stats.borrow_mut());
    }
    fn cpu<R>(&self, with: impl FnOnce(&mut CpuState) -> R) -> Option<R> {
        Some(with(&mut self.cpu.borrow_mut()))
    }
    fn new_conn_id(&self) -> Option<u64> {
        self.cpu(|cpu| {
            cpu.connections += 1;
            cpu.connections
        })
    }
    fn now(&self) -> u32 {
        self.now.get()
    }
    fn hz(&self) -> u32 {
        HZ
    }
    fn repeat<C: FnMut(u32) -> ControlFlow<()>>(&self, times: u32, body: &mut C) {
        let _ = (0..times).try_for_each(body);
    }
}

impl FlowTables<V4> for Host {
    fn established(&self, key: &FlowKey4) -> Option<Entry<V4>> {
        entry(&self.established, key)
    }
    fn half(&self, key: &FlowKey4) -> Option<Entry<V4>> {
        entry(&self.half, key)
    }
    fn insert_established(&self, key: &FlowKey4, value: &FlowValue4) -> Result<(), InsertError> {
        self.insert(&self.established, *key, *value)
    }
    fn insert_half(&self, key: &FlowKey4, value: &FlowValue4) -> Result<(), InsertError> {
        self.insert(&self.half, *key, *value)
    }
    fn delete_established(&self, key: &FlowKey4) {
        self.delete(&self.established, key);
    }
    fn delete_half(&self, key: &FlowKey4) {
        self.delete(&self.half, key);
    }
    fn sweep_push(&self, item: &SweepItem4) -> Result<(), InsertError> {
        self.queue.borrow_mut().push_back(*item);
        Ok(())
    }
    fn sweep_pop(&self, item: &mut SweepItem4) -> bool {
        let next = self.queue.borrow_mut().pop_front();
        next.inspect(|next| *item = *next).is_some()
    }
}

/// A TCP segment over IPv4 with right checksums.
pub(crate) fn tcp(src: ([u8; 4], u16), dst: ([u8; 4], u16), flags: u8, seq: u32, ack: u32) -> Frame {
    let mut bytes = std::vec![0_u8; 54];
    bytes[..6].copy_from_slice(&OWN_MAC);
    bytes[6..12].copy_from_slice(&CLIENT_MAC);
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14..24].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, IPPROTO_TCP]);
    bytes[26..30].copy_from_slice(&src.0);
    bytes[30..34].copy_from_slice(&dst.0);
    bytes[34..36].copy_from_slice(&src.1.to_be_bytes());
    bytes[36..38].copy_from_slice(&dst.1.to_be_bytes());
    bytes[38..42].copy_from_slice(&seq.to_be_bytes());
    bytes[42..46].copy_from_slice(&ack.to_be_bytes());
    bytes[46] = 0x50;
    bytes[47] = flags;
    let ip = checksum(&bytes[14..34], 0);
    bytes[24..26].copy_from_slice(&ip.to_be_bytes());
    let tcp = tcp_checksum(&bytes);
    bytes[50..52].copy_from_slice(&tcp.to_be_bytes());
    Frame { bytes }
}

/// RFC 1071 over big-endian words, the plain way: independent of `csum`.
pub(crate) fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The TCP checksum of a frame of [`tcp`], its own field included: 0 when it is right.
pub(crate) fn tcp_checksum(bytes: &[u8]) -> u16 {
    let pseudo = !checksum(&bytes[26..34], 0);
    checksum(
        &bytes[34..],
        u32::from(pseudo) + u32::from(IPPROTO_TCP) + (bytes.len() - 34) as u32,
    )
}
