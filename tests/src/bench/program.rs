//! `bench program`: nanoseconds a packet of the loaded, unmodified program, beside bare map operations in the same run.
//!
//! Every timed run is checked: each packet must have met the fate it was to meet, by the program's own counters, and the
//! last one's checksums are judged by etherparse.

mod flood;

use anyhow::{Context as _, Result, ensure};
use lb_common::abi::BackendStats;
use lb_common::bench::names;

use super::case::{self, Case, Stage};
use super::driver::{Driver, Frames, Loop, Room};
use super::fate::Fate;
use super::report::{Bar, Limit, Report, Row, Unit};
use super::samples::{Samples, shuffled};
use super::{Effort, Groups};
use crate::interpreter::packets;
use crate::kernel::{Kernel, Lab, Object, Sizes, pin_to_cpu};
use crate::model::sample::{DNS, FAMILIES, Family, GATE, TIME, WEB};

const LOOKUP: &str = "bare lookup";
const OPERATIONS: &str = "bare operations of a packet";

/// What a benchmark of the program has in hand.
struct Bench {
    lab: Lab,
    kernel: Kernel,
    driver: Driver,
    room: Room,
    effort: Effort,
    groups: Groups,
    report: Report,
}

/// Instructions and lookups of each packet, counted on the object's own instructions.
fn counts(report: &mut Report) -> Result<()> {
    for (name, trace) in packets()? {
        let lookups: u32 = trace.lookups.values().sum();
        let is_hash = |map: &str| {
            ["flows", "half", "endpoints", "addrs", "tx_ports"]
                .iter()
                .any(|kind| map.contains(kind))
        };
        let hashed = trace.lookups.iter().filter(|(map, _)| is_hash(map));
        let hashed: u32 = hashed.map(|(_, times)| times).sum();
        let rows = [
            ("instructions executed", Unit::Instructions, trace.instructions as u32),
            ("lookups, arrays included", Unit::Count, lookups),
            ("lookups in hash tables", Unit::Count, hashed),
        ];
        for (group, unit, value) in rows {
            report.rows.push(Row {
                group: group.to_owned(),
                name: name.clone(),
                unit,
                samples: vec![f64::from(value)],
                around: Vec::new(),
                baseline: None,
            });
        }
    }
    report.rows.sort_by(|a, b| a.group.cmp(&b.group));
    Ok(())
}

/// Runs it.
pub(super) fn run(effort: Effort, groups: Groups) -> Result<Report> {
    let mut report = Report::new("program");
    counts(&mut report)?;
    pin_to_cpu(0)?;
    let lab = Lab::enter()?;
    let (connections, half_open) = match effort {
        Effort::Full => (1 << 20, 1 << 18),
        Effort::Quick => (1 << 16, 1 << 14),
    };
    let sizes = Sizes { connections, half_open };
    let mut kernel = Kernel::load_with(Object::Production, sizes, &[])?;
    kernel.maps.install(&case::world(&lab))?;
    let room = Room {
        walk: connections,
        flows4: connections * 2,
        flows6: connections * 2,
        half: half_open * 2,
    };
    let mut driver = Driver::load(room)?;
    driver.aim(kernel.program()?.fd()?)?;
    driver.redirect_to(lab.backend_side)?;
    let mut bench = Bench {
        lab,
        kernel,
        driver,
        room,
        effort,
        groups,
        report,
    };
    bench.sizes(connections)?;
    eprintln!("tables, filled and emptied once");
    bench.driver.wear(room)?;
    bench.kernel.maps.wear(room.flows4, room.half)?;
    bench.singles()?;
    for service in [WEB, GATE, DNS, TIME] {
        for family in FAMILIES {
            bench.handshake(Case { family, service })?;
        }
    }
    for service in [WEB, GATE] {
        for family in FAMILIES {
            bench.flood(Case { family, service })?;
        }
    }
    for family in FAMILIES {
        for service in [WEB, GATE, DNS, TIME] {
            for flows in bench.flow_counts() {
                bench.established(Case { family, service }, *flows)?;
            }
        }
    }
    bench.bars();
    Ok(bench.report)
}

