//! The clap tree. Objects with several actions are nouns with subcommands (`backend add`, `service list`).

mod backend;
mod overrides;
mod service;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(super) use backend::{BackendAddArgs, BackendCommand, BackendDrainArgs, BackendListArgs, BackendRemoveArgs};
pub(super) use overrides::{OverrideCommand, OverrideListArgs, OverrideSettleArgs};
pub(super) use service::{ServiceAddArgs, ServiceCommand, ServiceListArgs, ServiceRemoveArgs, ServiceShowArgs};

use super::logs;
use super::target::Target;
use crate::view::{FlowFamily, FlowState, Prefix, Revision, Timestamp};

/// Where `xlb run` and `xlb check` look when nothing else is said.
pub(super) const DEFAULT_CONFIG: &str = "/etc/xlb/xlb.toml";
/// Where the client commands look for the agent.
pub(super) const DEFAULT_SOCKET: &str = "/run/xlb/api.sock";
/// Where `xlb unload` looks for pins.
pub(super) const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/xlb";

const EXIT_CODES: &str = "\
Exit codes: 0 ok, 1 problem or degraded, 2 usage, 3 agent unreachable, 4 timeout, 5 denied, 78 bad config at start.";

/// XDP layer-4 load balancer: clients dial a service port, backends listen on their own internal ports.
#[derive(Debug, Parser)]
#[command(name = "xlb", version, after_help = EXIT_CODES, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent: load the program, fill the maps, check the backends
    Run(RunArgs),
    /// Check a config file: every error at once; needs no privilege and no agent
    Check(CheckArgs),
    /// Write a first config file from the interfaces, addresses and routes of this host
    Init(InitArgs),
    /// Print the config file's JSON schema, for editors
    Schema,
    /// Show services, backends and what is wrong; exit code 1 when degraded
    Status(StatusArgs),
    /// List, show, add or remove services
    Service {
        /// The action.
        #[command(subcommand)]
        command: ServiceCommand,
    },
    /// List, add, remove, weigh or drain backends of a service
    Backend {
        /// The action.
        #[command(subcommand)]
        command: BackendCommand,
    },
    /// List the changes made with --runtime; save them into the config file, or take them back
    Override {
        /// The action.
        #[command(subcommand)]
        command: OverrideCommand,
    },
    /// Show live connections; log who used which SNAT tuple when
    Flows(FlowsArgs),
    /// Show why packets were dropped, and what the kernel failed to send
    Drops(DropsArgs),
    /// Explain a code of `xlb check`, a drop reason or a port verdict; without a name: list them
    Explain(ExplainArgs),
    /// Read the config file again (as SIGHUP does) and say what came of it
    Reload(ReloadArgs),
    /// Detach the program and remove every pin: traffic stops being balanced
    Unload(UnloadArgs),
    /// Print a completion script that knows the running agent's services and backends
    Completions(CompletionsArgs),
    /// Print the man pages, or write them into a directory
    Man(ManArgs),
}

/// `xlb run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Config file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG, env = "XLB_CONFIG")]
    pub config: PathBuf,
    /// Shape of the log lines on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,
    /// What is logged, as in tracing's EnvFilter: `info`, `debug`, `info,lb_userspace::health=debug`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "XLB_LOG", value_parser = logs::check_filter)]
    pub log: String,
    /// Load the program that logs each packet's fate, at most 1,000 a second (slow; for looking into a problem)
    #[arg(long)]
    pub trace_packets: bool,
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// The journal where standard error leads there, else text.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `xlb check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Config file; -: standard input
    #[arg(value_name = "FILE", default_value = DEFAULT_CONFIG, env = "XLB_CONFIG")]
    pub config: PathBuf,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// `xlb init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// File to write; default: standard output
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Use this interface, instead of those with a default route or a backend behind them; may be repeated
    #[arg(long = "interface", value_name = "IF")]
    pub interfaces: Vec<String>,
    /// Address that clients dial, and its service port (80); default: an address of this host
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub vip: Option<Target>,
    /// A backend and its internal port (the service port); may be repeated
    #[arg(long = "backend", value_name = "ADDRESS[:PORT]")]
    pub backends: Vec<Target>,
    /// Write over FILE
    #[arg(long, requires = "file")]
    pub force: bool,
}

/// How a client command finds the agent.
#[derive(Clone, Debug, Args)]
pub struct Socket {
    /// The agent's API socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET, env = "XLB_SOCKET")]
    pub socket: PathBuf,
}

/// Output with one level of detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs; keys are stable within one `schema`.
    Json,
}

/// Output with two levels of detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WideFormat {
    /// One screen.
    Table,
    /// Every row and column.
    Wide,
    /// For programs; keys are stable within one `schema`.
    Json,
}

