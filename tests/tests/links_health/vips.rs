//! VIPs on a real interface: added, removed, told from the operator's own, and where packets for one would go.

use crate::netlab::{Lab, inside, ip};
use anyhow::{Result, ensure};
use lb_userspace::neigh::{self, VipAdded, VipRemoved, VipStatus};

#[test]
fn a_vip_is_added_once_and_removed_once_in_both_families() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    inside(&lab.us, async || {
        for vip in [ip("203.0.113.10")?, ip("2001:db8::10")?] {
            ensure!(neigh::vip_status(vip).await? == VipStatus::Routed);
            ensure!(neigh::vip_add("u0", vip).await? == VipAdded::Added);
            ensure!(neigh::vip_add("u0", vip).await? == VipAdded::AlreadyThere);
            let local = VipStatus::Local {
                iface: Some("u0".to_owned()),
            };
            ensure!(neigh::vip_status(vip).await? == local);
            ensure!(neigh::vips_ours().await? == [("u0".to_owned(), vip)]);
            ensure!(neigh::vip_remove("u0", vip).await? == VipRemoved::Removed);
            ensure!(neigh::vip_remove("u0", vip).await? == VipRemoved::NotThere);
            ensure!(neigh::vips_ours().await?.is_empty());
        }
        Ok(())
    })
}

#[test]
fn an_ipv6_vip_works_at_once_and_is_never_a_source_by_itself() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    lab.us.sysctl("net/ipv6/conf/all/accept_dad", "1")?;
    lab.us.sysctl("net/ipv6/conf/u0/accept_dad", "1")?;
    lab.us.ip("route add 2001:db8:1::/64 via fd09::2")?;
    inside(&lab.us, async || {
        neigh::vip_add("u0", ip("2001:db8::10")?).await?;
        let shown = lab.us.ip_show("-6 addr show dev u0")?;
        ensure!(!shown.contains("tentative"), "{shown}");
        // The VIP would be the better match for this destination (RFC 6724, rule 8), were it not deprecated.
        let route = lab.us.ip_show("route get 2001:db8:1::5")?;
        ensure!(route.contains("src fd09::1"), "{route}");
        Ok(())
    })
}

#[test]
fn an_address_that_the_operator_added_is_not_removed() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    lab.us.ip("addr add 203.0.113.10/32 dev u0")?;
    inside(&lab.us, async || {
        let vip = ip("203.0.113.10")?;
        ensure!(neigh::vip_add("u0", vip).await? == VipAdded::AlreadyThere);
        ensure!(neigh::vip_remove("u0", vip).await? == VipRemoved::NotOurs);
        ensure!(lab.us.ip_show("addr show dev u0")?.contains("203.0.113.10"));
        Ok(())
    })
}

#[test]
fn a_vip_in_our_own_network_that_nobody_has_is_missing() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    inside(&lab.us, async || {
        for vip in [ip("10.9.0.80")?, ip("fd09::80")?] {
            let status = neigh::vip_status(vip).await?;
            ensure!(status == VipStatus::Missing { iface: "u0".to_owned() }, "{status:?}");
            let sentence = status.sentence(vip).to_string();
            ensure!(sentence.contains(&format!("ip addr add {vip}/")), "{sentence}");
        }
        Ok(())
    })
}

#[test]
fn a_local_route_makes_a_whole_network_local() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    lab.us.ip("route add local 203.0.113.0/24 dev lo")?;
    inside(&lab.us, async || {
        let status = neigh::vip_status(ip("203.0.113.77")?).await?;
        ensure!(status == VipStatus::Local { iface: None }, "{status:?}");
        Ok(())
    })
}

#[test]
fn an_interface_that_does_not_exist_is_named() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    inside(&lab.us, async || {
        let error = neigh::vip_add("nope0", ip("203.0.113.10")?)
            .await
            .expect_err("no such interface");
        ensure!(error.to_string().contains("nope0"), "{error}");
        Ok(())
    })
}
