//! Every verdict of a probe, provoked for real in both families: real listeners, real firewalls, real absences.

use std::net::TcpStream;
use std::time::Duration;

use crate::netlab::{Lab, ip};
use crate::servers::{CHECK_PORTS, Server, answering, greeting, http, probe, silent, verdict};
use anyhow::{Context, Result, ensure};
use lb_userspace::health::{BodyEnd, Judgement, PortVerdict, Probe, ProbeFault, ProbeKind, Speaks, Unreachable};
use socket2::{Domain, SockRef, Socket, Type};
use xlb_tests::process::run;

/// Expects `want` of a TCP probe of each target.
fn expect_tcp(lab: &Lab, targets: [&str; 2], want: &PortVerdict) -> Result<()> {
    for target in targets {
        let got = verdict(lab, probe(target, ProbeKind::Tcp)?)?;
        ensure!(got == *want, "{target}: {got:?}, not {want:?}");
    }
    Ok(())
}

/// Expects `want` of an HTTP probe of a server with this habit, over IPv4 and IPv6.
fn expect_http(habit: impl Fn(TcpStream) + Clone + Send + 'static, want: &PortVerdict) -> Result<()> {
    let lab = Lab::new()?;
    let _server = Server::start(&lab.them, "[::]:8081", habit)?;
    for target in ["10.9.0.2:8081", "[fd09::2]:8081"] {
        let got = verdict(&lab, probe(target, http())?)?;
        ensure!(got == *want, "{target}: {got:?}, not {want:?}");
    }
    Ok(())
}

/// Loads an nft ruleset on the far side.
fn firewall(lab: &Lab, rule: &str) -> Result<()> {
    let rules = format!(
        "add table inet f; add chain inet f in {{ type filter hook input priority 0; }}; add rule inet f in {rule}"
    );
    run(lab.them.command("nft").arg(rules)).map(drop)
}

/// Heard by an `http` check, and nothing that is known.
fn wrong(seen: String) -> PortVerdict {
    let speaks = Speaks::NotHttp;
    PortVerdict::WrongProtocol { seen, speaks }
}

const BOTH: [&str; 2] = ["10.9.0.2:8081", "[fd09::2]:8081"];

#[test]
fn a_listening_port_is_open() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let _server = Server::start(&lab.them, "[::]:8081", silent)?;
    expect_tcp(&lab, BOTH, &PortVerdict::Open)
}

#[test]
fn a_server_that_greets_and_closes_is_open_for_a_tcp_probe() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let _server = Server::start(&lab.them, "[::]:8081", |mut stream: TcpStream| {
        let _ = std::io::Write::write_all(&mut stream, b"220 hello\r\n");
    })?;
    expect_tcp(&lab, BOTH, &PortVerdict::Open)
}

#[test]
fn a_closed_port_is_refused() -> Result<()> {
    xlb_tests::require!("ip");
    expect_tcp(&Lab::new()?, BOTH, &PortVerdict::Refused)
}

#[test]
fn a_firewall_that_resets_looks_like_a_closed_port_and_is_refused() -> Result<()> {
    xlb_tests::require!("ip", "nft");
    let lab = Lab::new()?;
    let _server = Server::start(&lab.them, "[::]:8081", silent)?;
    firewall(&lab, "tcp dport 8081 reject with tcp reset")?;
    expect_tcp(&lab, BOTH, &PortVerdict::Refused)
}

#[test]
fn a_firewall_that_drops_is_filtered() -> Result<()> {
    xlb_tests::require!("ip", "nft");
    let lab = Lab::new()?;
    let _server = Server::start(&lab.them, "[::]:8081", silent)?;
    firewall(&lab, "tcp dport 8081 drop")?;
    expect_tcp(&lab, BOTH, &PortVerdict::Filtered(Duration::from_secs(1)))
}

