//! The agent process: wires config, dataplane, netlink, probes, API and signals together around the one writer. It decides
//! nothing about traffic; it starts, reloads and stops.

mod admin;
mod confine;
mod desired;
mod heap;
mod kept;
mod kernel;
mod names;
mod network;
mod presence;
mod run;
mod signals;
mod stage;
mod supervise;
mod watch;

pub use admin::{Admin, Caller, Expected, ReloadFailure, Store};
pub use confine::{Confinement, NEEDED_CAPABILITIES};
pub use desired::{Change, Chosen, Desired, DesiredError, DroppedOverride, Override, read_all, read_config_or_fifo};
pub use kept::{KeepError, OverrideFile};
pub use names::Names;
pub use presence::address_view;
pub use run::{AgentError, RunOptions, run};
pub use stage::{StageError, Staged, WRITE_CODES};
