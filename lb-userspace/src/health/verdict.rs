//! What a probe found, in one word for machines and one sentence with the next step for people. Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What a probe of an internal port found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortVerdict {
    /// As it should be.
    Open,
    /// The host answered with a reset.
    Refused,
    /// No answer to the SYN within the timeout, although the next hop answers.
    Filtered(Duration),
    /// The network says that there is no way.
    Unreachable(Unreachable),
    /// The connection was accepted and closed before an answer.
    AcceptedThenClosed,
    /// The connection was accepted and nothing came within the timeout.
    Silent(Duration),
    /// The answer was not HTTP.
    WrongProtocol {
        /// Its first bytes, made printable.
        seen: String,
    },
    /// HTTP, with a status that is not accepted.
    BadStatus(u16),
    /// The probe could not be made: says nothing about the backend.
    Error(ProbeFault),
}

/// Who says that there is no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The host does not answer ARP or neighbour discovery, or a router says so.
    Host,
    /// No route, here or at a router.
    Network,
    /// Our gateway towards the host does not answer ARP or neighbour discovery.
    Gateway(IpAddr),
    /// ICMP port unreachable: a firewall that rejects, for a TCP server never says that.
    Port(Option<IpAddr>),
    /// ICMP administratively prohibited, or a `prohibit` route of our own (then nobody is named).
    Prohibited(Option<IpAddr>),
}

/// Why a probe could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeFault {
    /// Every port of `check_ports` is taken towards this target.
    NoCheckPort(RangeInclusive<u16>),
    /// The source address is not (yet) one of this host.
    NoSource(Option<IpAddr>),
    /// No file descriptors left.
    NoFiles,
    /// It timed out while this process itself was held up for so long.
    Late(Duration),
    /// Anything else, in the system's words.
    Other(String),
}

/// What a verdict counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Towards `rise`.
    Good,
    /// Towards `fall`.
    Bad,
    /// Neither: the fault is ours.
    Inconclusive,
}

impl PortVerdict {
    /// Metric label and JSON value. A fixed, small set.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Filtered(_) => "filtered",
            Self::Unreachable(_) => "unreachable",
            Self::AcceptedThenClosed => "accepted_then_closed",
            Self::Silent(_) => "silent",
            Self::WrongProtocol { .. } => "wrong_protocol",
            Self::BadStatus(_) => "bad_status",
            Self::Error(ProbeFault::NoCheckPort(_)) => "no_check_port",
            Self::Error(ProbeFault::Late(_)) => "probe_late",
            Self::Error(_) => "error",
        }
    }

    /// What it counts as.
    pub const fn judgement(&self) -> Judgement {
        match self {
            Self::Open => Judgement::Good,
            Self::Error(_) => Judgement::Inconclusive,
            _ => Judgement::Bad,
        }
    }

    /// One sentence about `target`: what happened, what it means, what to do.
    pub fn sentence(&self, target: SocketAddr) -> String {
        let (ip, port) = (target.ip(), target.port());
        match self {
            Self::Open => format!("{target} answers"),
            Self::Refused => format!(
                "{target} refused the connection: nothing listens on internal port {port}; check the server's listen \
                 address"
            ),
            Self::Filtered(waited) => format!(
                "{target} did not answer within {}: the host is there, so something drops packets to internal port \
                 {port}; check the firewall on {ip} and on the way to it",
                text(*waited)
            ),
            Self::Unreachable(why) => why.sentence(target),
            Self::AcceptedThenClosed => format!(
                "{target} accepted the connection and closed it without an answer: a proxy without a server behind \
                 it, or a TLS or connection limit; see the log of the server on internal port {port}"
            ),
            Self::Silent(waited) => format!(
                "{target} accepted the connection and sent nothing within {}: the server hangs, is overloaded, or \
                 waits for TLS; see its log, or raise the check's timeout",
                text(*waited)
            ),
            Self::WrongProtocol { seen } => format!(
                "{target} does not speak HTTP (it said {seen}): another server has internal port {port}, or it wants \
                 TLS; check the port number"
            ),
            Self::BadStatus(code) => format!(
                "{target} answered with HTTP status {code}: see the server's log, or correct path and status of the \
                 check"
            ),
            Self::Error(fault) => format!("{target} could not be probed: {fault}"),
        }
    }
}

