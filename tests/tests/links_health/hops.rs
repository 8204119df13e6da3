//! Next hops found by the real kernel: from cold, on the link and through gateways, in both families, and kept right
//! when MACs, links and routes change.

use std::time::Duration;

use crate::netlab::{Lab, THEIR_MAC, inside, ip, managed};
use crate::watcher::Watcher;
use anyhow::{Result, ensure};
use lb_userspace::neigh::{HopProblem, Keeping};
use lb_userspace::state::TxWay;

#[test]
fn backends_on_the_link_are_resolved_from_cold_in_both_families() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    inside(&lab.us, async || {
        let (v4, v6) = (ip("10.9.0.2")?, ip("fd09::2")?);
        let mut watch = Watcher::start(&[v4, v6])?;
        let took = watch.until("both next hops", |seen| seen.hops.len() == 2).await?;
        let own = &watch.seen.links.by_name["u0"];
        for destination in [v4, v6] {
            let hop = watch.seen.hops[&destination];
            ensure!(hop.dst_mac == THEIR_MAC && hop.src_mac == own.mac && hop.ifindex == own.ifindex);
        }
        // Both were known before the first update: a starting agent never takes a hop away only to give it back. It
        // waits half a second at most.
        let in_time = took < Duration::from_millis(400);
        ensure!(
            watch.hop_updates == 1 || !in_time,
            "{} updates in {took:?}",
            watch.hop_updates
        );
        ensure!(own.driver == "veth" && own.tx == TxWay::Redirect && own.up, "{own:?}");
        let kept = managed(&lab.us)?;
        ensure!(kept.len() == 2, "{kept:?}");
        Ok(())
    })
}

#[test]
fn ipv6_is_resolved_as_soon_as_duplicate_address_detection_ends() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::bare()?;
    // Cold in every way: the link comes up and every address of ours is still tentative when we start.
    lab.us.ip("link set u0 down")?;
    lab.us.sysctl("net/ipv6/conf/all/accept_dad", "1")?;
    lab.us.sysctl("net/ipv6/conf/u0/accept_dad", "1")?;
    lab.them.ip("addr add fd09::2/64 dev t0")?;
    lab.us.ip("link set u0 up\naddr add fd09::1/64 dev u0")?;
    let tentative = lab.us.ip_show("addr show dev u0 tentative")?;
    ensure!(tentative.contains("fd09::1"), "not tentative: {tentative}");
    inside(&lab.us, async || {
        let v6 = ip("fd09::2")?;
        let mut watch = Watcher::start(&[v6])?;
        watch
            .until("the next hop", |seen| seen.mac(v6) == Some(THEIR_MAC))
            .await?;
        Ok(())
    })
}

#[test]
fn backends_behind_gateways_get_the_gateways_mac() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    lab.them.ip("addr add fe80::9:2/64 dev t0")?;
    lab.us.ip("route add 10.77.0.0/24 via 10.9.0.2\n\
               route add fd77::/64 via fd09::2\n\
               route add fd78::/64 via fe80::9:2 dev u0\n\
               route add 10.78.0.0/24 via inet6 fe80::9:2 dev u0")?;
    inside(&lab.us, async || {
        // The last two: a link-local gateway, and IPv4 behind an IPv6 gateway.
        let all = [ip("10.77.0.5")?, ip("fd77::5")?, ip("fd78::5")?, ip("10.78.0.5")?];
        let mut watch = Watcher::start(&all)?;
        watch.until("all next hops", |seen| seen.hops.len() == 4).await?;
        ensure!(
            all.iter()
                .all(|destination| watch.seen.mac(*destination) == Some(THEIR_MAC))
        );
        // One neighbour per distinct hop, not per destination.
        let kept = managed(&lab.us)?;
        ensure!(kept.len() == 3, "{kept:?}");
        Ok(())
    })
}

#[test]
fn a_changed_mac_of_a_backend_or_gateway_is_known_at_once() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    // What a router that takes over does: it tells its neighbours.
    lab.them.sysctl("net/ipv4/conf/t0/arp_notify", "1")?;
    lab.them.sysctl("net/ipv6/conf/t0/ndisc_notify", "1")?;
    lab.us.ip("route add 10.77.0.0/24 via 10.9.0.2")?;
    inside(&lab.us, async || {
        let all = [ip("10.9.0.2")?, ip("10.77.0.5")?, ip("fd09::2")?];
        let mut watch = Watcher::start(&all)?;
        watch.until("all next hops", |seen| seen.hops.len() == 3).await?;
        for last in [0x11, 0x22, 0x33] {
            lab.them.ip(&format!("link set t0 address 02:00:00:00:09:{last:02x}"))?;
            let mac = Some([2, 0, 0, 0, 9, last]);
            // Less than the slow poll: by the event.
            watch
                .until("the new MAC", |seen| {
                    all.iter().all(|destination| seen.mac(*destination) == mac)
                })
                .await?;
        }
        Ok(())
    })
}

#[test]
fn a_link_that_goes_down_takes_its_hops_and_brings_them_back() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    inside(&lab.us, async || {
        let (v4, v6) = (ip("10.9.0.2")?, ip("fd09::2")?);
        let mut watch = Watcher::start(&[v4, v6])?;
        watch.until("the next hops", |seen| seen.hops.len() == 2).await?;
        // The far end goes down: ours loses its carrier.
        lab.them.ip("link set t0 down")?;
        watch
            .until("no hop without carrier", |seen| seen.hops.is_empty())
            .await?;
        ensure!(!watch.seen.links.by_name["u0"].up);
        watch
            .until("the reason", |seen| {
                matches!(seen.problems.get(&v4), Some(HopProblem::LinkDown { .. }))
            })
            .await?;
        // An interface that goes down loses its IPv6 addresses; the administrator puts them back.
        lab.them.ip("link set t0 up\naddr replace fd09::2/64 dev t0")?;
        watch
            .until("the hops again", |seen| {
                seen.hops.len() == 2 && seen.problems.is_empty()
            })
            .await?;
        ensure!(watch.seen.links.by_name["u0"].up);
        Ok(())
    })
}

