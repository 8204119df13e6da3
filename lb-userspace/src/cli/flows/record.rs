//! One line of the flow log: a connection's begin or end.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::view::{FlowState, FlowView, SCHEMA, Timestamp};

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// [`SCHEMA`].
    pub(super) schema: u32,
    /// What happened.
    pub(super) event: Event,
    /// When the line was written.
    pub(super) at: Timestamp,
    /// Connection id.
    pub(super) id: String,
    /// `tcp` or `udp`.
    pub(super) protocol: String,
    /// The client.
    pub(super) client: SocketAddr,
    /// VIP and service port.
    pub(super) vip: SocketAddr,
    /// SNAT address and port; absent in gateway mode.
    pub(super) snat: Option<SocketAddr>,
    /// The backend's address and internal port.
    pub(super) backend_address: SocketAddr,
    /// Service name.
    pub(super) service: String,
    /// Backend name.
    pub(super) backend: String,
    /// When it was made, from the kernel's own stamp.
    pub(super) first_seen: Timestamp,
    /// Its last packet as far as known.
    pub(super) last_seen: Timestamp,
    /// Its state when last looked at.
    pub(super) state: FlowState,
}

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// Seen for the first time.
    Begin,
    /// Not in the tables any more.
    End,
    /// Still open when the log was stopped.
    Open,
}

impl Record {
    pub(super) fn of(event: Event, flow: &FlowView, at: Timestamp) -> Self {
        Self {
            schema: SCHEMA,
            event,
            at,
            id: flow.id.clone(),
            protocol: flow.protocol.clone(),
            client: flow.client,
            vip: flow.vip,
            snat: flow.snat,
            backend_address: flow.backend_address,
            service: flow.service.clone(),
            backend: flow.backend.clone(),
            first_seen: flow.created,
            last_seen: flow.last_seen,
            state: flow.state,
        }
    }
}
