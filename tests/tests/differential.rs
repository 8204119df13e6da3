//! Random packets through the loaded program and through the model: verdict, bytes, counters and flow tables must be
//! the same.
//!
//! `XLB_SEED=n` repeats a run; `XLB_PACKETS=n` makes it longer or shorter.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use xlb_tests::kernel::{Mismatch, Rig, Sizes, action};
use xlb_tests::packets::{oracle, scapy};
use xlb_tests::random::{REAL_TIME_LIMIT, Script, Step, Traffic, random_world, shrink};
use xlb_tests::require;

const STEPS_PER_SCRIPT: usize = 150;
const PACKETS: usize = 120_000;
/// Outputs kept for scapy: a sample, since it takes a quarter of a millisecond a frame.
const SCAPY_SAMPLE: usize = 2_000;
const STALLS_ALLOWED: usize = 20;
/// Different disagreements that one run reports before it gives up.
const FINDINGS: usize = 6;

#[test]
fn program_and_model_agree_on_random_packets() -> Result<()> {
    require!("ip");
    let seed = number("XLB_SEED")?.unwrap_or_else(|| fastrand::u64(..));
    let packets = number("XLB_PACKETS")?.map_or(PACKETS, |n| n as usize);
    eprintln!("XLB_SEED={seed} XLB_PACKETS={packets}");
    let mut rig = Rig::new(Sizes::default())?;
    let mut rng = Rng::with_seed(seed);
    let (mut tally, mut findings) = (Tally::default(), BTreeMap::new());
    while tally.sent < packets && findings.len() < FINDINGS {
        let mut script = Script {
            world: random_world(&mut rng, &rig.lab),
            steps: Vec::new(),
        };
        let mut steps_rng = rng.fork();
        let started = Instant::now();
        let Some(mismatch) = run(&mut script, &mut rig, &mut steps_rng, &mut tally)? else {
            continue;
        };
        if started.elapsed() > REAL_TIME_LIMIT {
            // Slower than the lifetimes allow: no finding. Too many of these and nothing was tested.
            tally.stalls += 1;
            ensure!(
                tally.stalls <= STALLS_ALLOWED,
                "{} scripts took too long; this machine is too busy",
                tally.stalls
            );
            continue;
        }
        // The same fault shows in many packets: what differs without its numbers tells them apart.
        let kind: String = mismatch.0.chars().filter(|c| !c.is_ascii_digit()).take(160).collect();
        if let Entry::Vacant(place) = findings.entry(kind) {
            place.insert(report(&script, &mut rig, &mismatch)?);
        }
    }
    if !findings.is_empty() {
        let all: Vec<String> = findings.into_values().collect();
        bail!(
            "XLB_SEED={seed}: program and model differ in {} ways\n{}",
            all.len(),
            all.join("\n")
        );
    }
    eprintln!(
        "{} packets agreed, {} outputs' checksums judged by etherparse",
        tally.sent, tally.judged
    );
    match scapy::check(&tally.sample)? {
        scapy::Judgement::Agreed(count) => eprintln!("scapy agreed with {count} checksums"),
        scapy::Judgement::Missing(why) => xlb_tests::skip::skip("differential: scapy's part", &why),
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    sent: usize,
    judged: usize,
    stalls: usize,
    sample: Vec<Vec<u8>>,
}

/// Makes up a script step by step and runs it; the first disagreement ends it.
fn run(script: &mut Script, rig: &mut Rig, rng: &mut Rng, tally: &mut Tally) -> Result<Option<Mismatch>> {
    rig.reset(script.world.clone())?;
    for _ in 0..STEPS_PER_SCRIPT {
        let step = Traffic::new(rng, rig.lab).next_step(&rig.model);
        script.steps.push(step.clone());
        let Step::Packet { ifindex, frame } = &step else {
            step.run(rig)??;
            continue;
        };
        tally.sent += 1;
        match rig.try_send(*ifindex, frame)? {
            Err(mismatch) => return Ok(Some(mismatch)),
            Ok(out) if out.output.action > action::PASS && oracle::check(frame).is_ok() => {
                tally.judged += 1;
                judge(frame, &out.output.frame)?;
                if tally.judged.is_multiple_of(16) && tally.sample.len() < SCAPY_SAMPLE {
                    tally.sample.push(out.output.frame);
                }
            }
            Ok(_) => {}
        }
    }
    Ok(rig.check_state()?.err())
}

/// A frame whose checksums were right must leave with right ones.
fn judge(before: &[u8], after: &[u8]) -> Result<()> {
    oracle::check(after).map_err(|fault| {
        let (before, after) = (xlb_tests::packets::hex(before), xlb_tests::packets::hex(after));
        anyhow::anyhow!("etherparse: {fault:?}\n in {before}\nout {after}")
    })
}

/// Runs the failing script again from the start and cuts it down to what still fails.
fn report(script: &Script, rig: &mut Rig, first: &Mismatch) -> Result<String> {
    let (short, failure) = shrink(script, rig)?;
    let last = failure.map_or("not repeatable; the whole sequence follows".into(), |failure| {
        failure.mismatch.0
    });
    let steps = short.steps.len();
    Ok(format!(
        "DIFFERENCE {first}\nshrunk to {steps} steps, the last one differs: {last}\n{short}"
    ))
}

fn number(variable: &str) -> Result<Option<u64>> {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .map(Some)
            .with_context(|| format!("{variable}={text}: not a number")),
        Err(_) => Ok(None),
    }
}