#[test]
fn a_firewall_that_rejects_by_icmp_is_named_with_its_reason() -> Result<()> {
    xlb_tests::require!("ip", "nft");
    for (reason, want) in [
        ("admin-prohibited", Unreachable::Prohibited as fn(_) -> _),
        ("port-unreachable", Unreachable::Port),
    ] {
        let lab = Lab::new()?;
        let _server = Server::start(&lab.them, "[::]:8081", silent)?;
        firewall(&lab, &format!("tcp dport 8081 reject with icmpx {reason}"))?;
        for (target, by) in [(BOTH[0], "10.9.0.2"), (BOTH[1], "fd09::2")] {
            let got = verdict(&lab, probe(target, ProbeKind::Tcp)?)?;
            ensure!(
                got == PortVerdict::Unreachable(want(Some(ip(by)?))),
                "{target}: {got:?}"
            );
            ensure!(got.sentence(target.parse()?).contains(by));
        }
    }
    Ok(())
}

#[test]
fn a_prohibit_route_of_our_own_is_prohibited_here() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    lab.us
        .ip("route add prohibit 10.77.0.0/24\nroute add prohibit fd77::/64")?;
    let want = PortVerdict::Unreachable(Unreachable::Prohibited(None));
    expect_tcp(&lab, ["10.77.0.5:80", "[fd77::5]:80"], &want)
}

#[test]
fn a_host_that_is_gone_is_unreachable_even_with_a_short_timeout() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let gone = ["10.9.0.77:8081", "[fd09::77]:8081"];
    let want = PortVerdict::Unreachable(Unreachable::Host(None));
    expect_tcp(&lab, gone, &want)?;
    // With more patience the kernel says it itself, after three unanswered questions.
    for target in gone {
        let mut patient = probe(target, ProbeKind::Tcp)?;
        patient.timeout = Duration::from_secs(10);
        let got = verdict(&lab, patient)?;
        ensure!(got == want, "{target}: {got:?}");
    }
    Ok(())
}

#[test]
fn a_gateway_that_is_gone_is_named() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    lab.us
        .ip("route add 10.77.0.0/24 via 10.9.0.78\nroute add fd77::/64 via fd09::78")?;
    for (target, gateway) in [("10.77.0.5:80", "10.9.0.78"), ("[fd77::5]:80", "fd09::78")] {
        let got = verdict(&lab, probe(target, ProbeKind::Tcp)?)?;
        let want = PortVerdict::Unreachable(Unreachable::Gateway(ip(gateway)?));
        ensure!(got == want, "{target}: {got:?}");
        ensure!(got.sentence(target.parse()?).contains(gateway));
    }
    Ok(())
}

#[test]
fn no_route_here_or_at_a_router_is_an_unreachable_network() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let want = PortVerdict::Unreachable(Unreachable::Network(None));
    expect_tcp(&lab, ["10.77.0.5:80", "[fd77::5]:80"], &want)?;
    // Now a router on the way has none.
    lab.them.sysctl("net/ipv4/ip_forward", "1")?;
    lab.them.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    lab.us
        .ip("route add 10.77.0.0/24 via 10.9.0.2\nroute add fd77::/64 via fd09::2")?;
    for (target, router) in [("10.77.0.5:80", "10.9.0.2"), ("[fd77::5]:80", "fd09::2")] {
        let got = verdict(&lab, probe(target, ProbeKind::Tcp)?)?;
        let want = PortVerdict::Unreachable(Unreachable::Network(Some(ip(router)?)));
        ensure!(got == want, "{target}: {got:?}");
    }
    Ok(())
}