/// `xlb status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where the agent is.
    #[command(flatten)]
    pub socket: Socket,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = WideFormat::Table)]
    pub output: WideFormat,
}

/// How a writing command finds the agent, and against which state it writes.
#[derive(Clone, Debug, Args)]
pub struct WriteTo {
    /// Refuse when the desired state is not at this revision any more; 'xlb status' shows it
    #[arg(long, value_name = "REVISION")]
    pub if_revision: Option<Revision>,
    /// Where the agent is.
    #[command(flatten)]
    pub socket: Socket,
}

/// What every command takes that changes services or backends.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Change only the running state; without it the config file is changed too
    #[arg(long)]
    pub runtime: bool,
    /// Where the agent is.
    #[command(flatten)]
    pub to: WriteTo,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// `xlb drops`.
#[derive(Debug, Args)]
pub struct DropsArgs {
    /// How long to measure rates for, such as 500ms or 2s; 0s: do not
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub interval: Duration,
    /// Where the agent is.
    #[command(flatten)]
    pub socket: Socket,
    /// Format of the answer; wide also lists reasons that never happened
    #[arg(short, long, value_enum, default_value_t = WideFormat::Table)]
    pub output: WideFormat,
}

/// `xlb explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Code such as XLB0203 or 203, a reason such as `no_backend`, or a port verdict such as `filtered`; default: list all
    #[arg(value_name = "CODE|NAME")]
    pub code: Option<String>,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// `xlb flows`.
#[derive(Debug, Args)]
pub struct FlowsArgs {
    /// Only connections of this service
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only connections of this backend: NAME, or SERVICE/NAME
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Only connections of these clients
    #[arg(long, value_name = "ADDRESS[/LENGTH]")]
    pub client: Option<Prefix>,
    /// Only connections in this state
    #[arg(long, value_enum, conflicts_with = "log")]
    pub state: Option<StateArg>,
    /// Only connections of this family
    #[arg(long, value_enum)]
    pub family: Option<FamilyArg>,
    /// At most so many
    #[arg(long, value_name = "N", conflicts_with = "log")]
    pub limit: Option<u64>,
    /// Append the begin and end of every connection to FILE until SIGTERM; SIGHUP opens it anew
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Time between two looks at the connections for --log; below the closing and udp lifetimes nothing is missed
    #[arg(long, default_value = "10s", value_parser = parse_duration, requires = "log")]
    pub interval: Duration,
    /// Print which clients used this SNAT address and port, from the file named with --log
    #[arg(long, value_name = "ADDRESS:PORT", requires = "log")]
    pub who: Option<SocketAddr>,
    /// Only who used it at this time, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", requires = "who")]
    pub at: Option<Timestamp>,
    /// Where the agent is.
    #[command(flatten)]
    pub socket: Socket,
    /// Format of the answer; json: one object a line
    #[arg(short, long, value_enum, default_value_t = WideFormat::Table)]
    pub output: WideFormat,
}

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    /// TCP: in its handshake; UDP: not answered yet.
    #[value(name = "half_open", alias = "half-open")]
    HalfOpen,
    /// Open.
    Established,
    /// A FIN or RST was seen.
    Closing,
}

impl From<StateArg> for FlowState {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::HalfOpen => Self::HalfOpen,
            StateArg::Established => Self::Established,
            StateArg::Closing => Self::Closing,
        }
    }
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FamilyArg {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl From<FamilyArg> for FlowFamily {
    fn from(family: FamilyArg) -> Self {
        match family {
            FamilyArg::Ipv4 => Self::Ipv4,
            FamilyArg::Ipv6 => Self::Ipv6,
        }
    }
}

/// `xlb completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Shells that completion scripts can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
    /// Elvish.
    Elvish,
    /// PowerShell.
    Powershell,
}

impl Shell {
    /// As on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Elvish => "elvish",
            Self::Powershell => "powershell",
        }
    }
}

/// `xlb man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write one file a command into this directory, such as /usr/local/share/man/man1
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `xlb reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Where the agent is.
    #[command(flatten)]
    pub to: WriteTo,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// `xlb unload`.
#[derive(Debug, Args)]
pub struct UnloadArgs {
    /// Directory of the pins
    #[arg(long, value_name = "DIR", default_value = DEFAULT_PIN_DIR)]
    pub pin_dir: PathBuf,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no duration such as 500ms, 2s or 1m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let ms = match unit {
        "ms" => number,
        "s" => number.saturating_mul(1_000),
        "m" => number.saturating_mul(60_000),
        _ => return Err(wrong()),
    };
    match ms {
        0..=600_000 => Ok(Duration::from_millis(ms)),
        _ => Err(format!("{text} is longer than 10m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["2", "s", "", "-1s", "1.5s", "2h", "11m"] {
            parse_duration(wrong).unwrap_err();
        }
    }
}
