//! HTTPS checks in the running agent: roots are read when a config is applied and again at each reload, a file that
//! cannot be used leaves the running state as it is, and the verdicts are in status, log and metrics.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use xlb_tests::agent::Agent;
use xlb_tests::alone::shared;
use xlb_tests::client::backends;
use xlb_tests::config_text::ServiceText;
use xlb_tests::peers::Talk;
use xlb_tests::process::{Process, wait_until};
use xlb_tests::require;
use xlb_tests::topology::{BackendHost, Plan, Topology, VIP4};

/// A CA's issuer and its certificate in PEM.
fn authority(name: &str) -> Result<(Issuer<'static, KeyPair>, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

/// `openssl s_server` on port 8443 of the host, with a certificate for `www.example.org`.
fn server(topology: &Topology, host: &BackendHost, ca: &Issuer<'static, KeyPair>) -> Result<Process> {
    let file = |name: &str| topology.room.file(name);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["www.example.org".to_owned()])?.signed_by(&key, ca)?;
    fs::write(file("server.crt"), certificate.pem())?;
    fs::write(file("server.key"), key.serialize_pem())?;
    let mut command = host.namespace.command("openssl");
    command
        .args(["s_server", "-www", "-accept", "8443", "-cert"])
        .arg(file("server.crt"))
        .arg("-key")
        .arg(file("server.key"));
    let process = Process::start("openssl", &mut command, &file("s_server.log"))?;
    let target = SocketAddr::from((host.address4, 8443));
    wait_until("the TLS server", Duration::from_secs(30), || {
        host.namespace.enter(|| std::net::TcpStream::connect(target).is_ok())
    })?;
    Ok(process)
}

fn verdict(agent: &Agent, want: &str) -> Result<()> {
    agent.client().wait_for(&format!("the verdict {want}"), |status| {
        backends(status).iter().all(|backend| backend.port_verdict() == want)
    })
}

fn refused_reload(agent: &Agent) -> Result<String> {
    let output = agent.client().output(&["reload"])?;
    ensure!(!output.status.success(), "a reload without roots succeeded");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn checked(agent: &Agent, config: &Path) -> Result<String> {
    let output = agent.client().output(&["check", &config.display().to_string()])?;
    ensure!(!output.status.success(), "xlb check found nothing");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn roots_are_read_again_at_a_reload_and_a_missing_file_changes_nothing() -> Result<()> {
    require!("ip", "ethtool", "openssl");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = topology.backends.first().context("a host")?;
    let (ca, pem) = authority("the right CA")?;
    let (_, other_pem) = authority("another CA")?;
    let _server = server(&topology, host, &ca)?;
    let roots: PathBuf = topology.room.file("ca.pem");
    fs::write(&roots, &pem)?;

    let check = format!(
        "{{ https = {{ sni = \"www.example.org\", roots = \"{}\", body = \"s_server\" }}, interval = \"600ms\", timeout = \
         \"600ms\", rise = 1, fall = 2 }}",
        roots.display()
    );
    let service = ServiceText::v4("web", "tcp", 443)
        .key("check", &check)
        .backend("a", host.address4, 8443);
    let agent = Agent::start(&topology, service.text())?;
    agent.client().wait_all_up()?;
    let vip = SocketAddr::from((VIP4, 443));
    drop(Talk::connect(&topology.client, vip, Duration::from_secs(10)).context("through the balancer")?);

    fs::write(&roots, &other_pem)?;
    agent.client().xlb(&["reload"])?;
    verdict(&agent, "tls_error")?;
    let status = agent.client().status()?;
    let row = backends(&status);
    let text = row.first().context("a backend")?.health_text().to_owned();
    ensure!(
        text.contains(":8443 has a certificate that no root of the check has signed"),
        "{text}"
    );

    fs::remove_file(&roots)?;
    let refused = refused_reload(&agent)?;
    ensure!(refused.contains("XLB0240") && refused.contains("ca.pem"), "{refused}");
    let found = checked(&agent, agent.config())?;
    ensure!(found.contains("XLB0240"), "{found}");
    // The roots of the last good reload are still in force.
    verdict(&agent, "tls_error")?;

    fs::write(&roots, "no certificate")?;
    let refused = refused_reload(&agent)?;
    ensure!(refused.contains("holds no certificate"), "{refused}");

    fs::write(&roots, &pem)?;
    agent.client().xlb(&["reload"])?;
    agent.client().wait_all_up()?;
    verdict(&agent, "open")?;
    let log = agent.log();
    for line in ["old=\"open\" new=\"tls_error\"", "old=\"tls_error\" new=\"open\""] {
        ensure!(log.contains(line), "the log lacks {line}:\n{log}");
    }
    Ok(())
}
