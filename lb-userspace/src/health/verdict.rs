//! What a probe found: one word for machines, a finer cause, what it counts as. Pure; the sentences for people are in
//! [`super::sentence`].

use std::net::IpAddr;
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
    /// The answer was not in the protocol of the check.
    WrongProtocol {
        /// Its first bytes, made printable.
        seen: String,
        /// What the other side seems to speak.
        speaks: Speaks,
    },
    /// The other side speaks TLS, and no session came about.
    Tls(Box<TlsCause>),
    /// HTTP, with a status that is not accepted.
    BadStatus(u16),
    /// HTTP with a good status, and a body without the wanted text.
    BadBody(Box<BadBody>),
    /// The probe could not be made: says nothing about the backend.
    Error(ProbeFault),
}

/// Who says that there is no way. A sender is absent when it is this host itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The host does not answer ARP or neighbour discovery, or a router says so.
    Host(Option<IpAddr>),
    /// No route, here or at a router.
    Network(Option<IpAddr>),
    /// Our gateway towards the host does not answer ARP or neighbour discovery.
    Gateway(IpAddr),
    /// ICMP port unreachable: a firewall that rejects, for a TCP server never says that.
    Port(Option<IpAddr>),
    /// ICMP administratively prohibited, or a `prohibit` route of our own (then nobody is named).
    Prohibited(Option<IpAddr>),
}

/// What a server that does not speak the protocol of the check seems to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Nothing we know, to an `http` check.
    NotHttp,
    /// TLS, to an `http` check.
    Tls,
    /// Plain HTTP, to an `https` check.
    PlainHttp,
    /// Nothing we know, to an `https` check.
    NotTls,
}

/// Why no TLS session came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsCause {
    /// The certificate is no longer valid; since when, in seconds since 1970.
    Expired(Option<u64>),
    /// The certificate is not valid yet; from when, in seconds since 1970.
    NotYetValid(Option<u64>),
    /// No root of the check has signed it.
    UnknownIssuer,
    /// The certificate is for other names.
    WrongName {
        /// What was asked for.
        wanted: String,
        /// What it is for.
        present: Vec<String>,
    },
    /// The certificate is wrong in another way, in the verifier's words.
    BadCertificate(String),
    /// The server ended the handshake with this alert (RFC 8446, 6.2).
    Alert(String),
    /// No TLS version or cipher in common, in the library's words.
    Version(String),
    /// The server closed the connection in the middle of the handshake.
    Closed,
    /// Anything else, in the library's words.
    Other(String),
}

/// A body without the wanted text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBody {
    /// What was looked for.
    pub wanted: String,
    /// How the body begins, made printable.
    pub begins: String,
    /// Bytes that were searched.
    pub searched_bytes: usize,
    /// Why the search ended.
    pub end: BodyEnd,
}

/// Why the search of a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// It was the whole body.
    Whole,
    /// Only so much of a body is searched.
    Limit,
    /// The check's timeout.
    Time,
    /// The connection was closed in the middle of it.
    Closed,
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

impl Judgement {
    /// As the docs and `xlb explain` call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl PortVerdict {
    /// Metric label and JSON value. A fixed, small set.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Filtered(_) => "filtered",
            Self::Unreachable(Unreachable::Prohibited(_)) => "prohibited",
            Self::Unreachable(_) => "unreachable",
            Self::AcceptedThenClosed => "accepted_then_closed",
            Self::Silent(_) => "silent",
            Self::WrongProtocol { .. } => "wrong_protocol",
            Self::Tls(_) => "tls_error",
            Self::BadStatus(_) => "bad_status",
            Self::BadBody(_) => "bad_body",
            Self::Error(ProbeFault::NoCheckPort(_)) => "no_check_port",
            Self::Error(ProbeFault::Late(_)) => "probe_late",
            Self::Error(_) => "error",
        }
    }

    /// The finer cause behind a word that has several; a fixed, small set.
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable(why) => why.cause(),
            Self::WrongProtocol { speaks, .. } => Some(speaks.as_str()),
            Self::Tls(cause) => Some(cause.as_str()),
            _ => None,
        }
    }

    /// Whether two verdicts are the same finding: word and cause, not times, codes or texts.
    pub fn is_like(&self, other: &Self) -> bool {
        self.as_str() == other.as_str() && self.cause() == other.cause()
    }

    /// What it counts as.
    pub const fn judgement(&self) -> Judgement {
        match self {
            Self::Open => Judgement::Good,
            Self::Error(_) => Judgement::Inconclusive,
            _ => Judgement::Bad,
        }
    }
}

impl Unreachable {
    const fn cause(self) -> Option<&'static str> {
        match self {
            Self::Host(_) => Some("host"),
            Self::Network(_) => Some("network"),
            Self::Gateway(_) => Some("gateway"),
            Self::Port(_) => Some("port"),
            // Its word says it.
            Self::Prohibited(_) => None,
        }
    }
}

