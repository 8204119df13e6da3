//! What people and programs see of the agent: one serde type per answer, shared by API, CLI, demo and tests.
//!
//! It holds no logic beyond text of its own enums and must not name the modules that fill it. JSON keys are stable
//! within one [`SCHEMA`]; units stand in the key names.

mod drops;
mod flows;
mod names;
mod requests;
mod revision;
mod services;
mod status;
mod time;

pub use drops::{AnswerRow, CpuCountersView, DropRow, DropsView, PassRow, TxErrorRow};
pub use flows::{FlowFamily, FlowQuery, FlowState, FlowView, Prefix};
pub use names::NameView;
pub use requests::{
    AddBackend, AddService, ApiError, Changed, ChooseOverrides, DroppedView, ErrorCode, OverridesChanged,
    OverridesView, Reloaded, SetBackend,
};
pub use revision::Revision;
pub use services::{
    AllDownView, BackendState, BackendView, CountersView, FromNameView, HealthView, HopView, RatesView, ServiceState,
    ServiceView, Verdict, VerdictChangeView,
};
pub use status::{
    AddressRole, AddressView, AgentView, ConfigView, ConfinementView, FailedOpView, InterfaceView, Overall,
    OverrideView, ProgramView, SnatView, StatusView, TableView, WarningView,
};
pub use time::{Timestamp, ago};

pub use crate::config::AdminState;
pub use crate::config::write_back::{BackendSpec, CheckSpec, ServiceSpec};

/// A count as a floating-point number, for rates and metrics: exact up to 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "a rate or a metric of more than 2^53 may be off by one"
)]
pub const fn approximate(count: u64) -> f64 {
    count as f64
}

/// Version of every JSON document in this module.
pub const SCHEMA: u32 = 1;
