//! The entries we keep in the kernel's neighbour table: which are ours, when they go, and what is never touched.

use std::net::IpAddr;
use std::time::Duration;

use crate::netlab::{Lab, THEIR_MAC, inside, ip, managed};
use crate::servers::{Server, probe, silent};
use crate::watcher::Watcher;
use anyhow::{Result, ensure};
use lb_userspace::health::{self, ProbeKind};
use lb_userspace::neigh::{HopProblem, release_neighbours};

#[test]
fn entries_go_when_nobody_wants_them_and_come_back_when_flushed() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    inside(&lab.us, async || {
        let (v4, v6) = (ip("10.9.0.2")?, ip("fd09::2")?);
        let mut watch = Watcher::start(&[v4, v6])?;
        watch.until("both next hops", |seen| seen.hops.len() == 2).await?;

        lab.us.ip("neigh del 10.9.0.2 dev u0")?;
        watch.until("gone for a moment", |seen| seen.hops.len() == 1).await?;
        watch.until("back", |seen| seen.hops.len() == 2).await?;
        ensure!(managed(&lab.us)?.concat().contains("10.9.0.2"));

        watch.want(|wanted| wanted.destinations.retain(IpAddr::is_ipv6));
        watch.until("one hop left", |seen| seen.hops.len() == 1).await?;
        let left = managed(&lab.us)?;
        ensure!(
            !left.concat().contains("10.9.0.2") && left.concat().contains("fd09::2"),
            "{left:?}"
        );
        Ok(())
    })
}

#[test]
fn an_entry_set_by_hand_is_used_and_never_touched() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    lab.us
        .ip("neigh add 10.9.0.9 lladdr 02:00:00:00:00:99 dev u0 nud permanent")?;
    inside(&lab.us, async || {
        let fixed = ip("10.9.0.9")?;
        let mut watch = Watcher::start(&[fixed])?;
        watch
            .until("the fixed MAC", |seen| seen.mac(fixed) == Some([2, 0, 0, 0, 0, 0x99]))
            .await?;
        watch.want(|wanted| wanted.destinations.clear());
        watch.until("no hop", |seen| seen.hops.is_empty()).await?;
        watch.linger(Duration::from_millis(200)).await?;
        let entry = lab.us.ip_show("neigh show 10.9.0.9 dev u0")?;
        ensure!(
            entry.contains("PERMANENT") && entry.contains("02:00:00:00:00:99"),
            "{entry}"
        );
        Ok(())
    })
}

#[test]
fn an_operators_managed_entry_stays_when_we_need_it_no_longer() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    lab.us.ip("neigh replace 10.9.0.2 dev u0 managed")?;
    std::thread::sleep(Duration::from_millis(200));
    inside(&lab.us, async || {
        let v4 = ip("10.9.0.2")?;
        let mut watch = Watcher::start(&[v4])?;
        watch
            .until("the next hop", |seen| seen.mac(v4) == Some(THEIR_MAC))
            .await?;
        watch.want(|wanted| wanted.destinations.clear());
        watch.until("no hop", |seen| seen.hops.is_empty()).await?;
        watch.linger(Duration::from_millis(200)).await?;
        ensure!(managed(&lab.us)?.concat().contains("10.9.0.2"));
        Ok(())
    })
}

#[test]
fn a_backend_that_answers_nothing_is_named_and_found_when_it_comes() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    inside(&lab.us, async || {
        let (v4, v6) = (ip("10.9.0.50")?, ip("fd09::50")?);
        let mut watch = Watcher::start(&[v4, v6])?;
        watch
            .until("both silent", |seen| {
                let silent = |problem: &HopProblem| matches!(problem, HopProblem::NoAnswer { .. });
                seen.problems.values().filter(|problem| silent(problem)).count() == 2
            })
            .await?;
        lab.them
            .ip("addr add 10.9.0.50/24 dev t0\naddr add fd09::50/64 dev t0")?;
        watch.until("both found", |seen| seen.hops.len() == 2).await?;
        Ok(())
    })
}

#[test]
fn entries_outlive_the_watch_until_they_are_released() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let (v4, v6) = (ip("10.9.0.2")?, ip("fd09::2")?);
    inside(&lab.us, async || {
        let mut watch = Watcher::start(&[v4, v6])?;
        watch
            .until("both next hops", |seen| seen.hops.len() == 2)
            .await
            .map(drop)
    })?;
    // The agent is gone; the kernel keeps them.
    ensure!(managed(&lab.us)?.len() == 2);
    lab.us
        .ip("neigh replace 10.9.0.7 lladdr 02:00:00:00:00:77 dev u0 nud reachable")?;
    let released = inside(&lab.us, async || Ok(release_neighbours().await?))?;
    ensure!(released == 2, "released {released}");
    let left = lab.us.ip_show("neigh show")?;
    ensure!(
        left.contains("10.9.0.7") && !left.contains("10.9.0.2") && !left.contains("fd09::2"),
        "left: {left}"
    );
    Ok(())
}

#[test]
fn what_an_earlier_agent_left_behind_is_taken_away_by_the_slow_poll() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let (v4, v6) = (ip("10.9.0.2")?, ip("fd09::2")?);
    inside(&lab.us, async || {
        let mut watch = Watcher::start(&[v4, v6])?;
        watch
            .until("both next hops", |seen| seen.hops.len() == 2)
            .await
            .map(drop)
    })?;
    inside(&lab.us, async || {
        let mut watch = Watcher::start(&[v6])?;
        watch.until("its own hop", |seen| seen.hops.len() == 1).await?;
        ensure!(managed(&lab.us)?.concat().contains("10.9.0.2"));
        watch.linger(Duration::from_secs(12)).await?;
        let left = managed(&lab.us)?;
        ensure!(
            !left.concat().contains("10.9.0.2") && left.concat().contains("fd09::2"),
            "{left:?}"
        );
        Ok(())
    })
}

#[test]
fn a_mac_that_changes_without_a_word_is_found_by_the_probes_silence() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let _server = Server::start(&lab.them, "[::]:8081", silent)?;
    inside(&lab.us, async || {
        let both = [ip("10.9.0.2")?, ip("fd09::2")?];
        let mut watch = Watcher::start(&both)?;
        watch.until("both next hops", |seen| seen.hops.len() == 2).await?;
        let mut probes = Vec::new();
        for target in ["10.9.0.2:8081", "[fd09::2]:8081"] {
            let mut probe = probe(target, ProbeKind::Tcp)?;
            probe.timeout = Duration::from_millis(500);
            probes.push(probe);
        }
        let (_probes, list) = tokio::sync::watch::channel(probes);
        let (to_us, mut results) = tokio::sync::mpsc::channel(64);
        health::start(list, to_us);
        tokio::spawn(async move { while results.recv().await.is_some() {} });
        // The kernel has just made sure of both.
        watch.linger(Duration::from_secs(2)).await?;
        // Left to itself, the kernel believes the old MAC for 15 to 45 seconds, and asks for 8 more.
        lab.them.ip("link set t0 address 02:00:00:00:09:55")?;
        let mac = Some([2, 0, 0, 0, 9, 0x55]);
        watch
            .until("the new MAC", |seen| both.iter().all(|to| seen.mac(*to) == mac))
            .await?;
        ensure!(managed(&lab.us)?.len() == 2);
        Ok(())
    })
}
