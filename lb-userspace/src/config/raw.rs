//! The file as read: every key checked on its own, with the places that the checks across keys need.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::findings::{Located, Span};
use super::silence::RawSilence;
use super::{
    AdminState, Check, DnsConfig, HostName, Limits, Mode, OnMiss, Panic, PortRange, Protocol, Timeouts, TxChoice,
    XdpMode,
};

/// The whole file. What could not be read is absent and was reported.
#[derive(Debug)]
pub(super) struct RawConfig {
    pub(super) agent: RawAgent,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) dns: DnsConfig,
    pub(super) services: Vec<RawService>,
    /// Where `[[service]]` should stand.
    pub(super) span: Span,
}

/// `[agent]`.
#[derive(Debug)]
pub(super) struct RawAgent {
    pub(super) interfaces: Vec<Located<String>>,
    pub(super) xdp_mode: XdpMode,
    pub(super) tx: TxChoice,
    pub(super) snat_addresses: Vec<Located<IpAddr>>,
    /// No place: the default is in force.
    pub(super) snat_ports: (PortRange, Option<Span>),
    pub(super) check_ports: (PortRange, Option<Span>),
    pub(super) manage_vip: bool,
    pub(super) hash_seed: u32,
    pub(super) rst_per_second: u32,
    pub(super) socket: PathBuf,
    pub(super) socket_group: Option<String>,
    /// An empty place: the default is in force.
    pub(super) http: Located<Option<SocketAddr>>,
    pub(super) pin_dir: PathBuf,
    pub(super) state_dir: PathBuf,
    pub(super) managed_by: Option<String>,
    pub(super) watch: bool,
    pub(super) sandbox: bool,
    pub(super) silences: Vec<RawSilence>,
    pub(super) span: Span,
}

/// One `[[service]]`.
#[derive(Debug)]
pub(super) struct RawService {
    pub(super) name: Option<Located<String>>,
    pub(super) vips: Vec<Located<IpAddr>>,
    pub(super) port: Option<Located<u16>>,
    pub(super) protocol: Protocol,
    pub(super) mode: Mode,
    /// The mode of a later release that it asks for, as refused.
    pub(super) dsr: Option<Located<String>>,
    pub(super) internal_port: Option<Located<u16>>,
    pub(super) check: Option<Located<Check>>,
    pub(super) on_miss: OnMiss,
    pub(super) panic: Panic,
    pub(super) backends: Vec<RawBackend>,
    pub(super) silences: Vec<RawSilence>,
    pub(super) span: Span,
}

impl RawService {
    /// As messages name it.
    pub(super) fn title(&self) -> String {
        match &self.name {
            Some(name) => format!("service {}", name.value),
            None => "this service".to_owned(),
        }
    }

    /// The internal port of one of its backends.
    pub(super) fn port_of(&self, backend: &RawBackend) -> Option<u16> {
        let named = backend.port.as_ref().or(self.internal_port.as_ref());
        named.or(self.port.as_ref()).map(|port| port.value)
    }
}

/// One `[[service.backend]]`.
#[derive(Debug)]
pub(super) struct RawBackend {
    pub(super) name: Option<Located<String>>,
    pub(super) address: Option<Located<IpAddr>>,
    /// In the place of an address; at most one of the two is there.
    pub(super) host: Option<Located<HostName>>,
    pub(super) port: Option<Located<u16>>,
    pub(super) weight: u32,
    pub(super) state: AdminState,
    pub(super) check: Option<Located<Check>>,
    pub(super) silences: Vec<RawSilence>,
    pub(super) span: Span,
}

impl RawBackend {
    /// The place that stands for the backend.
    pub(super) fn place(&self) -> Span {
        let address = self.address.as_ref().map(|address| &address.span);
        let named = address.or(self.host.as_ref().map(|host| &host.span));
        named.unwrap_or(&self.span).clone()
    }
}
