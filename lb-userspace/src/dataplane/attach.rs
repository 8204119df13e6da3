//! XDP on interfaces. A link, pinned, is the only way we attach: it outlives the agent and swaps its program
//! atomically. Somebody else's program is never replaced; generic mode is never chosen silently.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use lb_common::names;

use super::error::DataplaneError;
use super::load::program_fd;
use super::pins::PinnedLink;
use super::xdp_query::{self, Answer, OnInterface};
use super::{AttachMode, Dataplane, XdpMode, pins, refusal, sys, unload};

/// An interface that now runs this build's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The mode obtained.
    pub mode: AttachMode,
    /// A program of an earlier agent was swapped out, without a packet in between.
    pub replaced: bool,
}

/// A pinned XDP link as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedLink {
    /// The interface's name now, or when it was pinned if it is gone.
    pub ifname: String,
    /// Its index; `None`: the interface is gone, or in another network namespace.
    pub ifindex: Option<u32>,
    /// How it is attached; `None` as above.
    pub mode: Option<AttachMode>,
    /// Id of the program that runs.
    pub program_id: u32,
    /// Id of the link, for bpftool.
    pub link_id: u32,
    /// The pin.
    pub pin: PathBuf,
}

/// What [`Dataplane::detach`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// It was attached and is no longer.
    Done,
    /// It was not attached by us.
    WasNot,
}

impl Dataplane {
    /// Attaches to an interface of the caller's network namespace, or swaps the program of the link that is pinned.
    pub fn attach(&mut self, ifname: &str, ifindex: u32) -> Result<Attached, DataplaneError> {
        let current = Self::ask(ifname, ifindex)?;
        let program = program_fd(&self.ebpf, names::PROGRAM_XDP)?.as_fd();
        let ours = self.find_link(ifname, ifindex, current)?;
        match (ours, current) {
            (Some(link), Some(current)) if allows(self.options.xdp_mode, current.mode) => {
                self.name_pin(&link, ifname)?;
                let swap = sys::link_update(link.as_fd(), program);
                swap.map_err(DataplaneError::kernel(format!(
                    "interface {ifname}: swap the XDP program"
                )))?;
                return Ok(Attached {
                    mode: current.mode,
                    replaced: true,
                });
            }
            // The config asks for another mode, which a link cannot change.
            (Some(link), Some(_)) => {
                unload::detach(&link.path)?;
                pins::remove(&link.path)?;
            }
            (None, Some(current)) => return Err(refusal::foreign(ifname, current)),
            (_, None) => {}
        }
        self.create(ifname, ifindex, program)
    }

    /// Detaches from an interface, by its name now or when it was attached.
    pub fn detach(&mut self, ifname: &str) -> Result<Detached, DataplaneError> {
        let path = pins::link_path(&self.options.pin_dir, ifname);
        if !path.exists() {
            return Ok(Detached::WasNot);
        }
        unload::detach(&path)?;
        pins::remove(&path)?;
        Ok(Detached::Done)
    }

    /// Every pinned XDP link.
    pub fn attached(&self) -> Result<Vec<AttachedLink>, DataplaneError> {
        pins::links(&self.options.pin_dir)?.into_iter().map(describe).collect()
    }

    fn ask(ifname: &str, ifindex: u32) -> Result<Option<OnInterface>, DataplaneError> {
        match query(ifindex)? {
            Answer::Here { xdp, .. } => Ok(xdp),
            Answer::Gone => Err(DataplaneError::InterfaceGone {
                ifname: ifname.to_owned(),
                ifindex,
            }),
        }
    }

    /// The pinned link that is on this interface. Clears the interface's pin if it is a dead link's.
    fn find_link(
        &self,
        ifname: &str,
        ifindex: u32,
        current: Option<OnInterface>,
    ) -> Result<Option<PinnedLink>, DataplaneError> {
        let wanted = pins::link_path(&self.options.pin_dir, ifname);
        let mut ours = None;
        for link in pins::links(&self.options.pin_dir)? {
            let on_interface = current.is_some_and(|current| current.program_id == link.info.program_id);
            if link.info.ifindex == ifindex && on_interface {
                ours = Some(link);
            } else if link.path == wanted {
                self.clear_pin(&link)?;
            }
        }
        Ok(ours)
    }