/// Every ICMP error that a firewall can send in its family, from a router in the middle: kind and sender are told.
#[test]
fn each_icmp_error_of_a_router_in_the_middle_is_told_by_kind_and_sender() -> Result<()> {
    xlb_tests::require!("ip", "nft");
    let prohibited = Unreachable::Prohibited as fn(_) -> _;
    let (host, network, port) = (
        Unreachable::Host as fn(_) -> _,
        Unreachable::Network as fn(_) -> _,
        Unreachable::Port as fn(_) -> _,
    );
    let v4 = [
        ("icmp type net-unreachable", network),
        ("icmp type host-unreachable", host),
        ("icmp type port-unreachable", port),
        ("icmp type net-prohibited", prohibited),
        ("icmp type host-prohibited", prohibited),
        ("icmp type admin-prohibited", prohibited),
        ("icmpx type host-unreachable", host),
        ("icmpx type no-route", network),
        ("icmpx type admin-prohibited", prohibited),
        ("icmpx type port-unreachable", port),
    ];
    let v6 = [
        ("icmpv6 type no-route", network),
        ("icmpv6 type admin-prohibited", prohibited),
        ("icmpv6 type addr-unreachable", host),
        ("icmpv6 type port-unreachable", port),
        ("icmpv6 type policy-fail", prohibited),
        ("icmpv6 type reject-route", prohibited),
        ("icmpx type host-unreachable", host),
        ("icmpx type no-route", network),
        ("icmpx type admin-prohibited", prohibited),
        ("icmpx type port-unreachable", port),
    ];
    let lab = Lab::new()?;
    lab.them.sysctl("net/ipv4/ip_forward", "1")?;
    lab.them.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    // The kernel sends few of these a second to one host by default.
    lab.them.sysctl("net/ipv4/icmp_ratelimit", "0")?;
    lab.them.sysctl("net/ipv6/icmp/ratelimit", "0")?;
    lab.them.ip(
        "link add d0 type veth peer name d1\nlink set d0 up\nlink set d1 up\naddr add 10.77.0.1/24 dev d0\n\
                 addr add fd77::1/64 dev d0 nodad",
    )?;
    lab.us
        .ip("route add 10.77.0.0/24 via 10.9.0.2\nroute add fd77::/64 via fd09::2")?;
    let families = [("10.77.0.5:80", "10.9.0.2", v4), ("[fd77::5]:80", "fd09::2", v6)];
    for (target, router, kinds) in families {
        for (reject, want) in kinds {
            let family = if target.starts_with('[') { "ip6" } else { "ip" };
            // icmpx is of the families that know both.
            let family = if reject.starts_with("icmpx") { "inet" } else { family };
            let rules = format!(
                "add table {family} f; add chain {family} f fw {{ type filter hook forward priority 0; }}; add rule \
                 {family} f fw tcp dport 80 reject with {reject}"
            );
            run(lab.them.command("nft").arg(rules))?;
            let got = verdict(&lab, probe(target, ProbeKind::Tcp)?)?;
            run(lab.them.command("nft").arg(format!("delete table {family} f")))?;
            let want = PortVerdict::Unreachable(want(Some(ip(router)?)));
            ensure!(got == want, "{target} {reject}: {got:?}, not {want:?}");
            let sentence = got.sentence(target.parse()?);
            ensure!(sentence.contains(router) && sentence.contains("; "), "{sentence}");
        }
    }
    Ok(())
}

#[test]
fn a_router_that_reports_the_host_gone_makes_it_unreachable() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    lab.them.sysctl("net/ipv4/ip_forward", "1")?;
    lab.them.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    // The network behind the router is there, the host is not.
    lab.them
        .ip("link add d0 type veth peer name d1\nlink set d0 up\nlink set d1 up\naddr add 10.77.0.1/24 dev d0\naddr add fd77::1/64 dev d0")?;
    lab.us
        .ip("route add 10.77.0.0/24 via 10.9.0.2\nroute add fd77::/64 via fd09::2")?;
    for (target, router) in [("10.77.0.5:80", "10.9.0.2"), ("[fd77::5]:80", "fd09::2")] {
        let mut patient = probe(target, ProbeKind::Tcp)?;
        patient.timeout = Duration::from_secs(10);
        let got = verdict(&lab, patient)?;
        let want = PortVerdict::Unreachable(Unreachable::Host(Some(ip(router)?)));
        ensure!(got == want, "{target}: {got:?}");
    }
    Ok(())
}

#[test]
fn accepted_and_closed_at_once_is_a_verdict_of_its_own() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let _fin = Server::start(&lab.them, "[::]:8081", drop::<TcpStream>)?;
    let _reset = Server::start(&lab.them, "[::]:8082", |stream: TcpStream| {
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    })?;
    for target in ["10.9.0.2:8081", "[fd09::2]:8081", "10.9.0.2:8082", "[fd09::2]:8082"] {
        for kind in [ProbeKind::Tcp, http()] {
            let got = verdict(&lab, probe(target, kind.clone())?)?;
            ensure!(got == PortVerdict::AcceptedThenClosed, "{target} {kind:?}: {got:?}");
        }
    }
    Ok(())
}

