//! One sample at a time.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// What every encoder gives.
pub(super) type Encoded = Result<(), fmt::Error>;

/// Opens a family; its samples follow.
pub(super) fn family<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    name: &'s str,
    help: &'static str,
    kind: MetricType,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, kind)
}

/// One sample of a counter.
pub(super) fn counter<const N: usize>(
    metric: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: u64,
) -> Encoded {
    ConstCounter::new(value).encode(metric.encode_family(labels)?)
}

/// One sample of a gauge.
pub(super) fn gauge<const N: usize>(metric: &mut MetricEncoder<'_>, labels: &[(&str, &str); N], value: f64) -> Encoded {
    ConstGauge::new(value).encode(metric.encode_family(labels)?)
}

/// 1 or 0.
pub(super) fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}
