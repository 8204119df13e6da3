//! The TLS handshake of an HTTPS probe (RFC 8446, RFC 5246), and what a failure of it means.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::sentence::printable;
use super::tap::{Ear, Heard, Tap};
use super::trust::Client;
use super::verdict::{PortVerdict, Speaks, TlsCause};
use crate::config::{HttpCheck, TlsCheck};

/// What an HTTPS probe needs besides its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSetup {
    client: Arc<Client>,
    name: ServerName<'static>,
}

impl TlsSetup {
    /// The name to ask for and to verify is `sni`, else `host`, else the target's address (then no name is sent, RFC
    /// 6066, 3).
    pub fn new(client: Arc<Client>, tls: &TlsCheck, http: &HttpCheck, target: SocketAddr) -> Self {
        let host = http.host.as_deref().map(without_port);
        let mut named = [tls.sni.as_deref(), host].into_iter().flatten();
        let name = named
            .find_map(|name| ServerName::try_from(name.to_owned()).ok())
            .unwrap_or_else(|| ServerName::IpAddress(target.ip().into()));
        Self { client, name }
    }
}

/// `host` or `host:port`, the host alone; `[v6]:port` without brackets.
fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

/// Makes a TLS session on a fresh connection, or says why not.
pub(super) async fn handshake(
    stream: TcpStream,
    setup: &TlsSetup,
    timeout: Duration,
    deadline: Instant,
) -> Result<TlsStream<Tap<TcpStream>>, PortVerdict> {
    let ear = Ear::default();
    let connector = TlsConnector::from(Arc::clone(&setup.client.config));
    let connecting = connector.connect(setup.name.clone(), Tap::new(stream, ear.clone()));
    match timeout_at(deadline, connecting).await {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(error)) => Err(explain(&ear.heard(), &error, setup)),
        Err(_) => Err(PortVerdict::Silent(timeout)),
    }
}

/// No session: what came instead?
fn explain(heard: &Heard, error: &io::Error, setup: &TlsSetup) -> PortVerdict {
    if heard.first.is_empty() && heard.ended {
        return PortVerdict::AcceptedThenClosed;
    }
    if !heard.first.is_empty() && !begins_like_tls(&heard.first) {
        let speaks = if heard.first.starts_with(b"HTTP/") {
            Speaks::PlainHttp
        } else {
            Speaks::NotTls
        };
        let seen = printable(&heard.first);
        return PortVerdict::WrongProtocol { seen, speaks };
    }
    let cause = match tls_error(error) {
        Some(found) => cause(found, &setup.name),
        None if heard.ended => TlsCause::Closed,
        None => TlsCause::Other(error.to_string()),
    };
    PortVerdict::Tls(Box::new(cause))
}

/// A record of type alert or handshake, of any TLS version (RFC 8446, 5.1).
pub(super) fn begins_like_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 0x03, ..] | [0x15 | 0x16])
}

/// The TLS library's error behind another one.
pub(super) fn tls_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<TlsError>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// An error after the handshake: TLS 1.3 servers refuse a client only then.
pub(super) fn late_cause(error: &(dyn StdError + 'static)) -> Option<PortVerdict> {
    let cause = match tls_error(error)? {
        TlsError::AlertReceived(alert) => of_alert(*alert),
        other => TlsCause::Other(other.to_string()),
    };
    Some(PortVerdict::Tls(Box::new(cause)))
}

fn cause(error: &TlsError, name: &ServerName<'_>) -> TlsCause {
    match error {
        TlsError::AlertReceived(alert) => of_alert(*alert),
        TlsError::InvalidCertificate(error) => of_certificate(error, name),
        TlsError::PeerIncompatible(why) => TlsCause::Version(format!("{why:?}")),
        other => TlsCause::Other(other.to_string()),
    }
}

fn of_alert(alert: AlertDescription) -> TlsCause {
    match alert {
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
            TlsCause::Version(format!("alert {alert:?}"))
        }
        other => TlsCause::Alert(format!("{other:?}")),
    }
}

fn of_certificate(error: &CertificateError, name: &ServerName<'_>) -> TlsCause {
    match error {
        CertificateError::Expired => TlsCause::Expired(None),
        CertificateError::ExpiredContext { not_after, .. } => TlsCause::Expired(Some(not_after.as_secs())),
        CertificateError::NotValidYet => TlsCause::NotYetValid(None),
        CertificateError::NotValidYetContext { not_before, .. } => TlsCause::NotYetValid(Some(not_before.as_secs())),
        CertificateError::UnknownIssuer => TlsCause::UnknownIssuer,
        CertificateError::NotValidForName => wrong_name(name, &[]),
        CertificateError::NotValidForNameContext { presented, .. } => wrong_name(name, presented),
        other => TlsCause::BadCertificate(other.to_string()),
    }
}

/// Names of a certificate that a verdict shows.
const SHOWN_NAMES: usize = 4;

fn wrong_name(wanted: &ServerName<'_>, present: &[String]) -> TlsCause {
    TlsCause::WrongName {
        wanted: wanted.to_str().into_owned(),
        present: present.iter().take(SHOWN_NAMES).map(|name| plain(name)).collect(),
    }
}

/// `DnsName("a.example")` as `a.example`.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    let text = inner.unwrap_or(name).trim_matches('"');
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Verify;

    fn setup(sni: Option<&str>, host: Option<&str>) -> ServerName<'static> {
        let tls = TlsCheck {
            sni: sni.map(str::to_owned),
            verify: Verify::Nothing,
        };
        let http = HttpCheck {
            path: "/".to_owned(),
            status: vec![200],
            host: host.map(str::to_owned),
            body: None,
        };
        let client = Arc::new(Client::new(&tls.verify).expect("a client"));
        TlsSetup::new(client, &tls, &http, SocketAddr::from(([10, 0, 0, 11], 443))).name
    }

    #[test]
    fn the_name_is_sni_else_host_else_the_address() {
        assert_eq!(setup(Some("a.example"), Some("b.example")).to_str(), "a.example");
        assert_eq!(setup(None, Some("b.example:8443")).to_str(), "b.example");
        assert_eq!(setup(None, Some("[2001:db8::1]:8443")).to_str(), "2001:db8::1");
        assert_eq!(setup(None, None).to_str(), "10.0.0.11");
    }

    #[test]
    fn names_of_a_certificate_are_shown_without_their_wrapping() {
        assert_eq!(plain("DnsName(\"a.example\")"), "a.example");
        assert_eq!(plain("IpAddress(10.0.0.1)"), "10.0.0.1");
        assert_eq!(plain("a.example"), "a.example");
    }

    #[test]
    fn tls_records_are_told_from_text() {
        assert!(begins_like_tls(b"\x15\x03\x03\x00\x02") && begins_like_tls(b"\x16"));
        assert!(!begins_like_tls(b"HTTP/1.1 400") && !begins_like_tls(b"\x15\x00") && !begins_like_tls(b""));
    }
}
