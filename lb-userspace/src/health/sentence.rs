//! Verdicts as sentences: what happened at which target, what it means, and after `; ` what to do. Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::verdict::{BadBody, BodyEnd, PortVerdict, ProbeFault, Speaks, TlsCause, Unreachable};
use crate::view::Timestamp;

impl PortVerdict {
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
            Self::Unreachable(why) => unreachable(*why, target),
            Self::AcceptedThenClosed => format!(
                "{target} accepted the connection and closed it without an answer: a proxy without a server behind \
                 it, a server that wants TLS, or a connection limit; see the log of the server on internal port {port}"
            ),
            Self::Silent(waited) => format!(
                "{target} accepted the connection and sent nothing within {}: the server hangs, is overloaded, or \
                 waits for TLS; see its log, or raise the check's timeout",
                text(*waited)
            ),
            Self::WrongProtocol { seen, speaks } => wrong_protocol(target, seen, *speaks),
            Self::Tls(cause) => tls(target, cause),
            Self::BadStatus(code) => format!(
                "{target} answered with HTTP status {code}: the server does not call itself healthy; see its log, or \
                 correct path and status of the check"
            ),
            Self::BadBody(body) => bad_body(target, body),
            Self::Error(fault) => format!("{target} could not be probed: {fault}"),
        }
    }
}

fn unreachable(why: Unreachable, target: SocketAddr) -> String {
    let (ip, port) = (target.ip(), target.port());
    let question = if ip.is_ipv4() { "ARP" } else { "neighbour solicitations" };
    match why {
        Unreachable::Host(None) => format!(
            "{target} is unreachable: host {ip} does not answer {question}; check that it is up and has this address"
        ),
        Unreachable::Host(Some(by)) => format!(
            "{target} is unreachable: {by} reports that it cannot reach host {ip} (ICMP host unreachable); check that \
             the host is up, then the network behind {by}"
        ),
        Unreachable::Network(None) => format!("{target} is unreachable: no route to {ip}; see 'ip route get {ip}'"),
        Unreachable::Network(Some(by)) => format!(
            "{target} is unreachable: {by} reports that it has no route to {ip} (ICMP network unreachable); see the \
             routes of {by}"
        ),
        Unreachable::Gateway(gateway) => format!(
            "{target} is unreachable: gateway {gateway} does not answer {question}; see 'ip route get {ip}' and 'ip \
             neigh show {gateway}'"
        ),
        Unreachable::Port(by) => format!(
            "{target} is unreachable: a firewall{} rejects internal port {port} (ICMP port unreachable); allow it there",
            by.map_or_else(String::new, |by| format!(" at {by}"))
        ),
        Unreachable::Prohibited(Some(by)) => format!(
            "{target} is prohibited: a firewall at {by} rejects it (ICMP administratively prohibited); allow internal \
             port {port} there"
        ),
        Unreachable::Prohibited(None) => format!(
            "{target} is prohibited: a route or a firewall on this host forbids it; see 'ip route get {ip}' and 'nft \
             list ruleset'"
        ),
    }
}

fn wrong_protocol(target: SocketAddr, seen: &str, speaks: Speaks) -> String {
    let port = target.port();
    match speaks {
        Speaks::NotHttp => format!(
            "{target} does not speak HTTP (it said {seen}): another server has internal port {port}, or it wants TLS; \
             check the port number"
        ),
        Speaks::Tls => format!(
            "{target} speaks TLS, and the check asks in plain HTTP (it said {seen}); write check = {{ https = {{ ... }} \
             }}, or name the plain port"
        ),
        Speaks::PlainHttp => format!(
            "{target} speaks plain HTTP, and the check asks for TLS (it said {seen}); write check = {{ http = {{ ... }} \
             }}, or name the port that speaks TLS"
        ),
        Speaks::NotTls => format!(
            "{target} does not speak TLS (it said {seen}): another server has internal port {port}; check the port \
             number"
        ),
    }
}

