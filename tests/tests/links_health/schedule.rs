//! Many probes at once on one thread: nobody waits for one that hangs, and a change touches only what changed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::netlab::{Lab, inside};
use crate::servers::{Server, answering, http, probe, silent};
use anyhow::{Context, Result, ensure};
use lb_userspace::health::{self, Judgement, PortVerdict, Probe, ProbeFault, ProbeKind, ProbeResult};
use lb_userspace::state::BackendRef;
use tokio::sync::{mpsc, watch};

/// Probe number `number` of `target`, once a second.
fn numbered(number: usize, target: &str, kind: ProbeKind) -> Result<Probe> {
    let mut probe = probe(target, kind)?;
    probe.backend = BackendRef {
        service: "many".to_owned(),
        backend: number.to_string(),
    };
    probe.interval = Duration::from_secs(1);
    Ok(probe)
}

/// Everything that comes within `time`.
async fn gather(results: &mut mpsc::Receiver<ProbeResult>, time: Duration) -> Result<Vec<ProbeResult>> {
    let until = tokio::time::Instant::now() + time;
    let mut all = Vec::new();
    while let Ok(result) = tokio::time::timeout_at(until, results.recv()).await {
        all.push(result.context("the scheduler ended")?);
    }
    Ok(all)
}

fn count_by_backend(results: &[ProbeResult]) -> HashMap<BackendRef, u32> {
    let mut counts = HashMap::new();
    for result in results {
        *counts.entry(result.backend.clone()).or_default() += 1;
    }
    counts
}

#[test]
fn a_thousand_checks_a_second_go_on_while_others_hang() -> Result<()> {
    xlb_tests::require!("ip");
    const GOOD: usize = 1_000;
    const HANGING: usize = 50;
    const TIME: Duration = Duration::from_secs(6);
    let lab = Lab::new()?;
    let _good = Server::start(&lab.them, "[::]:8081", silent)?;
    let _hangs = Server::start(&lab.them, "[::]:8082", silent)?;
    let mut probes = Vec::new();
    for number in 0..GOOD {
        let target = if number % 2 == 0 {
            "10.9.0.2:8081"
        } else {
            "[fd09::2]:8081"
        };
        probes.push(numbered(number, target, ProbeKind::Tcp)?);
    }
    for number in GOOD..GOOD + HANGING {
        // Accepted, then silence for much longer than the others' interval.
        let mut hanging = numbered(number, "10.9.0.2:8082", http())?;
        hanging.timeout = Duration::from_secs(60);
        probes.push(hanging);
    }
    let results = inside(&lab.us, async || {
        let (_probes, list) = watch::channel(probes);
        let (to_us, mut results) = mpsc::channel(64);
        let running = health::start(list, to_us);
        let all = gather(&mut results, TIME).await?;
        running.abort();
        Ok(all)
    })?;
    // A host so loaded that the test itself gets no CPU may cost a run, never a verdict.
    let wrong = results
        .iter()
        .find(|result| result.verdict.judgement() == Judgement::Bad);
    ensure!(wrong.is_none(), "a false verdict: {wrong:?}");
    let counts = count_by_backend(&results);
    ensure!(counts.len() == GOOD, "{} of {GOOD} were probed", counts.len());
    // Six seconds: the first within a tenth, then each 0.9 to 1.1 s after the one before.
    let starved = counts.iter().find(|(_, count)| !(3..=8).contains(*count));
    ensure!(starved.is_none(), "{starved:?} of {} results", results.len());
    Ok(())
}

#[test]
fn a_probe_that_times_out_because_we_were_held_up_says_nothing_about_the_backend() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let _server = Server::start(&lab.them, "[::]:8081", answering(b"HTTP/1.1 200 OK\r\n\r\n"))?;
    inside(&lab.us, async || {
        let mut hasty = probe("10.9.0.2:8081", http())?;
        hasty.timeout = Duration::from_millis(50);
        let (_probes, list) = watch::channel(vec![hasty]);
        let (to_us, mut results) = mpsc::channel(64);
        health::start(list, to_us);
        // Keeps the probes' thread busy between any two steps of an exchange, which then lasts too long.
        tokio::spawn(async {
            loop {
                std::thread::sleep(Duration::from_millis(30));
                tokio::task::yield_now().await;
            }
        });
        let results = gather(&mut results, Duration::from_secs(4)).await?;
        let verdicts: Vec<PortVerdict> = results.into_iter().map(|result| result.verdict).collect();
        let bad = verdicts.iter().find(|verdict| verdict.judgement() == Judgement::Bad);
        ensure!(bad.is_none(), "{verdicts:?}");
        let late = |verdict: &PortVerdict| matches!(verdict, PortVerdict::Error(ProbeFault::Late(_)));
        ensure!(verdicts.iter().any(late), "the hold-up was not noticed: {verdicts:?}");
        Ok(())
    })
}

#[test]
fn a_change_of_the_list_leaves_the_phase_of_the_others_alone() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let _server = Server::start(&lab.them, "[::]:8081", silent)?;
    let kept = numbered(0, "10.9.0.2:8081", ProbeKind::Tcp)?;
    let results = inside(&lab.us, async || {
        let (probes, list) = watch::channel(vec![kept.clone()]);
        let (to_us, mut results) = mpsc::channel(64);
        let running = health::start(list, to_us);
        let mut all = gather(&mut results, Duration::from_millis(500)).await?;
        for number in 1..=30 {
            probes.send(vec![numbered(number, "10.9.0.2:8081", ProbeKind::Tcp)?, kept.clone()])?;
            all.extend(gather(&mut results, Duration::from_millis(100)).await?);
        }
        running.abort();
        Ok(all)
    })?;
    let of_kept = count_by_backend(&results).get(&kept.backend).copied().unwrap_or(0);
    // 3.5 seconds; a restart at each of the 30 changes would give 30.
    ensure!(
        (2..=6).contains(&of_kept),
        "{of_kept} results of the probe that did not change"
    );
    Ok(())
}

#[test]
fn a_removed_probe_ends_and_a_changed_one_starts_anew() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let _server = Server::start(&lab.them, "[::]:8081", silent)?;
    inside(&lab.us, async || {
        let mut hanging = numbered(1, "10.9.0.2:8081", http())?;
        hanging.timeout = Duration::from_secs(600);
        let (probes, list) = watch::channel(vec![hanging.clone()]);
        let (to_us, mut results) = mpsc::channel(64);
        health::start(list, to_us);
        ensure!(gather(&mut results, Duration::from_millis(500)).await?.is_empty());
        // The same backend, another check: the run that hangs is abandoned.
        let mut changed = hanging.clone();
        changed.kind = ProbeKind::Tcp;
        let asked = Instant::now();
        probes.send(vec![changed.clone()])?;
        let first = tokio::time::timeout(Duration::from_secs(5), results.recv())
            .await?
            .context("a result")?;
        ensure!(
            first.verdict == PortVerdict::Open && asked.elapsed() < Duration::from_secs(2),
            "{first:?}"
        );
        probes.send(Vec::new())?;
        // One that was on its way when the list changed may still arrive.
        gather(&mut results, Duration::from_millis(100)).await?;
        let after = gather(&mut results, Duration::from_millis(2_500)).await?;
        ensure!(after.is_empty(), "{after:?}");
        // Nobody wants probes any more: the scheduler ends and closes the channel.
        drop(probes);
        let end = tokio::time::timeout(Duration::from_secs(5), results.recv()).await?;
        ensure!(end.is_none(), "{end:?}");
        Ok(())
    })
}
