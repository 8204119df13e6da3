//! What is written is what is read; what the kernel takes back is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::abi::{
    ABI_VERSION, AddrKey, AddrRole, Backend, BackendStats, Endpoint, EndpointKey, IFACE_SLOTS, Iface, Name, NameKey,
    OURS_BLOCKS, Service, Settings, SnatAddr, backend_state, endpoint_kind, mode, name_kind, role,
};
use lb_common::limits::{MAX_RING_SIZE, MAX_SNAT_ADDRESSES, NAME_BYTES};
use lb_common::names;
use lb_common::net::map_v4;
use lb_common::reason::{PassReason, REASON_SLOTS};
use lb_userspace::dataplane::{Dataplane, DataplaneError, RingWrites, Run};
use lb_userspace::state::{Image, Op};
use xlb_tests::process::wait_until;
use xlb_tests::require;

use super::{LIMITS, Stage, run};

/// An image that uses the first and the last place of every map.
fn full_image(ifindex: u32) -> Image {
    let services: BTreeMap<u32, Service> = [(1, 0), (LIMITS.services, MAX_RING_SIZE)]
        .map(|(id, offset)| (id, service(offset)))
        .into();
    let ring = |seed: u32| -> Vec<u32> {
        (0..MAX_RING_SIZE)
            .map(|slot| (slot + seed) % LIMITS.backends + 1)
            .collect()
    };
    let backend = |id| Backend {
        address: map_v4([10, 0, 0, 1]),
        service_id: id,
        state: backend_state::ACTIVE,
        ..Backend::default()
    };
    let key = EndpointKey {
        address: map_v4([203, 0, 113, 10]),
        port: 80,
        protocol: 6,
        reserved: 0,
    };
    let snat = SnatAddr {
        address: map_v4([192, 0, 2, 1]),
    };
    Image {
        settings: Settings {
            abi_version: ABI_VERSION,
            hash_seed: 0xdead_beef,
            ..Settings::default()
        },
        ifaces: [(
            ifindex,
            Iface {
                ifindex,
                mac: [2, 0, 0, 0, 0, 1],
                ..Iface::default()
            },
        )]
        .into(),
        tx_ports: [ifindex].into(),
        ours: [(0, 1), (OURS_BLOCKS - 1, u64::MAX)].into(),
        endpoints: [(
            key,
            Endpoint {
                service_id: 1,
                kind: endpoint_kind::SERVICE,
            },
        )]
        .into(),
        addrs: [(AddrKey { address: key.address }, AddrRole { roles: role::VIP })].into(),
        services,
        backends: [(1, backend(1)), (LIMITS.backends, backend(LIMITS.services))].into(),
        rings: [(0, Arc::new(ring(0))), (MAX_RING_SIZE, Arc::new(ring(3)))].into(),
        snat: [(0, snat), (2 * MAX_SNAT_ADDRESSES - 1, snat)].into(),
        names: [(
            NameKey {
                kind: name_kind::SERVICE,
                id: 1,
            },
            name(b"web"),
        )]
        .into(),
    }
}

fn service(ring4_offset: u32) -> Service {
    Service {
        ring4_offset,
        ring4_size: MAX_RING_SIZE,
        service_port: 80,
        protocol: 6,
        mode: mode::FULL_NAT,
        ..Service::default()
    }
}

/// Key and value of one name.
pub(crate) fn name_of(kind: u32, id: u32, text: &[u8]) -> (NameKey, Name) {
    (NameKey { kind, id }, name(text))
}

/// A SNAT slot.
pub(crate) fn snat_addr(address: [u8; 16]) -> SnatAddr {
    SnatAddr { address }
}

fn name(text: &[u8]) -> Name {
    let mut name = [0_i8; NAME_BYTES];
    name.iter_mut().zip(text).for_each(|(to, from)| *to = *from as i8);
    Name { name }
}

