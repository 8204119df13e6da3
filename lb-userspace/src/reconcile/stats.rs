//! Counters of backends over time: totals as read, rates over the latest second. Pure; time is an argument.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::abi::BackendStats;

use crate::view::{CountersView, RatesView, approximate};

/// Shortest span that a rate is measured over.
const WINDOW: Duration = Duration::from_millis(950);

/// Totals of every backend at one moment, by backend id.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// As in `xlb_backend_st`, summed over CPUs.
    pub totals: HashMap<u32, BackendStats>,
    /// Over at least a second; empty until there were two samples.
    pub rates: HashMap<u32, RatesView>,
}

impl Sample {
    /// Established connections of one backend.
    pub fn live(&self, backend_id: u32) -> u64 {
        self.totals.get(&backend_id).map_or(0, live)
    }

    /// Established connections of all backends.
    pub fn live_total(&self) -> u64 {
        self.totals.values().map(live).sum()
    }

    /// Counters of one backend.
    pub fn counters(&self, backend_id: u32) -> CountersView {
        self.totals.get(&backend_id).map(Into::into).unwrap_or_default()
    }

    /// Rates of one backend.
    pub fn rates(&self, backend_id: u32) -> RatesView {
        self.rates.get(&backend_id).copied().unwrap_or_default()
    }
}

/// Turns readings into samples.
#[derive(Debug, Default)]
pub struct Sampler {
    history: VecDeque<(Instant, HashMap<u32, BackendStats>)>,
}

impl Sampler {
    /// Takes one reading.
    pub fn record(&mut self, now: Instant, totals: HashMap<u32, BackendStats>) -> Arc<Sample> {
        // The newest reading that is old enough is the base; older ones are of no use any more.
        while self
            .history
            .get(1)
            .is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW)
        {
            self.history.pop_front();
        }
        let rates = match self.history.front() {
            Some((at, base)) if now.duration_since(*at) >= WINDOW => {
                let seconds = now.duration_since(*at).as_secs_f64();
                let rate = |(id, now): (&u32, &BackendStats)| (*id, rates(base.get(id), now, seconds));
                totals.iter().map(rate).collect()
            }
            _ => HashMap::new(),
        };
        self.history.push_back((now, totals.clone()));
        Arc::new(Sample { totals, rates })
    }
}

fn live(stats: &BackendStats) -> u64 {
    stats.flows_opened.saturating_sub(stats.flows_closed)
}

fn rates(before: Option<&BackendStats>, now: &BackendStats, seconds: f64) -> RatesView {
    let zero = BackendStats::default();
    let before = before.unwrap_or(&zero);
    // A counter that went back belongs to a slot that was cleared and given away: its rate starts anew.
    let per_s = |now: u64, before: u64| approximate(now.saturating_sub(before)) / seconds;
    RatesView {
        new_per_s: per_s(now.flows_new, before.flows_new),
        packets_per_s: per_s(now.packets_in, before.packets_in) + per_s(now.packets_out, before.packets_out),
        bits_per_s: 8.0 * (per_s(now.bytes_in, before.bytes_in) + per_s(now.bytes_out, before.bytes_out)),
    }
}

impl From<&BackendStats> for CountersView {
    fn from(stats: &BackendStats) -> Self {
        Self {
            packets_in: stats.packets_in,
            bytes_in: stats.bytes_in,
            packets_out: stats.packets_out,
            bytes_out: stats.bytes_out,
            flows_new: stats.flows_new,
            flows_opened: stats.flows_opened,
            flows_closed: stats.flows_closed,
            flows_refused: stats.flows_refused,
        }
    }
}

impl std::ops::AddAssign for CountersView {
    fn add_assign(&mut self, other: Self) {
        self.packets_in += other.packets_in;
        self.bytes_in += other.bytes_in;
        self.packets_out += other.packets_out;
        self.bytes_out += other.bytes_out;
        self.flows_new += other.flows_new;
        self.flows_opened += other.flows_opened;
        self.flows_closed += other.flows_closed;
        self.flows_refused += other.flows_refused;
    }
}

impl std::ops::AddAssign for RatesView {
    fn add_assign(&mut self, other: Self) {
        self.new_per_s += other.new_per_s;
        self.packets_per_s += other.packets_per_s;
        self.bits_per_s += other.bits_per_s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(packets_in: u64) -> HashMap<u32, BackendStats> {
        HashMap::from([(
            7,
            BackendStats {
                packets_in,
                packets_out: packets_in,
                bytes_in: packets_in * 100,
                flows_opened: 10,
                flows_closed: 4,
                ..BackendStats::default()
            },
        )])
    }

    #[test]
    fn rates_cover_at_least_a_second_however_often_one_asks() {
        let start = Instant::now();
        let mut sampler = Sampler::default();
        assert!(sampler.record(start, reading(0)).rates.is_empty());
        for step in 1..=40_u64 {
            let sample = sampler.record(start + Duration::from_millis(step * 100), reading(step * 100));
            if step >= 10 {
                // 1,000 packets a second each way.
                assert!((sample.rates(7).packets_per_s - 2_000.0).abs() < 1.0, "{sample:?}");
                assert!((sample.rates(7).bits_per_s - 800_000.0).abs() < 1.0);
            }
        }
        assert!(sampler.history.len() < 15, "old readings are let go");
    }

    #[test]
    fn live_flows_are_opened_less_closed() {
        let sample = Sampler::default().record(Instant::now(), reading(1));
        assert_eq!((sample.live(7), sample.live(8), sample.live_total()), (6, 0, 6));
    }

    #[test]
    fn a_slot_given_away_does_not_show_a_negative_rate() {
        let start = Instant::now();
        let mut sampler = Sampler::default();
        sampler.record(start, reading(1_000));
        let sample = sampler.record(start + Duration::from_secs(1), reading(5));
        assert!(sample.rates(7).packets_per_s.abs() < f64::EPSILON);
    }
}
