//! `cargo xtask bench` in its quick form: that each packet it times meets the fate it names. No time is judged.

use anyhow::{Context as _, Result, ensure};
use xlb_tests::bench::{Bench, Effort, Groups, Report, run};
use xlb_tests::require;

#[test]
fn every_packet_that_the_benchmark_times_does_what_its_row_says() -> Result<()> {
    require!();
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("program.json");
    run(Bench::Program, Effort::Quick, Groups::All, Some(path.clone()))?;
    let report = Report::read(&path)?;
    for group in [
        "established, tcp4 full_nat, 1000 flows",
        "established, udp6 gateway, 1000 flows",
    ] {
        for name in ["bare lookup", "bare operations of a packet", "to backend", "to client"] {
            let row = report
                .row(group, name)
                .with_context(|| format!("{group}: no row {name}"))?;
            ensure!(!row.samples.is_empty(), "{group}, {name}: no sample");
        }
    }
    for group in ["SYN flood, tcp4 full_nat", "SYN flood, tcp6 gateway"] {
        for name in [
            "SYN, half-open table empty",
            "SYN, half-open table full, oldest evicted",
        ] {
            let row = report.row(group, name);
            ensure!(row.is_some_and(|row| row.baseline.is_some()), "{group}: no row {name}");
        }
    }
    Ok(())
}

#[test]
fn many_services_backends_and_flows_carry_the_packets_that_are_timed() -> Result<()> {
    require!("ip");
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("scale.json");
    run(Bench::Scale, Effort::Quick, Groups::All, Some(path.clone()))?;
    let report = Report::read(&path)?;
    for (group, few, many) in [
        ("services, tcp4", "1 service", "50 services"),
        ("flows, tcp6", "500 flows", "2000 flows"),
    ] {
        for name in ["bare lookup", "to backend", "to client", "SYN", "memory: rings"] {
            let row = report.row(group, &format!("{name}, {many}"));
            let row = row.with_context(|| format!("{group}: no row {name}, {many}"))?;
            ensure!(row.baseline.as_deref() == Some(&format!("{name}, {few}")), "{row:?}");
        }
        let beside = format!("{group}: {many}");
        let syn = report
            .row(&beside, "SYN")
            .with_context(|| format!("no group {beside}"))?;
        ensure!(report.ratio(syn).is_some(), "{syn:?}");
    }
    let met = report
        .row("services, tcp4", "backends that took some, 50 services")
        .context("no row of backends")?;
    ensure!(met.minimum() > 350.0, "2,000 connections over 500 backends: {met:?}");
    Ok(())
}

#[test]
fn every_way_to_balance_carries_traffic() -> Result<()> {
    require!("ip", "ethtool", "nft", "nginx", "haproxy", "wrk", "h2load", "curl");
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("traffic.json");
    run(Bench::Traffic, Effort::Quick, Groups::All, Some(path.clone()))?;
    let report = Report::read(&path)?;
    // Three stands of six ways and one of two with all eight groups, two of three with connections and requests.
    ensure!(
        report.rows.len() == (3 * 6 + 2) * 8 + 2 * 3 * 2,
        "{} rows: {report}",
        report.rows.len()
    );
    // Full_nat natively and generically, and the bare redirects beneath; the same with GRO everywhere; how far ahead of the proxies
    // direct is, in three stands, and what two equal ways differ by, in two.
    ensure!(
        report.bars.len() == 2 * 2 * 7 + 2 * 4 + 3 * 2 + 2 * 3,
        "{} bars: {report}",
        report.bars.len()
    );
    ensure!(report.rows.iter().all(|row| row.minimum() > 0.0), "{report}");
    Ok(())
}

#[test]
fn live_frames_arrive_whoever_forwards_them() -> Result<()> {
    require!("ip", "ethtool", "nft");
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("packets.json");
    run(Bench::Packets, Effort::Quick, Groups::All, Some(path.clone()))?;
    let report = Report::read(&path)?;
    ensure!(report.rows.len() == 6 && report.bars.len() == 3, "{report}");
    Ok(())
}

#[test]
fn the_agent_does_what_its_benchmark_times() -> Result<()> {
    require!("ip", "ethtool");
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("control.json");
    run(Bench::Control, Effort::Quick, Groups::All, Some(path.clone()))?;
    let report = Report::read(&path)?;
    for (group, name) in [
        ("a ring of 65,536 slots", "built for 1,000 backends"),
        (
            "from 'backend add' to the first packet",
            "API, next hop new: first packet back",
        ),
        ("50 services of 10 backends", "one weight, --runtime, answered"),
        ("100 TCP checks a second, real listeners", "checks a second"),
        ("100 TCP checks a second, real listeners", "per-CPU maps"),
        ("a new agent over what is pinned", "with 1000 connections: first answer"),
    ] {
        let row = report
            .row(group, name)
            .with_context(|| format!("{group}: no row {name}"))?;
        ensure!(row.minimum() > 0.0, "{group}, {name}: {row:?}");
    }
    ensure!(report.bars.len() == 6, "{report}");
    Ok(())
}
