//! What the flow log remembers between two passes: the connections that are open, in about 250 bytes each.
//! Pure: time and connections come in, lines go out.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use super::record::{Event, Record};
use crate::view::{FlowState, FlowView, SCHEMA, Timestamp};

/// Open connections.
#[derive(Debug, Default)]
pub(super) struct Memory {
    open: HashMap<u64, Open>,
    /// Each service and backend once.
    names: HashMap<(String, String), Rc<(String, String)>>,
    pass: u32,
}

#[derive(Debug)]
struct Open {
    pass: u32,
    state: FlowState,
    tcp: bool,
    client: SocketAddr,
    vip: SocketAddr,
    snat: Option<SocketAddr>,
    backend_address: SocketAddr,
    name: Rc<(String, String)>,
    first_seen: Timestamp,
    last_seen: Timestamp,
}

impl Memory {
    /// Starts a pass.
    pub(super) fn begin_pass(&mut self) {
        self.pass = self.pass.wrapping_add(1);
    }

    /// A connection was seen in this pass: its first line when it is new, after the last line of another one whose id it
    /// took (ids begin anew after `xlb unload`). A TCP handshake has carried nothing yet and is left out; a UDP flow that
    /// was not answered has.
    pub(super) fn see(&mut self, flow: &FlowView, now: Timestamp) -> Vec<Record> {
        let tcp = flow.protocol == "tcp";
        let Ok(id) = u64::from_str_radix(&flow.id, 16) else {
            return Vec::new();
        };
        if tcp && flow.state == FlowState::HalfOpen {
            return Vec::new();
        }
        let mut records = Vec::new();
        match self.open.get_mut(&id) {
            Some(open) if open.is(flow) => {
                open.pass = self.pass;
                open.state = flow.state;
                open.last_seen = flow.last_seen;
                return records;
            }
            Some(other) => records.push(other.record(Event::End, id, now)),
            None => {}
        }
        let name = (flow.service.clone(), flow.backend.clone());
        let name = self.names.entry(name.clone()).or_insert_with(|| Rc::new(name));
        let open = Open {
            pass: self.pass,
            state: flow.state,
            tcp,
            client: flow.client,
            vip: flow.vip,
            snat: flow.snat,
            backend_address: flow.backend_address,
            name: Rc::clone(name),
            first_seen: flow.created,
            last_seen: flow.last_seen,
        };
        self.open.insert(id, open);
        records.push(Record::of(Event::Begin, flow, now));
        records
    }

    /// Ends a pass that reached its end: what it did not see is over. Each is told and forgotten; an error of `tell`
    /// ends it.
    pub(super) fn end_pass<E>(
        &mut self,
        now: Timestamp,
        mut tell: impl FnMut(&Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let pass = self.pass;
        for (id, open) in self.open.extract_if(|_, open| open.pass != pass) {
            tell(&open.record(Event::End, id, now))?;
        }
        self.names.retain(|_, name| Rc::strong_count(name) > 1);
        Ok(())
    }

    /// The log ends: what is open is told.
    pub(super) fn stop<E>(&mut self, now: Timestamp, mut tell: impl FnMut(&Record) -> Result<(), E>) -> Result<(), E> {
        self.open
            .drain()
            .try_for_each(|(id, open)| tell(&open.record(Event::Open, id, now)))
    }
}

impl Open {
    fn is(&self, flow: &FlowView) -> bool {
        self.client == flow.client
            && self.vip == flow.vip
            && self.snat == flow.snat
            && self.tcp == (flow.protocol == "tcp")
    }

    fn record(&self, event: Event, id: u64, at: Timestamp) -> Record {
        Record {
            schema: SCHEMA,
            event,
            at,
            id: format!("{id:016x}"),
            protocol: if self.tcp { "tcp" } else { "udp" }.to_owned(),
            client: self.client,
            vip: self.vip,
            snat: self.snat,
            backend_address: self.backend_address,
            service: self.name.0.clone(),
            backend: self.name.1.clone(),
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            state: self.state,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::cli::flows::rows::tests::flow;

    const NOW: Timestamp = Timestamp { unix_s: 1_000_000_100 };

    fn pass(memory: &mut Memory, flows: &[FlowView]) -> Vec<(Event, String)> {
        memory.begin_pass();
        let mut told: Vec<Record> = flows.iter().flat_map(|flow| memory.see(flow, NOW)).collect();
        let ended = memory.end_pass::<Infallible>(NOW, |record| {
            told.push(record.clone());
            Ok(())
        });
        assert!(ended.is_ok());
        told.into_iter().map(|record| (record.event, record.id)).collect()
    }

    #[test]
    fn every_connection_begins_and_ends_once() {
        let mut memory = Memory::default();
        let (one, two) = (flow(1), flow(2));
        let id = |flow: &FlowView| flow.id.clone();
        assert_eq!(
            pass(&mut memory, std::slice::from_ref(&one)),
            [(Event::Begin, id(&one))]
        );
        assert_eq!(
            pass(&mut memory, &[one.clone(), two.clone()]),
            [(Event::Begin, id(&two))]
        );
        assert_eq!(pass(&mut memory, &[one.clone(), two.clone()]), []);
        assert_eq!(pass(&mut memory, std::slice::from_ref(&two)), [(Event::End, id(&one))]);
        assert_eq!(pass(&mut memory, &[]), [(Event::End, id(&two))]);
        assert!(memory.names.is_empty() && memory.open.is_empty());
    }

    #[test]
    fn a_half_open_connection_is_told_when_it_is_open() {
        let mut memory = Memory::default();
        let half = FlowView {
            state: FlowState::HalfOpen,
            ..flow(1)
        };
        let datagrams = FlowView {
            protocol: "udp".to_owned(),
            id: "2".to_owned(),
            ..half.clone()
        };
        assert_eq!(pass(&mut memory, &[half]), []);
        assert_eq!(pass(&mut memory, &[flow(1), datagrams]).len(), 2);
    }

    #[test]
    fn an_id_that_begins_anew_ends_its_former_connection() {
        let mut memory = Memory::default();
        let other = FlowView {
            client: "198.51.100.9:1".parse().expect("a socket address"),
            ..flow(1)
        };
        pass(&mut memory, &[flow(1)]);
        let events: Vec<Event> = pass(&mut memory, &[other])
            .into_iter()
            .map(|(event, _)| event)
            .collect();
        assert_eq!(events, [Event::End, Event::Begin]);
    }

    #[test]
    fn what_is_open_at_the_end_is_said_to_be_open() {
        let mut memory = Memory::default();
        pass(&mut memory, &[flow(1)]);
        let mut events = Vec::new();
        let stopped = memory.stop::<Infallible>(NOW, |record| {
            events.push(record.event);
            Ok(())
        });
        assert!(stopped.is_ok());
        assert_eq!(events, [Event::Open]);
    }
}
