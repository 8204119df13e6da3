//! Packet log lines of the logging object, handed to the `log` facade (and so to `tracing`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use aya_log::EbpfLogger;

use super::{Dataplane, DataplaneError};

/// Reads what the program logged. Readable (as a file descriptor) when there is something.
pub struct PacketLog {
    fd: OwnedFd,
    flush: Box<dyn FnMut() + Send>,
}

impl PacketLog {
    /// Hands every waiting line on.
    pub fn flush(&mut self) {
        (self.flush)();
    }
}

impl AsRawFd for PacketLog {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Dataplane {
    /// Takes the packet log; the object must be the logging one ([`super::LogObject::On`]).
    pub fn packet_log(&mut self) -> Result<PacketLog, DataplaneError> {
        let fail = |error| DataplaneError::kernel("packet log; load the object with logging on")(error);
        let mut logger = EbpfLogger::init(&mut self.ebpf).map_err(|error| fail(io::Error::other(error)))?;
        let fd = logger.as_fd().try_clone_to_owned().map_err(fail)?;
        Ok(PacketLog {
            fd,
            flush: Box::new(move || logger.flush()),
        })
    }
}
