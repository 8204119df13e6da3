//! The agent's maps by the names of what stands in them, so that two histories that led to one config can be compared: ids
//! and places in the ring arena are accidents of the history, everything else is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use anyhow::{Context, Result, bail, ensure};
use lb_common::abi::{Backend, Service, name_kind};
use lb_userspace::config::{Limits, XdpMode};
use lb_userspace::dataplane::{Adoption, Dataplane, LogObject, Options, kernel_hz};
use lb_userspace::state::{Image, names};

use crate::client::Client;
use crate::netns::Namespace;

/// One line for each entry: what it is, and what it holds.
pub type Entries = BTreeMap<String, String>;

/// What the pinned maps hold. No agent may run, and `[limits]` must be the default.
pub fn read(balancer: &Namespace, client: &Client) -> Result<Entries> {
    let options = Options {
        pin_dir: client.pin_dir().to_owned(),
        limits: Limits::default(),
        hz: kernel_hz()?,
        log: LogObject::Off,
        xdp_mode: XdpMode::Native,
    };
    let image = balancer.enter(|| -> Result<Image> {
        let (dataplane, adoption) = Dataplane::open(&options)?;
        ensure!(matches!(adoption, Adoption::Adopted { .. }), "{adoption:?}");
        Ok(dataplane.read_image()?)
    })??;
    entries(&image)
}

/// An error that shows the entries that differ, unless none does.
pub fn ensure_equal(found: &Entries, wanted: &Entries) -> Result<()> {
    let keys: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    let differ: Vec<String> = keys
        .into_iter()
        .filter(|key| found.get(*key) != wanted.get(*key))
        .map(|key| {
            format!(
                "{key}:\n  found  {:.300?}\n  wanted {:.300?}",
                found.get(key),
                wanted.get(key)
            )
        })
        .collect();
    ensure!(
        differ.is_empty(),
        "{} entries differ\n{}",
        differ.len(),
        differ.join("\n")
    );
    Ok(())
}

fn entries(image: &Image) -> Result<Entries> {
    let mut entries = Entries::new();
    let mut put = |what: String, value: &dyn Debug| match entries.insert(what.clone(), format!("{value:?}")) {
        None => Ok(()),
        Some(_) => bail!("{what} stands twice in the maps"),
    };
    let service_name = |id: u32| name(image, name_kind::SERVICE, id);
    put("settings".into(), &image.settings)?;
    put("transmit ports".into(), &image.tx_ports)?;
    put("ours".into(), &image.ours)?;
    for (ifindex, value) in &image.ifaces {
        put(format!("interface {ifindex}"), value)?;
    }
    for (index, value) in &image.snat {
        put(format!("snat {index}"), value)?;
    }
    for (key, value) in &image.addrs {
        put(format!("address {:?}", key.address), value)?;
    }
    for (key, value) in &image.endpoints {
        let what = format!("endpoint {:?} {}/{}", key.address, key.port, key.protocol);
        put(what, &(service_name(value.service_id)?, value.kind))?;
    }
    for (id, value) in &image.services {
        let ring4 = ring(image, value.ring4_offset, value.ring4_size)?;
        let ring6 = ring(image, value.ring6_offset, value.ring6_size)?;
        let alone = Service {
            ring4_offset: 0,
            ring6_offset: 0,
            generation: 0,
            ..*value
        };
        put(format!("service {}", service_name(*id)?), &(alone, ring4, ring6))?;
    }
    for (id, value) in &image.backends {
        let alone = Backend {
            service_id: 0,
            ..*value
        };
        let what = format!("backend {}", name(image, name_kind::BACKEND, *id)?);
        put(what, &(service_name(value.service_id)?, alone))?;
    }
    // Names without anything behind them would be leftovers, too.
    let named = image.names.len();
    ensure!(
        named == image.services.len() + image.backends.len(),
        "{named} names for {} services and {} backends",
        image.services.len(),
        image.backends.len()
    );
    Ok(entries)
}

fn name(image: &Image, kind: u32, id: u32) -> Result<String> {
    let mut names = image.names.iter().filter(|(key, _)| (key.kind, key.id) == (kind, id));
    let (_, name) = names
        .next()
        .with_context(|| format!("id {id} of kind {kind} has no name"))?;
    Ok(names::to_text(name))
}

/// Who stands in each slot.
fn ring(image: &Image, offset: u32, size: u32) -> Result<Vec<String>> {
    if size == 0 {
        return Ok(Vec::new());
    }
    let slots = image
        .rings
        .get(&offset)
        .with_context(|| format!("no ring at {offset}"))?;
    let mut known = BTreeMap::new();
    slots
        .iter()
        .map(|id| match known.get(id) {
            Some(name) => Ok(String::clone(name)),
            None => {
                let found = name(image, name_kind::BACKEND, *id)?;
                known.insert(*id, found.clone());
                Ok(found)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lb_common::abi::NameKey;

    use super::*;

    /// One service of one backend, under these ids and with its ring there.
    fn image(service: u32, backend: u32, offset: u32, weight: u32) -> Image {
        let mut image = Image::default();
        let mut name = |kind, id, text| image.names.insert(NameKey { kind, id }, names::to_name(text));
        name(name_kind::SERVICE, service, "web");
        name(name_kind::BACKEND, backend, "web/a");
        image.rings.insert(offset, Arc::new(vec![backend; 4]));
        let value = Service {
            ring4_offset: offset,
            ring4_size: 4,
            ..Service::default()
        };
        image.services.insert(service, value);
        let value = Backend {
            service_id: service,
            weight,
            ..Backend::default()
        };
        image.backends.insert(backend, value);
        image
    }

    #[test]
    fn ids_and_offsets_do_not_count_and_everything_else_does() {
        let one = entries(&image(1, 1, 0, 100)).expect("names");
        ensure_equal(&one, &entries(&image(7, 9, 256, 100)).expect("names")).expect("alike");
        let other = entries(&image(1, 1, 0, 50)).expect("names");
        let error = ensure_equal(&one, &other).expect_err("another weight").to_string();
        assert!(error.starts_with("1 entries differ\nbackend web/a"), "{error}");
    }

    #[test]
    fn what_has_no_name_is_an_error() {
        let mut image = image(1, 1, 0, 100);
        image.names.clear();
        entries(&image).unwrap_err();
    }
}
