//! Whether packets for VIPs and SNAT addresses reach this host, told to the writer; with `manage_vip = true` also adds
//! missing VIPs and removes those it added and nobody wants any more. Never removes an operator's address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use crate::neigh::{self, NeighError, VipAdded, VipRemoved, VipStatus};
use crate::reconcile::{Event, VipsWanted};
use crate::view::{AddressRole, AddressView};

/// Looks again this often, whatever was heard.
const POLL: Duration = Duration::from_secs(10);

/// Runs until the writer is gone.
pub(super) async fn run(
    mut wanted: watch::Receiver<VipsWanted>,
    links_changed: Arc<Notify>,
    events: mpsc::Sender<Event>,
) {
    let mut told = None;
    loop {
        let now = wanted.borrow_and_update().clone();
        match look(&now).await {
            Ok(presence) if told.as_ref() != Some(&presence) => {
                if events.send(Event::Presence(presence.clone())).await.is_err() {
                    return;
                }
                told = Some(presence);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(object = "addresses", cause = %error, "presence of VIPs is not known"),
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = links_changed.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn look(wanted: &VipsWanted) -> Result<Vec<AddressView>, NeighError> {
    if let Some(interface) = &wanted.manage_on {
        manage(interface, &wanted.vips).await?;
    }
    let roles = [(&wanted.vips, AddressRole::Vip), (&wanted.snat, AddressRole::Snat)];
    let mut presence = Vec::new();
    for (addresses, role) in roles {
        for address in addresses {
            presence.push(address_view(*address, role, wanted.interface.as_deref()).await?);
        }
    }
    Ok(presence)
}

async fn manage(interface: &str, vips: &BTreeSet<IpAddr>) -> Result<(), NeighError> {
    for (held_by, address) in neigh::vips_ours().await? {
        if vips.contains(&address) {
            continue;
        }
        if neigh::vip_remove(&held_by, address).await? == VipRemoved::Removed {
            tracing::info!(object = %address, old = "present", new = "removed", cause = "no service has this VIP", interface = held_by, "vip");
        }
    }
    for vip in vips {
        if let VipStatus::Local { .. } = neigh::vip_status(*vip).await? {
            continue;
        }
        if neigh::vip_add(interface, *vip).await? == VipAdded::Added {
            tracing::info!(object = %vip, old = "missing", new = "present", cause = "manage_vip", interface, "vip");
        }
    }
    Ok(())
}

/// Presence of one address; `interface` is the one that `ip addr add` should name.
pub async fn address_view(
    address: IpAddr,
    role: AddressRole,
    interface: Option<&str>,
) -> Result<AddressView, NeighError> {
    let status = neigh::vip_status(address).await?;
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    let add = |interface: &str| format!("ip addr add {address}/{prefix} dev {interface}");
    let (held_by, next) = match &status {
        VipStatus::Local { iface } => (iface.clone(), None),
        VipStatus::Missing { iface } => (None, Some(add(iface))),
        VipStatus::Routed => (
            None,
            interface.map(|name| format!("route it here, or if this host is to answer for it: {}", add(name))),
        ),
    };
    Ok(AddressView {
        address,
        role,
        presence: status.as_str().to_owned(),
        interface: held_by,
        next,
    })
}
