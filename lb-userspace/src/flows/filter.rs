//! Which connections a reader wants. Pure.

use lb_common::abi::mode;
use lb_common::net::IPPROTO_TCP;

use super::Naming;
use crate::dataplane::{Connection, Family, Place};
use crate::view::{FlowFamily, FlowQuery, FlowState};

/// A query, ready to be asked of every connection.
#[derive(Debug)]
pub(super) struct Filter {
    query: FlowQuery,
    /// The service and backend as the query names them together.
    backend: Option<(Option<String>, String)>,
}

impl Filter {
    pub(super) fn new(query: FlowQuery, naming: &Naming) -> Self {
        let backend = query.backend.as_ref().map(|text| naming.split(text));
        Self { query, backend }
    }

    pub(super) fn limit(&self) -> u64 {
        self.query.limit.unwrap_or(u64::MAX)
    }

    /// Whether a whole table can hold something that is wanted.
    pub(super) fn wants(&self, place: Place, family: Family) -> bool {
        let half = self
            .query
            .state
            .is_none_or(|state| (state == FlowState::HalfOpen) == (place == Place::HalfOpen));
        let of = match family {
            Family::Ipv4 => FlowFamily::Ipv4,
            Family::Ipv6 => FlowFamily::Ipv6,
        };
        let client = self
            .query
            .client
            .is_none_or(|prefix| prefix.address.is_ipv4() == (of == FlowFamily::Ipv4));
        half && client && self.query.family.is_none_or(|wanted| wanted == of)
    }

    pub(super) fn takes(&self, connection: &Connection, naming: &Naming) -> bool {
        let query = &self.query;
        if query.client.is_some_and(|prefix| !prefix.holds(connection.client.ip())) {
            return false;
        }
        if query.state.is_some_and(|state| state != state_of(connection)) {
            return false;
        }
        let (service, backend) = naming.of(connection.backend_id);
        query.service.as_deref().is_none_or(|wanted| wanted == service)
            && self.backend.as_ref().is_none_or(|(of_service, wanted)| {
                is_meant(wanted, backend) && of_service.as_deref().is_none_or(|wanted| wanted == service)
            })
    }
}

/// A backend by its name; those of a name that was looked up also by their entry's (`app` for `app@10.0.0.11`).
pub(crate) fn is_meant(wanted: &str, backend: &str) -> bool {
    let rest = backend.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
}

pub(super) const fn state_of(connection: &Connection) -> FlowState {
    match connection.place {
        Place::HalfOpen => FlowState::HalfOpen,
        Place::Established if connection.is_closing() => FlowState::Closing,
        Place::Established => FlowState::Established,
    }
}

pub(super) const fn protocol_of(connection: &Connection) -> &'static str {
    if connection.protocol == IPPROTO_TCP {
        "tcp"
    } else {
        "udp"
    }
}

pub(super) const fn mode_of(connection: &Connection) -> &'static str {
    match connection.mode {
        mode::GATEWAY => "gateway",
        _ => "full_nat",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let socket = |text: &str| text.parse().expect("a socket address");
        Connection {
            conn_id: 9,
            place: Place::Established,
            protocol: IPPROTO_TCP,
            mode: mode::FULL_NAT,
            tcp_seen: 0,
            client: socket("198.51.100.2:4000"),
            vip: socket("203.0.113.10:80"),
            source: socket("10.0.0.1:10240"),
            backend: socket("10.0.0.11:8081"),
            backend_id: 3,
            created: 0,
            last_seen: 0,
        }
    }

    fn takes(query: FlowQuery) -> bool {
        let naming = Naming::from_pairs([(3, "web", "a/b"), (4, "dns", "a/b")]);
        Filter::new(query, &naming).takes(&connection(), &naming)
    }

    #[test]
    fn every_key_of_a_query_must_match() {
        assert!(takes(FlowQuery::default()));
        let named = |service: Option<&str>, backend: Option<&str>| FlowQuery {
            service: service.map(str::to_owned),
            backend: backend.map(str::to_owned),
            ..FlowQuery::default()
        };
        assert!(takes(named(Some("web"), Some("a/b"))));
        assert!(takes(named(None, Some("web/a/b"))));
        assert!(!takes(named(None, Some("dns/a/b"))));
        assert!(!takes(named(Some("dns"), None)));
        assert!(!takes(named(None, Some("b"))));
        assert!(!takes(FlowQuery {
            state: Some(FlowState::Closing),
            ..FlowQuery::default()
        }));
        assert!(takes(FlowQuery {
            client: Some("198.51.100.0/24".parse().expect("a prefix")),
            ..FlowQuery::default()
        }));
    }

    #[test]
    fn an_entry_means_every_address_of_its_name_and_nothing_else() {
        assert!(is_meant("app", "app@10.0.0.11") && is_meant("app@10.0.0.11", "app@10.0.0.11"));
        assert!(
            !is_meant("ap", "app@10.0.0.11")
                && !is_meant("app", "app:80")
                && !is_meant("app@10.0.0.1", "app@10.0.0.11")
        );
    }

    #[test]
    fn tables_that_cannot_match_are_not_walked() {
        let naming = Naming::default();
        let half = FlowQuery {
            state: Some(FlowState::HalfOpen),
            client: Some("::/0".parse().expect("a prefix")),
            ..FlowQuery::default()
        };
        let filter = Filter::new(half, &naming);
        assert!(filter.wants(Place::HalfOpen, Family::Ipv6));
        assert!(!filter.wants(Place::HalfOpen, Family::Ipv4));
        assert!(!filter.wants(Place::Established, Family::Ipv6));
    }
}
