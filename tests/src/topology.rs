//! The network of a scene: a client behind a router, the balancer with two interfaces, a switch with the backends.
//!
//! ```text
//! client c0 -- c0 router f0 -- front0 balancer back0 -- lb switch p1.. -- eth0 backend-1 ..
//! ```
//! With one arm there is no `back0`: the switch hangs on the router. In a line neither router nor switch has a link:
//!
//! ```text
//! client c0 -- front0 balancer back0 -- eth0 backend-1
//! ```
//! Both families everywhere. Nothing but the balancer connects clients and backends: it forwards nothing by itself and
//! backends have no route to the client unless the plan says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::netns::{Lifetime, Namespace, Room, connect, offload_for_balancer, plain_checksums};

/// VIP of the scenes, IPv4. The router sends its network to the balancer.
pub const VIP4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// VIP of the scenes, IPv6.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 0x10);
/// The client's address.
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The client's IPv6 address.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 2);
/// The balancer's address towards the router.
pub const FRONT4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The balancer's IPv6 address towards the router.
pub const FRONT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x10);
/// The balancer's address on the side of the backends, which it also translates sources to.
pub const SNAT4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The balancer's IPv6 address on the side of the backends.
pub const SNAT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xb, 0, 0, 0, 0, 0, 1);
/// Most backends of one scene.
pub const MAX_BACKENDS: u8 = 32;

/// Who is next to `front0`: the router, or the client itself.
const BEFORE_FRONT4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const BEFORE_FRONT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1);
const FIRST_BACKEND_HOST: u8 = 11;

/// How replies of the backends find the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendRoute {
    /// They know their own network only: full NAT.
    None,
    /// Their default route is the balancer: gateway mode.
    Balancer,
    /// Their default route is the router: one arm.
    Router,
}

/// What stands between client, balancer and backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// `front0` towards the router, `back0` on the network of the backends.
    TwoArms,
    /// `front0` alone: every packet leaves where it came in; the router also leads to the backends.
    OneArm,
    /// Nothing: the client at `front0` and the only backend at `back0`.
    Line,
}

/// What a scene is built from.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Number of backend namespaces.
    pub backends: u8,
    /// Route of the backends.
    pub route: BackendRoute,
    /// What stands between them.
    pub wiring: Wiring,
}

impl Plan {
    /// `backends` namespaces for full NAT.
    pub const fn full_nat(backends: u8) -> Self {
        Self {
            backends,
            route: BackendRoute::None,
            wiring: Wiring::TwoArms,
        }
    }

    /// `backends` namespaces behind a balancer with a single interface, full NAT.
    pub const fn one_arm(backends: u8) -> Self {
        Self {
            backends,
            route: BackendRoute::Router,
            wiring: Wiring::OneArm,
        }
    }

    /// Client, balancer and one backend without a hop between them, and the kernel's routes for both directions: what
    /// is measured there is the balancer's share.
    pub const fn line() -> Self {
        Self {
            backends: 1,
            route: BackendRoute::Balancer,
            wiring: Wiring::Line,
        }
    }

    /// `backends` namespaces that route through the balancer.
    pub const fn gateway(backends: u8) -> Self {
        Self {
            backends,
            route: BackendRoute::Balancer,
            wiring: Wiring::TwoArms,
        }
    }
}

/// One backend's namespace and addresses.
#[derive(Debug)]
pub struct BackendHost {
    /// Namespace.
    pub namespace: Namespace,
    /// Its address on the network of the backends.
    pub address4: Ipv4Addr,
    /// Its IPv6 address there.
    pub address6: Ipv6Addr,
}

/// Namespaces, links and addresses. Dropping it deletes all of them.
#[derive(Debug)]
pub struct Topology {
    /// Where clients run.
    pub client: Namespace,
    /// The router between clients and balancer; without a link in a line.
    pub router: Namespace,
    /// Where the agent runs.
    pub balancer: Namespace,
    /// The bridge of the backends; without a link in a line.
    pub switch: Namespace,
    /// Backends, in order.
    pub backends: Vec<BackendHost>,
    /// What stands between them.
    pub wiring: Wiring,
    /// Files, bpffs, names. Last: namespaces go first.
    pub room: Room,
}

