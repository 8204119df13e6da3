//! The kernel side of a start: the lock, the dataplane, facts about both.

use std::time::Duration;

use super::confine::Confinement;
use super::desired::Desired;
use super::run::AgentError;
use crate::dataplane::{self, Adoption, Dataplane, LogObject, Options, PinLock};
use crate::reconcile::Origin;
use crate::view::Timestamp;

/// Pause between two looks at the packet log.
const PACKET_LOG_EVERY: Duration = Duration::from_millis(50);

/// The open dataplane with what it found.
pub(super) struct Kernel {
    pub(super) dataplane: Dataplane,
    pub(super) adoption: Adoption,
    pub(super) hz: u32,
    pub(super) packet_log: LogObject,
    pub(super) started: Timestamp,
    pub(super) lock: PinLock,
    pub(super) confinement: Confinement,
}

impl Kernel {
    /// Loads or adopts under the pin directory that is locked. `started` and `confinement` are for the status.
    pub(super) fn open(
        desired: &Desired,
        packet_log: LogObject,
        started: Timestamp,
        lock: PinLock,
        confinement: Confinement,
    ) -> Result<Self, AgentError> {
        let agent = &desired.config.agent;
        let hz = dataplane::kernel_hz()?;
        let options = Options {
            pin_dir: agent.pin_dir.clone(),
            limits: desired.config.limits,
            hz,
            log: packet_log,
            xdp_mode: agent.xdp_mode,
        };
        let (dataplane, adoption) = Dataplane::open(&options)?;
        Ok(Self {
            dataplane,
            adoption,
            hz,
            packet_log,
            started,
            lock,
            confinement,
        })
    }
}

/// Facts for the status that stay as they are; `warnings` are those of a start that the kernel side does not know.
pub(super) fn origin(kernel: &Kernel, desired: &Desired, warnings: impl Iterator<Item = String>) -> Origin {
    let mut features = vec!["full_nat".to_owned(), "gateway".to_owned()];
    if kernel.packet_log == LogObject::On {
        features.push("packet_log".to_owned());
    }
    Origin {
        pid: std::process::id(),
        started: kernel.started,
        pin_dir: kernel.dataplane.pin_dir().to_owned(),
        features,
        adoption: match kernel.adoption {
            Adoption::Fresh { .. } => "fresh",
            Adoption::Adopted { .. } => "adopted",
        },
        warnings: kernel
            .dataplane
            .warnings()
            .iter()
            .chain(kernel.lock.warning())
            .map(ToString::to_string)
            .chain(kernel.confinement.warnings.iter().cloned())
            .chain(warnings)
            .collect(),
        confinement: kernel.confinement.clone(),
        config: desired.config.clone(),
    }
}

/// Lines of the logging program go to the log within a moment.
pub(super) fn forward_packet_log(dataplane: &mut Dataplane) -> Result<(), AgentError> {
    let mut log = dataplane.packet_log()?;
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(PACKET_LOG_EVERY);
        loop {
            tick.tick().await;
            log.flush();
        }
    });
    Ok(())
}
