//! HTTPS probes against real TLS servers (nginx and OpenSSL), one for each way to fail.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::netlab::Lab;
use crate::servers::{Server, answering, greeting, http, probe, silent, verdict};
use anyhow::{Context, Result, ensure};
use lb_userspace::config::{Config, HttpCheck, TlsCheck};
use lb_userspace::health::{BodyEnd, Client, PortVerdict, Probe, ProbeKind, Speaks, TlsCause, TlsSetup, Trust};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use xlb_tests::process::{Process, wait_until};

/// A CA of the test's own, and servers with certificates of it.
struct Pki {
    directory: tempfile::TempDir,
    ca: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let ca = authority("the test's CA")?;
        fs::write(directory.path().join("ca.pem"), &ca.1)?;
        Ok(Self { directory, ca: ca.0 })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `NAME.crt` and `NAME.key`, signed by `by` for `names`, valid in these years.
    fn issue(&self, name: &str, names: &[&str], years: (i32, i32), by: &Issuer<'static, KeyPair>) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&key, by)?;
        fs::write(self.path(&format!("{name}.crt")), certificate.pem())?;
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }

    /// An `https` check as the config file has it.
    fn check(&self, keys: &str) -> Result<(HttpCheck, TlsCheck, Arc<Client>)> {
        let keys = keys.replace("@ca@", &format!("roots = \"{}\"", self.path("ca.pem").display()));
        let text = format!(
            "[agent]\ninterfaces = [\"u0\"]\n[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\nport = 443\n\
             check = {{ https = {{ {keys} }} }}\nbackend = [{{ address = \"10.9.0.2\" }}]\n"
        );
        let (config, _): (Config, _) = lb_userspace::config::parse(Path::new("test.toml"), &text)
            .map_err(|errors| anyhow::anyhow!("{}", errors[0].rendered))?;
        let check = config.services[0].check.clone().context("a check")?;
        let lb_userspace::config::CheckKind::Https(http, tls) = check.kind else {
            anyhow::bail!("no https check");
        };
        let client = Trust::load(&config)?.client(&tls).context("a client")?;
        Ok((http, tls, client))
    }

    fn probe(&self, target: &str, keys: &str) -> Result<Probe> {
        let (http, tls, client) = self.check(keys)?;
        let at: SocketAddr = target.parse()?;
        let mut probe = probe(
            target,
            ProbeKind::Https(http.clone(), TlsSetup::new(client, &tls, &http, at)),
        )?;
        probe.timeout = Duration::from_secs(5);
        Ok(probe)
    }
}

fn authority(name: &str) -> Result<(Issuer<'static, KeyPair>, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

/// nginx with one TLS port for each certificate, and a plain one at 8080.
fn nginx(lab: &Lab, pki: &Pki, ports: &[(u16, &str)]) -> Result<Process> {
    let dir = pki.directory.path().display();
    let servers: Vec<String> = ports
        .iter()
        .map(|(port, name)| {
            format!(
                "server {{ listen [::]:{port} ssl ipv6only=off; ssl_certificate {dir}/{name}.crt; ssl_certificate_key \
                 {dir}/{name}.key; location / {{ return 200 'status: ready\\n'; }} location /busy {{ return 503; }} }}\n"
            )
        })
        .collect();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\nevents {{}}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; \
         uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
         server {{ listen [::]:8080 ipv6only=off; location / {{ return 200 'plain'; }} }}\n{}}}\n",
        servers.concat()
    );
    fs::write(pki.path("nginx.conf"), config)?;
    let mut command = lab.them.command("nginx");
    command.arg("-c").arg(pki.path("nginx.conf"));
    let process = Process::start("nginx", &mut command, &pki.path("nginx.log"))?;
    for port in ports.iter().map(|(port, _)| *port).chain([8080]) {
        listens(lab, port)?;
    }
    Ok(process)
}

fn listens(lab: &Lab, port: u16) -> Result<()> {
    wait_until(&format!("a listener on {port}"), Duration::from_secs(30), || {
        lab.us
            .enter(|| std::net::TcpStream::connect(("10.9.0.2", port)).is_ok())
    })
}

fn openssl(lab: &Lab, pki: &Pki, port: u16, args: &[&str]) -> Result<Process> {
    let mut command: Command = lab.them.command("openssl");
    command
        .args(["s_server", "-www", "-accept", &port.to_string(), "-cert"])
        .arg(pki.path("good.crt"))
        .arg("-key")
        .arg(pki.path("good.key"))
        .args(args);
    let process = Process::start("openssl", &mut command, &pki.path(&format!("s_server-{port}.log")))?;
    listens(lab, port)?;
    Ok(process)
}