impl Bench {
    const fn rounds(&self) -> usize {
        match self.effort {
            Effort::Full => 15,
            Effort::Quick => 3,
        }
    }

    const fn flow_counts(&self) -> &'static [u32] {
        match self.effort {
            Effort::Quick => &[1_000],
            Effort::Full => &[1, 1_000, 1 << 16, 1_000_000],
        }
    }

    /// Turns of one sample: every connection at least once, and long enough for the clock.
    fn turns(&self, flows: usize) -> u32 {
        let least = match self.effort {
            Effort::Full => 200_000,
            Effort::Quick => 20_000,
        };
        (flows as u32).max(least)
    }

    /// Nanoseconds of one turn; all of them met this fate.
    fn drive(&mut self, frames: &Frames, ifindex: u32, turns: u32, fate: Fate) -> Result<f64> {
        let before = self.met(fate)?;
        let timed = self.driver.run(Loop::Drive, frames, ifindex, turns)?;
        let met = self.met(fate)? - before;
        fate.verify(&timed, turns, met)
            .with_context(|| format!("the reasons are {:?}", self.reasons()))?;
        Ok(timed.turn_ns)
    }

    /// Packets that met this fate so far.
    fn met(&self, fate: Fate) -> Result<u64> {
        match fate {
            Fate::Counted(reason) => Ok(self.kernel.reason(reason.index())?.packets),
            Fate::ToBackend => Ok(self.backends()?.packets_in),
            Fate::ToClient => Ok(self.backends()?.packets_out),
        }
    }

    fn reasons(&self) -> Result<Vec<(u32, u64)>> {
        let all = self.kernel.reasons()?;
        let counted = (0..).zip(all).filter(|(_, stats)| stats.packets != 0);
        Ok(counted.map(|(index, stats)| (index, stats.packets)).collect())
    }

    fn backends(&self) -> Result<BackendStats> {
        let mut sum = BackendStats::default();
        for id in 1..=u32::from(case::BACKENDS) * 8 {
            let backend = self.kernel.backend(id)?;
            sum.packets_in += backend.packets_in;
            sum.packets_out += backend.packets_out;
            sum.flows_new += backend.flows_new;
            sum.flows_opened += backend.flows_opened;
        }
        Ok(sum)
    }

    /// What the loop and the call of an empty program cost with these packets.
    fn empty(&mut self, frames: &Frames, turns: u32) -> Result<f64> {
        self.own(names::PASS, frames, turns)
    }

    fn own(&mut self, name: &str, frames: &Frames, turns: u32) -> Result<f64> {
        self.driver.aim_at_own(name)?;
        let timed = self.driver.run(Loop::Drive, frames, self.lab.client_side, turns);
        self.driver.aim(self.kernel.program()?.fd()?)?;
        Ok(timed?.turn_ns)
    }

    fn push(&mut self, group: &str, name: &str, samples: Vec<f64>, around: &[f64], baseline: Option<&str>) {
        self.report.rows.push(Row {
            group: group.to_owned(),
            name: name.to_owned(),
            unit: Unit::NsPerPacket,
            samples,
            around: around.to_vec(),
            baseline: baseline.map(str::to_owned),
        });
    }

    fn sizes(&mut self, connections: u32) -> Result<()> {
        let info = self.kernel.program()?.info()?;
        let translated = info.size_translated().context("the kernel hides the program's size")?;
        let flows = self.kernel.flow_bytes;
        let a_connection = |bytes: u64| f64::from(bytes.div_ceil(u64::from(connections)) as u32);
        let rows = [
            (
                "instructions, translated",
                Unit::Instructions,
                f64::from(translated / 8),
            ),
            ("machine code", Unit::Bytes, f64::from(info.size_jitted())),
            ("a connection, IPv4", Unit::Bytes, a_connection(flows.v4)),
            ("a connection, IPv6", Unit::Bytes, a_connection(flows.v6)),
        ];
        for (name, unit, value) in rows {
            self.report.rows.push(Row {
                group: "sizes".to_owned(),
                name: name.to_owned(),
                unit,
                samples: vec![value],
                around: Vec::new(),
                baseline: None,
            });
        }
        Ok(())
    }

    /// Packets that need no connection.
    fn singles(&mut self) -> Result<()> {
        let group = "packets without a connection";
        if !self.groups.begin(group) {
            return Ok(());
        }
        let bare = {
            let case = Case {
                family: Family::V4,
                service: WEB,
            };
            let lab = self.lab;
            Frames::walk(
                Family::V4,
                (0..1_000).map(|number| case.client_frame(&lab, number, Stage::Data)),
            )?
        };
        self.driver.fill(&bare)?;
        let rows = case::singles(&self.lab);
        let turns = self.turns(1);
        let mut lookups = Samples::default();
        let mut swaps = Samples::default();
        let mut all: Vec<Samples> = rows.iter().map(|_| Samples::default()).collect();
        for _ in 0..self.rounds() {
            self.driver.set(&bare)?;
            let side = self.lab.client_side;
            lookups.around.push(self.loop_turn(Loop::Empty, &bare, turns)?);
            lookups.gross.push(self.loop_turn(Loop::Lookup, &bare, turns)?);
            for (row, samples) in rows.iter().zip(&mut all) {
                let frames = Frames::same(&row.frame)?;
                self.driver.set(&frames)?;
                samples.around.push(self.empty(&frames, turns)?);
                samples
                    .gross
                    .push(self.drive(&frames, side, turns, Fate::Counted(row.fate))?);
                if row.name == case::NOT_OURS_4 {
                    swaps.around.push(self.empty(&frames, turns)?);
                    swaps.gross.push(self.own(names::SWAP, &frames, turns)?);
                }
            }
        }
        self.driver.clear()?;
        self.push(group, LOOKUP, lookups.gross, &lookups.around, None);
        self.push(
            group,
            "empty program (the loop, not net)",
            swaps.around.clone(),
            &[],
            None,
        );
        self.push(group, "MAC swap", swaps.gross, &swaps.around, Some(LOOKUP));
        for (row, samples) in rows.iter().zip(all) {
            self.push(group, row.name, samples.gross, &samples.around, Some(LOOKUP));
        }
        Ok(())
    }

    fn loop_turn(&mut self, kind: Loop, frames: &Frames, turns: u32) -> Result<f64> {
        let timed = self.driver.run(kind, frames, self.lab.client_side, turns)?;
        Ok(timed.turn_ns)
    }

    /// Opens connections of the clients with these numbers, a chunk at a time; returns the times of each packet and the
    /// keys of the replies.
    fn open(&mut self, case: Case, numbers: &[u32], half_open: usize) -> Result<Opened> {
        let mut opened = Opened::default();
        for chunk in numbers.chunks(half_open) {
            self.open_chunk(case, chunk, &mut opened)?;
        }
        Ok(opened)
    }

    fn open_chunk(&mut self, case: Case, numbers: &[u32], opened: &mut Opened) -> Result<()> {
        let (lab, count) = (self.lab, numbers.len() as u32);
        let packets = |stage| {
            numbers
                .iter()
                .map(move |number| case.client_frame(&lab, *number, stage))
        };
        let before = self.backends()?;
        let first = Frames::walk(case.family, packets(Stage::First))?;
        self.driver.set(&first)?;
        let around = self.empty(&first, count)?;
        self.driver.rewind(&first)?;
        let syn = self.drive(&first, lab.client_side, count, Fate::ToBackend)?;
        opened.first.push(syn, around);
        let replies = self
            .kernel
            .maps
            .half_open_keys(|key, entry| case.is_reply(key, entry))?;
        ensure!(
            replies.len() == numbers.len(),
            "{} reply entries after {count} first packets of {}",
            replies.len(),
            case.name()
        );
        let answers = replies.iter().map(|key| case.backend_frame(&lab, key, Stage::Answer));
        let answers = Frames::walk(case.family, answers)?;
        self.driver.set(&answers)?;
        let around = self.empty(&answers, count)?;
        self.driver.rewind(&answers)?;
        let answer = self.drive(&answers, lab.backend_side, count, Fate::ToClient)?;
        opened.answer.push(answer, around);
        if case.is_tcp() {
            let proofs = Frames::walk(case.family, packets(Stage::Proof))?;
            self.driver.set(&proofs)?;
            let around = self.empty(&proofs, count)?;
            self.driver.rewind(&proofs)?;
            let proof = self.drive(&proofs, lab.client_side, count, Fate::ToBackend)?;
            opened.proof.push(proof, around);
        }
        let now = self.backends()?;
        let new = (now.flows_new - before.flows_new, now.flows_opened - before.flows_opened);
        ensure!(
            new == (count.into(), count.into()),
            "of {count} connections of {} {} were begun and {} promoted",
            case.name(),
            new.0,
            new.1
        );
        opened.replies.extend(replies);
        Ok(())
    }

    /// Each packet of a handshake, connections that never were before.
    fn handshake(&mut self, case: Case) -> Result<()> {
        let group = format!("new connection, {}", case.name());
        if !self.groups.begin(&group) {
            return Ok(());
        }
        let (flows, rounds) = match self.effort {
            Effort::Full => (1 << 16, 7),
            Effort::Quick => (10_000, 2),
        };
        let bare_name = "bare lookups and inserts of a first packet";
        let mut bare = Samples::default();
        let mut all = Opened::default();
        for _ in 0..rounds {
            let numbers = shuffled(flows);
            let opened = self.open(case, &numbers, numbers.len())?;
            all.first.extend(opened.first);
            all.answer.extend(opened.answer);
            all.proof.extend(opened.proof);
            self.kernel.maps.clear()?;
            let lab = self.lab;
            let frames = numbers
                .iter()
                .map(|number| case.client_frame(&lab, *number, Stage::First));
            let frames = Frames::walk(case.family, frames)?;
            self.driver.set(&frames)?;
            bare.around.push(self.loop_turn(Loop::Empty, &frames, flows)?);
            self.driver.rewind(&frames)?;
            bare.gross.push(self.loop_turn(Loop::Syn, &frames, flows)?);
            self.driver.clear()?;
        }
        self.push(&group, bare_name, bare.gross, &bare.around, None);
        let rows = if case.is_tcp() {
            let whole = all.first.plus(&all.answer).plus(&all.proof);
            vec![
                ("SYN", all.first),
                ("SYN-ACK", all.answer),
                ("ACK, promoted", all.proof),
                ("whole handshake", whole),
            ]
        } else {
            vec![("first datagram", all.first), ("answer, promoted", all.answer)]
        };
        for (name, samples) in rows {
            self.push(&group, name, samples.gross, &samples.around, Some(bare_name));
        }
        Ok(())
    }

    /// Packets of established connections, both ways, walked in random order.
    fn established(&mut self, case: Case, flows: u32) -> Result<()> {
        let group = format!("established, {}, {flows} flows", case.name());
        if !self.groups.begin(&group) {
            return Ok(());
        }
        let numbers = shuffled(flows);
        let opened = self.open(case, &numbers, 1 << 16)?;
        let lab = self.lab;
        let data = numbers
            .iter()
            .map(|number| case.client_frame(&lab, *number, Stage::Data));
        let data = Frames::walk(case.family, data)?;
        let mut replies = opened.replies;
        fastrand::Rng::with_seed(u64::from(flows)).shuffle(&mut replies);
        let replies = replies.iter().map(|key| case.backend_frame(&lab, key, Stage::Reply));
        let replies = Frames::walk(case.family, replies)?;
        self.driver.fill(&data)?;
        self.driver.fill(&replies)?;
        let turns = self.turns(data.len());
        let mut lookup = Samples::default();
        let mut operations = Samples::default();
        let mut to_backend = Samples::default();
        let mut to_client = Samples::default();
        for _ in 0..self.rounds() {
            self.driver.set(&data)?;
            lookup.around.push(self.loop_turn(Loop::Empty, &data, turns)?);
            lookup.gross.push(self.loop_turn(Loop::Lookup, &data, turns)?);
            operations.gross.push(self.loop_turn(Loop::Packet, &data, turns)?);
            to_backend.around.push(self.empty(&data, turns)?);
            to_backend
                .gross
                .push(self.drive(&data, lab.client_side, turns, Fate::ToBackend)?);
            self.driver.set(&replies)?;
            to_client.around.push(self.empty(&replies, turns)?);
            to_client
                .gross
                .push(self.drive(&replies, lab.backend_side, turns, Fate::ToClient)?);
        }
        self.kernel.maps.clear()?;
        self.driver.clear()?;
        self.push(&group, OPERATIONS, operations.gross, &lookup.around, Some(LOOKUP));
        self.push(&group, LOOKUP, lookup.gross, &lookup.around, None);
        self.push(&group, "to backend", to_backend.gross, &to_backend.around, Some(LOOKUP));
        self.push(&group, "to client", to_client.gross, &to_client.around, Some(LOOKUP));
        Ok(())
    }

    fn bars(&mut self) {
        let mut bars = Vec::new();
        for (family, limit) in [("4", 2.0), ("6", 2.4)] {
            let rows = established(&self.report, family);
            let (single, many): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.flows == 1);
            bars.extend(most(&many).map(|row| row.bar(family, Limit::AtMost(limit))));
            // A single connection's lookup finds all in the first cache: how far it could come the bare operations say.
            bars.extend(most(&single).map(|row| row.bar(family, Limit::AtMost(limit))));
            bars.extend(least_operations(&self.report, family));
        }
        for name in [case::NOT_OURS_4, case::NOT_OURS_6] {
            if let Some(value) = self
                .report
                .row("packets without a connection", name)
                .and_then(|row| self.report.ratio(row))
            {
                bars.push(Bar::new(format!("{name}, in bare lookups"), value, Limit::AtMost(0.8)));
            }
        }
        for family in ["4", "6"] {
            let group = format!("new connection, tcp{family} full_nat");
            if let Some(value) = self.report.row(&group, "SYN").and_then(|row| self.report.ratio(row)) {
                bars.push(Bar::new(
                    format!("SYN in full_nat over IPv{family}, in the bare operations it needs"),
                    value,
                    Limit::AtMost(1.25),
                ));
            }
        }
        for (family, way) in [
            ("4", "to backend"),
            ("4", "to client"),
            ("6", "to backend"),
            ("6", "to client"),
        ] {
            let net = |flows: u32, name: &str| {
                let group = format!("established, tcp{family} full_nat, {flows} flows");
                self.report.row(&group, name).map(Row::minimum)
            };
            if let (Some(few), Some(many), Some(bare_few), Some(bare_many)) = (
                net(1_000, way),
                net(1_000_000, way),
                net(1_000, LOOKUP),
                net(1_000_000, LOOKUP),
            ) {
                bars.push(Bar::new(
                    format!("added by a million flows over IPv{family}, {way}, in what a bare lookup adds"),
                    (many - few) / (bare_many - bare_few),
                    Limit::AtMost(1.2),
                ));
            }
        }
        if let Some(row) = self.report.row("sizes", "a connection, IPv4") {
            bars.push(Bar::new(
                "bytes a connection, IPv4",
                row.minimum(),
                Limit::AtMost(400.0),
            ));
        }
        self.report.bars = bars;
    }
}

