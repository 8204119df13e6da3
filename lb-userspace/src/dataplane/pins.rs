//! What stands under the pin directory: names, and what is there now.
//!
//! `<map name>` for maps, `prog_<name>` for programs, `link_<interface>` for XDP links, `trace_<name>` for tracepoint
//! links. `xlb_settings` is pinned last on a first load, so a directory without it was never in use.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use lb_common::names;

use super::error::DataplaneError;
use super::sys::{self, LinkInfo};

const PROGRAM: &str = "prog_";
const LINK: &str = "link_";
const TRACE: &str = "trace_";
/// Ending of a pin that is about to replace another.
const NEXT: &str = "_next";

/// Pin of a program.
pub(super) fn program_path(pin_dir: &Path, program: &str) -> PathBuf {
    pin_dir.join(format!("{PROGRAM}{program}"))
}

/// Pin of an interface's XDP link. bpffs refuses dots in names, interfaces have them.
pub(super) fn link_path(pin_dir: &Path, ifname: &str) -> PathBuf {
    pin_dir.join(format!("{LINK}{}", ifname.replace('%', "%25").replace('.', "%2e")))
}

/// Pin of a tracepoint's link.
pub(super) fn trace_path(pin_dir: &Path, program: &str) -> PathBuf {
    pin_dir.join(format!("{TRACE}{program}"))
}

/// The interface a pin was named after.
fn ifname_of(file_name: &str) -> Option<String> {
    let encoded = file_name.strip_prefix(LINK)?;
    Some(encoded.replace("%2e", ".").replace("%25", "%"))
}

/// What one file of the pin directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of our maps.
    Map(&'static str),
    /// A program.
    Program,
    /// An XDP link, with the interface's name when it was pinned.
    Link(String),
    /// A tracepoint's link.
    Trace,
    /// Not ours.
    Foreign,
}

/// One file of the pin directory.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    /// Its path.
    pub(super) path: PathBuf,
    /// What it is.
    pub(super) kind: Kind,
}

/// Every file of the pin directory, sorted by name; empty if there is no such directory.
pub(super) fn inventory(pin_dir: &Path) -> Result<Vec<Pin>, DataplaneError> {
    let entries = match fs::read_dir(pin_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DataplaneError::pin_dir("read pin directory", pin_dir)(error)),
    };
    let mut pins = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(DataplaneError::pin_dir("read pin directory", pin_dir))?
            .path();
        let kind = kind_of(&path);
        pins.push(Pin { path, kind });
    }
    pins.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pins)
}

fn kind_of(path: &Path) -> Kind {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Kind::Foreign;
    };
    if let Some(map) = names::MAPS.iter().find(|map| **map == name) {
        return Kind::Map(map);
    }
    if let Some(ifname) = ifname_of(name) {
        return Kind::Link(ifname);
    }
    if name.starts_with(PROGRAM) {
        return Kind::Program;
    }
    if name.starts_with(TRACE) {
        Kind::Trace
    } else {
        Kind::Foreign
    }
}

/// An open, pinned XDP link.
#[derive(Debug)]
pub(super) struct PinnedLink {
    /// Its pin.
    pub(super) path: PathBuf,
    /// The interface's name when it was pinned.
    pub(super) pinned_as: String,
    /// What the kernel says.
    pub(super) info: LinkInfo,
    fd: OwnedFd,
}

impl AsFd for PinnedLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens every pinned XDP link. Pins that are no XDP link are left out.
pub(super) fn links(pin_dir: &Path) -> Result<Vec<PinnedLink>, DataplaneError> {
    let mut links = Vec::new();
    for Pin { path, kind } in inventory(pin_dir)? {
        let Kind::Link(pinned_as) = kind else { continue };
        let fd = sys::obj_get(&path).map_err(DataplaneError::pin_dir("open pin", &path))?;
        let info = sys::link_info(fd.as_fd()).map_err(DataplaneError::pin_dir("ask about pin", &path))?;
        if info.kind == sys::LINK_TYPE_XDP {
            links.push(PinnedLink {
                path,
                pinned_as,
                info,
                fd,
            });
        }
    }
    Ok(links)
}

/// Id of the link that is pinned there, if any.
pub(super) fn link_id(path: &Path) -> Result<Option<u32>, DataplaneError> {
    match sys::obj_get(path).and_then(|link| sys::link_info(link.as_fd())) {
        Ok(info) => Ok(Some(info.id)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataplaneError::pin_dir("open pin", path)(error)),
    }
}

/// Pins an object in place of whatever is pinned there; there is no moment without a pin.
pub(super) fn replace(fd: BorrowedFd<'_>, path: &Path) -> Result<(), DataplaneError> {
    let mut next = path.as_os_str().to_owned();
    next.push(NEXT);
    let next = PathBuf::from(next);
    remove(&next)?;
    sys::obj_pin(fd, &next).map_err(DataplaneError::pin_dir("pin", &next))?;
    fs::rename(&next, path).map_err(DataplaneError::pin_dir("rename pin to", path))
}

/// Removes a pin; none is fine.
pub(super) fn remove(path: &Path) -> Result<(), DataplaneError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DataplaneError::pin_dir("remove pin", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_with_dots_and_percents_come_back() {
        for ifname in ["eth0", "eth0.100", "a%2eb", "%.%"] {
            let path = link_path(Path::new("/pins"), ifname);
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            assert!(!name.contains('.'), "bpffs refuses {name}");
            assert_eq!(kind_of(&path), Kind::Link(ifname.to_owned()));
        }
    }

    #[test]
    fn an_interface_named_like_a_tracepoint_program_has_its_own_pin() {
        let pins = Path::new("/pins");
        assert_ne!(
            link_path(pins, names::PROGRAM_REDIRECT_ERR),
            trace_path(pins, names::PROGRAM_REDIRECT_ERR)
        );
    }

    #[test]
    fn a_strange_file_is_not_ours() {
        assert_eq!(kind_of(Path::new("/pins/cilium_lb4")), Kind::Foreign);
    }
}
