//! Families about backends by name: how old what the DNS said is, and how often it has failed since.

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::encode::{Encoded, family, gauge};
use crate::view::{NameView, StatusView, approximate};

/// One sample for each name and family. A name that this agent has had no answer for has no age.
pub(super) fn names(encoder: &mut DescriptorEncoder<'_>, status: &StatusView) -> Encoded {
    let labels = |name: &NameView| [name.name.clone(), name.family.clone()];
    let help = "Seconds since the last good answer of the DNS for a name of the config.";
    let mut age = family(encoder, "xlb_name_answer_age_seconds", help, MetricType::Gauge)?;
    for name in &status.names {
        let Some(answered) = name.answered else { continue };
        let [host, family] = labels(name);
        let seconds = approximate(answered.age(status.now).as_secs());
        gauge(
            &mut age,
            &[("name", host.as_str()), ("family", family.as_str())],
            seconds,
        )?;
    }
    let help = "Questions for a name of the config that failed since its last good answer.";
    let mut failures = family(encoder, "xlb_name_failures", help, MetricType::Gauge)?;
    for name in &status.names {
        let [host, family] = labels(name);
        let labels = [("name", host.as_str()), ("family", family.as_str())];
        gauge(&mut failures, &labels, f64::from(name.failures))?;
    }
    let help = "Addresses that a name of the config stands for.";
    let mut addresses = family(encoder, "xlb_name_addresses", help, MetricType::Gauge)?;
    for name in &status.names {
        let [host, family] = labels(name);
        let labels = [("name", host.as_str()), ("family", family.as_str())];
        gauge(&mut addresses, &labels, approximate(name.addresses.len() as u64))?;
    }
    Ok(())
}