/// A packet of established connections: its row, how many of them there were, what it costs in bare lookups.
#[derive(Clone, Copy, Debug)]
struct Established<'a> {
    row: &'a Row,
    flows: u32,
    ratio: f64,
}

impl Established<'_> {
    fn bar(&self, family: &str, limit: Limit) -> Bar {
        let number = if self.flows == 1 {
            "a single connection"
        } else {
            "connections"
        };
        Bar::new(
            format!(
                "IPv{family} packet of {number}, in bare lookups ({}, {})",
                self.row.group, self.row.name
            ),
            self.ratio,
            limit,
        )
    }
}

/// Connections of a group such as "established, tcp4 full_nat, 1000 flows", and their family.
fn connections_of(group: &str) -> Option<(&str, u32)> {
    let (case, flows) = group.strip_prefix("established, ")?.rsplit_once(", ")?;
    let kind = case.split(' ').next()?;
    let family = kind.get(kind.len().checked_sub(1)?..)?;
    Some((family, flows.strip_suffix(" flows")?.parse().ok()?))
}

/// The packets of a family's established connections.
fn established<'a>(report: &'a Report, family: &str) -> Vec<Established<'a>> {
    let of = |row: &'a Row| {
        let (found, flows) = connections_of(&row.group)?;
        let is_packet = found == family && row.name != LOOKUP && row.name != OPERATIONS;
        let ratio = report.ratio(row).filter(|_| is_packet)?;
        Some(Established { row, flows, ratio })
    };
    report.rows.iter().filter_map(of).collect()
}