impl Topology {
    /// Builds the network of a test.
    pub fn build(plan: Plan) -> Result<Self> {
        Self::build_in(Room::for_test()?, plan)
    }

    /// Builds the network with the names and files of `room`.
    pub fn build_in(room: Room, plan: Plan) -> Result<Self> {
        let topology = Self {
            client: room.namespace("client")?,
            router: room.namespace("router")?,
            balancer: room.namespace("balancer")?,
            switch: room.namespace("switch")?,
            backends: Vec::new(),
            wiring: plan.wiring,
            room,
        };
        match plan.wiring {
            Wiring::TwoArms => {
                topology.connect_front()?;
                topology.connect_two_arms()?;
            }
            Wiring::OneArm => {
                topology.connect_front()?;
                topology.connect_one_arm()?;
            }
            Wiring::Line => topology.connect_client_to_balancer()?,
        }
        let mut topology = topology;
        for index in 0..plan.backends {
            let backend = topology.add_backend(index, plan.route)?;
            topology.backends.push(backend);
        }
        Ok(topology)
    }

    /// Leaves everything in place when the value goes away, or takes that back.
    pub fn set_lifetime(&mut self, lifetime: Lifetime) {
        for namespace in [&mut self.client, &mut self.router, &mut self.balancer, &mut self.switch] {
            namespace.set_lifetime(lifetime);
        }
        for backend in &mut self.backends {
            backend.namespace.set_lifetime(lifetime);
        }
        self.room.set_lifetime(lifetime);
    }

    /// Captures in the client's and the backends' namespaces then show the checksums of the wire in both directions.
    pub fn complete_checksums_everywhere(&self) -> Result<()> {
        plain_checksums(&self.client, "c0")?;
        for backend in &self.backends {
            plain_checksums(&backend.namespace, "eth0")?;
        }
        if self.wiring == Wiring::Line {
            plain_checksums(&self.balancer, "front0")?;
            return plain_checksums(&self.balancer, "back0");
        }
        plain_checksums(&self.router, "c0")?;
        for number in 1..=self.backends.len() {
            plain_checksums(&self.switch, &format!("p{number}"))?;
        }
        Ok(())
    }

    /// Forgets every neighbour the balancer and its peers know.
    pub fn flush_neighbours(&self) -> Result<()> {
        for namespace in [&self.client, &self.router, &self.balancer] {
            for family in ["-4", "-6"] {
                namespace.ip_show(&format!("{family} neigh flush all"))?;
            }
        }
        for backend in &self.backends {
            for family in ["-4", "-6"] {
                backend.namespace.ip_show(&format!("{family} neigh flush all"))?;
            }
        }
        Ok(())
    }

    fn connect_front(&self) -> Result<()> {
        connect(&self.client, "c0", &self.router, "c0")?;
        connect(&self.router, "f0", &self.balancer, "front0")?;
        offload_for_balancer(&self.router, "f0")?;
        self.router.sysctl("net/ipv4/ip_forward", "1")?;
        self.router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        self.client.ip(&format!(
            "addr add {CLIENT4}/24 dev c0\n\
             addr add {CLIENT6}/64 dev c0 nodad\n\
             route add default via 198.51.100.1\n\
             route add ::/0 via 2001:db8:c::1\n"
        ))?;
        self.router.ip("addr add 198.51.100.1/24 dev c0\n\
             addr add 2001:db8:c::1/64 dev c0 nodad\n\
             addr add 192.0.2.1/24 dev f0\n\
             addr add 2001:db8:f::1/64 dev f0 nodad\n")?;
        self.balancer.ip("addr add 192.0.2.10/24 dev front0\n\
             addr add 2001:db8:f::10/64 dev front0 nodad\n\
             route add 198.51.100.0/24 via 192.0.2.1\n\
             route add 2001:db8:c::/64 via 2001:db8:f::1\n")?;
        self.router.ip("route add 203.0.113.0/24 via 192.0.2.10\n\
             route add 2001:db8:10::/64 via 2001:db8:f::10\n")
    }

