//! Load, pin, kill, adopt, refuse, unload.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_common::abi::{ABI_VERSION, Settings};
use lb_common::names;
use lb_userspace::dataplane::{Adoption, Dataplane, DataplaneError, Limits, RingWrites, lock};
use lb_userspace::state::Op;
use xlb_tests::require;

use super::{LIMITS, Stage, maps, run};

const PINS: &str = "XLB_TEST_PINS";
const NETNS: &str = "XLB_TEST_NETNS";

/// Another process that holds the lock, has loaded and attached to `x0`, as an agent does.
struct OtherAgent(Child);

impl OtherAgent {
    fn start(stage: &Stage) -> Result<Self> {
        let mut agent = Self::spawn(stage)?;
        let stdout = agent.0.stdout.take().context("the other agent's standard output")?;
        for line in BufReader::new(stdout).lines() {
            if line?.ends_with("READY") {
                return Ok(agent);
            }
        }
        bail!("the other agent ended before it was ready")
    }

    /// Without waiting for it.
    fn spawn(stage: &Stage) -> Result<Self> {
        let child = Command::new(env::current_exe()?)
            .args(["--exact", "lifetime::other_agent", "--ignored", "--nocapture"])
            .env(PINS, stage.pin_dir())
            .env(NETNS, stage.namespace.path())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self(child))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL.
    fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for OtherAgent {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: the body of [`OtherAgent`].
#[test]
#[ignore = "run by other tests as a process of its own"]
fn other_agent() -> Result<()> {
    let (Some(pin_dir), Some(netns)) = (env::var_os(PINS), env::var_os(NETNS)) else {
        return Ok(());
    };
    nix::sched::setns(fs::File::open(netns)?, nix::sched::CloneFlags::CLONE_NEWNET)?;
    let pin_dir = PathBuf::from(pin_dir);
    let _lock = lock(&pin_dir)?;
    let (mut dataplane, _) = Dataplane::open(&super::options(pin_dir)?)?;
    dataplane.attach("x0", nix::net::if_::if_nametoindex("x0")?)?;
    dataplane.apply(&Op::Settings(settings(ABI_VERSION)))?;
    println!("READY");
    sleep(Duration::from_secs(60));
    Ok(())
}

fn settings(abi_version: u32) -> Settings {
    Settings {
        abi_version,
        hash_seed: 7,
        ..Settings::default()
    }
}

#[test]
fn a_killed_agent_leaves_program_and_maps_to_the_next() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    OtherAgent::start(&stage)?.kill()?;
    let attached = stage.ip_link("x0")?;
    ensure!(
        attached.contains("prog/xdp"),
        "the program went with its agent: {attached}"
    );

    let (mut dataplane, adoption) = stage.open()?;
    assert_eq!(
        adoption,
        Adoption::Adopted {
            interfaces: vec!["x0".into()]
        }
    );
    assert_eq!(dataplane.read_image()?.settings, settings(ABI_VERSION));
    let attached = stage.attach(&mut dataplane, "x0")??;
    ensure!(attached.replaced, "the pinned link was not used: {attached:?}");
    Ok(())
}

#[test]
fn a_kill_at_any_moment_leaves_what_the_next_agent_can_use() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..6 {
        let delay = Duration::from_millis(random.u64(0..2_500));
        let agent = OtherAgent::spawn(&stage)?;
        sleep(delay);
        agent.kill()?;
        let context = || format!("round {round}, killed after {delay:?} (seed {seed})");
        let (mut dataplane, _) = stage.open().with_context(context)?;
        stage
            .attach(&mut dataplane, "x0")
            .with_context(context)?
            .with_context(context)?;
        drop(dataplane);
        // Every other round starts from nothing.
        if round % 2 == 0 {
            Dataplane::unload(&stage.pin_dir()).with_context(context)?;
            ensure!(!stage.pin_dir().exists(), context());
        }
    }
    Ok(())
}

#[test]
fn a_second_agent_is_refused_with_the_first_ones_pid() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let other = OtherAgent::start(&stage)?;
    let refused = lock(&stage.pin_dir());
    ensure!(
        matches!(&refused, Err(DataplaneError::Locked { pid: Some(pid), .. }) if *pid == other.pid()),
        "{refused:?}, the holder is {}",
        other.pid()
    );
    let unload = Dataplane::unload(&stage.pin_dir());
    ensure!(matches!(unload, Err(DataplaneError::Locked { .. })), "{unload:?}");
    other.kill()?;
    lock(&stage.pin_dir())?;
    Ok(())
}