fn most<'a, 'b>(rows: &'b [Established<'a>]) -> Option<&'b Established<'a>> {
    rows.iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio))
}

/// What the bare operations of a single connection's packet take at least.
fn least_operations(report: &Report, family: &str) -> Option<Bar> {
    let of = |row: &Row| {
        let is_single = connections_of(&row.group) == Some((family, 1)) && row.name == OPERATIONS;
        report.ratio(row).filter(|_| is_single)
    };
    Some(Bar::new(
        format!("(bare operations of a single IPv{family} connection's packet, in bare lookups)"),
        report.rows.iter().filter_map(of).reduce(f64::min)?,
        Limit::Unjudged,
    ))
}

/// Connections that were opened.
#[derive(Clone, Debug, Default)]
struct Opened {
    first: Samples,
    answer: Samples,
    proof: Samples,
    replies: Vec<crate::kernel::Key>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, name: &str, ns: f64) -> Row {
        Row {
            group: group.to_owned(),
            name: name.to_owned(),
            unit: Unit::NsPerPacket,
            samples: vec![ns],
            around: Vec::new(),
            baseline: (name != LOOKUP).then(|| LOOKUP.to_owned()),
        }
    }

    #[test]
    fn a_groups_name_says_family_and_connections() {
        assert_eq!(
            connections_of("established, tcp4 full_nat, 1000 flows"),
            Some(("4", 1_000))
        );
        assert_eq!(
            connections_of("established, udp6 dsr ipip, 1 flows"),
            Some(("6", 1)),
            "a mode may have two words"
        );
        assert_eq!(connections_of("new connection, tcp4 full_nat"), None);
    }

    #[test]
    fn bars_are_of_the_worst_packet_and_the_least_operations() {
        let mut report = Report::new("program");
        for (group, operations, packet) in [
            ("established, tcp4 full_nat, 1 flows", 25.0, 44.0),
            ("established, udp4 gateway, 1 flows", 24.0, 41.0),
            ("established, tcp4 full_nat, 1000 flows", 70.0, 18.0),
            ("established, tcp6 full_nat, 1000 flows", 70.0, 90.0),
        ] {
            report.rows.extend([
                row(group, LOOKUP, 10.0),
                row(group, OPERATIONS, operations),
                row(group, "to client", packet),
            ]);
        }
        let rows = established(&report, "4");
        let told: Vec<_> = rows.iter().map(|row| (row.flows, row.ratio)).collect();
        assert_eq!(told, [(1, 4.4), (1, 4.1), (1_000, 1.8)]);
        assert_eq!(most(&rows).map(|row| row.ratio), Some(4.4));
        assert_eq!(least_operations(&report, "4").map(|bar| bar.value), Some(2.4));
        assert_eq!(least_operations(&report, "6"), None);
    }
}
