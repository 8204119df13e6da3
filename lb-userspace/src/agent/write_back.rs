//! Stands in for `config::write_back` until that lands: every change is refused.

use std::net::IpAddr;

#[derive(Debug)]
pub(crate) struct BackendSpec {
    pub(crate) name: Option<String>,
    pub(crate) address: IpAddr,
    pub(crate) port: Option<u16>,
    pub(crate) weight: Option<u32>,
}

/// Why a text was not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteBackError {
    /// No such service.
    #[error("service {service}: not in the config")]
    NoSuchService {
        /// Its name.
        service: String,
    },
    /// No such backend.
    #[error("backend {backend} of service {service}: not in the config")]
    NoSuchBackend {
        /// Service name.
        service: String,
        /// Backend name.
        backend: String,
    },
    /// Not yet.
    #[error("changes of backend {0} by API and CLI are not built in yet; edit the config and run 'xlb reload'")]
    NotYet(String),
}

pub(crate) fn add_backend(_: &str, service: &str, spec: &BackendSpec) -> Result<String, WriteBackError> {
    Err(WriteBackError::NotYet(format!("{service} {spec:?}")))
}

pub(crate) fn remove_backend(_: &str, service: &str, backend: &str) -> Result<String, WriteBackError> {
    Err(WriteBackError::NotYet(format!("{service}/{backend}")))
}
