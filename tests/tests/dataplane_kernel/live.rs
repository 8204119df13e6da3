//! A dataplane with a client's and a backend's side, and frames put on the wire by hand.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::abi::{AddrKey, AddrRole, backend_state, hop_flag, mode, on_miss};
use lb_common::limits::MAX_SNAT_ADDRESSES;
use lb_common::net::{IPPROTO_TCP, Mac};
use lb_userspace::dataplane::{Dataplane, LogObject, Options};
use lb_userspace::state::Image;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use xlb_tests::model::{BackendSpec, ServiceSpec, World, iface_mac, mapped};
use xlb_tests::packets::Packet;

use super::Stage;
use super::maps::{apply_all, name_of, writes};

/// Indices that no other namespace on the machine is likely to have: tracepoints count for all of them.
pub(crate) const CLIENT_SIDE: u32 = 71_001;
pub(crate) const BACKEND_SIDE: u32 = 71_002;

const CLIENT_MAC: Mac = [2, 0xc1, 0, 0, 0, 1];
/// Inside `snat_ports`, so that it is kept.
const CLIENT_PORT: u16 = 20_000;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// `x0` (peer `x1`) towards clients, `y0` (peer `y1`) towards the backend; one TCP service on both families.
pub(crate) struct Live {
    pub(crate) stage: Stage,
    pub(crate) dataplane: Dataplane,
    image: Image,
}

/// Whether the far ends can receive what XDP sends: on veth only with GRO (or a program) there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peers {
    Receive,
    Lose,
}

impl Live {
    pub(crate) fn start(peers: Peers) -> Result<Self> {
        Self::start_with(peers, LogObject::Off)
    }

    pub(crate) fn start_with(peers: Peers, log: LogObject) -> Result<Self> {
        let stage = Stage::new()?;
        let mac = |index| mac_text(iface_mac(index));
        stage.namespace.ip(&format!(
            "link del x0\nlink add x0 index {CLIENT_SIDE} address {} type veth peer name x1\nlink add y0 index \
             {BACKEND_SIDE} address {} type veth peer name y1\nlink set x0 up\nlink set x1 up\nlink set y0 up\nlink set \
             y1 up",
            mac(CLIENT_SIDE),
            mac(BACKEND_SIDE)
        ))?;
        if peers == Peers::Receive {
            for peer in ["x1", "y1"] {
                xlb_tests::process::run(stage.namespace.command("ethtool").args(["-K", peer, "gro", "on"]))?;
            }
        }
        let options = Options {
            log,
            ..stage.options()?
        };
        let (mut dataplane, _) = stage.namespace.enter(|| Dataplane::open(&options))??;
        for ifname in ["x0", "y0"] {
            stage.attach(&mut dataplane, ifname)??;
        }
        let image = image();
        apply_all(&stage, &mut dataplane, &writes(&image))?;
        Ok(Self {
            stage,
            dataplane,
            image,
        })
    }

    pub(crate) fn vips() -> [IpAddr; 2] {
        [[203, 0, 113, 10].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10].into()]
    }

    /// Sends a frame out of a far end.
    pub(crate) fn send(&self, ifname: &str, packet: &Packet) -> Result<()> {
        let ifindex = self.stage.ifindex(ifname)?;
        let frame = packet.build();
        self.stage.namespace.enter(|| send_raw(ifindex, &frame))??;
        Ok(())
    }

    /// An echo request of the client.
    pub(crate) fn echo(&self, vip: IpAddr) -> Result<()> {
        self.send(
            "x1",
            &Packet::echo(client(vip), vip).macs(CLIENT_MAC, iface_mac(CLIENT_SIDE)),
        )
    }

    /// The client's SYN.
    pub(crate) fn syn(&self, vip: IpAddr, port: u16) -> Result<()> {
        self.send("x1", &from_client(vip, port, SYN, 100, 0))
    }

    /// A whole handshake, both sides played here. The flow is established when it returns.
    pub(crate) fn handshake(&mut self, vip: IpAddr) -> Result<()> {
        let before = self.opened()?;
        self.syn(vip, CLIENT_PORT)?;
        self.wait("the SYN to be counted", Self::new_flows)?;
        let (backend, snat) = (
            SocketAddr::new(backend(vip), 8_080),
            SocketAddr::new(snat(vip), CLIENT_PORT),
        );
        let syn_ack = Packet::tcp(backend, snat, SYN | ACK, 500, 101);
        self.send("y1", &syn_ack.macs([6, 0xbe, 0, 0, 0, 1], iface_mac(BACKEND_SIDE)))?;
        // The SYN-ACK is handled before the ACK: each send is processed by the receiving queue in order, but two
        // interfaces have two queues.
        std::thread::sleep(Duration::from_millis(50));
        self.send("x1", &from_client(vip, CLIENT_PORT, ACK, 101, 501))?;
        self.wait("the connection to be established", |live| Ok(live.opened()? - before))
    }

    fn wait(&mut self, what: &str, mut count: impl FnMut(&Self) -> Result<u64>) -> Result<()> {
        xlb_tests::process::wait_until(what, Duration::from_secs(5), || Ok(count(self)? > 0))
    }

    fn opened(&self) -> Result<u64> {
        let stats = self.dataplane.backend_stats(self.image.backends.keys().copied())?;
        Ok(stats.values().map(|stats| stats.flows_opened).sum())
    }

    fn new_flows(&self) -> Result<u64> {
        let stats = self.dataplane.backend_stats(self.image.backends.keys().copied())?;
        Ok(stats.values().map(|stats| stats.flows_new).sum())
    }
}