#[test]
fn interfaces_may_be_renamed_deleted_and_made_later() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    inside(&lab.us, async || {
        let v4 = ip("10.9.0.2")?;
        let mut watch = Watcher::start(&[v4])?;
        watch.until("the next hop", |seen| seen.hops.len() == 1).await?;
        let before = watch.seen.hops[&v4];

        lab.us.ip("link set u0 name lan0")?;
        watch
            .until("the new name", |seen| seen.links.by_name.contains_key("lan0"))
            .await?;
        ensure!(!watch.seen.links.by_name.contains_key("u0"));
        watch.linger(Duration::from_millis(300)).await?;
        ensure!(watch.seen.hops.get(&v4) == Some(&before), "{:?}", watch.seen);

        lab.us.ip("link del lan0")?;
        watch
            .until("no interface", |seen| {
                seen.links.by_name.is_empty() && seen.hops.is_empty()
            })
            .await?;
        watch
            .until("the reason", |seen| {
                matches!(seen.problems.get(&v4), Some(HopProblem::NoRoute(_)))
            })
            .await?;

        xlb_tests::netns::connect(&lab.us, "u0", &lab.them, "t0")?;
        lab.them
            .ip("link set t0 address 02:00:00:00:09:02\naddr add 10.9.0.2/24 dev t0")?;
        lab.us.ip("addr add 10.9.0.1/24 dev u0")?;
        watch
            .until("the hop over the new interface", |seen| seen.mac(v4) == Some(THEIR_MAC))
            .await?;
        Ok(())
    })
}

#[test]
fn a_changed_route_changes_the_hop() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    // A second gateway on the same wire, with a MAC of its own.
    lab.them.ip("link add mv0 link t0 type macvlan mode bridge\n\
                 link set mv0 address 02:00:00:00:09:03\n\
                 link set mv0 up\n\
                 addr add 10.9.0.3/24 dev mv0")?;
    lab.them.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
    lab.us.ip("route add 10.77.0.0/24 via 10.9.0.2")?;
    inside(&lab.us, async || {
        let backend = ip("10.77.0.5")?;
        let mut watch = Watcher::start(&[backend])?;
        watch
            .until("the first gateway", |seen| seen.mac(backend) == Some(THEIR_MAC))
            .await?;
        lab.us.ip("route replace 10.77.0.0/24 via 10.9.0.3")?;
        let second = Some([2, 0, 0, 0, 9, 3]);
        watch
            .until("the second gateway", |seen| seen.mac(backend) == second)
            .await?;
        // The first gateway's neighbour is no longer needed and is given back.
        watch.linger(Duration::from_millis(200)).await?;
        let kept = managed(&lab.us)?;
        ensure!(
            kept.concat().contains("10.9.0.3") && !kept.concat().contains("10.9.0.2"),
            "{kept:?}"
        );
        lab.us.ip("route del 10.77.0.0/24")?;
        watch
            .until("no route", |seen| {
                matches!(seen.problems.get(&backend), Some(HopProblem::NoRoute(_)))
            })
            .await?;
        Ok(())
    })
}

#[test]
fn policy_routing_by_source_is_honoured() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    lab.us.ip("addr add 10.9.0.100/32 dev u0\n\
               rule add from 10.9.0.100 lookup 100\n\
               route add default via 10.9.0.2 table 100")?;
    inside(&lab.us, async || {
        let backend = ip("10.77.0.5")?;
        let mut watch = Watcher::start(&[backend])?;
        watch
            .until("no route by default", |seen| !seen.problems.is_empty())
            .await?;
        // A source that this host does not have is no reason to lose every route.
        watch.want(|wanted| wanted.sources = vec!["10.9.0.200".parse().expect("an address")]);
        watch.linger(Duration::from_millis(200)).await?;
        watch.want(|wanted| wanted.sources = vec!["10.9.0.100".parse().expect("an address")]);
        watch
            .until("a route from that source", |seen| seen.mac(backend) == Some(THEIR_MAC))
            .await?;
        Ok(())
    })
}

#[test]
fn a_kernel_that_manages_no_neighbours_is_asked_again_and_again() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    // Entries go stale after half a second here, so that refreshing is seen.
    lab.us.sysctl("net/ipv4/neigh/u0/base_reachable_time_ms", "500")?;
    lab.us.sysctl("net/ipv4/neigh/u0/delay_first_probe_time", "1")?;
    inside(&lab.us, async || {
        let (v4, v6) = (ip("10.9.0.2")?, ip("fd09::2")?);
        let mut watch = Watcher::start_with(Keeping::Asked, &[v4, v6])?;
        watch.until("both next hops", |seen| seen.hops.len() == 2).await?;
        ensure!(managed(&lab.us)?.is_empty());
        // Nobody tells us about this MAC: the refresh finds it.
        lab.them.ip("link set t0 address 02:00:00:00:09:44")?;
        let mac = Some([2, 0, 0, 0, 9, 0x44]);
        watch.until("the new MAC", |seen| seen.mac(v4) == mac).await?;
        Ok(())
    })
}
