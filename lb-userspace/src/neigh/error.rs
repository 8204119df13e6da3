//! What can go wrong between us and netlink.

use std::io;
use std::num::NonZeroI32;

/// A failed netlink operation.
#[derive(Debug, thiserror::Error)]
pub enum NeighError {
    /// No netlink socket.
    #[error("netlink socket: {source}; the agent needs AF_NETLINK (RestrictAddressFamilies= in its unit?)")]
    Open {
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("{what}: {source}{}", hint(.source))]
    Refused {
        /// What was asked for, on what.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel did not answer.
    #[error("{what}: no answer from netlink within {waited_ms} ms; the next poll tries again")]
    NoAnswer {
        /// What was asked for, on what.
        what: String,
        /// How long we waited.
        waited_ms: u128,
    },
    /// Our socket is gone.
    #[error("{what}: the netlink socket is closed; it is opened again by the next poll")]
    Closed {
        /// What was asked for, on what.
        what: String,
    },
    /// No such interface.
    #[error("interface {name} does not exist in this network namespace; see 'ip link'")]
    NoInterface {
        /// Its name.
        name: String,
    },
}

impl NeighError {
    /// The kernel's error number, where it answered with one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Open { source } => source.raw_os_error(),
            Self::NoAnswer { .. } | Self::Closed { .. } | Self::NoInterface { .. } => None,
        }
    }

    /// From the code in a netlink error message (negative error number).
    pub(super) fn refused(what: String, code: NonZeroI32) -> Self {
        let source = io::Error::from_raw_os_error(code.get().wrapping_abs());
        Self::Refused { what, source }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => "; the agent needs CAP_NET_ADMIN",
        Some(libc::ENOBUFS) => "; the neighbour table is full: raise net.ipv4.neigh.default.gc_thresh3 (ipv6 too)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_neighbour_table_names_the_sysctl() {
        let code = NonZeroI32::new(-libc::ENOBUFS).expect("not zero");
        let error = NeighError::refused("neighbour 10.0.0.1 on interface 3".to_owned(), code);
        assert_eq!(error.errno(), Some(libc::ENOBUFS));
        assert!(error.to_string().contains("gc_thresh3"), "{error}");
    }
}
