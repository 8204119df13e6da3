//! `xlb_ifaces` and `xlb_tx_ports`: the configured interfaces that are there.

use std::collections::BTreeMap;

use lb_common::abi::{ABI_VERSION, IFACE_SLOTS, Iface, iface_flag};

use crate::config::TxChoice;
use crate::state::image::Image;
use crate::state::links::{Link, TxWay};

use super::{CompileError, Inputs};

pub(super) fn compile(inputs: &Inputs<'_>, previous: &Image, image: &mut Image) -> Result<(), CompileError> {
    if inputs.links.by_name.is_empty() {
        // Nothing is known of the network yet: the agent has just started.
        image.ifaces.clone_from(&previous.ifaces);
        image.tx_ports.clone_from(&previous.tx_ports);
        return Ok(());
    }
    let mut slots: BTreeMap<u32, &str> = BTreeMap::new();
    for link in configured(inputs) {
        if let Some(first) = slots.insert(link.ifindex % IFACE_SLOTS, &link.name) {
            return Err(CompileError::IfaceSlot {
                first: first.to_owned(),
                second: link.name.clone(),
            });
        }
        let iface = Iface {
            ifindex: link.ifindex,
            mac: link.mac,
            flags: match way(inputs, link) {
                TxWay::Tx => iface_flag::TX,
                TxWay::Redirect => 0,
            },
            abi_version: ABI_VERSION,
        };
        image.ifaces.insert(link.ifindex, iface);
        image.tx_ports.insert(link.ifindex);
    }
    Ok(())
}

/// The configured interfaces that are there.
pub(super) fn configured<'a>(inputs: &Inputs<'a>) -> impl Iterator<Item = &'a Link> {
    let by_name = &inputs.links.by_name;
    inputs
        .config
        .agent
        .interfaces
        .iter()
        .filter_map(|name| by_name.get(name))
}

/// How packets leave by a link they came in on.
pub(super) fn way(inputs: &Inputs<'_>, link: &Link) -> TxWay {
    match inputs.config.agent.tx {
        TxChoice::Auto => link.tx,
        TxChoice::Tx => TxWay::Tx,
        TxChoice::Redirect => TxWay::Redirect,
    }
}
