//! What the host says about names: /etc/hosts and /etc/resolv.conf, or the servers of the config. Read again before each
//! question, because other programs replace these files.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};

use crate::agent::confine;

pub(in crate::agent) const RESOLV_CONF: &str = "/etc/resolv.conf";
pub(in crate::agent) const HOSTS: &str = "/etc/hosts";

/// How long a server of `[dns] servers` may take, and how often it is tried again; resolv.conf has its own.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

/// What a resolver is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Servers(Vec<IpAddr>),
    Files { resolv_conf: Vec<u8>, hosts: Vec<u8> },
}

/// A way to ask.
#[derive(Clone)]
pub(super) struct System {
    pub(super) origin: Origin,
    pub(super) hosts: Arc<Hosts>,
    pub(super) resolver: TokioResolver,
    /// Who is asked, for messages.
    pub(super) servers: String,
}

impl Origin {
    /// Reads the files, unless the config names servers.
    pub(super) async fn look(servers: &[IpAddr]) -> Result<Self, String> {
        if !servers.is_empty() {
            return Ok(Self::Servers(servers.to_vec()));
        }
        let hosts = match tokio::fs::read(HOSTS).await {
            Ok(hosts) => hosts,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(unreadable(HOSTS, &error)),
        };
        let resolv_conf = tokio::fs::read(RESOLV_CONF).await;
        let resolv_conf = resolv_conf.map_err(|error| unreadable(RESOLV_CONF, &error))?;
        Ok(Self::Files { resolv_conf, hosts })
    }

    pub(super) fn system(&self) -> Result<System, String> {
        let mut hosts = Hosts::default();
        let (config, mut options) = match self {
            Self::Servers(servers) => {
                let servers = servers.iter().copied().map(NameServerConfig::udp_and_tcp).collect();
                let mut options = ResolverOpts::default();
                (options.timeout, options.attempts) = (ANSWER_WITHIN, ATTEMPTS);
                (ResolverConfig::from_parts(None, Vec::new(), servers), options)
            }
            Self::Files {
                resolv_conf,
                hosts: text,
            } => {
                hosts
                    .read_hosts_conf(text.as_slice())
                    .map_err(|error| format!("{HOSTS}: {error}"))?;
                parse_resolv_conf(resolv_conf)
                    .map_err(|error| format!("{RESOLV_CONF}: {error}; name a server there, or set [dns] servers"))?
            }
        };
        options.use_hosts_file = ResolveHosts::Never;
        // Ports of its own choice would lie in snat_ports, where XDP takes the answers for clients' connections.
        options.os_port_selection = true;
        let asked = config.name_servers().iter().map(|server| server.ip.to_string());
        let servers = asked.collect::<Vec<_>>().join(", ");
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|error| format!("no resolver: {error}"))?;
        Ok(System {
            origin: self.clone(),
            hosts: Arc::new(hosts),
            resolver,
            servers,
        })
    }
}

fn unreadable(path: &str, error: &io::Error) -> String {
    let next = if error.kind() == ErrorKind::PermissionDenied && confine::is_refused(Path::new(path)) {
        "the agent was started without a name in its config and may not read it: restart it (traffic goes on), or set \
         [dns] servers"
    } else {
        "set [dns] servers where the host has no such file"
    };
    format!("{path}: {error}; {next}")
}
