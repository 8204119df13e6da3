//! From backends by name to backends by address: what is left of a config's names once somebody has looked them up. Pure:
//! the answers are an argument. It must not resolve, and must not touch a backend that the file gives by address.
//!
//! Backends of a name are called `ENTRY@ADDRESS`, so that an address that stays in the answer stays the same backend,
//! with its id and its connections, whatever else the answer holds. No name in a file has an `@`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::check::unusable;
use super::{BackendConfig, Check, CheckKind, Config, HostName, Mode, NamedBackend, Protocol, ServiceConfig};

/// Addresses by name, of both families.
pub type Answers = BTreeMap<HostName, BTreeSet<IpAddr>>;

/// Where a backend comes from that the file gives by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromName {
    /// The name of its entry in the service.
    pub entry: String,
    /// The host that was looked up.
    pub host: HostName,
}

/// Something wrong with what a name stands for: an address that is no backend although the name has it, a VIP without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameFinding {
    /// `SERVICE` or `SERVICE/BACKEND`.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
    /// What to do about it.
    pub next: String,
}

/// The config with a backend for each usable address of its names, in the order of the addresses, behind those that the file
/// gives by address; and what is not usable. What an earlier expansion made is made anew.
pub fn expand(mut config: Config, answers: &Answers) -> (Config, Vec<NameFinding>) {
    let mut found = Vec::new();
    if !config.has_names() {
        return (config, found);
    }
    for service in config.services.iter_mut().filter(|service| !service.names.is_empty()) {
        Arc::make_mut(service).backends.retain(|backend| backend.from.is_none());
    }
    let mut taken = Taken::of(&config);
    for index in 0..config.services.len() {
        let Some(service) = config.services.get(index) else {
            break;
        };
        let mut made = Vec::new();
        for entry in &service.names {
            let addresses = answers.get(&entry.host).into_iter().flatten();
            let of_family = |address: &&IpAddr| service.vips.iter().any(|vip| vip.is_ipv4() == address.is_ipv4());
            let mut count = 0;
            let mut beyond = 0;
            for address in addresses.filter(of_family) {
                if count == config.dns.max_addresses {
                    beyond += 1;
                    continue;
                }
                let backend = backend(service, entry, *address);
                match taken.take(service, &backend) {
                    Ok(()) => {
                        made.push(backend);
                        count += 1;
                    }
                    Err(why) => found.push(NameFinding {
                        object: format!("{}/{}", service.name, backend.name),
                        why,
                        next: format!("correct the records of {}, or the config file", entry.host),
                    }),
                }
            }
            if beyond > 0 {
                found.push(NameFinding {
                    object: format!("{}/{}", service.name, entry.name),
                    why: format!(
                        "{beyond} more addresses of {} than [dns] max_addresses = {count}",
                        entry.host
                    ),
                    next: "raise max_addresses, or have fewer records".to_owned(),
                });
            }
        }
        if let Some(service) = config
            .services
            .get_mut(index)
            .filter(|service| !service.names.is_empty())
        {
            Arc::make_mut(service).backends.extend(made);
            found.extend(family_without_backend(service));
        }
    }
    (config, found)
}

/// What the check says of a VIP where no backend is given by name.
fn family_without_backend(service: &ServiceConfig) -> Option<NameFinding> {
    let has_backend = |vip: &IpAddr| {
        service
            .backends
            .iter()
            .any(|one| one.address.is_ipv4() == vip.is_ipv4())
    };
    let vip = service
        .vips
        .iter()
        .find(|vip| !has_backend(vip))
        .filter(|_| !service.names.is_empty())?;
    let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
    Some(NameFinding {
        object: service.name.clone(),
        why: format!("VIP {vip} has no backend: no name of the service has a usable {family} address"),
        next: "xlb status -o wide; add the records, or remove this VIP".to_owned(),
    })
}

fn backend(service: &ServiceConfig, entry: &NamedBackend, address: IpAddr) -> BackendConfig {
    BackendConfig {
        name: format!("{}@{address}", entry.name),
        address,
        port: entry.port,
        weight: entry.weight,
        state: entry.state,
        check: entry
            .check
            .as_ref()
            .or(service.check.as_ref())
            .map(|check| asking_for(check, entry)),
        from: Some(FromName {
            entry: entry.name.clone(),
            host: entry.host.clone(),
        }),
    }
}

/// Where the check says nothing else, its Host and with it the server name are the entry's, as a client of the name has them:
/// certificates are for names, and an address says nothing to a server of many.
fn asking_for(check: &Check, entry: &NamedBackend) -> Check {
    let mut check = check.clone();
    let host = entry.host.to_string();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let port = check.port.unwrap_or(entry.port);
    let (http, usual_port) = match &mut check.kind {
        CheckKind::Tcp => return check,
        CheckKind::Http(http) => (http, 80),
        CheckKind::Https(http, _) => (http, 443),
    };
    let default = if port == usual_port {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    };
    http.host.get_or_insert(default);
    check
}

/// What the check refuses of addresses in a file, for addresses that come later.
struct Taken {
    vips: HashMap<IpAddr, String>,
    snat: HashSet<IpAddr>,
    /// By service.
    targets: HashMap<(String, IpAddr, u16), String>,
    /// Of gateway services: the service.
    gateways: HashMap<(IpAddr, u16, Protocol), String>,
    backends: usize,
    max_backends: usize,
}

impl Taken {
    fn of(config: &Config) -> Self {
        let mut taken = Self {
            vips: HashMap::new(),
            snat: config.agent.snat_addresses.iter().copied().collect(),
            targets: HashMap::new(),
            gateways: HashMap::new(),
            backends: 0,
            max_backends: config.limits.backends as usize,
        };
        for service in &config.services {
            for vip in &service.vips {
                taken.vips.insert(*vip, service.name.clone());
            }
            for backend in &service.backends {
                taken.note(service, backend);
            }
        }
        taken
    }

    fn note(&mut self, service: &ServiceConfig, backend: &BackendConfig) {
        self.backends += 1;
        let target = (service.name.clone(), backend.address, backend.port);
        self.targets.insert(target, backend.name.clone());
        if service.mode == Mode::Gateway {
            let key = (backend.address, backend.port, service.protocol);
            self.gateways.entry(key).or_insert_with(|| service.name.clone());
        }
    }

    fn take(&mut self, service: &ServiceConfig, backend: &BackendConfig) -> Result<(), String> {
        let address = backend.address;
        if let Some(why) = unusable(address) {
            return Err(format!("{address} is {why}"));
        }
        if let Some(owner) = self.vips.get(&address) {
            return Err(format!("{address} is a VIP of service {owner}"));
        }
        if self.snat.contains(&address) {
            return Err(format!("{address} is a SNAT address"));
        }
        let target = (service.name.clone(), address, backend.port);
        if let Some(other) = self.targets.get(&target) {
            return Err(format!("{address} port {} is there already, as {other}", backend.port));
        }
        let key = (address, backend.port, service.protocol);
        if service.mode == Mode::Gateway
            && let Some(other) = self.gateways.get(&key).filter(|other| **other != service.name)
        {
            return Err(format!(
                "{address} port {} is a backend of the gateway service {other}, too",
                backend.port
            ));
        }
        if self.backends == self.max_backends {
            return Err(format!(
                "there is room for [limits] backends = {} only",
                self.max_backends
            ));
        }
        self.note(service, backend);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