/// The ops that write an image into empty maps; written here, so that `diff` is not what is tested.
pub(crate) fn writes(image: &Image) -> Vec<Op> {
    let mut ops = vec![Op::Settings(image.settings)];
    ops.extend(
        image
            .backends
            .iter()
            .map(|(id, value)| Op::BackendSet { id: *id, value: *value }),
    );
    ops.extend(image.rings.iter().map(|(offset, slots)| Op::RingWrite {
        offset: *offset,
        slots: slots.clone(),
    }));
    ops.extend(
        image
            .services
            .iter()
            .map(|(id, value)| Op::ServiceSet { id: *id, value: *value }),
    );
    ops.extend(image.snat.iter().map(|(index, value)| Op::SnatSet {
        index: *index,
        value: *value,
    }));
    ops.extend(image.addrs.iter().map(|(key, value)| Op::AddrSet(*key, *value)));
    ops.extend(image.endpoints.iter().map(|(key, value)| Op::EndpointSet(*key, *value)));
    ops.extend(image.ours.iter().map(|(block, bits)| Op::OursSet {
        block: *block,
        bits: *bits,
    }));
    ops.extend(image.ifaces.values().map(|iface| Op::IfaceSet(*iface)));
    ops.extend(image.tx_ports.iter().map(|ifindex| Op::TxPortSet(*ifindex)));
    ops.extend(image.names.iter().map(|(key, value)| Op::NameSet(*key, *value)));
    ops
}

/// The ops that take it away again.
fn removals(image: &Image) -> Vec<Op> {
    let mut ops = vec![Op::Settings(Settings::default())];
    ops.extend(image.names.keys().map(|key| Op::NameDelete(*key)));
    ops.extend(image.tx_ports.iter().map(|ifindex| Op::TxPortClear(*ifindex)));
    ops.extend(image.ifaces.keys().map(|ifindex| Op::IfaceClear(*ifindex)));
    ops.extend(image.ours.keys().map(|block| Op::OursSet { block: *block, bits: 0 }));
    ops.extend(image.endpoints.keys().map(|key| Op::EndpointDelete(*key)));
    ops.extend(image.addrs.keys().map(|key| Op::AddrDelete(*key)));
    ops.extend(image.snat.keys().map(|index| Op::SnatClear(*index)));
    ops.extend(image.services.keys().map(|id| Op::ServiceClear(*id)));
    ops.extend(image.backends.keys().map(|id| Op::BackendClear(*id)));
    ops
}

pub(crate) fn apply_all(stage: &Stage, dataplane: &mut Dataplane, ops: &[Op]) -> Result<()> {
    // Device map entries are resolved in the caller's namespace.
    Ok(stage
        .namespace
        .enter(|| ops.iter().try_for_each(|op| dataplane.apply(op)))??)
}

#[test]
fn an_image_written_is_the_image_read_also_by_the_next_agent() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let image = full_image(stage.ifindex("x0")?);
    let (mut dataplane, _) = stage.open()?;
    assert_eq!(dataplane.read_image()?, Image::default());
    apply_all(&stage, &mut dataplane, &writes(&image))?;
    assert_eq!(dataplane.read_image()?, image);
    drop(dataplane);

    let (mut next, _) = stage.open()?;
    assert_eq!(next.read_image()?, image);
    // Twice: an entry that is gone already is no error.
    for _ in 0..2 {
        apply_all(&stage, &mut next, &removals(&image))?;
    }
    assert_eq!(next.read_image()?, Image::default());
    Ok(())
}

/// Writes ops by runs where there are any. Returns the sizes of those that went in one call.
fn apply_by_runs(dataplane: &mut Dataplane, ops: &[Op]) -> Result<Vec<usize>> {
    let (mut begun, mut runs) = (0, Vec::new());
    while begun < ops.len() {
        match dataplane.apply_run(&ops[begun..]) {
            Run::Written(count) => {
                runs.push(count);
                begun += count;
            }
            Run::Singly(count) => {
                for op in &ops[begun..begun + count] {
                    dataplane.apply(op)?;
                }
                begun += count;
            }
        }
    }
    Ok(runs)
}

#[test]
fn runs_of_writes_give_the_same_image_and_end_where_the_map_changes() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    let mut image = full_image(stage.ifindex("x0")?);
    image
        .names
        .extend((1..=50).map(|id| name_of(name_kind::BACKEND, id, format!("web/{id}").as_bytes())));
    let mut ops = writes(&image);
    // More than one call takes, the same again and again: the map has room for few.
    let names: Vec<Op> = image.names.iter().map(|(key, name)| Op::NameSet(*key, *name)).collect();
    ops.extend(names.iter().cycle().take(5_000).cloned());
    let runs = stage.namespace.enter(|| apply_by_runs(&mut dataplane, &ops))??;
    ensure!(dataplane.read_image()? == image, "what is read is not what was written");
    // Backends, services, names; what stands alone, and every other map, goes singly.
    assert_eq!(runs, [2, 2, 4_096, 51 + 5_000 - 4_096]);
    Ok(())
}