#[test]
fn a_fresh_load_pins_every_map_and_program() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (dataplane, adoption) = stage.open()?;
    assert_eq!(adoption, Adoption::Fresh { leftovers: Vec::new() });
    assert_eq!(dataplane.warnings(), []);
    // The program's scratch is its own.
    let scratch = [names::WORK4, names::WORK6];
    let maps = names::MAPS.iter().filter(|map| !scratch.contains(map));
    let mut expected: Vec<String> = maps.map(|map| (*map).to_owned()).collect();
    for program in [
        names::PROGRAM_XDP,
        names::PROGRAM_SWEEP,
        names::PROGRAM_REDIRECT_ERR,
        names::PROGRAM_DEVMAP_XMIT,
    ] {
        expected.push(format!("prog_{program}"));
    }
    for program in [names::PROGRAM_REDIRECT_ERR, names::PROGRAM_DEVMAP_XMIT] {
        expected.push(format!("trace_{program}"));
    }
    expected.sort();
    assert_eq!(stage.pinned()?, expected);
    Ok(())
}

#[test]
fn both_objects_load_and_the_second_adopts_the_firsts_maps() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    drop(stage.open()?);
    let mut options = stage.options()?;
    options.log = lb_userspace::dataplane::LogObject::On;
    let (_, adoption) = Dataplane::open(&options)?;
    assert_eq!(adoption, Adoption::Adopted { interfaces: Vec::new() });
    Ok(())
}

#[test]
fn pins_of_another_abi_version_are_refused() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    dataplane.apply(&Op::Settings(settings(999)))?;
    drop(dataplane);
    let error = Dataplane::open(&stage.options()?).err().context("adopted")?;
    let expected = format!(
        "pins in {}: map layout (ABI) 999, this build has {ABI_VERSION}; start the build that made them, or run 'xlb \
         unload' (drops flows)",
        stage.pin_dir().display()
    );
    assert_eq!(error.to_string(), expected);
    Ok(())
}

#[test]
fn a_map_of_another_shape_is_refused_by_name_and_sizes() -> Result<()> {
    require!("ip", "bpftool");
    let stage = Stage::new()?;
    drop(stage.open()?);
    let pin = stage.pin_dir().join(names::FLOWS4);
    fs::remove_file(&pin)?;
    let path = pin.to_str().context("path")?;
    let create = [
        "map", "create", path, "type", "hash", "key", "16", "value", "16", "entries", "2048", "name", "old",
    ];
    run("bpftool", &create)?;
    let error = Dataplane::open(&stage.options()?).err().context("adopted")?;
    let expected = format!("pin {path}: value size 16, this build needs 64; run 'xlb unload' (drops flows)");
    assert_eq!(error.to_string(), expected);
    Ok(())
}

/// Puts a ring arena with other flags in the place of the pinned one, and returns its pin.
fn pin_another_arena(stage: &Stage, flags: &str) -> Result<String> {
    let pin = stage.pin_dir().join(names::RINGS);
    fs::remove_file(&pin)?;
    let path = pin.to_str().context("path")?;
    let entries = LIMITS.ring_slots.to_string();
    let create = [
        "map", "create", path, "type", "array", "key", "4", "value", "4", "entries", &entries, "name", "old", "flags",
        flags,
    ];
    run("bpftool", &create)?;
    Ok(path.to_owned())
}

#[test]
fn an_arena_that_cannot_be_mapped_is_adopted_and_takes_rings_all_the_same() -> Result<()> {
    require!("ip", "bpftool");
    let stage = Stage::new()?;
    drop(stage.open()?);
    // As builds had it that did not ask to map it.
    pin_another_arena(&stage, "0")?;
    let (mut dataplane, adoption) = stage.open()?;
    assert_eq!(adoption, Adoption::Adopted { interfaces: Vec::new() });
    maps::rings_are_read_as_written(&mut dataplane)?;
    assert_eq!(dataplane.ring_writes(), RingWrites::Batches);
    Ok(())
}

#[test]
fn an_arena_with_another_flag_is_refused() -> Result<()> {
    require!("ip", "bpftool");
    let stage = Stage::new()?;
    drop(stage.open()?);
    let path = pin_another_arena(&stage, "0x80")?;
    let error = Dataplane::open(&stage.options()?).err().context("adopted")?;
    let expected = format!("pin {path}: flags 0x80, this build needs 0x400; run 'xlb unload' (drops flows)");
    assert_eq!(error.to_string(), expected);
    Ok(())
}

#[test]
fn settings_of_another_type_are_refused_without_being_read() -> Result<()> {
    require!("ip", "bpftool");
    let stage = Stage::new()?;
    drop(stage.open()?);
    let pin = stage.pin_dir().join(names::SETTINGS);
    fs::remove_file(&pin)?;
    let path = pin.to_str().context("path")?;
    run(
        "bpftool",
        &[
            "map",
            "create",
            path,
            "type",
            "percpu_array",
            "key",
            "4",
            "value",
            "48",
            "entries",
            "1",
            "name",
            "x",
        ],
    )?;
    let error = Dataplane::open(&stage.options()?).err().context("adopted")?;
    assert_eq!(
        error.to_string(),
        format!("pin {path}: type PerCpuArray, this build needs Array; run 'xlb unload' (drops flows)")
    );
    Ok(())
}

