//! The arena of rings: an array map that takes ten million slots at once where a machine has thousands of services. So it is
//! written by stores into its memory, and by system calls only where it cannot be mapped.

use std::io;

use lb_common::abi::RingSlot;
use lb_common::names;

use super::entries::Entries;
use crate::dataplane::error::DataplaneError;
use crate::dataplane::window;

/// The arena.
pub(in crate::dataplane) struct Rings {
    slots: Entries<RingSlot>,
    writes: RingWrites,
}

/// How slots of rings get into their map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingWrites {
    /// By stores into its memory.
    Mapped,
    /// By batches of map updates: the map could not be mapped.
    Batches,
}

impl Rings {
    pub(super) fn take(ebpf: &mut aya::Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            slots: Entries::take(ebpf, names::RINGS)?,
            writes: RingWrites::Mapped,
        })
    }

    /// Backend ids of the slots from `offset`.
    pub(in crate::dataplane) fn read(&self, offset: u32, size: u32) -> Result<Vec<u32>, DataplaneError> {
        let slots = self.slots.read_range(offset, size)?;
        Ok(slots.into_iter().map(|slot| slot.backend_id).collect())
    }

    /// How they were written last; `Mapped` before the first.
    pub(in crate::dataplane) const fn writes(&self) -> RingWrites {
        self.writes
    }

    /// Writes the slots from `offset`. No packet is led to them yet.
    pub(in crate::dataplane) fn write(&mut self, offset: u32, ids: &[u32]) -> Result<(), DataplaneError> {
        self.slots.bounds(offset, ids.len() as u32)?;
        if ids.is_empty() {
            return Ok(());
        }
        if self.writes == RingWrites::Mapped {
            match window::store(self.slots.fd(), offset, ids) {
                Ok(()) => return Ok(()),
                // Short of room for a mapping, as the next ring may not be.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EAGAIN)) => {}
                Err(error) => self.give_up_mapping(&error),
            }
        }
        self.slots.write_range(offset, bytemuck::cast_slice(ids))
    }

    /// For as long as the agent runs: what cannot be mapped once (pinned by a build that did not ask for it, or refused by the
    /// machine's security policy) will not be the next time, and the log says it once.
    fn give_up_mapping(&mut self, error: &io::Error) {
        self.writes = RingWrites::Batches;
        // What the kernel says of a map that was made without the flag.
        let next = if error.raw_os_error() == Some(libc::EINVAL) {
            "the map is of an older build and can be mapped after 'xlb unload' (drops flows) and a new start"
        } else {
            "the machine refuses to map it: look at its security policy"
        };
        tracing::warn!(
            object = names::RINGS,
            old = "mapped",
            new = "batches",
            cause = %error,
            next,
            "rings are written by system calls, which takes longer where many change at once"
        );
    }
}