    /// Frees the pin of an interface's name from a link that is not on that interface.
    fn clear_pin(&self, link: &PinnedLink) -> Result<(), DataplaneError> {
        if link.info.ifindex == 0 {
            // Its interface is gone and a new one has the name.
            return pins::remove(&link.path);
        }
        // The interface was renamed and another took the name.
        match query(link.info.ifindex)? {
            Answer::Here { ifname, xdp: Some(xdp) } if xdp.program_id == link.info.program_id => {
                self.name_pin(link, &ifname)
            }
            _ => Err(DataplaneError::LinkElsewhere {
                path: link.path.clone(),
                ifindex: link.info.ifindex,
            }),
        }
    }

    /// Gives a link's pin the name its interface has now.
    fn name_pin(&self, link: &PinnedLink, ifname: &str) -> Result<(), DataplaneError> {
        let path = pins::link_path(&self.options.pin_dir, ifname);
        if path == link.path {
            return Ok(());
        }
        pins::replace(link.as_fd(), &path)?;
        // Where interfaces have swapped names, the old pin is another link's by now.
        if pins::link_id(&link.path)? == Some(link.info.id) {
            pins::remove(&link.path)
        } else {
            Ok(())
        }
    }

    fn create(&self, ifname: &str, ifindex: u32, program: BorrowedFd<'_>) -> Result<Attached, DataplaneError> {
        let native = || sys::link_create_xdp(program, ifindex, sys::XDP_NATIVE);
        let generic = || sys::link_create_xdp(program, ifindex, sys::XDP_GENERIC);
        let (mode, link) = match self.options.xdp_mode {
            XdpMode::Native => ("native", native()),
            XdpMode::Generic => ("generic", generic()),
            XdpMode::Auto => match native() {
                Ok(link) => ("native", Ok(link)),
                Err(error) => {
                    tracing::warn!(object = ifname, old = "native", new = "generic", cause = %error, "XDP mode");
                    ("generic", generic())
                }
            },
        };
        let link = link.map_err(|source| DataplaneError::Attach {
            ifname: ifname.to_owned(),
            mode,
            hint: refusal::hint(&source),
            source,
        })?;
        // Dropping the link on the way out of an error detaches it.
        pins::replace(link.as_fd(), &pins::link_path(&self.options.pin_dir, ifname))?;
        let obtained = Self::ask(ifname, ifindex)?;
        let mode = obtained.map_or(AttachMode::Native, |on_interface| on_interface.mode);
        Ok(Attached { mode, replaced: false })
    }
}

fn query(ifindex: u32) -> Result<Answer, DataplaneError> {
    xdp_query::ask(ifindex).map_err(DataplaneError::kernel(format!(
        "interface index {ifindex}: ask for its XDP program"
    )))
}

fn describe(link: PinnedLink) -> Result<AttachedLink, DataplaneError> {
    let info = link.info;
    let here = match query(info.ifindex)? {
        Answer::Here { ifname, xdp: Some(xdp) } if xdp.program_id == info.program_id => Some((ifname, xdp.mode)),
        _ => None,
    };
    let (ifname, mode) = here.unzip();
    Ok(AttachedLink {
        ifindex: mode.map(|_| info.ifindex),
        ifname: ifname.unwrap_or(link.pinned_as),
        mode,
        program_id: info.program_id,
        link_id: info.id,
        pin: link.path,
    })
}

/// Whether a link in this mode may stay.
fn allows(wanted: XdpMode, obtained: AttachMode) -> bool {
    match wanted {
        XdpMode::Native => obtained == AttachMode::Native,
        XdpMode::Generic => obtained == AttachMode::Generic,
        XdpMode::Auto => true,
    }
}
