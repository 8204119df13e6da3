//! The way of a packet, in the order of docs/packet-path.md: ours? parse, flow, miss. [`crate::fast`] takes the
//! packets to which nothing happens but a FIN; this takes all others, and would decide those alike.

use lb_common::reason::PassReason;

use crate::{
    answer::Resets,
    family::{V4, V6},
    fast::{Known, Plain, ingress, ingress_again, is_ours, plain4, plain6},
    flow::hit,
    forward::Ingress,
    miss::miss,
    packet::{EthIpv4, EthIpv6, Offset, Packet},
    parse::{self, Facts, layer4},
    rewrite::Rewrite,
    tables::{FlowTables, Tables},
    verdict::Verdict,
    work::Work,
};

/// A family the slow path can parse.
pub trait Parse: Rewrite + Resets {
    /// The plain parse.
    fn plain<P: Packet>(packet: &P) -> Plain<Self>;
    /// Parses any packet of the family; `Err` is the verdict where there is no TCP or UDP to balance.
    fn parse<P: Packet, T: Tables>(packet: &mut P, tables: &T, ingress: &Ingress) -> Result<Facts<Self>, Verdict>;
}

impl Parse for V4 {
    #[inline(always)]
    fn plain<P: Packet>(packet: &P) -> Plain<Self> {
        plain4(packet)
    }

    #[inline(always)]
    fn parse<P: Packet, T: Tables>(packet: &mut P, tables: &T, ingress: &Ingress) -> Result<Facts<Self>, Verdict> {
        match Self::plain(packet) {
            Plain::Facts(facts) if is_ours(tables, &facts) => return Ok(facts),
            Plain::Facts(_) => return Err(Verdict::pass(PassReason::NotOurs)),
            Plain::Truncated => return Err(Verdict::pass(PassReason::TruncatedIp)),
            Plain::Not => {}
        }
        let Some(head) = packet.get::<EthIpv4>(Offset::START) else {
            return Err(Verdict::pass(PassReason::TruncatedIp));
        };
        let ip = head.ip;
        parse::v4::parse(packet, tables, ip, ingress)
    }
}

impl Parse for V6 {
    #[inline(always)]
    fn plain<P: Packet>(packet: &P) -> Plain<Self> {
        plain6(packet)
    }

    #[inline(always)]
    fn parse<P: Packet, T: Tables>(packet: &mut P, tables: &T, ingress: &Ingress) -> Result<Facts<Self>, Verdict> {
        match Self::plain(packet) {
            Plain::Facts(facts) if is_ours(tables, &facts) => return Ok(facts),
            Plain::Facts(_) => return Err(Verdict::pass(PassReason::NotOurs)),
            Plain::Truncated => return Err(Verdict::pass(PassReason::TruncatedIp)),
            Plain::Not => {}
        }
        let Some(head) = packet.get::<EthIpv6>(Offset::START) else {
            return Err(Verdict::pass(PassReason::TruncatedIp));
        };
        let ip = head.ip;
        parse::v6::parse(packet, tables, ip, ingress)
    }
}

/// Finds out what any packet of a family is, into `work`; a verdict where that settles it.
#[inline(always)]
pub fn prepare<F, P, T>(packet: &mut P, tables: &T, work: &mut Work<F>) -> Option<Verdict>
where
    F: Parse,
    P: Packet,
    T: Tables,
{
    match ingress(packet, tables) {
        Ok((ingress, _)) => work.ingress = ingress,
        Err(reason) => return Some(Verdict::pass(reason)),
    }
    match F::parse(packet, tables, &work.ingress) {
        Ok(facts) => work.facts = facts,
        Err(verdict) => return Some(verdict),
    }
    match layer4::<F, P>(packet, &work.facts) {
        Ok(l4) => work.l4 = l4,
        Err(reason) => return Some(Verdict::drop(reason)),
    }
    work.key = work.facts.key();
    None
}

/// [`prepare`] of a packet of which the fast path found that it is for us, plain and sound. `None` where the interface's entry
/// has gone since; the frame is what it was.
#[inline(always)]
pub fn prepare_plain<F, P, T>(packet: &P, tables: &T, work: &mut Work<F>) -> Option<()>
where
    F: Parse,
    P: Packet,
    T: Tables,
{
    work.ingress = ingress_again(packet, tables)?;
    let Plain::Facts(facts) = F::plain(packet) else {
        return None;
    };
    work.l4 = layer4::<F, P>(packet, &facts).ok()?;
    work.key = facts.key();
    work.facts = facts;
    Some(())
}

/// Decides on a packet that [`prepare`] found to be TCP or UDP and perhaps ours, and rewrites it accordingly.
#[inline(always)]
pub fn decide<F, P, T>(packet: &mut P, tables: &T, work: &mut Work<F>, known: Known) -> Verdict
where
    F: Parse,
    P: Packet,
    T: Tables + FlowTables<F>,
{
    if known != Known::NotEstablished
        && let Some(entry) = tables.established(&work.key)
        && entry.load_into(F::tag(&work.key), &mut work.flow)
        && let Ok(verdict) = hit::<F, P, T>(packet, tables, work, entry)
    {
        return verdict;
    }
    miss::<F, P, T>(packet, tables, work)
}