fn tls(target: SocketAddr, cause: &TlsCause) -> String {
    let at = |unix_s: &Option<u64>, word: &str| {
        unix_s.map_or_else(String::new, |unix_s| format!(" {word} {}", Timestamp { unix_s }))
    };
    match cause {
        TlsCause::Expired(since) => format!(
            "{target} has a certificate that expired{}; renew it, and compare the clocks",
            at(since, "at")
        ),
        TlsCause::NotYetValid(from) => format!(
            "{target} has a certificate that is not valid{}; compare the clocks of both hosts",
            at(from, "before")
        ),
        TlsCause::UnknownIssuer => format!(
            "{target} has a certificate that no root of the check has signed, or sends it without its intermediate \
             certificates; set roots to the signing CA's file, or have the server send the whole chain"
        ),
        TlsCause::WrongName { wanted, present } => format!(
            "{target} has a certificate for {}, not for {wanted}; set sni (or host) of the check to a name that it \
             has, or renew it with {wanted}",
            match present.as_slice() {
                [] => "no name at all".to_owned(),
                names => names.join(", "),
            }
        ),
        TlsCause::BadCertificate(why) => {
            format!("{target} has a certificate that does not pass ({why}); see 'openssl s_client -connect {target}'")
        }
        TlsCause::Alert(alert) => format!(
            "{target} ended the TLS handshake with the alert {alert}; see the server's log, and whether it knows the \
             name in sni or wants a client certificate"
        ),
        TlsCause::Version(why) => format!(
            "{target} and the check have no TLS version or cipher in common ({why}); let the server speak TLS 1.2 or \
             1.3"
        ),
        TlsCause::Closed => format!(
            "{target} closed the connection in the middle of the TLS handshake; see the log of the server on internal \
             port {}",
            target.port()
        ),
        TlsCause::Other(why) => {
            format!("{target} gave no TLS session ({why}); see 'openssl s_client -connect {target}'")
        }
    }
}

fn bad_body(target: SocketAddr, body: &BadBody) -> String {
    let BadBody {
        wanted,
        begins,
        searched_bytes,
        end,
    } = body;
    let extent = match end {
        BodyEnd::Whole => format!("its body of {searched_bytes} bytes"),
        BodyEnd::Limit => format!("the first {searched_bytes} bytes of its body"),
        BodyEnd::Time => format!("the {searched_bytes} bytes that came in time"),
        BodyEnd::Closed => format!("the {searched_bytes} bytes that came before it closed"),
    };
    format!(
        "{target} answered with a good status, but {extent} lack {wanted:?} (it begins {begins}); see what the server \
         serves there, or correct path and body of the check"
    )
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

/// Up to the first line's end, as text; what is not text as `\x16`.
pub(super) fn printable(bytes: &[u8]) -> String {
    let line = bytes
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    format!("\"{}\"", line.escape_ascii())
}

/// The host as a peer names it, for a sender that is not this host.
pub(super) fn other_than(own: Option<IpAddr>, sender: Option<IpAddr>) -> Option<IpAddr> {
    sender.filter(|sender| own != Some(*sender))
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
    fn exhausted_check_ports_have_a_word_of_their_own() {
        let verdict = PortVerdict::Error(ProbeFault::NoCheckPort(9216..=9217));
        assert_eq!(verdict.as_str(), "no_check_port");
        assert!(verdict.sentence(target()).contains("check_ports 9216-9217"));
    }

    #[test]
    fn a_certificate_for_other_names_shows_both_sides() {
        let cause = TlsCause::WrongName {
            wanted: "www.example.org".to_owned(),
            present: vec!["a.example".to_owned(), "b.example".to_owned()],
        };
        let sentence = PortVerdict::Tls(Box::new(cause)).sentence(target());
        assert!(
            sentence.contains("for a.example, b.example, not for www.example.org; set sni"),
            "{sentence}"
        );
    }

    #[test]
    fn an_expired_certificate_says_since_when() {
        let verdict = PortVerdict::Tls(Box::new(TlsCause::Expired(Some(1_000_000_000))));
        assert!(
            verdict
                .sentence(target())
                .contains("expired at 2001-09-09T01:46:40Z; renew")
        );
    }

    #[test]
    fn what_is_not_text_is_shown_in_hex_and_a_banner_up_to_its_line_end() {
        assert_eq!(printable(b"\x15\x03\x01"), "\"\\x15\\x03\\x01\"");
        assert_eq!(printable(b"SSH-2.0-x\r\nmore"), "\"SSH-2.0-x\"");
    }

    #[test]
    fn durations_are_written_with_a_unit() {
        assert_eq!(text(Duration::from_secs(2)), "2 s");
        assert_eq!(text(Duration::from_millis(1_500)), "1500 ms");
    }
}
