//! A flood: SYNs of clients that never were before and never answer. None may be turned away: the half-open table, an LRU,
//! takes each, and where it is full the oldest make room.

use anyhow::{Result, ensure};

use super::Bench;
use crate::bench::Effort;
use crate::bench::case::{Case, Stage};
use crate::bench::driver::{Frames, Loop};
use crate::bench::fate::Fate;
use crate::bench::samples::Samples;

/// Names of the rows with an empty table: the bare operations', the program's.
const EMPTY: [&str; 2] = ["bare operations of a SYN, table empty", "SYN, half-open table empty"];
/// The same with a full one.
const FULL: [&str; 2] = [
    "bare operations of a SYN, table full",
    "SYN, half-open table full, oldest evicted",
];

impl Bench {
    /// SYNs into an empty half-open table and into one that is full of others like them.
    pub(super) fn flood(&mut self, case: Case) -> Result<()> {
        let group = format!("SYN flood, {}", case.name());
        if !self.groups.begin(&group) {
            return Ok(());
        }
        let (clients, rounds) = match self.effort {
            Effort::Full => (1 << 16, 7),
            Effort::Quick => (5_000, 2),
        };
        let mut numbers = 0_u32..;
        let mut some = |count: u32| -> Vec<u32> { numbers.by_ref().take(count as usize).collect() };
        let mut empty = Flood::default();
        for _ in 0..rounds {
            self.turn(case, &some(clients), &mut empty)?;
            let entries = self.half_open_entries()?;
            ensure!(
                entries == clients as usize * 2,
                "{group}: {entries} half-open entries of {clients} clients in an empty table with room for all"
            );
            self.kernel.maps.clear()?;
            self.driver.clear()?;
        }
        let mut full = Flood::default();
        // As many connections as the table has entries: twice what it holds.
        self.turn(case, &some(self.room.half), &mut Flood::default())?;
        let filled = self.half_open_entries()?;
        for _ in 0..rounds {
            self.turn(case, &some(clients), &mut full)?;
            let entries = self.half_open_entries()?;
            ensure!(
                entries <= self.room.half as usize && entries < filled + clients as usize / 2,
                "{group}: {filled} half-open entries, {entries} after {clients} more clients: the table was not full"
            );
        }
        self.kernel.maps.clear()?;
        self.driver.clear()?;
        for ([bare, name], flood) in [(EMPTY, empty), (FULL, full)] {
            self.push(&group, bare, flood.bare.gross, &flood.bare.around, None);
            self.push(&group, name, flood.syn.gross, &flood.syn.around, Some(bare));
        }
        Ok(())
    }

    /// One SYN of each client: through the program, then as bare operations.
    fn turn(&mut self, case: Case, numbers: &[u32], flood: &mut Flood) -> Result<()> {
        let (lab, count) = (self.lab, numbers.len() as u32);
        let frames = numbers
            .iter()
            .map(|number| case.client_frame(&lab, *number, Stage::First));
        let frames = Frames::walk(case.family, frames)?;
        let before = self.backends()?;
        self.driver.set(&frames)?;
        flood.syn.around.push(self.empty(&frames, count)?);
        self.driver.rewind(&frames)?;
        flood
            .syn
            .gross
            .push(self.drive(&frames, lab.client_side, count, Fate::ToBackend)?);
        let now = self.backends()?;
        let new = (now.flows_new - before.flows_new, now.flows_opened - before.flows_opened);
        ensure!(
            new == (count.into(), 0),
            "of {count} SYNs of {} {} began a connection and {} completed one",
            case.name(),
            new.0,
            new.1
        );
        self.driver.rewind(&frames)?;
        flood.bare.around.push(self.loop_turn(Loop::Empty, &frames, count)?);
        self.driver.rewind(&frames)?;
        flood.bare.gross.push(self.loop_turn(Loop::Syn, &frames, count)?);
        Ok(())
    }

    fn half_open_entries(&self) -> Result<usize> {
        Ok(self.kernel.maps.half_open_keys(|_, _| true)?.len())
    }
}

/// One state of the table.
#[derive(Default)]
struct Flood {
    bare: Samples,
    syn: Samples,
}
