//! A first config from what the host has: which interfaces, which VIP, which SNAT addresses, and why. Pure: a [`Survey`] and
//! the operator's wishes in, a [`Proposal`] or the reason against it out.

mod text;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::neigh::{Fit, Interface, Survey, Way};

/// Service port where no other is wished for.
const DEFAULT_PORT: u16 = 80;

/// What the operator said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Interfaces, instead of those that are found.
    pub interfaces: Vec<String>,
    /// VIP, instead of the one that is found.
    pub vip: Option<IpAddr>,
    /// Service port; `None`: 80.
    pub port: Option<u16>,
    /// Backends with their internal ports; a port of `None` is the service port. The survey's ways are theirs, in this order.
    pub backends: Vec<(IpAddr, Option<u16>)>,
}

/// A config to be written, with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    interfaces: Vec<(String, String)>,
    snat: Vec<(IpAddr, String)>,
    vip: (IpAddr, String),
    /// The VIP is on the network of an interface, and no address of the host.
    manage_vip: bool,
    port: u16,
    backends: Vec<(IpAddr, u16)>,
    notes: Vec<String>,
}

/// Why there is no proposal. Each says the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProposal {
    /// An interface that is not there.
    #[error("this host has no interface {name}; it has: {there}\n  next: name one of them with --interface")]
    NoInterface {
        /// As asked for.
        name: String,
        /// Those that are there.
        there: String,
    },
    /// None that a balancer belongs on.
    #[error("no interface that xlb can work on:\n  {}\n  next: give one an address, or name it with --interface", skipped.join("\n  "))]
    NoneFits {
        /// Each interface with what is against it.
        skipped: Vec<String>,
    },
    /// Nothing to translate to.
    #[error(
        "{interfaces} has no {family} address to send to the backends from\n  next: give it one, or name another with --interface"
    )]
    NoSource {
        /// Where it was looked for.
        interfaces: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// A backend and a VIP of different families.
    #[error(
        "backend {backend} and VIP {vip} are of different families, and xlb does not translate between IPv4 and IPv6\n  next: name a VIP of the backend's family with --vip"
    )]
    Families {
        /// The backend.
        backend: IpAddr,
        /// The VIP.
        vip: IpAddr,
    },
    /// A backend that is this host.
    #[error(
        "backend {backend} is an address of this host, which XDP cannot send to\n  next: name a backend on another host"
    )]
    BackendIsHere {
        /// The backend.
        backend: IpAddr,
    },
    /// A backend without a way to it.
    #[error("there is no route to backend {backend}\n  next: 'ip route get {backend}', or name another backend")]
    NoRoute {
        /// The backend.
        backend: IpAddr,
    },
}

/// Makes a proposal.
///
/// # Errors
/// The first thing that is in the way.
pub fn propose(survey: &Survey, wishes: &Wishes) -> Result<Proposal, NoProposal> {
    for ((backend, _), way) in wishes.backends.iter().zip(&survey.ways) {
        let backend = *backend;
        match way {
            Way::Here => return Err(NoProposal::BackendIsHere { backend }),
            Way::Nowhere => return Err(NoProposal::NoRoute { backend }),
            Way::Out(_) => {}
        }
    }
    let chosen = interfaces(survey, wishes)?;
    let (vip, why_vip) = match wishes.vip {
        Some(vip) => (vip, "as you named it".to_owned()),
        None => found_vip(&chosen, wishes)?,
    };
    let strange = wishes
        .backends
        .iter()
        .find(|(backend, _)| backend.is_ipv4() != vip.is_ipv4());
    if let Some((backend, _)) = strange {
        return Err(NoProposal::Families { backend: *backend, vip });
    }
    let all = || survey.interfaces.iter().flat_map(|interface| &interface.addresses);
    let is_here = all().any(|net| net.addr() == vip);
    let port = wishes.port.unwrap_or(DEFAULT_PORT);
    Ok(Proposal {
        snat: sources(survey, wishes, &chosen, vip)?,
        manage_vip: !is_here && all().any(|net| net.contains(&vip)),
        interfaces: chosen
            .iter()
            .map(|(one, why)| (one.name.clone(), why.clone()))
            .collect(),
        notes: notes(survey, &chosen, is_here, vip),
        vip: (vip, why_vip),
        port,
        backends: wishes
            .backends
            .iter()
            .map(|(address, own)| (*address, own.unwrap_or(port)))
            .collect(),
    })
}

