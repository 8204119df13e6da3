//! Two threads, each on its own CPU, drive claims, promotions, closes and sweeps over four SNAT ports. At no time may
//! two clients own one tuple, and no reply may reach another client than the tuple's owner.
//!
//! Who owned what is judged from the outside, by what left the program and when: if A used a tuple, then B did, then A
//! again without a SYN of its own in between, both had it. Times are intervals around the run, so two overlapping runs
//! prove nothing and are not held against the program. At rest (between rounds) the maps themselves are judged.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use lb_common::abi::{direction, on_miss};
use lb_common::reason::DropReason;
use lb_userspace::dataplane::kernel_hz;
use xlb_tests::kernel::{BACKEND_ISN, Entry, Kernel, Key, Rig, Side, Sizes, action, ends, pin_to_cpu};
use xlb_tests::model::sample::{
    DNS, FAMILIES, Family, Sample, WEB, client, from_backend, from_client, sample_world, snat,
};
use xlb_tests::packets::Packet;
use xlb_tests::packets::flags::{ACK, FIN, RST, SYN};
use xlb_tests::require;

const ROUNDS: usize = 60;
/// Where [`ROUNDS`] were too few for [`ENOUGH`], more of them.
const MOST_ROUNDS: usize = 600;
/// Ticks of rest before every other round, more than any lifetime: in a round some tuples are always in use, and how many
/// run out of time between two rounds would be the machine's speed.
const REST_TICKS: u32 = 7;
/// Connections opened, and closed, that prove something.
const ENOUGH: u64 = 200;
const OPERATIONS: usize = 2_500;
const CLIENTS: u8 = 10;
const PORTS: u16 = 4;

/// One packet that got through.
#[derive(Clone, Copy, Debug)]
struct Use {
    start_ns: u64,
    end_ns: u64,
    tuple: u16,
    client: u8,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// May have claimed the tuple.
    Claim,
    /// May have claimed any tuple for a moment: dropped, but not for want of a tuple.
    Attempt,
    /// Dropped because every tuple was taken: it had one for the moment between its half-open insert and its look into
    /// the established table, no longer.
    Refused,
    /// Used a tuple claimed before.
    Forward,
    /// A reply to the tuple reached this client.
    Reply,
}

/// A frame to send and what it is.
struct Shot {
    ifindex: u32,
    frame: Vec<u8>,
    from: From,
}

#[derive(Clone, Copy)]
enum From {
    Client { number: u8, kind: Kind },
    Backend { tuple: u16 },
}

#[test]
fn two_cpus_never_give_two_clients_one_tuple_over_tcp() -> Result<()> {
    require!("ip");
    for family in FAMILIES {
        race(WEB, family).with_context(|| format!("{family:?}"))?;
    }
    Ok(())
}

#[test]
fn two_cpus_never_give_two_clients_one_tuple_over_udp() -> Result<()> {
    require!("ip");
    for family in FAMILIES {
        race(DNS, family).with_context(|| format!("{family:?}"))?;
    }
    Ok(())
}

