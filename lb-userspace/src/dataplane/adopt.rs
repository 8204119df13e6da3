//! Whether what is pinned can be used: the version, that every map is there, their shapes and sizes. Nothing is created
//! or removed here.

use std::os::fd::AsFd;
use std::path::Path;

use aya::maps::{MapData, MapInfo, MapType};
use lb_common::abi::ABI_VERSION;
use lb_common::names;

use super::abi::Shape;
use super::error::DataplaneError;
use super::maps::failed;
use super::pins::{self, Kind, Pin};
use super::{Adoption, batch};

/// Decides whether to start afresh or to adopt, and refuses what fits neither.
pub(super) fn look(pin_dir: &Path, shapes: &[Shape]) -> Result<Adoption, DataplaneError> {
    let found = pins::inventory(pin_dir)?;
    let has = |name: &str| {
        found
            .iter()
            .any(|pin| matches!(pin.kind, Kind::Map(map) if map == name))
    };
    let interfaces: Vec<String> = found.iter().filter_map(|pin| link_name(&pin.kind)).collect();
    // Maps without a shape are the program's own scratch: they come with each load and are not pinned.
    let missing: Vec<String> = shapes
        .iter()
        .filter(|shape| !has(shape.name))
        .map(|shape| shape.name.to_owned())
        .collect();

    if !has(names::SETTINGS) && interfaces.is_empty() {
        let ours = |pin: &Pin| pin.kind != Kind::Foreign;
        let leftovers = found
            .iter()
            .filter(|pin| ours(pin))
            .map(|pin| pin.path.clone())
            .collect();
        return Ok(Adoption::Fresh { leftovers });
    }
    // The version first: another version may have other maps.
    if has(names::SETTINGS) {
        check_version(pin_dir)?;
    }
    if !missing.is_empty() {
        let beside = if interfaces.is_empty() {
            "other maps".to_owned()
        } else {
            interfaces.join(", ")
        };
        return Err(DataplaneError::HalfPinned {
            pin_dir: pin_dir.to_owned(),
            missing,
            beside,
        });
    }
    check_shapes(pin_dir, shapes)?;
    Ok(Adoption::Adopted { interfaces })
}

fn link_name(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Link(ifname) => Some(ifname.clone()),
        _ => None,
    }
}

/// Compares the ABI version, which is the first word of `xlb_settings` in every version, whatever its size. 0: no agent
/// has written it yet.
fn check_version(pin_dir: &Path) -> Result<(), DataplaneError> {
    let fail = |error| failed(names::SETTINGS, "read pinned")(error);
    let map = MapData::from_pin(pin_dir.join(names::SETTINGS)).map_err(fail)?;
    let info = map.info().map_err(fail)?;
    if !matches!(info.map_type(), Ok(MapType::Array)) {
        // `check_shapes` names what differs. A batch read of another type may write past the buffer.
        return Ok(());
    }
    let mut value = vec![0_u8; info.value_size() as usize];
    let bytes = value.len();
    batch::lookup(map.fd().as_fd(), 0, &mut value, bytes).map_err(|error| fail(error.into()))?;
    let found = value.first_chunk().copied().map_or(0, u32::from_ne_bytes);
    if found == 0 || found == ABI_VERSION {
        return Ok(());
    }
    Err(DataplaneError::AbiVersion {
        pin_dir: pin_dir.to_owned(),
        found,
        wanted: ABI_VERSION,
    })
}

fn check_shapes(pin_dir: &Path, shapes: &[Shape]) -> Result<(), DataplaneError> {
    let mut differences = Vec::new();
    for shape in shapes {
        let path = pin_dir.join(shape.name);
        let info = MapInfo::from_pin(&path).map_err(failed(shape.name, "open pinned"))?;
        shape.check(&path, &info).map_err(DataplaneError::Shape)?;
        differences.extend(shape.check_limit(&info));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(DataplaneError::LimitsChanged {
        pin_dir: pin_dir.to_owned(),
        differences,
    })
}
