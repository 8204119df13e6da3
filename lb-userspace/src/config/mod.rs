//! Config file to checked config. Every error at once, each with file, line, caret and code. Pure: text in, [`Config`] or
//! [`Diagnostic`]s out; it must not read files, clocks or the network.

mod diagnostic;
mod model;

pub use diagnostic::{Diagnostic, Severity};
pub use model::{
    AgentConfig, BackendConfig, Check, CheckKind, Config, Limits, Mode, OnMiss, PortRange, Protocol, ServiceConfig,
    Timeouts, TxChoice, XdpMode,
};