    fn connect_two_arms(&self) -> Result<()> {
        self.switch.ip("link add br0 type bridge\nlink set br0 up\n")?;
        connect(&self.balancer, "back0", &self.switch, "lb")?;
        self.switch.ip("link set lb master br0\n")?;
        offload_for_balancer(&self.switch, "lb")?;
        self.address_back()
    }

    fn connect_one_arm(&self) -> Result<()> {
        self.switch.ip("link add br0 type bridge\nlink set br0 up\n")?;
        connect(&self.router, "b0", &self.switch, "lb")?;
        self.switch.ip("link set lb master br0\n")?;
        self.router.ip(&format!(
            "addr add {SNAT4}/24 dev b0\naddr add {SNAT6}/64 dev b0 nodad\n"
        ))?;
        self.balancer.ip(&format!(
            "route add 10.0.0.0/24 via {BEFORE_FRONT4}\nroute add fd00:b::/64 via {BEFORE_FRONT6}\n"
        ))
    }

    fn connect_client_to_balancer(&self) -> Result<()> {
        connect(&self.client, "c0", &self.balancer, "front0")?;
        offload_for_balancer(&self.client, "c0")?;
        self.balancer.ip(&format!(
            "addr add {FRONT4}/24 dev front0\naddr add {FRONT6}/64 dev front0 nodad\n"
        ))?;
        self.client.ip(&format!(
            "addr add {BEFORE_FRONT4}/24 dev c0\n\
             addr add {BEFORE_FRONT6}/64 dev c0 nodad\n\
             route add default via {FRONT4}\n\
             route add ::/0 via {FRONT6}\n"
        ))
    }

    fn address_back(&self) -> Result<()> {
        self.balancer.ip(&format!(
            "addr add {SNAT4}/24 dev back0\naddr add {SNAT6}/64 dev back0 nodad\n"
        ))
    }

    fn add_backend(&self, index: u8, route: BackendRoute) -> Result<BackendHost> {
        anyhow::ensure!(
            index < MAX_BACKENDS,
            "a scene has at most {MAX_BACKENDS} backends, not {index}"
        );
        let host = FIRST_BACKEND_HOST + index;
        let number = index + 1;
        let namespace = self.room.namespace(&format!("backend-{number}"))?;
        if self.wiring == Wiring::Line {
            anyhow::ensure!(
                index == 0,
                "a line ends in one backend; a switch for more is in the other wirings"
            );
            connect(&self.balancer, "back0", &namespace, "eth0")?;
            offload_for_balancer(&namespace, "eth0")?;
            self.address_back()?;
        } else {
            connect(&self.switch, &format!("p{number}"), &namespace, "eth0")?;
            self.switch.ip(&format!("link set p{number} master br0\n"))?;
        }
        let backend = BackendHost {
            namespace,
            address4: Ipv4Addr::new(10, 0, 0, host),
            address6: Ipv6Addr::new(0xfd00, 0xb, 0, 0, 0, 0, 0, u16::from(host)),
        };
        backend.namespace.ip(&format!(
            "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n",
            backend.address4, backend.address6
        ))?;
        // On the network of the backends, the balancer's place is the router's when it has one arm.
        if route != BackendRoute::None {
            backend
                .namespace
                .ip(&format!("route add default via {SNAT4}\nroute add ::/0 via {SNAT6}\n"))?;
        }
        Ok(backend)
    }
}

/// An address and port as URLs and configs write them.
pub fn host_port(address: impl Into<IpAddr>, port: u16) -> String {
    std::net::SocketAddr::new(address.into(), port).to_string()
}
