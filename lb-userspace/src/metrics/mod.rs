//! `/metrics`: the same views as status and drops, as Prometheus text (exposition format 0.0.4, which promtool lints).
//!
//! Names are `xlb_<object>_<what>[_<unit>]`, counters end in `_total`, labels are bounded by the config.

mod families;
mod text;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::view::{DropsView, StatusView};

/// Type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics as text.
pub fn render(status: &StatusView, drops: &DropsView) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Views {
        status: status.clone(),
        drops: drops.clone(),
    }));
    let mut open_metrics = String::new();
    encode(&mut open_metrics, &registry)?;
    Ok(text::prometheus(&open_metrics))
}

/// What one scrape shows.
#[derive(Debug)]
struct Views {
    status: StatusView,
    drops: DropsView,
}

impl Collector for Views {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        families::agent(&mut encoder, &self.status)?;
        families::backends(&mut encoder, &self.status)?;
        families::reasons(&mut encoder, &self.drops)
    }
}