#[test]
fn a_close_in_the_middle_of_the_status_line_is_accepted_then_closed() -> Result<()> {
    xlb_tests::require!("ip");
    expect_http(
        |mut stream: TcpStream| {
            let mut request = [0; 1024];
            let _ = std::io::Read::read(&mut stream, &mut request);
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 20");
        },
        &PortVerdict::AcceptedThenClosed,
    )
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_silent() -> Result<()> {
    xlb_tests::require!("ip");
    expect_http(silent, &PortVerdict::Silent(Duration::from_secs(1)))
}

#[test]
fn an_ssh_banner_is_the_wrong_protocol_and_is_shown() -> Result<()> {
    xlb_tests::require!("ip");
    let seen = "\"SSH-2.0-OpenSSH_9.2\"".to_owned();
    expect_http(greeting(b"SSH-2.0-OpenSSH_9.2\r\n"), &wrong(seen))
}

#[test]
fn a_tls_alert_is_the_wrong_protocol() -> Result<()> {
    xlb_tests::require!("ip");
    let seen = "\"\\x15\\x03\\x01\\x00\\x02\\x02(\"".to_owned();
    expect_http(
        answering(b"\x15\x03\x01\x00\x02\x02\x28"),
        &PortVerdict::WrongProtocol {
            seen,
            speaks: Speaks::Tls,
        },
    )
}

#[test]
fn a_banner_that_ends_at_once_is_still_read_before_the_reset() -> Result<()> {
    xlb_tests::require!("ip");
    // It closes with our request unread, so a reset follows its words.
    let habit = |mut stream: TcpStream| {
        let _ = std::io::Write::write_all(&mut stream, b"-ERR go away\r\n");
        std::thread::sleep(Duration::from_millis(50));
    };
    let seen = "\"-ERR go away\"".to_owned();
    expect_http(habit, &wrong(seen))
}

#[test]
fn http_that_is_not_well_formed_is_the_wrong_protocol() -> Result<()> {
    xlb_tests::require!("ip");
    let seen = "\"HTTP/1.1 two hundred\"".to_owned();
    expect_http(answering(b"HTTP/1.1 two hundred\r\n\r\n"), &wrong(seen))
}

#[test]
fn accepted_statuses_are_open_and_others_are_named() -> Result<()> {
    xlb_tests::require!("ip");
    expect_http(
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        &PortVerdict::Open,
    )?;
    expect_http(answering(b"HTTP/1.0 204 No Content\r\n\r\n"), &PortVerdict::Open)?;
    let busy = answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy");
    expect_http(busy, &PortVerdict::BadStatus(503))?;
    let moved = answering(b"HTTP/1.1 301 Moved\r\nLocation: /other\r\n\r\n");
    expect_http(moved, &PortVerdict::BadStatus(301))
}

#[test]
fn a_body_that_never_ends_is_not_waited_for() -> Result<()> {
    xlb_tests::require!("ip");
    expect_http(
        answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"),
        &PortVerdict::Open,
    )
}

#[test]
fn a_wanted_text_is_looked_for_in_plain_and_chunked_bodies() -> Result<()> {
    xlb_tests::require!("ip");
    let wanting = |text: &str| match http() {
        ProbeKind::Http(check) => ProbeKind::Http(lb_userspace::config::HttpCheck {
            body: Some(text.to_owned()),
            ..check
        }),
        other => other,
    };
    let lab = Lab::new()?;
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nall \r\n5\r\nwell!\r\n0\r\n\r\n";
    let _chunked = Server::start(&lab.them, "[::]:8081", answering(chunked))?;
    let _plain = Server::start(
        &lab.them,
        "[::]:8082",
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall well!"),
    )?;
    // Says the first part, then nothing more.
    let _slow = Server::start(
        &lab.them,
        "[::]:8083",
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nstarting"),
    )?;
    for target in ["10.9.0.2:8081", "[fd09::2]:8082"] {
        let found = verdict(&lab, probe(target, wanting("all well"))?)?;
        ensure!(found == PortVerdict::Open, "{target}: {found:?}");
        let missing = verdict(&lab, probe(target, wanting("ready"))?)?;
        let PortVerdict::BadBody(bad) = &missing else {
            anyhow::bail!("{target}: {missing:?}");
        };
        ensure!(bad.begins == "\"all well!\"" && bad.searched_bytes == 9 && bad.end == BodyEnd::Whole);
        ensure!(missing.sentence(target.parse()?).contains("; "), "no next step");
    }
    let slow = verdict(&lab, probe("10.9.0.2:8083", wanting("ready"))?)?;
    ensure!(
        matches!(&slow, PortVerdict::BadBody(bad) if bad.end == BodyEnd::Time && bad.searched_bytes == 8),
        "{slow:?}"
    );
    Ok(())
}

#[test]
fn a_source_that_is_not_ours_is_our_fault() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    for (target, source) in [(BOTH[0], "10.9.0.200"), (BOTH[1], "fd09::200")] {
        let mut strange = probe(target, ProbeKind::Tcp)?;
        strange.source = Some(ip(source)?);
        let got = verdict(&lab, strange)?;
        ensure!(
            got == PortVerdict::Error(ProbeFault::NoSource(Some(ip(source)?))),
            "{got:?}"
        );
        ensure!(got.judgement() == Judgement::Inconclusive);
    }
    Ok(())
}

