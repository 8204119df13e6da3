//! A packet without an established flow (section 5 of docs/packet-path.md): half-open, new, or nobody's.

use lb_common::{
    abi::{Backend, Settings, direction, endpoint_kind, flow_flag, hop_flag, mode, on_miss, role},
    hash::{self, OursSide},
    reason::{DropReason, PassReason},
};

use crate::{
    answer::{self, Resets},
    claim::{Wanted, claim},
    family::Family,
    flow::{half_hit, hit, release_half},
    forward,
    packet::Packet,
    parse::{Facts, tcp_flag},
    rewrite::{Rewrite, reversed},
    select::select,
    tables::{FlowTables, InsertError, Tables},
    verdict::Verdict,
    work::Work,
};

/// Decides on a packet without an established flow.
#[inline(always)]
pub fn miss<F: Rewrite + Resets, P: Packet, T: Tables + FlowTables<F>>(
    packet: &mut P,
    tables: &T,
    work: &mut Work<F>,
) -> Verdict {
    let tag = F::tag(&work.key);
    work.tag = tag;
    if let Some(entry) = tables.half(&work.key)
        && entry.load_into(tag, &mut work.flow)
    {
        if let Ok(verdict) = half_hit::<F, P, T>(packet, tables, work, entry) {
            return verdict;
        }
    } else if !work.l4.is_opening()
        && let Some(entry) = tables.established(&work.key)
        && entry.load_into(tag, &mut work.flow)
    {
        // Promoted on another CPU between our two lookups.
        if let Ok(verdict) = hit::<F, P, T>(packet, tables, work, entry) {
            return verdict;
        }
    }
    let Some(settings) = tables.settings() else {
        return Verdict::drop(DropReason::MapInconsistent);
    };
    let facts = &work.facts;
    if F::is_invalid_source(facts.src) {
        return Verdict::drop(DropReason::SourceInvalid);
    }
    if facts.src_port == 0 || facts.dst_port == 0 {
        return Verdict::drop(DropReason::PortZero);
    }
    let endpoint = tables.endpoint(&F::endpoint_key(facts.dst, facts.dst_port, facts.protocol));
    if endpoint.kind == endpoint_kind::SERVICE {
        for_service::<F, P, T>(packet, tables, settings, work, endpoint.service_id)
    } else {
        nobodys::<F, T>(tables, settings, facts)
    }
}

/// No service: an old reply to us, a reply that must not pass untranslated, or somebody else's.
#[inline(always)]
fn nobodys<F: Family, T: Tables>(tables: &T, settings: &Settings, facts: &Facts<F>) -> Verdict {
    let roles = tables.roles(&F::addr_key(facts.dst));
    if roles & role::SNAT != 0 && is_snat_port(settings, facts.dst_port) {
        return Verdict::drop(DropReason::SnatNoFlow);
    }
    if roles != 0 {
        // It stays on this machine, whoever sent it: the answer to a health check of a gateway-mode backend.
        return Verdict::pass(PassReason::OtherPort);
    }
    let source = tables.endpoint(&F::endpoint_key(facts.src, facts.src_port, facts.protocol));
    if source.kind == endpoint_kind::GATEWAY_BACKEND {
        return Verdict::drop(DropReason::GatewayNoFlow);
    }
    Verdict::pass(PassReason::NotOurs)
}

#[inline(always)]
const fn is_snat_port(settings: &Settings, port: u16) -> bool {
    port >= settings.snat_port_min && port <= settings.snat_port_max
}

/// Whether the packet claims to come from one of our own service ports or SNAT tuples.
#[inline(always)]
fn is_our_own<F: Family, T: Tables>(tables: &T, settings: &Settings, facts: &Facts<F>) -> bool {
    // The bitmap answers for nearly everybody; only a set bit is worth two lookups.
    if !tables.ours(hash::ours(OursSide::Destination, F::word(facts.src), facts.src_port)) {
        return false;
    }
    let endpoint = tables.endpoint(&F::endpoint_key(facts.src, facts.src_port, facts.protocol));
    endpoint.kind == endpoint_kind::SERVICE
        || (is_snat_port(settings, facts.src_port) && tables.roles(&F::addr_key(facts.src)) & role::SNAT != 0)
}