impl Unreachable {
    fn sentence(self, target: SocketAddr) -> String {
        let ip = target.ip();
        let question = if ip.is_ipv4() { "ARP" } else { "neighbour solicitations" };
        match self {
            Self::Host => format!(
                "{target} is unreachable: host {ip} does not answer {question}, or a router reports it gone; check \
                 that it is up and has this address"
            ),
            Self::Network => format!("{target} is unreachable: no route to {ip}; see 'ip route get {ip}'"),
            Self::Gateway(gateway) => format!(
                "{target} is unreachable: gateway {gateway} does not answer {question}; see 'ip route get {ip}' and \
                 'ip neigh show {gateway}'"
            ),
            Self::Port(by) => format!(
                "{target} is unreachable: a firewall{} rejects internal port {} (ICMP port unreachable); allow it there",
                named(by),
                target.port()
            ),
            Self::Prohibited(Some(by)) => format!(
                "{target} is unreachable: administratively prohibited by {by}; allow internal port {} there",
                target.port()
            ),
            Self::Prohibited(None) => format!(
                "{target} is unreachable: prohibited on this host by a route or a firewall; see 'ip route get {ip}' \
                 and 'nft list ruleset'"
            ),
        }
    }
}

impl fmt::Display for ProbeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCheckPort(range) => write!(
                f,
                "every port of check_ports {}-{} is in use towards it; widen check_ports or raise the interval",
                range.start(),
                range.end()
            ),
            Self::NoSource(Some(source)) => {
                write!(
                    f,
                    "source address {source} is not an address of this host; see 'ip addr' and snat_addresses"
                )
            }
            Self::NoSource(None) => f.write_str("this host has no usable address of that family; see 'ip addr'"),
            Self::NoFiles => f.write_str("no file descriptors left; raise LimitNOFILE= of the agent"),
            Self::Late(held_up) => write!(
                f,
                "it timed out while the agent itself got no CPU for {}; see the load of this host",
                text(*held_up)
            ),
            Self::Other(text) => f.write_str(text),
        }
    }
}

fn named(by: Option<IpAddr>) -> String {
    by.map_or_else(String::new, |by| format!(" at {by}"))
}

/// `2 s`, `250 ms`.
fn text(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{} ms", duration.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 11], 8081))
    }

    #[test]
    fn a_refusal_names_the_internal_port_and_the_next_step() {
        let want = "10.0.0.11:8081 refused the connection: nothing listens on internal port 8081; check the server's \
                    listen address";
        assert_eq!(PortVerdict::Refused.sentence(target()), want);
    }

    #[test]
    fn a_fault_of_ours_never_counts_against_the_backend() {
        let faults = [
            ProbeFault::NoCheckPort(1..=2),
            ProbeFault::NoSource(None),
            ProbeFault::NoFiles,
            ProbeFault::Late(Duration::from_secs(1)),
            ProbeFault::Other("x".to_owned()),
        ];
        for fault in faults {
            assert_eq!(PortVerdict::Error(fault).judgement(), Judgement::Inconclusive);
        }
    }

    #[test]
    fn exhausted_check_ports_have_a_word_of_their_own() {
        let verdict = PortVerdict::Error(ProbeFault::NoCheckPort(9216..=9217));
        assert_eq!(verdict.as_str(), "no_check_port");
        assert!(verdict.sentence(target()).contains("check_ports 9216-9217"));
    }

    #[test]
    fn every_verdict_is_explained_in_the_docs() {
        let page = include_str!("../../../docs/port-verdicts.md");
        let verdicts = [
            PortVerdict::Open,
            PortVerdict::Refused,
            PortVerdict::Filtered(Duration::ZERO),
            PortVerdict::Unreachable(Unreachable::Host),
            PortVerdict::AcceptedThenClosed,
            PortVerdict::Silent(Duration::ZERO),
            PortVerdict::WrongProtocol { seen: String::new() },
            PortVerdict::BadStatus(500),
            PortVerdict::Error(ProbeFault::NoCheckPort(1..=2)),
            PortVerdict::Error(ProbeFault::Late(Duration::ZERO)),
            PortVerdict::Error(ProbeFault::NoFiles),
        ];
        for verdict in verdicts {
            let counts = match verdict.judgement() {
                Judgement::Good => "good",
                Judgement::Bad => "bad",
                Judgement::Inconclusive => "inconclusive",
            };
            let row = format!("| `{}` | {counts} |", verdict.as_str());
            assert!(page.contains(&row), "docs/port-verdicts.md lacks {row}");
        }
    }

    #[test]
    fn durations_are_written_with_a_unit() {
        assert_eq!(text(Duration::from_secs(2)), "2 s");
        assert_eq!(text(Duration::from_millis(1_500)), "1500 ms");
    }
}
