//! `xlb service ...`.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, Subcommand, ValueEnum};

use super::{ChangeArgs, Socket, WideFormat};
use crate::cli::target::Target;
use crate::config::{Mode, Protocol};
use crate::view::CheckSpec;

fn vip_and_port(text: &str) -> Result<SocketAddr, String> {
    let Target { address, port } = text.parse()?;
    port.map(|port| SocketAddr::new(address, port)).ok_or_else(|| {
        let example = SocketAddr::new(address, 443);
        format!("'{text}' has no port, which clients dial and a service needs; give VIP:PORT, such as {example}")
    })
}

/// `xlb service ...`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List the services, worst first
    List(ServiceListArgs),
    /// Show one service and its backends, worst first
    Show(ServiceShowArgs),
    /// Add a service, with or without backends
    Add(ServiceAddArgs),
    /// Remove a service with its backends; its established connections go on
    Remove(ServiceRemoveArgs),
}

/// `xlb service list`.
#[derive(Debug, Args)]
pub struct ServiceListArgs {
    /// Where the agent is.
    #[command(flatten)]
    pub socket: Socket,
    /// Format of the answer; wide also shows every VIP, the mode and counters
    #[arg(short, long, value_enum, default_value_t = WideFormat::Table)]
    pub output: WideFormat,
}

/// `xlb service show`.
#[derive(Debug, Args)]
pub struct ServiceShowArgs {
    /// Its name
    pub service: String,
    /// Where the agent is.
    #[command(flatten)]
    pub socket: Socket,
    /// Format of the answer; wide also explains every backend's health and its last changes
    #[arg(short, long, value_enum, default_value_t = WideFormat::Table)]
    pub output: WideFormat,
}

/// `xlb service add`.
#[derive(Debug, Args)]
pub struct ServiceAddArgs {
    /// Its name, for commands, metrics and the config file
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What clients dial: VIP:PORT, IPv6 in brackets
    #[arg(value_name = "VIP:PORT", value_parser = vip_and_port)]
    pub target: SocketAddr,
    /// One more VIP with the same port; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub vip: Vec<IpAddr>,
    /// Layer-4 protocol; default: tcp
    #[arg(long, value_enum)]
    pub protocol: Option<ProtocolArg>,
    /// Forwarding mode; default: `full_nat`
    #[arg(long, value_enum)]
    pub mode: Option<ModeArg>,
    /// Port on which backends listen that name none; default: the service port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub internal_port: Option<u16>,
    /// A backend, IPv6 with a port in brackets; may be given several times
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub backend: Vec<Target>,
    /// How backends are checked: tcp, http[:PATH] or https[:PATH]; default: they are not
    #[arg(long, value_name = "KIND", value_parser = check)]
    pub check: Option<CheckSpec>,
    /// How and where.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// `xlb service remove`.
#[derive(Debug, Args)]
pub struct ServiceRemoveArgs {
    /// Its name
    pub service: String,
    /// How and where.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProtocolArg {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl From<ProtocolArg> for Protocol {
    fn from(protocol: ProtocolArg) -> Self {
        match protocol {
            ProtocolArg::Tcp => Self::Tcp,
            ProtocolArg::Udp => Self::Udp,
        }
    }
}

/// Mode of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Backends see xlb as the client; nothing to set up on them.
    #[value(name = "full_nat", alias = "full-nat")]
    FullNat,
    /// Backends see the client and route through xlb.
    Gateway,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::FullNat => Self::FullNat,
            ModeArg::Gateway => Self::Gateway,
        }
    }
}

/// `tcp`, `http`, `http:/healthz`, ...; whether the path is one is the config check's question.
fn check(text: &str) -> Result<CheckSpec, String> {
    let (kind, path) = match text.split_once(':') {
        Some((kind, path)) => (kind, Some(path.to_owned())),
        None => (text, None),
    };
    match (kind, path) {
        ("tcp", None) => Ok(CheckSpec::Tcp {}),
        ("http", path) => Ok(CheckSpec::Http { path }),
        ("https", path) => Ok(CheckSpec::Https { path }),
        _ => Err(format!(
            "'{text}' is no check: wanted tcp, http, https, http:/healthz or https:/healthz"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_a_kind_and_for_http_a_path() {
        let http = |path: Option<&str>| CheckSpec::Http {
            path: path.map(str::to_owned),
        };
        assert_eq!(check("tcp"), Ok(CheckSpec::Tcp {}));
        assert_eq!(check("http"), Ok(http(None)));
        assert_eq!(check("http:/a:b"), Ok(http(Some("/a:b"))));
        for wrong in ["", "tcp:/", "icmp", "HTTP", "/healthz"] {
            check(wrong).unwrap_err();
        }
    }
}