#[inline(always)]
fn for_service<F: Rewrite + Resets, P: Packet, T: Tables + FlowTables<F>>(
    packet: &mut P,
    tables: &T,
    settings: &Settings,
    work: &mut Work<F>,
    service_id: u32,
) -> Verdict {
    if is_our_own::<F, T>(tables, settings, &work.facts) {
        return Verdict::drop(DropReason::SourceIsOurs);
    }
    if let Err(reason) = forward::check::<F, P>(packet, work) {
        return Verdict::drop(reason);
    }
    let Some(service) = tables.service(service_id) else {
        return Verdict::drop(DropReason::MapInconsistent);
    };
    let l4 = work.l4;
    let mut flags = work.ingress.tx_flag;
    if work.facts.is_tcp() {
        if l4.has(tcp_flag::SYN) && l4.has(tcp_flag::FIN | tcp_flag::RST) {
            return Verdict::drop(DropReason::BadTcpFlags);
        }
        if !l4.is_opening() {
            if l4.has(tcp_flag::RST) {
                return Verdict::drop(DropReason::TcpNoFlow);
            }
            if service.mode != mode::GATEWAY {
                return if service.on_miss == on_miss::DROP {
                    Verdict::drop(DropReason::TcpNoFlow)
                } else {
                    answer::reset::<F, P, T>(packet, tables, settings, work)
                };
            }
            flags |= flow_flag::RECOVERED;
        }
    }
    let choice = match select::<F, T>(tables, settings, service_id, service, &work.facts) {
        Ok(choice) => choice,
        Err(reason) => return Verdict::drop(reason),
    };
    if choice.backend.hop_flags & hop_flag::VALID == 0 {
        return Verdict::drop(DropReason::NoNeighbour);
    }
    work.hash = choice.hash;
    work.peer.backend_id = choice.backend_id;
    work.peer.mode = service.mode;
    work.peer.flags = flags;
    match connect::<F, T>(tables, work, choice.backend) {
        Ok(()) => forward::to_backend::<F, P>(packet, work, choice.backend),
        Err(reason) => Verdict::drop(reason),
    }
}

/// Makes a half-open connection, whose backend id, mode and flags stand in `work.peer`, and leaves its forward flow in
/// `work.flow`.
#[inline(never)]
fn connect<F: Rewrite, T: Tables + FlowTables<F>>(
    tables: &T,
    work: &mut Work<F>,
    backend: &Backend,
) -> Result<(), DropReason> {
    let conn_id = tables.new_conn_id().ok_or(DropReason::MapInconsistent)?;
    reply_flow(work, conn_id, tables.now());
    work.wanted = Wanted {
        backend: F::unmapped(&backend.address),
        internal_port: backend.internal_port,
    };
    claim::<F, T>(tables, work)?;
    forward_flow(work);
    F::pack_into(&work.flow, &mut work.value);
    if let Err(error) = tables.insert_half(&work.key, &work.value) {
        release_half::<F, T>(tables, &work.peer_key, conn_id);
        return Err(match error {
            // The same SYN, on another CPU.
            InsertError::Exists => DropReason::ClaimLost,
            InsertError::Full => DropReason::HalfTableFull,
        });
    }
    tables.count(&work.flow.backend_id, |stats| {
        stats.flows_new = stats.flows_new.wrapping_add(1);
    });
    Ok(())
}

/// The reply flow but for what depends on the tuple that is claimed.
#[inline(always)]
fn reply_flow<F: Family>(work: &mut Work<F>, conn_id: u64, now: u32) {
    let Work {
        facts,
        ingress,
        peer: reply,
        ..
    } = work;
    reply.conn_id = conn_id;
    reply.new_src = facts.dst;
    reply.new_dst = facts.src;
    reply.new_src_port = facts.dst_port;
    reply.new_dst_port = facts.src_port;
    reply.last_seen = now;
    reply.peer_mac = ingress.peer_mac;
    reply.own_mac = ingress.own_mac;
    reply.ifindex = ingress.ifindex;
    reply.direction = direction::REPLY;
    reply.tcp_seen = 0;
    reply.backend_isn = 0;
    reply.created = now;
}

/// The forward flow of the reply flow that was claimed.
#[inline(never)]
fn forward_flow<F: Rewrite>(work: &mut Work<F>) {
    let Work {
        peer: reply,
        flow,
        tag,
        wanted,
        ours,
        ..
    } = work;
    flow.conn_id = reply.conn_id;
    flow.new_src = ours.addr;
    flow.new_dst = wanted.backend;
    flow.new_src_port = ours.port;
    flow.new_dst_port = wanted.internal_port;
    (flow.l3_delta, flow.l4_delta) = reversed::<F>(reply.l3_delta, reply.l4_delta);
    flow.last_seen = reply.last_seen;
    flow.backend_id = reply.backend_id;
    flow.peer_mac = reply.peer_mac;
    flow.own_mac = reply.own_mac;
    flow.ifindex = reply.ifindex;
    flow.direction = direction::FORWARD;
    flow.tcp_seen = 0;
    flow.mode = reply.mode;
    flow.flags = reply.flags;
    flow.backend_isn = 0;
    flow.created = reply.created;
    flow.key_tag = *tag;
}
