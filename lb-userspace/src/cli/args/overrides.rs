//! `xlb override ...`.

use clap::{Args, Subcommand};

use super::{Format, Socket, WriteTo};

/// `xlb override ...`.
#[derive(Debug, Subcommand)]
pub enum OverrideCommand {
    /// List the changes that are not in the config file, with who and when
    List(OverrideListArgs),
    /// Write overrides into the config file
    Save(OverrideSettleArgs),
    /// Take overrides back: the config file is in force again
    Drop(OverrideSettleArgs),
}

/// `xlb override list`.
#[derive(Debug, Args)]
pub struct OverrideListArgs {
    /// Where the agent is.
    #[command(flatten)]
    pub socket: Socket,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// `xlb override save` and `drop`.
#[derive(Debug, Args)]
pub struct OverrideSettleArgs {
    /// Which ones.
    #[command(flatten)]
    pub which: Which,
    /// Only this backend's, by its name
    #[arg(requires = "service")]
    pub backend: Option<String>,
    /// Where the agent is.
    #[command(flatten)]
    pub to: WriteTo,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// Not all by accident.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// This service's
    pub service: Option<String>,
    /// Every one
    #[arg(long)]
    pub all: bool,
}