#[test]
fn a_run_with_a_write_that_the_kernel_refuses_names_that_write() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    let set = |id| Op::BackendSet {
        id,
        value: Backend {
            service_id: id,
            ..Backend::default()
        },
    };
    // The map has one entry more than ids, for id 0.
    let past = LIMITS.backends + 1;
    let ops = [set(1), set(past), set(2)];
    assert_eq!(dataplane.apply_run(&ops), Run::Singly(3));
    dataplane.apply(&ops[0])?;
    let refused = dataplane.apply(&ops[1]);
    ensure!(matches!(refused, Err(DataplaneError::OutOfRange { .. })), "{refused:?}");
    let written = dataplane.read_image()?.backends;
    ensure!(written.keys().eq([&1]), "{written:?}");
    Ok(())
}

/// Rings from the first slot to the last, that begin and end at pages, inside them and a slot beside; in an order in which each
/// could spoil a neighbour that stands already. What no ring took is 0.
pub(crate) fn rings_are_read_as_written(dataplane: &mut Dataplane) -> Result<()> {
    let last = LIMITS.ring_slots;
    // A page of four KiB holds 512 slots.
    let spans = [
        (512, 512),
        (0, 1),
        (2, 1),
        (511, 1),
        (1_024, 256),
        (1_281, 2_000),
        (4_095, 2),
        (8_192, MAX_RING_SIZE),
        (last - 1, 1),
        (last - 300, 299),
    ];
    let mut expected = vec![0; last as usize];
    for (nth, (offset, size)) in (1..).zip(spans) {
        let ring: Vec<u32> = (0..size).map(|slot| nth << 20 | slot).collect();
        expected
            .get_mut(offset as usize..(offset + size) as usize)
            .context("inside")?
            .copy_from_slice(&ring);
        dataplane.apply(&Op::RingWrite {
            offset,
            slots: Arc::new(ring),
        })?;
    }
    // By the map's own lookup: one service has the whole arena.
    let whole = Service {
        ring4_size: last,
        ..service(0)
    };
    dataplane.apply(&Op::ServiceSet { id: 1, value: whole })?;
    let read = dataplane.read_image()?.rings;
    let slots = read.get(&0).context("no arena")?;
    let wrong = (0..)
        .zip(slots.iter().zip(&expected))
        .find(|(_, (read, wanted))| read != wanted);
    ensure!(
        slots.len() == expected.len() && wrong.is_none(),
        "(slot, (read, written)): {wrong:?}"
    );

    let past = Op::RingWrite {
        offset: last - 1,
        slots: Arc::new(vec![7; 2]),
    };
    let refused = dataplane.apply(&past);
    ensure!(matches!(refused, Err(DataplaneError::OutOfRange { .. })), "{refused:?}");
    Ok(())
}

#[test]
fn rings_fill_their_own_slots_and_no_others() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    rings_are_read_as_written(&mut dataplane)
}

/// How many mappings of maps this process has.
fn mappings() -> Result<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    Ok(maps.lines().filter(|line| line.contains("bpf-map")).count())
}

#[test]
fn a_written_ring_leaves_nothing_mapped() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    rings_are_read_as_written(&mut dataplane)?;
    assert_eq!(dataplane.ring_writes(), RingWrites::Mapped);
    // Other tests of this process write rings, too: what was left would stay.
    wait_until("no map is mapped", Duration::from_secs(30), || Ok(mappings()? == 0))
}

#[test]
fn a_device_map_entry_goes_with_its_interface() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (gone, stays) = (stage.ifindex("x0")?, {
        stage.namespace.ip("link add y0 type veth peer name y1")?;
        stage.ifindex("y0")?
    });
    let (mut dataplane, _) = stage.open()?;
    apply_all(&stage, &mut dataplane, &[Op::TxPortSet(gone), Op::TxPortSet(stays)])?;
    assert_eq!(dataplane.read_image()?.tx_ports, BTreeSet::from([gone, stays]));
    stage.namespace.ip("link del x0")?;
    assert_eq!(dataplane.read_image()?.tx_ports, BTreeSet::from([stays]));

    let refused = stage.namespace.enter(|| dataplane.apply(&Op::TxPortSet(gone)))?;
    ensure!(
        matches!(refused, Err(DataplaneError::TxPortGone { ifindex }) if ifindex == gone),
        "{refused:?}"
    );
    apply_all(&stage, &mut dataplane, &[Op::TxPortClear(gone)])
}