fn cause(verdict: &PortVerdict) -> Option<&TlsCause> {
    match verdict {
        PortVerdict::Tls(cause) => Some(cause),
        _ => None,
    }
}

const NOW: (i32, i32) = (2020, 2090);

#[test]
fn a_certificate_that_passes_is_open_and_each_fault_of_one_has_its_cause() -> Result<()> {
    xlb_tests::require!("ip", "nginx");
    let lab = Lab::new()?;
    let pki = Pki::new()?;
    let (stranger, _) = authority("a CA that nobody knows")?;
    let names = ["www.example.org", "10.9.0.2", "fd09::2"];
    pki.issue("good", &names, NOW, &pki.ca)?;
    pki.issue("expired", &names, (2019, 2020), &pki.ca)?;
    pki.issue("early", &names, (2080, 2090), &pki.ca)?;
    pki.issue("strange", &names, NOW, &stranger)?;
    let ports = [(8441, "good"), (8442, "expired"), (8443, "early"), (8444, "strange")];
    let _nginx = nginx(&lab, &pki, &ports)?;
    for host in ["10.9.0.2", "[fd09::2]"] {
        let at = |port: u16| format!("{host}:{port}");
        let good = verdict(
            &lab,
            pki.probe(&at(8441), "sni = \"www.example.org\", @ca@, body = \"ready\"")?,
        )?;
        ensure!(good == PortVerdict::Open, "{good:?}");
        // Without a name the address must be in it.
        let by_address = verdict(&lab, pki.probe(&at(8441), "@ca@")?)?;
        ensure!(by_address == PortVerdict::Open, "{by_address:?}");
        let other = verdict(&lab, pki.probe(&at(8441), "sni = \"api.example.org\", @ca@")?)?;
        let Some(TlsCause::WrongName { wanted, present }) = cause(&other) else {
            anyhow::bail!("{other:?}");
        };
        ensure!(
            wanted == "api.example.org" && present.iter().any(|name| name == "www.example.org"),
            "{other:?}"
        );
        let expired = verdict(&lab, pki.probe(&at(8442), "sni = \"www.example.org\", @ca@")?)?;
        ensure!(
            cause(&expired) == Some(&TlsCause::Expired(Some(1_577_836_800))),
            "{expired:?}"
        );
        let early = verdict(&lab, pki.probe(&at(8443), "sni = \"www.example.org\", @ca@")?)?;
        ensure!(
            matches!(cause(&early), Some(TlsCause::NotYetValid(Some(_)))),
            "{early:?}"
        );
        let strange = verdict(&lab, pki.probe(&at(8444), "sni = \"www.example.org\", @ca@")?)?;
        ensure!(cause(&strange) == Some(&TlsCause::UnknownIssuer), "{strange:?}");
        // Not to verify is a choice, and then all of them pass.
        for (port, name) in ports {
            let blind = verdict(&lab, pki.probe(&at(port), "verify = false")?)?;
            ensure!(blind == PortVerdict::Open, "{name}: {blind:?}");
        }
    }
    Ok(())
}

#[test]
fn status_and_body_are_judged_inside_tls_too() -> Result<()> {
    xlb_tests::require!("ip", "nginx");
    let lab = Lab::new()?;
    let pki = Pki::new()?;
    pki.issue("good", &["10.9.0.2"], NOW, &pki.ca)?;
    let _nginx = nginx(&lab, &pki, &[(8441, "good")])?;
    let busy = verdict(&lab, pki.probe("10.9.0.2:8441", "@ca@, path = \"/busy\"")?)?;
    ensure!(busy == PortVerdict::BadStatus(503), "{busy:?}");
    let body = verdict(&lab, pki.probe("10.9.0.2:8441", "@ca@, body = \"serving\"")?)?;
    let PortVerdict::BadBody(bad) = &body else {
        anyhow::bail!("{body:?}");
    };
    ensure!(
        bad.begins == "\"status: ready\"" && bad.end == BodyEnd::Whole,
        "{bad:?}"
    );
    Ok(())
}

