//! `bench packets`: live frames over veth as fast as one core makes, carries and counts them.
//!
//! A generator (BPF_PROG_TEST_RUN with live frames) sends UDP packets of established flows into a veth pair, the balancer's
//! namespace forwards them over a second pair, an XDP program at its end counts and drops them. All of it runs on the
//! generator's CPU; its share and the sink's are in every row, and reported by themselves.

use std::fs::File;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::xdp::{XdpLinkId, XdpMode};
use lb_common::bench::names;
use lb_common::reason::DropReason;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};

use super::Effort;
use super::case::{self, Case, Stage};
use super::driver::{Driver, Frames, Room as DriverRoom};
use super::forwarded;
use super::report::{Bar, Limit, Report, Row, Unit};
use crate::kernel::{Kernel, Lab, Object, Sizes, pin_to_cpu};
use crate::model::iface_mac;
use crate::model::sample::{DNS, Family, WEB};
use crate::netns::{Namespace, Room, connect};
use crate::packets::breakage::{Breakage, broken};
use crate::process::run as run_command;

const GROUP: &str = "a packet, generator and sink included";
const GENERATOR: &str = "generator and sink alone";
const BARE_TX: &str = "MAC swap, XDP_TX";
const BARE_REDIRECT: &str = "MAC swap, redirect through a device map";
const XLB: &str = "xlb full_nat";
const XLB_DROPS: &str = "xlb drops (malformed)";
const NFTABLES: &str = "nftables DNAT and SNAT";
const FLOWS: u32 = 1_000;

/// The namespaces: a generator, the balancer, the sink.
struct Line {
    generator: Namespace,
    balancer: Namespace,
    sink: Namespace,
    /// The namespace this thread came from.
    home: File,
    /// Index of the generator's interface.
    out: u32,
    lab: Lab,
    _room: Room,
}

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Generator,
    BareTx,
    BareRedirect,
    Xlb,
    XlbDrops,
    Nftables,
}

impl Way {
    const ALL: [Self; 6] = [
        Self::Generator,
        Self::BareTx,
        Self::BareRedirect,
        Self::Xlb,
        Self::XlbDrops,
        Self::Nftables,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Generator => GENERATOR,
            Self::BareTx => BARE_TX,
            Self::BareRedirect => BARE_REDIRECT,
            Self::Xlb => XLB,
            Self::XlbDrops => XLB_DROPS,
            Self::Nftables => NFTABLES,
        }
    }

    const fn forwarder(self) -> Forwarder {
        match self {
            Self::Xlb | Self::XlbDrops => Forwarder::Xlb,
            Self::Generator => Forwarder::Own(names::SINK),
            Self::BareTx => Forwarder::Own(names::SWAP),
            Self::BareRedirect => Forwarder::Own(names::REDIRECT),
            Self::Nftables => Forwarder::Kernel,
        }
    }
}

/// Which program stands at the balancer's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forwarder {
    Xlb,
    Own(&'static str),
    Kernel,
}

/// Runs it.
pub(super) fn run(effort: Effort) -> Result<Report> {
    let (packets, rounds) = match effort {
        Effort::Full => (1_000_000, 9),
        Effort::Quick => (50_000, 2),
    };
    crate::kernel::check_hz()?;
    pin_to_cpu(0)?;
    let line = Line::build()?;
    let outcome = measure(&line, packets, rounds);
    setns(&line.home, CloneFlags::CLONE_NEWNET).context("go back to the namespace we came from")?;
    outcome
}