#[test]
fn two_attached_interfaces_never_share_a_slot() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let first = stage.ifindex("x0")?;
    let second = first + IFACE_SLOTS;
    stage
        .namespace
        .ip(&format!("link add y0 index {second} type veth peer name y1"))?;
    let (mut dataplane, _) = stage.open()?;
    stage.attach(&mut dataplane, "x0")??;
    let set = |ifindex| {
        Op::IfaceSet(Iface {
            ifindex,
            ..Iface::default()
        })
    };
    dataplane.apply(&set(first))?;
    let refused = dataplane.apply(&set(second));
    ensure!(
        matches!(refused, Err(DataplaneError::IfaceSlotTaken { other, .. }) if other == first),
        "{refused:?}"
    );
    // Clearing the one must not clear the other.
    dataplane.apply(&Op::IfaceClear(second))?;
    assert_eq!(
        dataplane.read_image()?.ifaces.keys().copied().collect::<Vec<_>>(),
        [first]
    );
    dataplane.detach("x0")?;
    dataplane.apply(&set(second))?;
    Ok(())
}

#[test]
fn an_id_past_the_map_is_refused_with_the_maps_size() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    let id = LIMITS.backends + 1;
    let error = dataplane
        .apply(&Op::BackendSet {
            id,
            value: Backend::default(),
        })
        .err()
        .context("written")?;
    let entries = LIMITS.backends + 1;
    let expected = format!(
        "map xlb_backends: entries {id}..{} asked for, it has {entries}; raise the matching key in [limits]",
        id + 1
    );
    assert_eq!(error.to_string(), expected);
    Ok(())
}

/// Adds the same value on every CPU, as bpftool does.
fn set_counters(stage: &Stage, map: &str, key: u32, words: &[u64]) -> Result<u64> {
    let hex = |bytes: &[u8]| -> Vec<String> { bytes.iter().map(|byte| format!("{byte:#04x}")).collect() };
    let path = stage.pin_dir().join(map);
    let path = path.to_str().context("path")?.to_owned();
    let value: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut args: Vec<String> = ["map", "update", "pinned"].map(str::to_owned).into();
    args.extend([path, "key".to_owned()]);
    args.extend(hex(&key.to_ne_bytes()));
    args.push("value".to_owned());
    args.extend(hex(&value));
    run("bpftool", &args.iter().map(String::as_str).collect::<Vec<_>>())?;
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = possible
        .trim()
        .rsplit(['-', ','])
        .next()
        .and_then(|cpu| cpu.parse::<u64>().ok());
    last.map(|cpu| cpu + 1).context("possible CPUs")
}

#[test]
fn counters_are_summed_over_cpus_and_start_at_zero_for_the_next_backend() -> Result<()> {
    require!("ip", "bpftool");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    let (first, last) = (1, LIMITS.backends);
    let cpus = set_counters(&stage, names::BACKEND_STATS, first, &[1, 2, 3, 4, 5, 6, 7, 8])?;
    set_counters(&stage, names::BACKEND_STATS, last, &[10, 0, 0, 0, 0, 0, 0, 0])?;
    set_counters(&stage, names::REASON_STATS, PassReason::NotOurs.index(), &[3, 180])?;

    let stats = dataplane.backend_stats([last, first, 2, first])?;
    assert_eq!(stats.len(), 3);
    let [one, two, three, four] = [1, 2, 3, 4].map(|n| n * cpus);
    let expected = BackendStats {
        packets_in: one,
        bytes_in: two,
        packets_out: three,
        bytes_out: four,
        flows_new: 5 * cpus,
        flows_opened: 6 * cpus,
        flows_closed: 7 * cpus,
        flows_refused: 8 * cpus,
    };
    assert_eq!(stats.get(&first), Some(&expected));
    assert_eq!(stats.get(&2), Some(&BackendStats::default()));
    assert_eq!(stats.get(&last).map(|stats| stats.packets_in), Some(10 * cpus));

    let reasons = dataplane.reason_stats()?;
    assert_eq!(reasons.len(), REASON_SLOTS as usize);
    let not_ours = reasons
        .get(PassReason::NotOurs.index() as usize)
        .context("no such reason")?;
    assert_eq!((not_ours.packets, not_ours.bytes), (3 * cpus, 180 * cpus));

    dataplane.apply(&Op::BackendClear(first))?;
    assert_eq!(
        dataplane.backend_stats([first])?.get(&first),
        Some(&BackendStats::default())
    );
    Ok(())
}

#[test]
fn a_sweep_of_nothing_ends() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    assert_eq!(dataplane.sweep(0)?.runs, 0);
    assert_eq!(dataplane.sweep(1_000)?.runs, 4);
    Ok(())
}