/// An interface and why it was chosen.
type Chosen<'s> = (&'s Interface, String);

fn interfaces<'s>(survey: &'s Survey, wishes: &Wishes) -> Result<Vec<Chosen<'s>>, NoProposal> {
    if !wishes.interfaces.is_empty() {
        return named(survey, wishes);
    }
    let towards = |interface: &Interface| {
        let mut all = wishes.backends.iter().zip(&survey.ways);
        let found = all.find(|(_, way)| **way == Way::Out(interface.name.clone()));
        found.map(|((backend, _), _)| *backend)
    };
    let usable: Vec<&Interface> = survey.interfaces.iter().filter(|one| against(one).is_none()).collect();
    let mut chosen: Vec<Chosen<'s>> = Vec::new();
    for interface in &usable {
        let why = match (interface.is_default, towards(interface)) {
            (true, None) => "has the default route".to_owned(),
            (true, Some(backend)) => format!("has the default route and leads to {backend}"),
            (false, Some(backend)) => format!("leads to {backend}"),
            (false, None) => continue,
        };
        chosen.push((interface, why));
    }
    // The clients' side comes first: manage_vip adds VIPs there.
    chosen.sort_by_key(|(interface, _)| !interface.is_default);
    if !chosen.iter().any(|(interface, _)| interface.is_default) {
        // Whoever has no default route has clients on its own networks.
        let others = usable.iter().filter(|one| towards(one).is_none());
        let others: Vec<Chosen<'s>> = others
            .map(|one| (*one, "has an address; no default route".to_owned()))
            .collect();
        chosen.splice(0..0, others);
    }
    if chosen.is_empty() {
        let skipped = survey
            .interfaces
            .iter()
            .filter_map(|one| Some(format!("{}: {}", one.name, against(one)?)));
        return Err(NoProposal::NoneFits {
            skipped: skipped.collect(),
        });
    }
    Ok(chosen)
}

fn named<'s>(survey: &'s Survey, wishes: &Wishes) -> Result<Vec<Chosen<'s>>, NoProposal> {
    let names = BTreeSet::from_iter(&wishes.interfaces);
    if let Some(name) = names
        .iter()
        .find(|name| !survey.interfaces.iter().any(|one| one.name == ***name))
    {
        let there: Vec<&str> = survey.interfaces.iter().map(|one| one.name.as_str()).collect();
        return Err(NoProposal::NoInterface {
            name: (**name).clone(),
            there: there.join(", "),
        });
    }
    let mut chosen: Vec<Chosen<'s>> = Vec::new();
    for name in &wishes.interfaces {
        let found = survey.interfaces.iter().find(|one| one.name == *name);
        let is_new = |one: &&Interface| !chosen.iter().any(|(known, _)| known.name == one.name);
        if let Some(interface) = found.filter(is_new) {
            chosen.push((interface, "as you named it".to_owned()));
        }
    }
    Ok(chosen)
}

/// What speaks against an interface.
fn against(interface: &Interface) -> Option<String> {
    match &interface.fit {
        Fit::NotEthernet => Some("not an Ethernet interface".to_owned()),
        Fit::Port { of } => Some(format!("a part of {of}")),
        Fit::Kind(kind) => Some(format!("a {kind} has no XDP of its own")),
        Fit::Good if !interface.up => Some("down, or without carrier".to_owned()),
        Fit::Good if interface.addresses.is_empty() => Some("has no address".to_owned()),
        Fit::Good => None,
    }
}