impl Speaks {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotHttp => "not_http",
            Self::Tls => "speaks_tls",
            Self::PlainHttp => "speaks_plain_http",
            Self::NotTls => "not_tls",
        }
    }
}

impl TlsCause {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Expired(_) => "expired",
            Self::NotYetValid(_) => "not_yet_valid",
            Self::UnknownIssuer => "unknown_issuer",
            Self::WrongName { .. } => "wrong_name",
            Self::BadCertificate(_) => "bad_certificate",
            Self::Alert(_) => "alert",
            Self::Version(_) => "protocol_version",
            Self::Closed => "closed",
            Self::Other(_) => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn verdicts_are_alike_when_word_and_cause_are() {
        let by = Some(IpAddr::from([10, 0, 0, 1]));
        let host = PortVerdict::Unreachable(Unreachable::Host(None));
        assert!(host.is_like(&PortVerdict::Unreachable(Unreachable::Host(by))));
        assert!(!host.is_like(&PortVerdict::Unreachable(Unreachable::Network(None))));
        assert!(PortVerdict::BadStatus(500).is_like(&PortVerdict::BadStatus(503)));
        let expired = PortVerdict::Tls(Box::new(TlsCause::Expired(Some(1))));
        assert!(!expired.is_like(&PortVerdict::Tls(Box::new(TlsCause::UnknownIssuer))));
    }

    #[test]
    fn a_verdict_is_small_for_a_hundred_thousand_histories_hold_ten_each() {
        assert!(size_of::<PortVerdict>() <= 40, "{}", size_of::<PortVerdict>());
    }

    #[test]
    fn every_verdict_is_explained_and_nothing_else_is() {
        let words = super::super::WORDS;
        let listed: Vec<_> = words
            .iter()
            .flat_map(|one| one.causes.iter().map(|cause| (one.word, Some(cause.cause))))
            .collect();
        let found: Vec<_> = every()
            .iter()
            .map(|verdict| (verdict.as_str(), verdict.cause()))
            .collect();
        for (word, cause) in &listed {
            assert!(found.contains(&(*word, *cause)), "no verdict is {word}: {cause:?}");
        }
        for one in words {
            assert!(
                found.iter().any(|(word, _)| *word == one.word),
                "no verdict is {}",
                one.word
            );
        }
        for verdict in every() {
            let Some(one) = words.iter().find(|one| one.word == verdict.as_str()) else {
                panic!("health/words.rs lacks {}", verdict.as_str())
            };
            assert_eq!(one.judgement, verdict.judgement(), "{}", one.word);
            let cause = verdict.cause();
            assert!(
                cause.is_none() || listed.contains(&(one.word, cause)),
                "health/words.rs lacks {}: {cause:?}",
                one.word
            );
        }
    }

    /// One of each word and cause.
    fn every() -> Vec<PortVerdict> {
        let text = || "x".to_owned();
        let tls = [
            TlsCause::Expired(None),
            TlsCause::NotYetValid(None),
            TlsCause::UnknownIssuer,
            TlsCause::WrongName {
                wanted: text(),
                present: Vec::new(),
            },
            TlsCause::BadCertificate(text()),
            TlsCause::Alert(text()),
            TlsCause::Version(text()),
            TlsCause::Closed,
            TlsCause::Other(text()),
        ];
        let speaks = [Speaks::NotHttp, Speaks::Tls, Speaks::PlainHttp, Speaks::NotTls];
        let unreachable = [
            Unreachable::Host(None),
            Unreachable::Network(None),
            Unreachable::Gateway(IpAddr::from([10, 0, 0, 1])),
            Unreachable::Port(None),
            Unreachable::Prohibited(None),
        ];
        let mut all = vec![
            PortVerdict::Open,
            PortVerdict::Refused,
            PortVerdict::Filtered(Duration::ZERO),
            PortVerdict::AcceptedThenClosed,
            PortVerdict::Silent(Duration::ZERO),
            PortVerdict::BadStatus(500),
            PortVerdict::BadBody(Box::new(BadBody {
                wanted: text(),
                begins: text(),
                searched_bytes: 0,
                end: BodyEnd::Whole,
            })),
            PortVerdict::Error(ProbeFault::NoCheckPort(1..=2)),
            PortVerdict::Error(ProbeFault::Late(Duration::ZERO)),
            PortVerdict::Error(ProbeFault::NoFiles),
        ];
        all.extend(unreachable.map(PortVerdict::Unreachable));
        all.extend(tls.map(|cause| PortVerdict::Tls(Box::new(cause))));
        all.extend(speaks.map(|speaks| PortVerdict::WrongProtocol { seen: text(), speaks }));
        all
    }
}