#[test]
fn exhausted_check_ports_are_our_fault_and_only_towards_that_target() -> Result<()> {
    xlb_tests::require!("ip");
    let lab = Lab::new()?;
    let _first = Server::start(&lab.them, "[::]:8081", silent)?;
    let _second = Server::start(&lab.them, "[::]:8082", silent)?;
    let ports = 9216..=9217;
    let narrow = |target: &str| -> Result<Probe> {
        let mut narrow = probe(target, ProbeKind::Tcp)?;
        narrow.source_ports = ports.clone();
        Ok(narrow)
    };
    // Both tuples towards 8081 are taken, as by two checks that hang there.
    let mut taken = Vec::new();
    for port in ports.clone() {
        taken.push(lab.us.enter(|| occupy(port))??);
    }
    let exhausted = verdict(&lab, narrow(BOTH[0])?)?;
    ensure!(
        exhausted == PortVerdict::Error(ProbeFault::NoCheckPort(ports.clone())),
        "{exhausted:?}"
    );
    ensure!(exhausted.judgement() == Judgement::Inconclusive && exhausted.as_str() == "no_check_port");
    // Another target is not concerned.
    let other = verdict(&lab, narrow("10.9.0.2:8082")?)?;
    ensure!(other == PortVerdict::Open, "{other:?}");
    // One port free again is enough, whichever the search starts at.
    taken.pop();
    for _ in 0..4 {
        let again = verdict(&lab, narrow(BOTH[0])?)?;
        ensure!(again == PortVerdict::Open, "{again:?}");
    }
    Ok(())
}

fn occupy(port: u16) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&std::net::SocketAddr::from(([0, 0, 0, 0], port)).into())?;
    socket
        .connect(&std::net::SocketAddr::from(([10, 9, 0, 2], 8081)).into())
        .context("occupy")?;
    Ok(socket)
}

#[test]
fn a_probe_comes_from_its_source_and_a_check_port_and_leaves_nothing_behind() -> Result<()> {
    xlb_tests::require!("ip", "ss");
    let lab = Lab::new()?;
    lab.us
        .ip("addr add 10.9.0.100/32 dev u0\naddr add fd09::100/128 dev u0")?;
    let server = Server::start(
        &lab.them,
        "[::]:8081",
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    )?;
    for (target, source) in [(BOTH[0], "10.9.0.100"), (BOTH[1], "fd09::100")] {
        for kind in [ProbeKind::Tcp, http()] {
            let mut from = probe(target, kind)?;
            from.source = Some(ip(source)?);
            ensure!(verdict(&lab, from)? == PortVerdict::Open);
        }
    }
    let peers = server.peers();
    ensure!(peers.len() == 4, "{peers:?}");
    for peer in peers {
        let from = peer.ip().to_canonical();
        ensure!(from == ip("10.9.0.100")? || from == ip("fd09::100")?, "{peer}");
        ensure!(CHECK_PORTS.contains(&peer.port()), "{peer}");
    }
    for side in [&lab.us, &lab.them] {
        let left = run(side.command("ss").args(["-Htan", "state", "time-wait"]))?;
        ensure!(left.trim().is_empty(), "{left}");
    }
    Ok(())
}
