//! XDP on interfaces: modes, swaps, strangers, interfaces that go, come back and change their names.

use std::fs;

use anyhow::{Context, Result, ensure};
use lb_userspace::dataplane::{AttachMode, Attached, Dataplane, DataplaneError, Detached, XdpMode};
use xlb_tests::require;

use super::{Stage, ifindex_in, run};

#[test]
fn a_new_program_is_swapped_into_the_pinned_link() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut first, _) = stage.open()?;
    let attached = stage.attach(&mut first, "x0")??;
    assert_eq!(
        attached,
        Attached {
            mode: AttachMode::Native,
            replaced: false
        }
    );
    let before = stage.attached(&first)?;
    drop(first);
    let (mut second, _) = stage.open()?;
    let attached = stage.attach(&mut second, "x0")??;
    assert_eq!(
        attached,
        Attached {
            mode: AttachMode::Native,
            replaced: true
        }
    );
    let after = stage.attached(&second)?;
    let ids = |links: &[lb_userspace::dataplane::AttachedLink]| -> Option<(u32, u32)> {
        links.first().map(|link| (link.link_id, link.program_id))
    };
    let (Some((old_link, old_program)), Some((new_link, new_program))) = (ids(&before), ids(&after)) else {
        anyhow::bail!("{before:?} {after:?}");
    };
    assert_eq!(old_link, new_link, "detached and attached again instead of swapped");
    assert_ne!(old_program, new_program);
    Ok(())
}

#[test]
fn a_strangers_program_is_refused_and_the_command_given_takes_it_off() -> Result<()> {
    require!("ip", "bpftool");
    let stage = Stage::new()?;
    let mut strange = stage.options()?;
    strange.pin_dir = stage.room.bpffs().join("strange");
    let (mut strange, _) = Dataplane::open(&strange)?;
    stage.attach(&mut strange, "x0")??;
    let link = stage.attached(&strange)?.first().cloned().context("not attached")?;
    let (program, link) = (link.program_id, link.link_id);

    let (mut dataplane, _) = stage.open()?;
    let error = stage.attach(&mut dataplane, "x0")?.err().context("replaced it")?;
    let expected = format!(
        "interface x0: XDP program 'xlb' (id {program}) is attached already; see 'bpftool prog show id {program}' and \
         'bpftool net show', then take it off with its own tool or 'bpftool link detach id {link}'"
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(
        stage.attached(&strange)?.first().map(|link| link.program_id),
        Some(program)
    );

    run("bpftool", &["link", "detach", "id", &link.to_string()])?;
    ensure!(!stage.attach(&mut dataplane, "x0")??.replaced);
    Ok(())
}

#[test]
fn a_strangers_program_without_a_link_is_taken_off_by_ip() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    // Attached through netlink, as iproute2 does: a program of our own pins, but not by us.
    let pin = stage.pin_dir().join("prog_xlb_sweep");
    let pin = pin.to_str().context("path")?;
    stage
        .namespace
        .ip(&format!("link set dev x0 xdpgeneric pinned {pin}"))?;
    let error = stage.attach(&mut dataplane, "x0")?.err().context("replaced it")?;
    ensure!(
        error.to_string().ends_with("'ip link set dev x0 xdpgeneric off'"),
        "{error}"
    );
    stage.namespace.ip("link set dev x0 xdpgeneric off")?;
    stage.attach(&mut dataplane, "x0")??;
    Ok(())
}

#[test]
fn generic_mode_is_taken_only_when_it_is_asked_for() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    // The loopback device has no native XDP. This one is the namespace's own.
    let (mut dataplane, _) = stage.open()?;
    let error = stage.attach(&mut dataplane, "lo")?.err().context("attached")?;
    ensure!(
        error.to_string().starts_with("interface lo: no XDP in native mode: "),
        "{error}"
    );
    ensure!(
        error
            .to_string()
            .ends_with("set xdp_mode = \"auto\" or \"generic\" (slower)"),
        "{error}"
    );
    drop(dataplane);

    let mut options = stage.options()?;
    options.xdp_mode = XdpMode::Auto;
    let (mut dataplane, _) = Dataplane::open(&options)?;
    assert_eq!(stage.attach(&mut dataplane, "lo")??.mode, AttachMode::Generic);
    assert_eq!(stage.attach(&mut dataplane, "x0")??.mode, AttachMode::Native);
    Ok(())
}

