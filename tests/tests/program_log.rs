//! The object with packet logging: it must pass the verifier and treat packets as the production object does.

use anyhow::{Result, ensure};
use lb_common::reason::{AnswerReason, DropReason};
use xlb_tests::kernel::{Object, Rig, Sizes, Talk};
use xlb_tests::model::Reason;
use xlb_tests::model::sample::{DNS, FAMILIES, GATE, TIME, WEB, client, from_client, sample_world, vip};
use xlb_tests::packets::Packet;
use xlb_tests::packets::flags::{ACK, SYN};
use xlb_tests::require;

#[test]
fn the_logging_object_loads_and_forwards_alike() -> Result<()> {
    require!("ip");
    let mut rig = Rig::with_object(Object::Log, Sizes::default())?;
    let world = sample_world(&rig.lab);
    rig.reset(world)?;
    let lab = rig.lab;
    for family in FAMILIES {
        for service in [WEB, GATE] {
            let talk = Talk::open(&mut rig, service, client(family, 1, 40_000))?;
            talk.backend_sends(&mut rig, ACK)?;
        }
        for service in [DNS, TIME] {
            let talk = Talk::begin(&mut rig, service, client(family, 1, 40_000))?;
            talk.backend_says(&mut rig, b"answer")?;
        }
        let echo = Packet::echo(client(family, 1, 0).ip(), vip(family));
        let sent = rig.send(lab.client_side, &from_client(&lab, echo).build())?;
        ensure!(matches!(
            sent.reason,
            Some(Reason::Answer(AnswerReason::Echo | AnswerReason::Echo6))
        ));
        let dead = Packet::tcp(client(family, 2, 40_000), WEB.dial(family), SYN, 1, 0).ttl(1);
        let sent = rig.send(lab.client_side, &from_client(&lab, dead).build())?;
        ensure!(
            sent.reason == Some(Reason::Drop(DropReason::TtlExpired)),
            "{:?}",
            sent.reason
        );
    }
    rig.check_state()??;
    Ok(())
}
