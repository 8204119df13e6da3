//! `xlb unload`: works without an agent, and only without one.

use std::net::IpAddr;

use serde::Serialize;

use super::args::{Format, UnloadArgs};
use super::exit::{CliError, Exit};
use super::output;
use super::run::denied;
use crate::dataplane::{Dataplane, DataplaneError};
use crate::neigh::{self, NeighError, VipRemoved};
use crate::view::SCHEMA;

/// The JSON answer.
#[derive(Debug, Serialize)]
struct UnloadView {
    schema: u32,
    pin_dir: std::path::PathBuf,
    interfaces: Vec<String>,
    pins_removed: usize,
    vips_removed: Vec<IpAddr>,
    neighbours_removed: usize,
    kept: Vec<std::path::PathBuf>,
}

/// Detaches and removes.
pub(super) fn unload(args: &UnloadArgs) -> Result<Exit, CliError> {
    let unloaded = Dataplane::unload(&args.pin_dir).map_err(|error| match &error {
        DataplaneError::PinDir { source, .. } if denied(source) => CliError::NotPermitted(error.to_string()),
        _ => CliError::Problem(error.to_string()),
    })?;
    // Where nothing was loaded, what stands in the network is another agent's.
    let network = if unloaded.removed == 0 {
        Restored::default()
    } else {
        restore_network()
    };
    let view = UnloadView {
        schema: SCHEMA,
        pin_dir: args.pin_dir.clone(),
        interfaces: unloaded.interfaces,
        pins_removed: unloaded.removed,
        vips_removed: network.vips_removed,
        neighbours_removed: network.neighbours_removed,
        kept: unloaded.kept,
    };
    match args.output {
        Format::Json => output::json(&view)?,
        Format::Table => output::text(&text(&view))?,
    }
    Ok(Exit::Ok)
}

/// What an agent had added to the host's network configuration.
#[derive(Debug, Default)]
struct Restored {
    vips_removed: Vec<IpAddr>,
    neighbours_removed: usize,
}

/// Takes away the VIPs that an agent added (`manage_vip`): without the program the kernel would answer for them; and its
/// neighbour entries, which the kernel would keep fresh for nobody.
fn restore_network() -> Restored {
    let mut restored = Restored::default();
    let restoring = async {
        for (interface, vip) in neigh::vips_ours().await? {
            if neigh::vip_remove(&interface, vip).await? == VipRemoved::Removed {
                restored.vips_removed.push(vip);
            }
        }
        restored.neighbours_removed = neigh::release_neighbours().await?;
        Ok::<_, NeighError>(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let failed = match runtime.map(|runtime| runtime.block_on(restoring)) {
        Ok(Ok(())) => return restored,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    output::note(&format!(
        "VIPs and neighbours that the agent added may still be there: {failed}; see 'ip addr' and 'ip neigh'"
    ));
    restored
}

fn text(view: &UnloadView) -> String {
    let directory = view.pin_dir.display();
    if view.pins_removed == 0 && view.interfaces.is_empty() {
        return format!("nothing is loaded under {directory}; next: --pin-dir, if the config's pin_dir is another\n");
    }
    let interfaces = if view.interfaces.is_empty() {
        "no interface was attached".to_owned()
    } else {
        format!("detached {}", view.interfaces.join(", "))
    };
    let mut text = format!(
        "{interfaces}; removed {} pins under {directory}; nothing is forwarded any more, connections are lost\n",
        view.pins_removed
    );
    for vip in &view.vips_removed {
        output::line(&mut text, &format!("removed VIP {vip}, which the agent had added"));
    }
    for kept in &view.kept {
        output::line(&mut text, &format!("kept {}: not made by xlb", kept.display()));
    }
    text
}