fn image() -> Image {
    let mut world = World::new();
    world.add_iface(CLIENT_SIDE, 0);
    world.add_iface(BACKEND_SIDE, 0);
    let [vip4, vip6] = Live::vips();
    world.add_snat(snat(vip4));
    world.add_snat(snat(vip6));
    let spec = |vip| BackendSpec {
        state: backend_state::ACTIVE,
        hop_flags: hop_flag::VALID,
        ..BackendSpec::active(backend(vip), 8_080, BACKEND_SIDE)
    };
    world.add_service(&ServiceSpec {
        vips: vec![vip4, vip6],
        service_port: 80,
        protocol: IPPROTO_TCP,
        mode: mode::FULL_NAT,
        on_miss: on_miss::RESET,
        backends: vec![spec(vip4), spec(vip6)],
    });
    let snat_slots = [(0, snat(vip4)), (MAX_SNAT_ADDRESSES, snat(vip6))];
    let rings = world.services.values().flat_map(|service| {
        [
            (service.ring4_offset, service.ring4_size),
            (service.ring6_offset, service.ring6_size),
        ]
    });
    Image {
        rings: rings
            .map(|(offset, size)| {
                let slots = world.rings.iter().skip(offset as usize).take(size as usize);
                (offset, Arc::new(slots.copied().collect()))
            })
            .collect(),
        settings: world.settings,
        ifaces: world.ifaces,
        tx_ports: world.tx_ports,
        ours: world.ours,
        endpoints: world.endpoints,
        addrs: world
            .addrs
            .into_iter()
            .map(|(address, roles)| (AddrKey { address }, AddrRole { roles }))
            .collect(),
        services: world.services,
        backends: world.backends,
        snat: snat_slots
            .map(|(index, address)| (index, super::maps::snat_addr(mapped(address))))
            .into(),
        names: [name_of(1, 1, b"web"), name_of(2, 1, b"web/a"), name_of(2, 2, b"web/b")].into(),
    }
}

fn like(vip: IpAddr, v4: [u8; 4], last: u16) -> IpAddr {
    if vip.is_ipv4() {
        v4.into()
    } else {
        [0x2001, 0xdb8, 0, 1, 0, 0, 0, last].into()
    }
}

fn client(vip: IpAddr) -> IpAddr {
    like(vip, [198, 51, 100, 7], 7)
}

fn backend(vip: IpAddr) -> IpAddr {
    like(vip, [10, 0, 0, 11], 11)
}

fn snat(vip: IpAddr) -> IpAddr {
    like(vip, [192, 0, 2, 10], 10)
}

fn from_client(vip: IpAddr, port: u16, flags: u8, seq: u32, ack: u32) -> Packet {
    let (from, to) = (SocketAddr::new(client(vip), port), SocketAddr::new(vip, 80));
    Packet::tcp(from, to, flags, seq, ack).macs(CLIENT_MAC, iface_mac(CLIENT_SIDE))
}

fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// One frame out of an interface of this thread's namespace.
fn send_raw(ifindex: u32, frame: &[u8]) -> Result<()> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(ifindex).context("interface index")?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: frame and address are live for the call, and their own sizes are passed.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            std::ptr::from_ref(&address).cast(),
            size_of_val(&address) as u32,
        )
    };
    ensure!(
        usize::try_from(sent).is_ok_and(|sent| sent == frame.len()),
        "send: {}",
        io::Error::last_os_error()
    );
    Ok(())
}