#[test]
fn a_change_of_mode_attaches_anew() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let mut options = stage.options()?;
    options.xdp_mode = XdpMode::Generic;
    let (mut generic, _) = Dataplane::open(&options)?;
    assert_eq!(stage.attach(&mut generic, "x0")??.mode, AttachMode::Generic);
    drop(generic);
    let (mut native, _) = stage.open()?;
    let attached = stage.attach(&mut native, "x0")??;
    assert_eq!(
        attached,
        Attached {
            mode: AttachMode::Native,
            replaced: false
        }
    );
    Ok(())
}

#[test]
fn an_interface_that_is_not_there_is_named() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    let error = stage
        .namespace
        .enter(|| dataplane.attach("eth7", 4_242))?
        .err()
        .context("attached")?;
    let expected = "interface eth7 (index 4242): not in this network namespace; see 'ip link'";
    assert_eq!(error.to_string(), expected);
    Ok(())
}

#[test]
fn an_interface_that_came_back_is_attached_again() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    stage.attach(&mut dataplane, "x0")??;
    stage.namespace.ip("link del x0")?;
    let gone = stage.attached(&dataplane)?;
    assert_eq!(
        gone.first().map(|link| (link.ifname.as_str(), link.ifindex, link.mode)),
        Some(("x0", None, None))
    );
    stage.namespace.ip("link add x0 type veth peer name x1")?;
    let attached = stage.attach(&mut dataplane, "x0")??;
    assert_eq!(
        attached,
        Attached {
            mode: AttachMode::Native,
            replaced: false
        }
    );
    assert_eq!(stage.attached(&dataplane)?.len(), 1);
    Ok(())
}

#[test]
fn a_renamed_interface_keeps_its_link_under_its_new_name() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    stage.attach(&mut dataplane, "x0")??;
    stage.attach(&mut dataplane, "x1")??;
    // Both names change owner: the pins must not be mixed up.
    let renames =
        "link set x0 down\nlink set x1 down\nlink set x0 name spare\nlink set x1 name x0\nlink set spare name x1";
    stage.namespace.ip(renames)?;
    for ifname in ["x0", "x1"] {
        let attached = stage.attach(&mut dataplane, ifname)??;
        ensure!(attached.replaced, "{ifname}: {attached:?}");
    }
    for link in stage.attached(&dataplane)? {
        assert_eq!(link.pin, stage.pin_dir().join(format!("link_{}", link.ifname)));
        assert_eq!(link.ifindex, Some(stage.ifindex(&link.ifname)?));
    }
    Ok(())
}

#[test]
fn an_interface_with_a_dot_in_its_name_is_attached_and_detached() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    stage
        .namespace
        .ip("link set x0 down\nlink set x0 name x0.100\nlink set x0.100 up")?;
    let (mut dataplane, _) = stage.open()?;
    stage.attach(&mut dataplane, "x0.100")??;
    assert_eq!(
        stage.attached(&dataplane)?.first().map(|link| link.ifname.clone()),
        Some("x0.100".into())
    );
    assert_eq!(dataplane.detach("x0.100")?, Detached::Done);
    assert_eq!(dataplane.detach("x0.100")?, Detached::WasNot);
    ensure!(!stage.ip_link("x0.100")?.contains("prog/xdp"));
    Ok(())
}

#[test]
fn a_link_in_another_namespace_is_not_taken_for_ours() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let other = stage.room.namespace("other")?;
    let index = stage.ifindex("x0")?;
    other.ip(&format!("link add x0 index {index} type veth peer name x1"))?;
    assert_eq!(ifindex_in(&other, "x0")?, index);
    let (mut dataplane, _) = stage.open()?;
    stage.attach(&mut dataplane, "x0")??;
    let refused = other.enter(|| dataplane.attach("x0", index))?;
    ensure!(
        matches!(refused, Err(DataplaneError::LinkElsewhere { .. })),
        "{refused:?}"
    );
    ensure!(fs::exists(stage.pin_dir().join("link_x0"))?);
    ensure!(stage.ip_link("x0")?.contains("prog/xdp"));
    Ok(())
}