fn race(service: Sample, family: Family) -> Result<()> {
    let seed = std::env::var("XLB_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    eprintln!("XLB_SEED={seed} {service:?} {family:?}");
    // A half-open table far larger than the test: nothing is evicted, so a vanished entry is a finding.
    let mut rig = Rig::new(Sizes {
        connections: 8,
        half_open: 4096,
    })?;
    let mut world = sample_world(&rig.lab);
    let settings = &mut world.settings;
    settings.snat_port_max = settings.snat_port_min + PORTS - 1;
    // Lifetimes of a few ticks, so that expiry happens all the time; a round takes about five ticks.
    settings.half_open_ticks = 3;
    settings.closing_ticks = 2;
    settings.established_ticks = 6;
    settings.udp_ticks = 3;
    settings.udp_answered_ticks = 5;
    for service in world.services.values_mut() {
        // A reset is an answer of ours, not a packet that got through.
        service.on_miss = on_miss::DROP;
    }
    rig.reset(world)?;
    let shots = shots(&rig, service, family);
    let began = Instant::now();
    let rest = Duration::from_secs(1) * REST_TICKS / kernel_hz()?;
    let mut log = Vec::new();
    for round in 0..MOST_ROUNDS {
        if round >= ROUNDS && proves_enough(&rig.kernel, service.backend_id(family))? {
            break;
        }
        if round % 2 == 1 {
            thread::sleep(rest);
        }
        let barrier = Barrier::new(2);
        let (kernel, shots) = (&rig.kernel, &shots);
        let halves: Vec<Result<Vec<Use>>> = thread::scope(|scope| {
            let hammer = |cpu: usize| {
                let barrier = &barrier;
                let rng = Rng::with_seed(seed ^ (round as u64 * 2 + cpu as u64));
                scope.spawn(move || hammer(kernel, shots, barrier, began, rng, cpu))
            };
            let threads = [hammer(0), hammer(1)];
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
                .collect()
        });
        for half in halves {
            log.extend(half?);
        }
        check_at_rest(&rig.kernel, service.backend_id(family)).with_context(|| format!("after round {round}"))?;
    }
    judge(&log)?;
    report(&rig.kernel, service.backend_id(family), &log)
}

/// Every frame the threads choose from; what is random is their order.
fn shots(rig: &Rig, service: Sample, family: Family) -> Vec<(u32, Shot)> {
    let mut shots = Vec::new();
    let lab = rig.lab;
    for number in 1..=CLIENTS {
        let who = client(family, number, 40_000);
        let mut add = |weight: u32, kind, packet: Packet| {
            let frame = from_client(&lab, packet).build();
            shots.push((
                weight,
                Shot {
                    ifindex: lab.client_side,
                    frame,
                    from: From::Client { number, kind },
                },
            ));
        };
        let proof = BACKEND_ISN.wrapping_add(1);
        if service.protocol == 6 {
            add(6, Kind::Claim, Packet::tcp(who, service.dial(family), SYN, 1_000, 0));
            add(
                8,
                Kind::Forward,
                Packet::tcp(who, service.dial(family), ACK, 1_001, proof),
            );
            add(
                2,
                Kind::Forward,
                Packet::tcp(who, service.dial(family), FIN | ACK, 1_001, proof),
            );
            add(
                1,
                Kind::Forward,
                Packet::tcp(who, service.dial(family), RST, 1_001, proof),
            );
        } else {
            // Each datagram may claim: UDP has nothing that says "old".
            add(
                8,
                Kind::Claim,
                Packet::udp(who, service.dial(family)).payload(&[number]),
            );
        }
    }
    for port in 0..PORTS {
        let tuple = 10_240 + port;
        let seen = std::net::SocketAddr::new(snat(family), tuple);
        let mut add = |weight: u32, packet: Packet| {
            let frame = from_backend(&lab, packet).build();
            shots.push((
                weight,
                Shot {
                    ifindex: lab.backend_side,
                    frame,
                    from: From::Backend { tuple },
                },
            ));
        };
        if service.protocol == 6 {
            add(
                20,
                Packet::tcp(service.backend(family), seen, SYN | ACK, BACKEND_ISN, 1_001),
            );
            add(
                10,
                Packet::tcp(service.backend(family), seen, ACK, BACKEND_ISN.wrapping_add(1), 1_001),
            );
            add(
                6,
                Packet::tcp(
                    service.backend(family),
                    seen,
                    FIN | ACK,
                    BACKEND_ISN.wrapping_add(1),
                    1_001,
                ),
            );
            add(
                1,
                Packet::tcp(service.backend(family), seen, RST, BACKEND_ISN.wrapping_add(1), 1_001),
            );
        } else {
            add(12, Packet::udp(service.backend(family), seen).payload(b"answer"));
        }
    }
    shots
}

fn hammer(
    kernel: &Kernel,
    shots: &[(u32, Shot)],
    barrier: &Barrier,
    began: Instant,
    mut rng: Rng,
    cpu: usize,
) -> Result<Vec<Use>> {
    pin_to_cpu(cpu)?;
    let total: u32 = shots.iter().map(|(weight, _)| weight).sum();
    let mut uses = Vec::with_capacity(OPERATIONS);
    let mut known_exhausted = exhausted(kernel, cpu)?;
    barrier.wait();
    for _ in 0..OPERATIONS {
        if rng.u8(..100) == 0 {
            kernel.sweep()?;
            continue;
        }
        let mut at = rng.u32(..total);
        let shot = shots.iter().find(|(weight, _)| {
            let found = at < *weight;
            at = at.wrapping_sub(*weight);
            found
        });
        let (_, shot) = shot.context("a weight below the total")?;
        let start_ns = began.elapsed().as_nanos() as u64;
        let output = kernel.run(shot.ifindex, &shot.frame)?;
        let end_ns = began.elapsed().as_nanos() as u64;
        if output.action <= action::PASS {
            let now_exhausted = exhausted(kernel, cpu)?;
            if let From::Client {
                number: client,
                kind: Kind::Claim,
            } = shot.from
            {
                let kind = if now_exhausted == known_exhausted {
                    Kind::Attempt
                } else {
                    Kind::Refused
                };
                uses.push(Use {
                    start_ns,
                    end_ns,
                    tuple: 0,
                    client,
                    kind,
                });
            }
            known_exhausted = now_exhausted;
            continue;
        }
        let (src, dst) = ends(&output.frame)?;
        let (tuple, client, kind) = match shot.from {
            From::Client { number, kind } => (src.port(), number, kind),
            From::Backend { tuple } => (tuple, client_number(dst.ip()), Kind::Reply),
        };
        uses.push(Use {
            start_ns,
            end_ns,
            tuple,
            client,
            kind,
        });
    }
    Ok(uses)
}

/// Packets that found no tuple on this CPU.
fn exhausted(kernel: &Kernel, cpu: usize) -> Result<u64> {
    let values = kernel.maps.reasons.get(&DropReason::SnatExhausted.index(), 0)?;
    Ok(values.get(cpu).context("this CPU's counters")?.0.packets)
}

fn client_number(address: std::net::IpAddr) -> u8 {
    match address {
        std::net::IpAddr::V4(v4) => v4.octets()[3],
        std::net::IpAddr::V6(v6) => v6.octets()[15],
    }
}

/// Nothing runs: every tuple has one owner, every established entry has its other half, and the counters say so.
fn check_at_rest(kernel: &Kernel, backend_id: u32) -> Result<()> {
    let entries = kernel.maps.entries()?;
    let replies: BTreeMap<(Side, Key), &Entry> = entries
        .iter()
        .filter(|(_, _, entry)| entry.direction == direction::REPLY)
        .map(|(side, key, entry)| ((*side, *key), entry))
        .collect();
    let mut owners: HashMap<(std::net::IpAddr, u16), (u64, Key)> = HashMap::new();
    let mut established = 0;
    for (side, key, entry) in entries
        .iter()
        .filter(|(_, _, entry)| entry.direction == direction::FORWARD)
    {
        if *side == Side::Established {
            established += 1;
            let reply_key = Key {
                src: entry.new_dst,
                dst: entry.new_src,
                src_port: entry.new_dst_port,
                dst_port: entry.new_src_port,
                protocol: key.protocol,
            };
            let reply = replies
                .get(&(*side, reply_key))
                .with_context(|| format!("{key:?} lost its REPLY entry"))?;
            ensure!(
                reply.conn_id == entry.conn_id,
                "{key:?} uses a tuple of another connection: {entry:?} {reply:?}"
            );
            ensure!(
                (reply.new_dst, reply.new_dst_port) == (key.src, key.src_port),
                "{key:?}: replies go to {reply:?}"
            );
        }
        let tuple = (entry.new_src, entry.new_src_port);
        if let Some((other, other_key)) = owners.insert(tuple, (entry.conn_id, *key)) {
            ensure!(
                other == entry.conn_id,
                "{tuple:?} is owned by {other_key:?} and by {key:?}"
            );
        }
    }
    let reply_count = replies.keys().filter(|(side, _)| *side == Side::Established).count();
    ensure!(
        reply_count == established,
        "{established} FORWARD and {reply_count} REPLY entries"
    );
    let stats = kernel.backend(backend_id)?;
    let counted = stats.flows_opened - stats.flows_closed;
    ensure!(
        counted == established as u64,
        "{established} connections, but the counters say {counted}: {stats:?}"
    );
    Ok(())
}

/// A used a tuple, B used it, A used it again without a claim of its own in between: both had it.
fn judge(log: &[Use]) -> Result<()> {
    let mut by_tuple: BTreeMap<u16, Vec<Use>> = BTreeMap::new();
    let is_attempt = |each: &&Use| each.kind == Kind::Attempt;
    let refused: Vec<Use> = log.iter().filter(|each| each.kind == Kind::Refused).copied().collect();
    let mut excused = 0;
    for each in log.iter().filter(|each| each.tuple != 0) {
        by_tuple.entry(each.tuple).or_default().push(*each);
    }
    for uses in by_tuple.values_mut() {
        uses.sort_unstable_by_key(|each| each.start_ns);
        let mut claims: HashMap<u8, Vec<Use>> = HashMap::new();
        let of_tuple = uses.iter().filter(|each| each.kind == Kind::Claim);
        for each in of_tuple.chain(log.iter().filter(is_attempt)) {
            claims.entry(each.client).or_default().push(*each);
        }
        for own in claims.values_mut() {
            own.sort_unstable_by_key(|claim| claim.start_ns);
            // From here on the n-th ends when the last of the first n ends.
            for n in 1..own.len() {
                own[n].end_ns = own[n].end_ns.max(own[n - 1].end_ns);
            }
        }
        // For each client, the latest use that had surely ended before the one looked at.
        let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
        let mut latest: HashMap<u8, Use> = HashMap::new();
        for (n, each) in uses.iter().enumerate() {
            while let Some(Reverse((end_ns, ended))) = running.peek().copied() {
                if end_ns >= each.start_ns {
                    break;
                }
                running.pop();
                let ended = uses[ended];
                let known = latest.entry(ended.client).or_insert(ended);
                if ended.start_ns > known.start_ns {
                    *known = ended;
                }
            }
            running.push(Reverse((each.end_ns, n)));
            if each.kind == Kind::Claim {
                continue;
            }
            let own = claims.get(&each.client).map(Vec::as_slice).unwrap_or_default();
            // The one that may have taken effect last: a run can be held up for long between its clock readings.
            let claim = own[..own.partition_point(|claim| claim.start_ns < each.end_ns)].last();
            let claim = claim.with_context(|| format!("{each:?}: this client never claimed the tuple"))?;
            let thief = latest
                .values()
                .find(|other| other.client != each.client && other.start_ns > claim.end_ns);
            let Some(thief) = thief else { continue };
            // A reply that met the half-open entry of a claim that was about to fail, while its tuple's owner was being
            // taken out of the tables: possible only during that claim.
            let is_passing = |other: &&Use| {
                other.client == each.client && other.start_ns < each.end_ns && other.end_ns > each.start_ns
            };
            if each.kind == Kind::Reply && refused.iter().any(|other| is_passing(&other)) {
                excused += 1;
                continue;
            }
            bail!(
                "two clients on one tuple: {claim:?}, then {thief:?}, then {each:?}\n{}",
                story(log, claim, each)
            );
        }
    }
    eprintln!("{excused} replies met a claim in passing");
    ensure!(
        excused * 10_000 < log.len().max(100_000),
        "{excused} of {} is no accident",
        log.len()
    );
    Ok(())
}

/// What the two clients and the tuple went through from the claim to the fault.
fn story(log: &[Use], claim: &Use, fault: &Use) -> String {
    let is_part = |each: &&Use| {
        let is_theirs = each.tuple == claim.tuple || each.tuple == 0 && each.client == claim.client;
        is_theirs && each.end_ns >= claim.start_ns && each.start_ns <= fault.end_ns
    };
    let mut part: Vec<&Use> = log.iter().filter(is_part).collect();
    part.sort_unstable_by_key(|each| each.start_ns);
    let lines: Vec<String> = part.iter().map(|each| format!("{each:?}")).collect();
    lines.join("\n")
}

/// Whether connections came, went and found no tuple often enough.
fn proves_enough(kernel: &Kernel, backend_id: u32) -> Result<bool> {
    let stats = kernel.backend(backend_id)?;
    let exhausted = kernel.reason(DropReason::SnatExhausted.index())?.packets;
    Ok(stats.flows_opened > ENOUGH && stats.flows_closed > ENOUGH && exhausted > 1_000)
}

/// A race test that raced over nothing proves nothing: each thing it is about must have happened often.
fn report(kernel: &Kernel, backend_id: u32, log: &[Use]) -> Result<()> {
    let stats = kernel.backend(backend_id)?;
    let exhausted = kernel.reason(DropReason::SnatExhausted.index())?.packets;
    let lost = kernel.reason(DropReason::ClaimLost.index())?.packets;
    let replies = log.iter().filter(|each| each.kind == Kind::Reply).count();
    let early = kernel.cpu_totals()?.tuples_reused_early;
    eprintln!(
        "{} packets through, {replies} replies, {} claims, {} promoted, {} reclaimed, {exhausted} exhausted, {lost} claims \
         lost, {early} tuples reused early",
        log.len(),
        stats.flows_new,
        stats.flows_opened,
        stats.flows_closed
    );
    ensure!(
        replies > 1_000 && proves_enough(kernel, backend_id)?,
        "too little happened: {stats:?}"
    );
    Ok(())
}
