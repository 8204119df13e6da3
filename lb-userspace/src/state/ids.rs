//! Stable ids of services and backends, and the arena that rings are cut from: what must outlive one compile.

use std::time::Duration;

use super::image::Image;

/// Ids and ring spans in use. Owned by the reconcile task; recovered from the pinned image after a restart.
#[derive(Clone, Debug, Default)]
pub struct Ids {}

impl Ids {
    /// Ids as the maps know them. `now` is the clock that later goes to `Inputs::now`.
    pub fn recover(_image: &Image, _now: Duration) -> Self {
        Self {}
    }
}
