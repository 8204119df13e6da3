//! Writes the `[[service]]` tables of scenes' config files.

use std::fmt::Write;
use std::net::IpAddr;

use crate::topology::{BackendHost, VIP4, VIP6};

/// A TCP check that finds a dead port within a second.
pub const QUICK_TCP_CHECK: &str = r#"{ tcp = {}, interval = "200ms", timeout = "150ms", rise = 2, fall = 2 }"#;
/// The same with a GET of `/healthz`.
pub const QUICK_HTTP_CHECK: &str =
    r#"{ http = { path = "/healthz", status = [200] }, interval = "200ms", timeout = "150ms", rise = 2, fall = 2 }"#;

/// One `[[service]]` on the VIPs of the scenes.
#[derive(Debug, Clone)]
pub struct ServiceText {
    text: String,
}

impl ServiceText {
    /// On the VIPs of both families. `protocol` is `tcp` or `udp`.
    pub fn new(name: &str, protocol: &str, port: u16) -> Self {
        Self::on(&format!("\"{VIP4}\", \"{VIP6}\""), name, protocol, port)
    }

    /// On the IPv4 VIP alone, for backends with IPv4 addresses alone.
    pub fn v4(name: &str, protocol: &str, port: u16) -> Self {
        Self::on(&format!("\"{VIP4}\""), name, protocol, port)
    }

    fn on(vips: &str, name: &str, protocol: &str, port: u16) -> Self {
        Self {
            text: format!("[[service]]\nname = \"{name}\"\nvip = [{vips}]\nport = {port}\nprotocol = \"{protocol}\"\n"),
        }
    }

    /// Adds a key: `key = value`, the value as TOML.
    #[must_use]
    pub fn key(mut self, key: &str, value: &str) -> Self {
        self.line(&format!("{key} = {value}"));
        self
    }

    /// Adds a backend with a name, an address and an internal port.
    #[must_use]
    pub fn backend(self, name: &str, address: impl Into<IpAddr>, port: u16) -> Self {
        self.weighted_backend(name, address, port, 100)
    }

    /// Adds a backend with a weight.
    #[must_use]
    pub fn weighted_backend(mut self, name: &str, address: impl Into<IpAddr>, port: u16, weight: u32) -> Self {
        let address: IpAddr = address.into();
        self.line(&format!(
            "[[service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\nport = {port}\nweight = {weight}"
        ));
        self
    }

    /// Adds both addresses of a host, as `<name>-v4` and `<name>-v6`.
    #[must_use]
    pub fn host(self, name: &str, host: &BackendHost, port: u16) -> Self {
        self.weighted_host(name, host, port, 100)
    }

    /// Adds both addresses of a host with a weight.
    #[must_use]
    pub fn weighted_host(self, name: &str, host: &BackendHost, port: u16, weight: u32) -> Self {
        self.weighted_backend(&format!("{name}-v4"), host.address4, port, weight)
            .weighted_backend(&format!("{name}-v6"), host.address6, port, weight)
    }

    /// The TOML.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn line(&mut self, line: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}
