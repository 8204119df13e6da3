//! What is measured in one turn of a way, and by which program.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::tools::{Connections, Load, latency, wrk};
use super::ways::Lane;
use crate::bench::report::Unit;

/// Connections that are kept at a time.
const KEPT: u32 = 64;
/// Connections of the throughput rows.
const FEW: u32 = 16;
/// The part of what *direct* carries at which latency is looked at: the same rate in every row of a round.
pub(super) const FIXED_RATE: f64 = 0.6;
pub(super) const BLOB_MEGABYTES: u32 = 1;

pub(super) const CONNECTIONS: &str = "new connections";
pub(super) const REQUESTS: &str = "requests on kept connections";
const THROUGHPUT: &str = "throughput, files of 1 MiB";
const CPU: &str = "CPU of all at that rate, a million requests";
const P50: &str = "latency at 60 % of direct's requests, p50";
pub(super) const P99: &str = "latency at 60 % of direct's requests, p99";
const P999: &str = "latency at 60 % of direct's requests, p99.9";
const REACHED: &str = "of those requests, reached, %";

/// What is measured in one turn of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// One for each request.
    Connections,
    /// Over kept connections, as many as go.
    Requests,
    /// Of long answers.
    Throughput,
    /// Latency and CPU at a rate that *direct* has room for.
    FixedRate,
}

impl Part {
    /// The groups of rows that it gives a figure for, in order.
    pub(super) const fn groups(self) -> &'static [(&'static str, Unit)] {
        match self {
            Self::Connections => &[(CONNECTIONS, Unit::PerSecond)],
            Self::Requests => &[(REQUESTS, Unit::PerSecond)],
            Self::Throughput => &[(THROUGHPUT, Unit::MegabytesPerSecond)],
            Self::FixedRate => &[
                (P50, Unit::Microseconds),
                (P99, Unit::Microseconds),
                (P999, Unit::Microseconds),
                (REACHED, Unit::Count),
                (CPU, Unit::Seconds),
            ],
        }
    }
}

/// What wrk does in a part. It has as many threads as give *direct* the most here: one beside nginx's one worker, or on two CPUs
/// the three take turns as the scheduler likes, and equal runs differ by half.
const NEW: Load = Load {
    path: "/",
    connections: KEPT,
    fate: Connections::OneRequestEach,
    // A client that opens connections is busier than the server.
    threads: 2,
};
const ASK: Load = Load {
    path: "/",
    connections: KEPT,
    fate: Connections::Kept,
    threads: 1,
};
const FETCH: Load = Load {
    path: "/files/blob",
    connections: FEW,
    ..ASK
};

/// Groups of rows of these parts, in the table's order.
pub(super) fn groups(parts: &'static [Part]) -> impl Iterator<Item = (&'static str, Unit)> {
    parts.iter().flat_map(|part| part.groups().iter().copied())
}

/// One turn of a way: a figure for each of the part's groups. A part at a fixed rate needs it, in requests a second.
pub(super) fn measure(lane: &Lane, part: Part, time: Duration, rate: Option<f64>) -> Result<Vec<f64>> {
    Ok(match part {
        Part::Connections => vec![wrk(lane, NEW, time)?.per_second],
        Part::Requests => vec![wrk(lane, ASK, time)?.per_second],
        Part::Throughput => vec![wrk(lane, FETCH, time)?.per_second * f64::from(BLOB_MEGABYTES)],
        Part::FixedRate => {
            let rate = rate.context("direct's requests come first")?;
            // Twice as long: a percentile needs more of it than a mean.
            let time = time * 2;
            let latency = latency(lane, KEPT, time, rate)?;
            vec![
                latency.p50,
                latency.p99,
                latency.p999,
                latency.requests / time.as_secs_f64() / rate * 100.0,
                latency.busy / latency.requests * 1e6,
            ]
        }
    })
}
