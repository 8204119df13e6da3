//! 2,000 services of 10 backends each: applied, checked, used and changed through the real agent.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use xlb_tests::agent::{Agent, agent_section};
use xlb_tests::alone::alone;
use xlb_tests::client::{BackendStatus, backends};
use xlb_tests::netns::Namespace;
use xlb_tests::peers::http_get;
use xlb_tests::process::wait_until;
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology, VIP4};

const SERVICES: u16 = 2_000;
const BACKENDS: u8 = 10;
const FIRST_PORT: u16 = 1_000;
const FIRST_INTERNAL_PORT: u16 = 40_000;
/// A debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Maps that hold them, and one ring more.
const LIMITS: &str = "[limits]\nservices = 4096\nbackends = 32768\nring_slots = 4194304\nconnections = 4096\n";
const CHECK: &str = r#"{ tcp = {}, interval = "10s", timeout = "5s", rise = 1, fall = 3 }"#;

fn address(backend: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 100 + backend)
}

fn config() -> String {
    let mut text = LIMITS.to_owned();
    for service in 0..SERVICES {
        let (port, internal) = (FIRST_PORT + service, FIRST_INTERNAL_PORT + service);
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "[[service]]\nname = \"s{service}\"\nvip = \"{VIP4}\"\nport = {port}\ninternal_port = {internal}\ncheck = {CHECK}\n"
        );
        for backend in 0..BACKENDS {
            let _ = write!(
                text,
                "[[service.backend]]\nname = \"b{backend}\"\naddress = \"{}\"\n",
                address(backend)
            );
        }
    }
    text
}

/// A real server on every internal port, which says its port. They end with the test's process.
fn serve(namespace: &Namespace) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let ports = FIRST_INTERNAL_PORT..FIRST_INTERNAL_PORT + SERVICES;
    let listeners: Vec<TcpListener> = namespace.enter(|| {
        ports
            .map(|port| TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))
            .collect::<std::io::Result<_>>()
    })??;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            for listener in listeners {
                tokio::spawn(accept(listener));
            }
            std::future::pending::<()>().await;
        });
    });
    Ok(())
}

async fn accept(listener: TcpListener) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        // A check that hung up meanwhile is no reason to end.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let port = stream.local_addr()?.port();
    let mut request = [0; 1024];
    if stream.read(&mut request).await? > 0 {
        let body = port.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
    }
    Ok(())
}

fn status(agent: &Agent) -> Result<Value> {
    Ok(serde_json::from_str(&agent.client().get("/v1/status")?)?)
}

fn asks(topology: &Topology, service: u16) -> Result<()> {
    let url = format!("http://{VIP4}:{}/", FIRST_PORT + service);
    let body = http_get(&topology.client, &url).with_context(|| format!("service s{service}"))?;
    ensure!(
        body == (FIRST_INTERNAL_PORT + service).to_string(),
        "s{service} was answered by {body}"
    );
    Ok(())
}

#[test]
fn two_thousand_services_of_ten_backends_are_applied_checked_and_changed() -> Result<()> {
    require!("ip", "ethtool", "curl");
    let _machine = alone();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0].namespace;
    let lines: String = (0..BACKENDS).fold(String::new(), |lines, backend| {
        format!("{lines}addr add {}/24 dev eth0\n", address(backend))
    });
    host.ip(&lines)?;
    serve(host)?;

    let agent = Agent::start_with(&topology, &agent_section(&topology), &config())?;
    let wanted = usize::from(SERVICES) * usize::from(BACKENDS);
    wait_until("every check of every backend", PATIENCE, || {
        let status = status(&agent)?;
        let rows = backends(&status);
        Ok(rows.len() == wanted && rows.iter().all(|row| row.is_up() && row.port_verdict() == "open"))
    })?;
    for service in (0..SERVICES).step_by(97) {
        asks(&topology, service)?;
    }

    let before = status(&agent)?;
    agent.client().xlb(&["backend", "remove", "s1234", "b7"])?;
    let after = status(&agent)?;
    let generation = |status: &Value| status["agent"]["generation"].as_u64();
    ensure!(generation(&before) < generation(&after), "the generation did not move");
    let left: Vec<BackendStatus<'_>> = backends(&after)
        .into_iter()
        .filter(|row| row.service == "s1234")
        .collect();
    ensure!(
        left.iter().filter(|row| row.is_up()).count() == usize::from(BACKENDS) - 1,
        "s1234 has {} rows",
        left.len()
    );
    asks(&topology, 1_234)?;

    // One port of one backend fails: named, and nobody else's trouble.
    agent
        .client()
        .xlb(&["backend", "add", "s99", "10.0.0.100:39999", "--name", "wrong"])?;
    wait_until("the verdict of the wrong port", PATIENCE, || {
        let status = status(&agent)?;
        let rows = backends(&status);
        let bad: Vec<_> = rows.iter().filter(|row| row.port_verdict() != "open").collect();
        Ok(matches!(bad[..], [row] if row.name() == "wrong" && row.port_verdict() == "refused"))
    })
}
