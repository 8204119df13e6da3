//! Which certificates an HTTPS check believes: roots from files, read when a config is checked and applied, made into
//! TLS clients that all probes with the same roots share. ring is the only cryptography provider.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::blind::Blind;
use crate::config::{Config, Roots, TlsCheck, Verify};

/// The TLS clients of all HTTPS checks of a config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    clients: Vec<Arc<Client>>,
}

/// One way to verify, ready for use. Two are equal when they believe the same certificates.
pub struct Client {
    verify: Verify,
    /// Of the certificates, so that a reload that finds the same ones restarts no probe.
    fingerprint: u64,
    pub(super) config: Arc<ClientConfig>,
}

/// Why roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file is not there, cannot be read, or is no list of certificates.
    #[error("roots {}: {why}; next: 'openssl x509 -in {} -noout -subject', or name another file", path.display(), path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The system has no certificates.
    #[error("roots \"system\": {0}; next: install ca-certificates, or name a file in roots")]
    System(String),
    /// The library does not take them.
    #[error("TLS client: {0}")]
    Library(#[from] rustls::Error),
}

impl Trust {
    /// Reads the roots that the checks of `config` name.
    ///
    /// # Errors
    /// The first roots that cannot be used.
    pub fn load(config: &Config) -> Result<Self, TrustError> {
        Self::default().adapted_to(config)
    }

    /// For another config: roots that this one has are taken as they were read.
    ///
    /// # Errors
    /// The first roots that cannot be used.
    pub fn adapted_to(&self, config: &Config) -> Result<Self, TrustError> {
        let mut clients: Vec<Arc<Client>> = Vec::new();
        for tls in config.tls_checks() {
            if !clients.iter().any(|client| client.verify == tls.verify) {
                clients.push(match self.client(tls) {
                    Some(known) => known,
                    None => Arc::new(Client::new(&tls.verify)?),
                });
            }
        }
        Ok(Self { clients })
    }

    /// The client for a check; `None` when it was not in the config of [`Trust::load`].
    pub fn client(&self, tls: &TlsCheck) -> Option<Arc<Client>> {
        self.clients.iter().find(|client| client.verify == tls.verify).cloned()
    }
}

/// What is wrong with a file of roots.
///
/// # Errors
/// Says it in words.
pub fn look_at_roots(path: &Path) -> Result<(), String> {
    from_file(path).map(drop)
}

impl Client {
    /// Reads the roots.
    pub(super) fn new(verify: &Verify) -> Result<Self, TrustError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let (mut config, fingerprint) = match verify {
            Verify::Nothing => {
                let blind = Arc::new(Blind::new(provider.signature_verification_algorithms));
                let builder = builder.dangerous().with_custom_certificate_verifier(blind);
                (builder.with_no_client_auth(), 0)
            }
            Verify::Roots(roots) => {
                let roots = read(roots)?;
                let fingerprint = fingerprint(&roots);
                let mut store = RootCertStore::empty();
                // Files were looked at one by one; the system's may hold one that the library does not take.
                store.add_parsable_certificates(roots);
                (builder.with_root_certificates(store).with_no_client_auth(), fingerprint)
            }
        };
        // A resumed session shows no certificate: its expiry would go unnoticed.
        config.resumption = Resumption::disabled();
        // What the probe speaks; a server that only has others says so with an alert.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            verify: verify.clone(),
            fingerprint,
            config: Arc::new(config),
        })
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        (&self.verify, self.fingerprint) == (&other.verify, other.fingerprint)
    }
}

impl Eq for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}

fn read(roots: &Roots) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    match roots {
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                let why = found
                    .errors
                    .first()
                    .map_or_else(|| "no certificates found".to_owned(), ToString::to_string);
                return Err(TrustError::System(why));
            }
            Ok(found.certs)
        }
        Roots::File(path) => from_file(path).map_err(|why| TrustError::File {
            path: path.clone(),
            why,
        }),
    }
}

fn from_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| format!("not PEM: {error}"))?;
    if certificates.is_empty() {
        return Err("it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    let mut store = RootCertStore::empty();
    for (number, certificate) in (1..).zip(&certificates) {
        store
            .add(certificate.clone())
            .map_err(|error| format!("certificate {number} in it: {error}"))?;
    }
    Ok(certificates)
}

fn fingerprint(certificates: &[CertificateDer<'_>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for certificate in certificates {
        certificate.as_ref().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(name: &str) -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.self_signed(&key).expect("a certificate").pem()
    }

    #[test]
    fn a_file_of_roots_is_read_whole_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ca.pem");
        let missing = look_at_roots(&path).expect_err("missing");
        assert!(missing.contains("No such file"), "{missing}");
        for (text, want) in [
            (String::new(), "no certificate"),
            ("hello".to_owned(), "no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n".to_owned(), "not PEM"),
            (
                format!(
                    "{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                    pem("a.example")
                ),
                "certificate 2 in it",
            ),
        ] {
            std::fs::write(&path, &text).expect("write");
            let found = look_at_roots(&path).expect_err(want);
            assert!(found.contains(want), "{found}");
        }
        std::fs::write(&path, format!("{}{}", pem("a.example"), pem("b.example"))).expect("write");
        assert_eq!(from_file(&path).map(|all| all.len()), Ok(2));
    }

    #[test]
    fn the_same_certificates_make_the_same_client() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ca.pem");
        let verify = Verify::Roots(Roots::File(path.clone()));
        let (one, other) = (pem("a.example"), pem("a.example"));
        std::fs::write(&path, &one).expect("write");
        let first = Client::new(&verify).expect("a client");
        assert_eq!(first, Client::new(&verify).expect("a client"));
        std::fs::write(&path, other).expect("write");
        assert_ne!(first, Client::new(&verify).expect("a client"));
    }
}
