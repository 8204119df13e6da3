//! `xlb backend ...`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{ChangeArgs, Format, Socket, parse_duration};
use crate::cli::target::Target;

/// `xlb backend ...`.
#[derive(Debug, Subcommand)]
pub enum BackendCommand {
    /// List the backends of a service, or of all, worst first
    List(BackendListArgs),
    /// Add a backend to a service; it takes traffic after its first good check
    Add(BackendAddArgs),
    /// Remove a backend from a service; its established connections go on
    Remove(BackendRemoveArgs),
    /// Set a backend's share of new connections
    Weight(BackendWeightArgs),
    /// No new connections to a backend; those it has go on, and it is still checked
    Drain(BackendDrainArgs),
    /// New connections to a backend again, if it is healthy
    Ready(BackendStateArgs),
    /// As drain, and the backend is not checked; after ready it takes connections once its checks are good
    Maint(BackendStateArgs),
}

/// `xlb backend list`.
#[derive(Debug, Args)]
pub struct BackendListArgs {
    /// Only this service's
    pub service: Option<String>,
    /// Where the agent is.
    #[command(flatten)]
    pub socket: Socket,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// `xlb backend add`.
#[derive(Debug, Args)]
pub struct BackendAddArgs {
    /// Service to add to
    pub service: String,
    /// ADDRESS[:PORT], IPv6 with a port in brackets; the port defaults to the service's internal_port
    #[arg(value_name = "ADDRESS[:PORT]")]
    pub target: Target,
    /// Its name in the service; default: address:port
    #[arg(long)]
    pub name: Option<String>,
    /// Share of new connections against its siblings, 0 to 1000; default: 100
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub weight: Option<u32>,
    /// How and where.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// `xlb backend remove`.
#[derive(Debug, Args)]
pub struct BackendRemoveArgs {
    /// Service to remove from
    pub service: String,
    /// The backend's name (address:port where the config gives none)
    pub backend: String,
    /// How and where.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// `xlb backend weight`.
#[derive(Debug, Args)]
pub struct BackendWeightArgs {
    /// The backend's service
    pub service: String,
    /// The backend's name (address:port where the config gives none)
    pub backend: String,
    /// Share of new connections against its siblings, 0 to 1000; 0: none
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub weight: u32,
    /// How and where.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// `xlb backend ready` and `maint`.
#[derive(Debug, Args)]
pub struct BackendStateArgs {
    /// The backend's service
    pub service: String,
    /// The backend's name (address:port where the config gives none)
    pub backend: String,
    /// How and where.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// `xlb backend drain`.
#[derive(Debug, Args)]
pub struct BackendDrainArgs {
    /// The backend's service
    pub service: String,
    /// The backend's name (address:port where the config gives none)
    pub backend: String,
    /// Wait until the backend has no open connection, and say how many are left meanwhile
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, such as 90s or 10m; exit code 4 when connections are left then
    #[arg(long, default_value = "10m", requires = "wait", value_parser = parse_duration)]
    pub timeout: Duration,
    /// How and where.
    #[command(flatten)]
    pub change: ChangeArgs,
}
