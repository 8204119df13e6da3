//! What each verdict means, in words: the tables of docs/port-verdicts.md and the text of `xlb explain`.

use super::Judgement;

/// A verdict's word.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    /// As [`super::PortVerdict::as_str`] gives it.
    pub word: &'static str,
    /// What it counts as.
    pub judgement: Judgement,
    /// What happened on the wire.
    pub happened: &'static str,
    /// What to look at first; empty where there is nothing to do.
    pub next: &'static str,
    /// Its causes, where it has several.
    pub causes: &'static [Cause],
}

/// One cause behind a word.
#[derive(Debug, PartialEq, Eq)]
pub struct Cause {
    /// As [`super::PortVerdict::cause`] gives it.
    pub cause: &'static str,
    /// What happened.
    pub happened: &'static str,
    /// The next step.
    pub next: &'static str,
}

/// Every word, good ones first.
pub const WORDS: &[Word] = &[
    Word {
        word: "open",
        judgement: Judgement::Good,
        happened: "TCP: accepted, and not closed at once. HTTP: an accepted status",
        next: "",
        causes: &[],
    },
    Word {
        word: "refused",
        judgement: Judgement::Bad,
        happened: "the SYN was answered by a reset",
        next: "does the server run, on this port, on this address?",
        causes: &[],
    },
    Word {
        word: "filtered",
        judgement: Judgement::Bad,
        happened: "no answer to the SYN; the next hop answers ARP or neighbour discovery",
        next: "a firewall on the backend or on the way",
        causes: &[],
    },
    Word {
        word: "prohibited",
        judgement: Judgement::Bad,
        happened: "an ICMP error \"administratively prohibited\", with its sender; or a `prohibit` route or firewall of our own",
        next: "the named firewall",
        causes: &[],
    },
    Word {
        word: "unreachable",
        judgement: Judgement::Bad,
        happened: "host or gateway silent to ARP or neighbour discovery; no route; another ICMP error, with its sender",
        next: "the cause, below",
        causes: &[
            Cause {
                cause: "host",
                happened: "the host does not answer ARP or neighbour discovery, or a router says so (ICMP host unreachable) and is named",
                next: "is it up, with this address?",
            },
            Cause {
                cause: "network",
                happened: "no route, here or at the router that is named",
                next: "`ip route get ADDRESS`, here or there",
            },
            Cause {
                cause: "gateway",
                happened: "our gateway towards it does not answer ARP or neighbour discovery",
                next: "`ip neigh show GATEWAY`",
            },
            Cause {
                cause: "port",
                happened: "ICMP port unreachable: a firewall that rejects",
                next: "allow the internal port at the named sender",
            },
        ],
    },
    Word {
        word: "accepted_then_closed",
        judgement: Judgement::Bad,
        happened: "accepted, then closed or reset before an answer",
        next: "a proxy without a server behind it; the server's log",
        causes: &[],
    },
    Word {
        word: "silent",
        judgement: Judgement::Bad,
        happened: "HTTP: accepted, no answer within the timeout",
        next: "an overloaded server, or one that waits for TLS",
        causes: &[],
    },
    Word {
        word: "wrong_protocol",
        judgement: Judgement::Bad,
        happened: "the answer is not in the check's protocol; its first bytes are shown",
        next: "the cause, below",
        causes: &[
            Cause {
                cause: "not_http",
                happened: "an `http` check heard something else",
                next: "the port number",
            },
            Cause {
                cause: "speaks_tls",
                happened: "an `http` check met TLS: a TLS alert, or the page that nginx, Apache and Go send then",
                next: "`check = { https = { ... } }`",
            },
            Cause {
                cause: "speaks_plain_http",
                happened: "an `https` check met plain HTTP",
                next: "`check = { http = { ... } }`",
            },
            Cause {
                cause: "not_tls",
                happened: "an `https` check heard something else",
                next: "the port number",
            },
        ],
    },
    Word {
        word: "tls_error",
        judgement: Judgement::Bad,
        happened: "HTTPS: the other side speaks TLS, and no session came about",
        next: "the cause, below",
        causes: &[
            Cause {
                cause: "expired",
                happened: "the certificate is no longer valid",
                next: "renew it; the clocks",
            },
            Cause {
                cause: "not_yet_valid",
                happened: "the certificate is not valid yet",
                next: "the clocks",
            },
            Cause {
                cause: "unknown_issuer",
                happened: "no root of the check signed it, or an intermediate certificate is not sent",
                next: "`roots`; the server's chain",
            },
            Cause {
                cause: "wrong_name",
                happened: "it is for other names, which are shown",
                next: "`sni`; the certificate",
            },
            Cause {
                cause: "bad_certificate",
                happened: "it does not pass for another reason",
                next: "`openssl s_client`",
            },
            Cause {
                cause: "alert",
                happened: "the server ended the handshake with an alert, which is named",
                next: "the server's log; `sni`; client certificates",
            },
            Cause {
                cause: "protocol_version",
                happened: "no TLS version or cipher in common",
                next: "TLS 1.2 or 1.3 on the server",
            },
            Cause {
                cause: "closed",
                happened: "closed in the middle of the handshake",
                next: "the server's log",
            },
            Cause {
                cause: "other",
                happened: "anything else",
                next: "`openssl s_client`",
            },
        ],
    },
    Word {
        word: "bad_status",
        judgement: Judgement::Bad,
        happened: "HTTP: a status that the check does not accept",
        next: "the server's log; path and status of the check",
        causes: &[],
    },
    Word {
        word: "bad_body",
        judgement: Judgement::Bad,
        happened: "HTTP: a good status, and a body without the wanted text",
        next: "what the server serves; path and body of the check",
        causes: &[],
    },
    Word {
        word: "no_check_port",
        judgement: Judgement::Inconclusive,
        happened: "every port of `check_ports` is in use towards this target",
        next: "widen `check_ports`, raise the interval",
        causes: &[],
    },
    Word {
        word: "probe_late",
        judgement: Judgement::Inconclusive,
        happened: "timed out while the agent itself got no CPU",
        next: "the load of this host",
        causes: &[],
    },
    Word {
        word: "error",
        judgement: Judgement::Inconclusive,
        happened: "our source address is not here, no file descriptors, ...",
        next: "the sentence",
        causes: &[],
    },
];

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn the_docs_have_these_tables() {
        let page = include_str!("../../../docs/port-verdicts.md");
        let mut words = String::from("|---|---|---|---|\n");
        let mut causes = String::from("|---|---|---|\n");
        for Word {
            word,
            judgement,
            happened,
            next,
            causes: several,
        } in WORDS
        {
            let blank = if next.is_empty() { "" } else { " " };
            writeln!(
                words,
                "| `{word}` | {} | {happened} |{blank}{next} |",
                judgement.as_str()
            )
            .expect("to a string");
            for Cause { cause, happened, next } in *several {
                writeln!(causes, "| `{word}`: `{cause}` | {happened} | {next} |").expect("to a string");
            }
        }
        for table in [words, causes] {
            assert!(
                page.contains(&table),
                "docs/port-verdicts.md lacks this table:\n{table}"
            );
        }
    }
}
