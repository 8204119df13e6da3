//! What the kernel fails to transmit after the program said redirect is counted by interface; packets are logged where
//! asked.

use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_common::abi::TxErrors;
use lb_userspace::dataplane::{LogObject, PacketLog};
use xlb_tests::process::wait_until;
use xlb_tests::require;

use super::live::{BACKEND_SIDE, CLIENT_SIDE, Live, Peers};

const PATIENCE: Duration = Duration::from_secs(5);

fn errors(live: &Live, ifindex: u32) -> Result<TxErrors> {
    Ok(live.dataplane.tx_errors()?.get(&ifindex).copied().unwrap_or_default())
}

#[test]
fn frames_that_a_veth_peer_cannot_take_are_counted_on_its_interface() -> Result<()> {
    require!("ip", "ethtool");
    let live = Live::start(Peers::Lose)?;
    let [vip, _] = Live::vips();
    live.echo(vip)?;
    // Since Linux 6.3 such an interface declares that it cannot transmit XDP frames and the redirect is refused; before,
    // the driver lost them.
    let lost = |errors: TxErrors| errors.redirect_errors + errors.xmit_drops;
    wait_until(
        "the lost answer",
        PATIENCE,
        || Ok(lost(errors(&live, CLIENT_SIDE)?) > 0),
    )?;
    let errors = errors(&live, CLIENT_SIDE)?;
    let errno = errors.last_redirect_errno.max(errors.last_xmit_errno);
    ensure!([libc::EOPNOTSUPP, libc::ENXIO].contains(&(errno as i32)), "{errors:?}");
    assert_eq!(lost(errors), 1);
    Ok(())
}

#[test]
fn a_redirect_to_an_interface_that_is_down_is_counted_on_it() -> Result<()> {
    require!("ip", "ethtool");
    let live = Live::start(Peers::Receive)?;
    live.stage.namespace.ip("link set y0 down")?;
    let [vip, _] = Live::vips();
    live.syn(vip, 20_000)?;
    wait_until("the refused redirect", PATIENCE, || {
        Ok(errors(&live, BACKEND_SIDE)?.redirect_errors > 0)
    })?;
    let errors = errors(&live, BACKEND_SIDE)?;
    assert_eq!(
        (errors.redirect_errors, errors.last_redirect_errno),
        (1, libc::ENETDOWN as u32)
    );
    assert_eq!(errors.xmit_drops, 0);
    Ok(())
}

#[test]
fn nothing_is_counted_where_frames_arrive() -> Result<()> {
    require!("ip", "ethtool");
    let mut live = Live::start(Peers::Receive)?;
    for vip in Live::vips() {
        live.echo(vip)?;
        live.handshake(vip)?;
    }
    for ifindex in [CLIENT_SIDE, BACKEND_SIDE] {
        assert_eq!(errors(&live, ifindex)?, TxErrors::default());
    }
    Ok(())
}

/// Interface numbers repeat between network namespaces.
#[test]
fn what_another_network_namespace_loses_is_not_counted_here() -> Result<()> {
    require!("ip", "ethtool");
    let (here, elsewhere) = (Live::start(Peers::Receive)?, Live::start(Peers::Lose)?);
    let [vip, _] = Live::vips();
    elsewhere.echo(vip)?;
    elsewhere.stage.namespace.ip("link set y0 down")?;
    elsewhere.syn(vip, 20_000)?;
    for ifindex in [CLIENT_SIDE, BACKEND_SIDE] {
        wait_until("the loss elsewhere", PATIENCE, || {
            Ok(errors(&elsewhere, ifindex)? != TxErrors::default())
        })?;
        assert_eq!(errors(&here, ifindex)?, TxErrors::default());
    }
    Ok(())
}

#[test]
fn the_logging_object_has_a_line_for_a_packet() -> Result<()> {
    require!("ip", "ethtool");
    let mut live = Live::start_with(Peers::Receive, LogObject::On)?;
    let mut log = live.dataplane.packet_log()?;
    // What the interfaces sent of themselves when they came up.
    log.flush();
    let [vip, _] = Live::vips();
    live.handshake(vip)?;
    wait_until("a line", PATIENCE, || readable(&log))?;
    // More may come between the two: interfaces speak of themselves.
    wait_until("the lines to be read", PATIENCE, || {
        log.flush();
        Ok(!readable(&log)?)
    })
}

fn readable(log: &PacketLog) -> Result<bool> {
    let mut poll = libc::pollfd {
        fd: log.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one live entry, as the count says; it does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ensure!(ready >= 0, "poll: {}", std::io::Error::last_os_error());
    Ok(poll.revents & libc::POLLIN != 0)
}