fn measure(line: &Line, packets: u32, rounds: usize) -> Result<Report> {
    at(&line.balancer)?;
    let sizes = Sizes {
        connections: 1 << 16,
        half_open: 1 << 16,
    };
    let mut kernel = Kernel::load_with(Object::Production, sizes, &[])?;
    kernel.maps.install(&case::world(&line.lab))?;
    let mut driver = Driver::load(DriverRoom {
        walk: FLOWS,
        flows4: 1,
        flows6: 1,
        half: 1,
    })?;
    driver.redirect_to(line.lab.backend_side)?;
    let case = Case {
        family: Family::V4,
        service: DNS,
    };
    establish(&kernel, &line.lab, case)?;
    at(&line.sink)?;
    driver.program(names::SINK)?.attach("s0", XdpMode::Driver)?;
    at(&line.generator)?;
    driver.program(names::SINK)?.attach("g0", XdpMode::Driver)?;

    let data = (0..FLOWS).map(|number| case.client_frame(&line.lab, number, Stage::Data));
    let data = Frames::walk(case.family, data)?;
    let malformed = Case {
        family: Family::V4,
        service: WEB,
    };
    let malformed = (0..FLOWS).map(|number| {
        let frame = malformed.client_frame(&line.lab, number, Stage::Data);
        broken(frame, Breakage::TcpOffset(1))
    });
    let malformed = Frames::walk(case.family, malformed)?;
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); Way::ALL.len()];
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (way, samples) in Way::ALL.into_iter().zip(&mut samples) {
            let frames = if way == Way::XlbDrops { &malformed } else { &data };
            driver.set(frames)?;
            samples.push(one(line, &mut kernel, &mut driver, way, packets)?);
        }
    }
    let mut report = Report::new("packets");
    for (way, samples) in Way::ALL.into_iter().zip(samples) {
        report.rows.push(Row {
            group: GROUP.to_owned(),
            name: way.name().to_owned(),
            unit: Unit::NsPerPacket,
            samples,
            around: Vec::new(),
            baseline: (way != Way::Nftables).then(|| NFTABLES.to_owned()),
        });
    }
    report.bars = bars(&report);
    Ok(report)
}

fn bars(report: &Report) -> Vec<Bar> {
    let of = |name: &str| report.row(GROUP, name).map_or(f64::NAN, Row::minimum);
    let mut bars = vec![
        Bar::new(
            "xlb's packets/s on one core, in nftables'",
            of(NFTABLES) / of(XLB),
            Limit::AtLeast(4.0),
        ),
        Bar::new(
            "xlb's packets/s on one core, in the bare redirect's",
            of(BARE_REDIRECT) / of(XLB),
            Limit::AtLeast(0.5),
        ),
    ];
    // Both sides of that one hold generator and sink, which draws it towards 1.
    let net = |name| of(name) - of(GENERATOR);
    let ratio = net(BARE_REDIRECT) / net(XLB);
    // In noise one may cost no more than they do: then there is no ratio.
    if ratio.is_finite() && ratio > 0.0 {
        bars.push(Bar::new(
            "xlb's packets/s in the bare redirect's, net of generator and sink",
            ratio,
            Limit::Unjudged,
        ));
    }
    bars
}

/// Flows of these clients, as the program itself makes them: a datagram and its answer.
fn establish(kernel: &Kernel, lab: &Lab, case: Case) -> Result<()> {
    for number in 0..FLOWS {
        kernel.run(lab.client_side, &case.client_frame(lab, number, Stage::First))?;
    }
    let replies = kernel.maps.half_open_keys(|key, entry| case.is_reply(key, entry))?;
    for key in &replies {
        kernel.run(lab.backend_side, &case.backend_frame(lab, key, Stage::Answer))?;
    }
    let opened: u64 = (1..=u32::from(case::BACKENDS) * 8)
        .map(|id| Ok(kernel.backend(id)?.flows_opened))
        .sum::<Result<u64>>()?;
    ensure!(opened == u64::from(FLOWS), "{opened} of {FLOWS} flows were established");
    Ok(())
}

/// Nanoseconds a packet of one run.
fn one(line: &Line, kernel: &mut Kernel, driver: &mut Driver, way: Way, packets: u32) -> Result<f64> {
    at(&line.balancer)?;
    let link = attach(kernel, driver, way)?;
    if way == Way::Nftables {
        at(&line.generator)?;
        // The kernel meets each flow once before it is timed.
        driver.send(line.out, FLOWS)?;
        settle(|| driver.sunk())?;
    }
    let count = |kernel: &Kernel, driver: &Driver| match way {
        Way::XlbDrops => Ok(kernel.reason(DropReason::BadTcpOffset.index())?.packets),
        _ => driver.sunk(),
    };
    let carried_before = Carried::so_far(line, kernel)?;
    at(&line.generator)?;
    let before = count(kernel, driver)?;
    let start = Instant::now();
    driver.send(line.out, packets)?;
    let sent = start.elapsed();
    let extra = settle(|| count(kernel, driver))?;
    let arrived = count(kernel, driver)? - before;
    let carried = Carried::so_far(line, kernel)?.since(&carried_before);
    detach(kernel, driver, way, link)?;
    carried.verify(way, arrived)?;
    // A ring of a veth that is full loses frames: what arrived counts, and most must.
    ensure!(
        arrived * 10 >= u64::from(packets) * 9,
        "{}: only {arrived} of {packets} packets arrived",
        way.name()
    );
    Ok((sent + extra).as_secs_f64() * 1e9 / f64::from(arrived as u32))
}

