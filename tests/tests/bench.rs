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
        for name in ["bare lookup", "to backend", "to client"] {
            let row = report
                .row(group, name)
                .with_context(|| format!("{group}: no row {name}"))?;
            ensure!(!row.samples.is_empty(), "{group}, {name}: no sample");
        }
    }
    Ok(())
}

#[test]
fn every_way_to_balance_carries_traffic() -> Result<()> {
    require!("ip", "ethtool", "nft", "nginx", "haproxy", "wrk", "h2load", "curl");
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("traffic.json");
    run(Bench::Traffic, Effort::Quick, Groups::All, Some(path.clone()))?;
    let report = Report::read(&path)?;
    ensure!(report.rows.len() == 6 * 7 && report.bars.len() == 7, "{report}");
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
    ensure!(report.rows.len() == 6 && report.bars.len() == 2, "{report}");
    Ok(())
}