/// The first address of the clients' side, of the family of the backends.
fn found_vip(chosen: &[Chosen<'_>], wishes: &Wishes) -> Result<(IpAddr, String), NoProposal> {
    let family = wishes.backends.first().map(|(backend, _)| backend.is_ipv4());
    let fits = |address: &IpAddr| family.is_none_or(|is_v4| address.is_ipv4() == is_v4);
    let found = chosen.iter().find_map(|(interface, _)| {
        let mut all = interface.addresses.iter().map(IpNet::addr);
        Some((interface, all.find(fits)?))
    });
    match found {
        Some((interface, vip)) => Ok((vip, format!("an address of {}; better one of its own", interface.name))),
        None => Err(no_source(chosen, family.unwrap_or(true))),
    }
}

fn no_source(chosen: &[Chosen<'_>], is_v4: bool) -> NoProposal {
    let names: Vec<&str> = chosen.iter().map(|(one, _)| one.name.as_str()).collect();
    NoProposal::NoSource {
        interfaces: names.join(", "),
        family: if is_v4 { "IPv4" } else { "IPv6" },
    }
}

/// One address of each interface that leads to a backend; of the last interface where there is no backend yet.
fn sources(
    survey: &Survey,
    wishes: &Wishes,
    chosen: &[Chosen<'_>],
    vip: IpAddr,
) -> Result<Vec<(IpAddr, String)>, NoProposal> {
    let mut found: Vec<(IpAddr, String)> = Vec::new();
    for ((backend, _), way) in wishes.backends.iter().zip(&survey.ways) {
        let towards = chosen.iter().find(|(one, _)| *way == Way::Out(one.name.clone()));
        let source = towards.and_then(|(interface, _)| source(interface, vip, Some(*backend)));
        found.extend(source.filter(|new| !found.contains(new)));
    }
    if found.is_empty() {
        found.extend(
            chosen
                .iter()
                .rev()
                .find_map(|(interface, _)| source(interface, vip, None)),
        );
    }
    if found.is_empty() {
        return Err(no_source(chosen, vip.is_ipv4()));
    }
    Ok(found)
}

/// An address of the VIP's family: in the backend's network, else one with a network at all (one without is somebody's VIP).
fn source(interface: &Interface, vip: IpAddr, backend: Option<IpAddr>) -> Option<(IpAddr, String)> {
    let of_family = || {
        let all = interface.addresses.iter();
        all.filter(|net| net.addr().is_ipv4() == vip.is_ipv4())
    };
    let near = of_family().find(|net| backend.is_some_and(|backend| net.contains(&backend)));
    let wide = || of_family().find(|net| net.prefix_len() < net.max_prefix_len());
    let net = near.or_else(wide).or_else(|| of_family().next())?;
    Some((net.addr(), format!("of {}", interface.name)))
}

fn notes(survey: &Survey, chosen: &[Chosen<'_>], is_here: bool, vip: IpAddr) -> Vec<String> {
    let is_chosen = |one: &Interface| chosen.iter().any(|(known, _)| known.name == one.name);
    let others = survey.interfaces.iter().filter(|one| !is_chosen(one));
    let mut notes: Vec<String> = others
        .map(|one| {
            let why = against(one).unwrap_or_else(|| "no default route and no backend behind it".to_owned());
            format!("left out {}: {why}", one.name)
        })
        .collect();
    for (interface, _) in chosen {
        if let Some(why) = against(interface) {
            notes.push(format!("{}: {why}; 'xlb run' may refuse it", interface.name));
        }
    }
    if !is_here
        && !survey
            .interfaces
            .iter()
            .flat_map(|one| &one.addresses)
            .any(|net| net.contains(&vip))
    {
        notes.push(format!(
            "VIP {vip} is on no network of this host: a router must send its packets here"
        ));
    }
    notes
}

#[cfg(test)]
mod tests;