/// Packets by who carried them: what a program lets pass, nftables and the kernel's routes would bring to the sink.
#[derive(Clone, Copy, Debug)]
struct Carried {
    to_backends: u64,
    by_kernel: u64,
}

impl Carried {
    /// Leaves this thread in the balancer's namespace.
    fn so_far(line: &Line, kernel: &Kernel) -> Result<Self> {
        at(&line.balancer)?;
        let to_backends = (1..=u32::from(case::BACKENDS) * 8)
            .map(|id| Ok(kernel.backend(id)?.packets_in))
            .sum::<Result<u64>>()?;
        Ok(Self {
            to_backends,
            by_kernel: forwarded::here()?,
        })
    }

    const fn since(self, before: &Self) -> Self {
        Self {
            to_backends: self.to_backends.saturating_sub(before.to_backends),
            by_kernel: self.by_kernel.saturating_sub(before.by_kernel),
        }
    }

    /// That what arrived came the way that its row names.
    fn verify(self, way: Way, arrived: u64) -> Result<()> {
        let Self { to_backends, by_kernel } = self;
        match way {
            Way::Xlb => ensure!(
                to_backends >= arrived,
                "{}: {arrived} packets arrived, but xlb counts only {to_backends} to its backends",
                way.name()
            ),
            Way::Generator | Way::BareTx | Way::BareRedirect => ensure!(
                by_kernel < forwarded::BESIDE_A_PROGRAM,
                "{}: the kernel forwarded {by_kernel} packets beside it",
                way.name()
            ),
            // The drop's own counter is what arrived; nothing stands before the kernel's rules.
            Way::XlbDrops | Way::Nftables => {}
        }
        Ok(())
    }
}

fn attach(kernel: &mut Kernel, driver: &mut Driver, way: Way) -> Result<Option<XdpLinkId>> {
    Ok(match way.forwarder() {
        Forwarder::Xlb => Some(kernel.program_mut()?.attach("c0", XdpMode::Driver)?),
        Forwarder::Own(name) => Some(driver.program(name)?.attach("c0", XdpMode::Driver)?),
        Forwarder::Kernel => None,
    })
}

fn detach(kernel: &mut Kernel, driver: &mut Driver, way: Way, link: Option<XdpLinkId>) -> Result<()> {
    match (way.forwarder(), link) {
        (Forwarder::Xlb, Some(link)) => Ok(kernel.program_mut()?.detach(link)?),
        (Forwarder::Own(name), Some(link)) => Ok(driver.program(name)?.detach(link)?),
        (_, None) | (Forwarder::Kernel, _) => Ok(()),
    }
}

/// Waits until a counter stands still; returns how long it still moved.
fn settle(count: impl Fn() -> Result<u64>) -> Result<Duration> {
    let start = Instant::now();
    let (mut last, mut moved) = (count()?, Duration::ZERO);
    let mut still = 0;
    while still < 10 {
        sleep(Duration::from_millis(1));
        let now = count()?;
        if now == last {
            still += 1;
        } else {
            (last, moved, still) = (now, start.elapsed(), 0);
        }
        if start.elapsed() > Duration::from_secs(10) {
            bail!("frames still arrive ten seconds after the last was sent");
        }
    }
    Ok(moved)
}

