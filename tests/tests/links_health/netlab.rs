//! Two namespaces joined by a veth pair, and async code that runs inside one of them: what the `links_*` and
//! `health_*` tests share.

use std::net::IpAddr;

use anyhow::{Context, Result};
use xlb_tests::netns::{Namespace, Room, connect};

/// MAC of the far end of the pair.
pub(crate) const THEIR_MAC: [u8; 6] = [2, 0, 0, 0, 9, 2];

/// `us` (u0, 10.9.0.1/24, fd09::1/64) and `them` (t0, 10.9.0.2/24, fd09::2/64, [`THEIR_MAC`]).
pub(crate) struct Lab {
    /// Where the code under test runs.
    pub(crate) us: Namespace,
    /// The other machine.
    pub(crate) them: Namespace,
    _room: Room,
}

impl Lab {
    /// Both namespaces, connected and addressed.
    pub(crate) fn new() -> Result<Self> {
        let lab = Self::bare()?;
        lab.us.ip("addr add 10.9.0.1/24 dev u0\naddr add fd09::1/64 dev u0")?;
        lab.them.ip("addr add 10.9.0.2/24 dev t0\naddr add fd09::2/64 dev t0")?;
        Ok(lab)
    }

    /// Both namespaces, connected, without addresses.
    pub(crate) fn bare() -> Result<Self> {
        let room = Room::for_test()?;
        let us = room.namespace("us")?;
        let them = room.namespace("them")?;
        connect(&us, "u0", &them, "t0")?;
        them.ip("link set t0 address 02:00:00:00:09:02")?;
        Ok(Self { us, them, _room: room })
    }
}

/// The lines of `ip neigh` about entries that the kernel keeps resolved by itself.
pub(crate) fn managed(namespace: &Namespace) -> Result<Vec<String>> {
    let all = namespace.ip_show("neigh show")?;
    let managed = all
        .lines()
        .filter(|line| line.split_whitespace().any(|word| word == "managed"));
    Ok(managed.map(str::to_owned).collect())
}

/// Runs async code in a thread that has entered `namespace`, on a runtime of that one thread.
pub(crate) fn inside<R: Send>(namespace: &Namespace, code: impl AsyncFnOnce() -> Result<R> + Send) -> Result<R> {
    namespace.enter(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("runtime")?;
        runtime.block_on(code())
    })?
}

/// An address in text.
pub(crate) fn ip(text: &str) -> Result<IpAddr> {
    text.parse().with_context(|| format!("address {text}"))
}