#[test]
fn changed_limits_are_named_and_drop_nothing() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    dataplane.apply(&Op::Settings(settings(ABI_VERSION)))?;
    drop(dataplane);
    let mut options = stage.options()?;
    options.limits = Limits {
        half_open: 2_048,
        ..LIMITS
    };
    let error = Dataplane::open(&options).err().context("adopted")?;
    let expected = format!(
        "pins in {}: xlb_half4 has 2048 entries, 'half_open' in [limits] now needs 4096; xlb_half6 has 2048 entries, \
         'half_open' in [limits] now needs 4096; a map cannot change its size: set [limits] back, or run 'xlb unload' \
         and start again (drops flows)",
        stage.pin_dir().display()
    );
    assert_eq!(error.to_string(), expected);

    let (dataplane, adoption) = stage.open()?;
    assert_eq!(adoption, Adoption::Adopted { interfaces: Vec::new() });
    assert_eq!(dataplane.read_image()?.settings, settings(ABI_VERSION));
    Ok(())
}

#[test]
fn an_interrupted_first_load_is_started_afresh() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    drop(stage.open()?);
    // `xlb_settings` is pinned last: without it the load was interrupted.
    fs::remove_file(stage.pin_dir().join(names::SETTINGS))?;
    let (_, adoption) = stage.open()?;
    let Adoption::Fresh { leftovers } = adoption else {
        bail!("adopted half of the maps: {adoption:?}")
    };
    ensure!(
        leftovers.contains(&stage.pin_dir().join(names::FLOWS4)),
        "{leftovers:?}"
    );
    ensure!(stage.pinned()?.contains(&names::SETTINGS.to_owned()));
    Ok(())
}

#[test]
fn pins_removed_by_hand_under_a_running_program_are_named() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    stage.attach(&mut dataplane, "x0")??;
    drop(dataplane);
    fs::remove_file(stage.pin_dir().join(names::SETTINGS))?;
    fs::remove_file(stage.pin_dir().join(names::NAMES))?;
    let error = Dataplane::open(&stage.options()?).err().context("adopted")?;
    let expected = format!(
        "pins in {}: xlb_settings, xlb_names are missing beside x0; somebody removed pins by hand: run 'xlb unload' \
         (drops flows)",
        stage.pin_dir().display()
    );
    assert_eq!(error.to_string(), expected);
    Ok(())
}

#[test]
fn a_load_that_the_kernel_refuses_pins_nothing() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let mut options = stage.options()?;
    options.limits = Limits {
        connections: u32::MAX,
        ..LIMITS
    };
    let error = Dataplane::open(&options).err().context("loaded")?;
    ensure!(matches!(error, DataplaneError::Load { .. }), "{error:?}");
    ensure!(error.to_string().contains("lower [limits]"), "{error}");
    assert_eq!(stage.pinned()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_pin_directory_on_another_file_system_is_refused() -> Result<()> {
    require!("ip");
    let stage = Stage::new()?;
    let mut options = stage.options()?;
    options.pin_dir = stage.room.file("no-bpffs/xlb");
    let error = Dataplane::open(&options).err().context("loaded")?;
    ensure!(matches!(error, DataplaneError::NotBpffs { .. }), "{error:?}");
    ensure!(!options.pin_dir.exists());
    Ok(())
}

#[test]
fn unload_detaches_and_leaves_nothing() -> Result<()> {
    require!("ip", "bpftool");
    let stage = Stage::new()?;
    let (mut dataplane, _) = stage.open()?;
    stage.attach(&mut dataplane, "x0")??;
    stage.attach(&mut dataplane, "x1")??;
    let programs: Vec<u32> = stage.attached(&dataplane)?.iter().map(|link| link.program_id).collect();
    drop(dataplane);
    let unloaded = Dataplane::unload(&stage.pin_dir())?;
    assert_eq!(unloaded.interfaces, ["x0", "x1"]);
    assert_eq!(unloaded.kept, Vec::<PathBuf>::new());
    ensure!(!stage.pin_dir().exists());
    for ifname in ["x0", "x1"] {
        let shown = stage.ip_link(ifname)?;
        ensure!(!shown.contains("prog/xdp"), "{shown}");
    }
    // Programs are freed after a grace period.
    let gone = || {
        Ok(programs
            .iter()
            .all(|id| run("bpftool", &["prog", "show", "id", &id.to_string()]).is_err()))
    };
    xlb_tests::process::wait_until("the programs to go", Duration::from_secs(5), gone)?;
    assert_eq!(Dataplane::unload(&stage.pin_dir())?.removed, 0);
    Ok(())
}

#[test]
fn unload_keeps_what_is_not_ours() -> Result<()> {
    require!("ip", "bpftool");
    let stage = Stage::new()?;
    drop(stage.open()?);
    let other = stage.pin_dir().join("other");
    let path = other.to_str().context("path")?;
    run(
        "bpftool",
        &[
            "map", "create", path, "type", "array", "key", "4", "value", "4", "entries", "1", "name", "o",
        ],
    )?;
    let unloaded = Dataplane::unload(&stage.pin_dir())?;
    assert_eq!(unloaded.kept, [other]);
    assert_eq!(stage.pinned()?, ["other"]);
    Ok(())
}