/// Moves this thread into a namespace.
fn at(namespace: &Namespace) -> Result<()> {
    setns(namespace.open()?, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {}", namespace.name()))
}

impl Line {
    fn build() -> Result<Self> {
        let home = File::open("/proc/thread-self/ns/net").context("open this thread's namespace")?;
        let room = Room::for_test()?;
        let (generator, balancer, sink) = (room.namespace("gen")?, room.namespace("lb")?, room.namespace("sink")?);
        connect(&generator, "g0", &balancer, "c0")?;
        connect(&balancer, "b0", &sink, "s0")?;
        at(&generator)?;
        let out = if_nametoindex("g0")?;
        at(&balancer)?;
        let lab = Lab {
            client_side: if_nametoindex("c0")?,
            backend_side: if_nametoindex("b0")?,
            other_side: 0,
            foreign: 0,
        };
        let mac = |ifindex| iface_mac(ifindex).map(|byte| format!("{byte:02x}")).join(":");
        // For the kernel's own way: addresses, routes and a neighbour, all known beforehand.
        balancer.ip(&format!(
            "link set c0 address {}\nlink set b0 address {}\naddr add 100.64.0.1/10 dev c0\naddr add 10.0.1.254/24 dev b0\n",
            mac(lab.client_side),
            mac(lab.backend_side)
        ))?;
        for number in 1..=case::BACKENDS {
            balancer.ip(&format!(
                "neigh add 10.0.1.{number} lladdr 06:be:00:00:00:01 dev b0 nud permanent\n"
            ))?;
        }
        balancer.sysctl("net/ipv4/ip_forward", "1")?;
        for name in ["all", "c0", "b0"] {
            balancer.sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "0")?;
        }
        // Without an XDP program a veth takes frames only with GRO on.
        run_command(balancer.command("ethtool").args(["-K", "c0", "gro", "on"]))?;
        nftables(&balancer, &room)?;
        Ok(Self {
            generator,
            balancer,
            sink,
            home,
            out,
            lab,
            _room: room,
        })
    }
}

/// The same service as rules: every backend by a hash of the client, and the same SNAT addresses.
fn nftables(balancer: &Namespace, room: &Room) -> Result<()> {
    let backends: Vec<String> = (0..case::BACKENDS)
        .map(|at| format!("{at} : 10.0.1.{}", at + 1))
        .collect();
    let rules = format!(
        "table ip balance {{\n chain pre {{ type nat hook prerouting priority dstnat; ip daddr 203.0.113.10 udp dport {} dnat to \
         jhash ip saddr . udp sport mod {} map {{ {} }} : {}; }}\n chain post {{ type nat hook postrouting priority srcnat; \
         oifname \"b0\" snat to 192.0.2.1-192.0.2.4; }}\n}}\n",
        DNS.service_port,
        case::BACKENDS,
        backends.join(", "),
        DNS.internal_port
    );
    let path = room.file("rules.nft");
    std::fs::write(&path, rules)?;
    let mut nft: Command = balancer.command("nft");
    run_command(nft.arg("-f").arg(&path)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(figures: &[(&str, f64)]) -> Report {
        let rows = figures.iter().map(|(name, figure)| Row {
            group: GROUP.to_owned(),
            name: (*name).to_owned(),
            unit: Unit::NsPerPacket,
            samples: vec![*figure],
            around: Vec::new(),
            baseline: None,
        });
        Report {
            rows: rows.collect(),
            ..Report::new("packets")
        }
    }

    #[test]
    fn the_bare_redirect_is_also_compared_without_generator_and_sink() {
        let mut figures = vec![
            (GENERATOR, 200.0),
            (BARE_REDIRECT, 300.0),
            (XLB, 400.0),
            (NFTABLES, 1_600.0),
        ];
        let bars_of = |figures: &[(&str, f64)]| {
            let bars = bars(&report(figures));
            bars.iter().map(|bar| bar.value.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(bars_of(&figures), ["4", "0.75", "0.5"]);
        assert_eq!(
            bars(&report(&figures)).last().and_then(Bar::is_met),
            None,
            "nothing was promised"
        );
        figures.remove(0);
        assert_eq!(bars_of(&figures), ["4", "0.75"], "without the row");
    }

    #[test]
    fn what_the_kernel_carried_is_not_a_programs() {
        let carried = |to_backends, by_kernel| Carried { to_backends, by_kernel };
        assert!(carried(1_000, 0).verify(Way::Xlb, 990).is_ok());
        assert!(carried(10, 990).verify(Way::Xlb, 990).is_err());
        assert!(carried(0, 0).verify(Way::BareRedirect, 990).is_ok());
        assert!(carried(0, 990).verify(Way::BareRedirect, 990).is_err());
        assert!(carried(0, 990).verify(Way::Nftables, 990).is_ok());
    }
}
