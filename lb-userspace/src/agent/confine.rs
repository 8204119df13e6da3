//! What the agent gives up once it has what a start needs (pin directory, sockets) and before there is a second thread:
//! capabilities, gaining any by `exec`, and files. Threads inherit all of it.
//!
//! Source: capabilities(7), landlock(7).

mod capabilities;
mod files;

pub use capabilities::NEEDED_CAPABILITIES;
pub(super) use capabilities::refusal;
pub(super) use files::is_refused;

use crate::config::Config;

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Capabilities that the process has, by name.
    pub capabilities: Vec<String>,
    /// Capabilities it needs and has not.
    pub missing: Vec<String>,
    /// Access to files: `limited`, `partly limited`, `not limited`.
    pub files: &'static str,
    /// What is not as it should be.
    pub warnings: Vec<String>,
}

/// Gives up what [`crate::config::AgentConfig::sandbox`] says. `config_path` is the config file.
///
/// A kernel that cannot limit is a warning: traffic matters more.
pub(super) fn confine(config: &Config, config_path: &std::path::Path) -> Confinement {
    let mut warnings = Vec::new();
    if config.agent.sandbox
        && let Err(error) = capabilities::give_up(config_path)
    {
        warnings.push(format!(
            "capabilities that are not needed could not be given up: {error}"
        ));
    }
    let files = if config.agent.sandbox {
        files::limit(config, config_path).unwrap_or_else(|error| {
            warnings.push(format!("file access is not limited: {error}"));
            "not limited"
        })
    } else {
        "not limited"
    };
    if config.agent.sandbox && files != "limited" && warnings.is_empty() {
        warnings.push(format!(
            "file access is {files}: this kernel's Landlock is missing or old ('cat /sys/kernel/security/lsm')"
        ));
    }
    let (capabilities, missing) = capabilities::held();
    Confinement {
        capabilities,
        missing,
        files,
        warnings,
    }
}