#[test]
fn tls_on_a_plain_port_and_plain_on_a_tls_port_are_told_apart() -> Result<()> {
    xlb_tests::require!("ip", "nginx");
    let lab = Lab::new()?;
    let pki = Pki::new()?;
    pki.issue("good", &["10.9.0.2"], NOW, &pki.ca)?;
    let _nginx = nginx(&lab, &pki, &[(8441, "good")])?;
    let speaks = |verdict: &PortVerdict| match verdict {
        PortVerdict::WrongProtocol { speaks, .. } => Some(*speaks),
        _ => None,
    };
    let tls_to_plain = verdict(&lab, pki.probe("10.9.0.2:8080", "@ca@")?)?;
    ensure!(speaks(&tls_to_plain) == Some(Speaks::PlainHttp), "{tls_to_plain:?}");
    ensure!(
        tls_to_plain
            .sentence("10.9.0.2:8080".parse()?)
            .contains("check = { http = { ... } }")
    );
    // nginx answers with a page of status 400.
    let plain_to_tls = verdict(&lab, probe("10.9.0.2:8441", http())?)?;
    ensure!(speaks(&plain_to_tls) == Some(Speaks::Tls), "{plain_to_tls:?}");
    ensure!(
        plain_to_tls
            .sentence("10.9.0.2:8441".parse()?)
            .contains("check = { https = { ... } }")
    );
    // Others with an alert.
    let _alert = Server::start(&lab.them, "[::]:8445", answering(b"\x15\x03\x03\x00\x02\x02\x32"))?;
    let alert = verdict(&lab, probe("10.9.0.2:8445", http())?)?;
    ensure!(speaks(&alert) == Some(Speaks::Tls), "{alert:?}");
    let _ssh = Server::start(&lab.them, "[::]:8446", greeting(b"SSH-2.0-OpenSSH_9.2\r\n"))?;
    let ssh = verdict(&lab, pki.probe("10.9.0.2:8446", "@ca@")?)?;
    ensure!(speaks(&ssh) == Some(Speaks::NotTls), "{ssh:?}");
    Ok(())
}

#[test]
fn a_server_that_ends_the_handshake_says_how() -> Result<()> {
    xlb_tests::require!("ip", "openssl");
    let lab = Lab::new()?;
    let pki = Pki::new()?;
    pki.issue("good", &["10.9.0.2"], NOW, &pki.ca)?;
    let ca = pki.path("ca.pem").display().to_string();
    let _open = openssl(&lab, &pki, 8450, &[])?;
    let open = verdict(&lab, pki.probe("10.9.0.2:8450", "@ca@, body = \"s_server\"")?)?;
    ensure!(open == PortVerdict::Open, "{open:?}");
    // A client certificate is wanted: TLS 1.2 refuses in the handshake, 1.3 after it.
    for (port, version) in [(8451, "-tls1_2"), (8452, "-tls1_3")] {
        let _strict = openssl(&lab, &pki, port, &[version, "-Verify", "1", "-CAfile", &ca])?;
        let got = verdict(&lab, pki.probe(&format!("10.9.0.2:{port}"), "@ca@")?)?;
        ensure!(matches!(cause(&got), Some(TlsCause::Alert(_))), "{version}: {got:?}");
    }
    let _old = openssl(&lab, &pki, 8453, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"])?;
    let old = verdict(&lab, pki.probe("10.9.0.2:8453", "@ca@")?)?;
    ensure!(matches!(cause(&old), Some(TlsCause::Version(_))), "{old:?}");
    // The beginning of a handshake, then the end of the connection.
    let _half = Server::start(&lab.them, "[::]:8454", |mut stream: std::net::TcpStream| {
        let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
        let _ = std::io::Write::write_all(&mut stream, b"\x16\x03\x03\x00\x40\x02");
    })?;
    let half = verdict(&lab, pki.probe("10.9.0.2:8454", "@ca@")?)?;
    ensure!(cause(&half) == Some(&TlsCause::Closed), "{half:?}");
    let _closes = Server::start(&lab.them, "[::]:8455", drop::<std::net::TcpStream>)?;
    let closes = verdict(&lab, pki.probe("10.9.0.2:8455", "@ca@")?)?;
    ensure!(closes == PortVerdict::AcceptedThenClosed, "{closes:?}");
    let _hangs = Server::start(&lab.them, "[::]:8456", silent)?;
    let hangs = verdict(&lab, pki.probe("10.9.0.2:8456", "@ca@")?)?;
    ensure!(hangs == PortVerdict::Silent(Duration::from_secs(5)), "{hangs:?}");
    Ok(())
}
