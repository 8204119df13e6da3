//! Which backend a new flow goes to: its slot of the service's ring, or one of the next three where the ring and the
//! backends are being changed at this moment. Source of the ring: Maglev (NSDI 2016), built by the agent.

use lb_common::{
    abi::{Backend, Service, Settings, backend_state},
    hash,
    reason::DropReason,
};

use crate::{family::Family, parse::Facts, tables::Tables};

/// Slots that are tried.
const TRIES: u32 = 4;

/// The choice.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Backend id.
    pub backend_id: u32,
    /// Its entry; an array map's, so it stays where it is.
    pub backend: &'a Backend,
    /// Hash of the flow, for the first SNAT candidate.
    pub hash: u32,
}

/// Chooses a backend for a new flow.
#[inline(always)]
pub fn select<'a, F: Family, T: Tables>(
    tables: &'a T,
    settings: &Settings,
    service_id: u32,
    service: &Service,
    facts: &Facts<F>,
) -> Result<Choice<'a>, DropReason> {
    let (offset, size) = F::ring(service);
    if size == 0 {
        return Err(DropReason::NoBackend);
    }
    let hash = hash::flow(
        settings.hash_seed,
        F::word(facts.src),
        facts.src_port,
        F::word(facts.dst),
        facts.dst_port,
    );
    for step in 0..TRIES {
        let slot = hash.wrapping_add(step) & size.wrapping_sub(1);
        let Some(backend_id) = tables.ring_slot(offset.wrapping_add(slot)) else {
            continue;
        };
        if let Some(backend) = tables.backend(&backend_id)
            && backend.state == backend_state::ACTIVE
            // A torn or late read of the ring may name another service's backend.
            && backend.service_id == service_id
        {
            return Ok(Choice {
                backend_id,
                backend,
                hash,
            });
        }
    }
    Err(DropReason::NoBackend)
}
