//! The only thing that stops forwarding: detaches every pinned link and removes our pins.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::error::DataplaneError;
use super::pins::{self, Kind, Pin};
use super::{lock, sys};

/// What [`super::Dataplane::unload`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unloaded {
    /// Interfaces that were detached, by the name they had when their link was pinned.
    pub interfaces: Vec<String>,
    /// Pins that were removed, links included.
    pub removed: usize,
    /// Files that are not ours; they, and with them the directory, stay.
    pub kept: Vec<PathBuf>,
}

/// See [`super::Dataplane::unload`].
pub(super) fn unload(pin_dir: &Path) -> Result<Unloaded, DataplaneError> {
    let mut unloaded = Unloaded::default();
    if !pin_dir.exists() {
        return Ok(unloaded);
    }
    // An agent that is alive would go on with maps that nobody sees.
    let _lock = lock::hold(pin_dir)?;
    let (links, others): (Vec<Pin>, Vec<Pin>) = pins::inventory(pin_dir)?
        .into_iter()
        .partition(|pin| matches!(pin.kind, Kind::Link(_)));
    // Links first: no packet meets a program whose maps are going.
    for pin in links.into_iter().chain(others) {
        match pin.kind {
            Kind::Foreign => {
                unloaded.kept.push(pin.path);
                continue;
            }
            Kind::Link(ifname) => {
                detach(&pin.path)?;
                unloaded.interfaces.push(ifname);
            }
            Kind::Map(_) | Kind::Program | Kind::Trace => {}
        }
        pins::remove(&pin.path)?;
        unloaded.removed += 1;
    }
    if unloaded.kept.is_empty() {
        remove_directory(pin_dir)?;
    }
    Ok(unloaded)
}

/// Detaches a link whoever else holds it open.
pub(super) fn detach(path: &Path) -> Result<(), DataplaneError> {
    let link = sys::obj_get(path).map_err(DataplaneError::pin_dir("open pin", path))?;
    sys::link_detach(link.as_fd()).map_err(DataplaneError::pin_dir("detach the link pinned at", path))
}

fn remove_directory(pin_dir: &Path) -> Result<(), DataplaneError> {
    match fs::remove_dir(pin_dir) {
        // The root of a BPF file system that was mounted for us alone stays.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
        result => result.map_err(DataplaneError::pin_dir("remove pin directory", pin_dir)),
    }
}
