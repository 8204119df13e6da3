//! Bodies of the writing API calls and their answers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{AdminState, OverrideView, Revision, ServiceSpec, WarningView};

/// `POST /v1/backends`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddBackend {
    /// Service to add to.
    pub service: String,
    /// Default: `address:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Address of the backend.
    pub address: IpAddr,
    /// Default: the service's `internal_port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Change only the running state, not the config file.
    #[serde(default)]
    pub runtime: bool,
}

/// `POST /v1/services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddService {
    /// All of it.
    pub service: ServiceSpec,
    /// Change only the running state, not the config file.
    #[serde(default)]
    pub runtime: bool,
}

/// `PATCH /v1/services/{service}/backends/{backend}`: exactly one of `weight` and `state`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetBackend {
    /// 0 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// `ready`, `drain` or `maint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<AdminState>,
    /// Change only the running state, not the config file.
    #[serde(default)]
    pub runtime: bool,
}

/// `POST /v1/overrides/save` and `/v1/overrides/drop`: all overrides, those of a service, or those of one backend of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChooseOverrides {
    /// Service name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Backend name; only with a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
}

/// `GET /v1/overrides`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverridesView {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// Oldest first, as they are applied.
    pub overrides: Vec<OverrideView>,
    /// The desired state that they are part of.
    pub revision: Revision,
    /// Those that a reading of the config file left no room for, until they are dropped or made again.
    pub dropped: Vec<DroppedView>,
    /// Why they would not outlive the agent; `null`: they do.
    pub not_kept: Option<String>,
}

/// An override that is not in force any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DroppedView {
    /// What it was.
    #[serde(flatten)]
    pub change: OverrideView,
    /// Why it does not fit.
    pub why: String,
}

/// Overrides that were saved or dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverridesChanged {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// Those that are none any more.
    pub overrides: Vec<OverrideView>,
    /// How many there still are.
    pub left: usize,
    /// Image that holds it.
    pub generation: u64,
    /// The desired state after it.
    pub revision: Revision,
    /// What was done, in a sentence.
    pub message: String,
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Service.
    pub service: String,
    /// Backend; absent where a whole service was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Image that holds it.
    pub generation: u64,
    /// The desired state after it.
    pub revision: Revision,
    /// Where it stands: the config file's path, or `runtime`.
    pub stored: String,
    /// What was done, in a sentence.
    pub message: String,
    /// What it leads to that is seldom meant, such as a service that takes no new connections any more.
    #[serde(default)]
    pub warnings: Vec<WarningView>,
}

/// A reload that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether the file, or one that it names, was another than the running one.
    pub changed: bool,
    /// Image that holds it.
    pub generation: u64,
    /// The desired state after it.
    pub revision: Revision,
    /// What was done, in a sentence.
    pub message: String,
    /// Warnings of the config check, rendered.
    pub warnings: Vec<String>,
}

/// Every error body of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// What was tried, on what, what was found, and what was undone.
    pub message: String,
    /// The next step.
    pub next: Option<String>,
}

/// Classes of API errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request itself is wrong.
    BadRequest,
    /// No such service, backend or path.
    NotFound,
    /// The path is there, and not for this method.
    MethodNotAllowed,
    /// The body did not come in time.
    TooSlow,
    /// The body is too large.
    TooLarge,
    /// It exists already.
    Exists,
    /// The desired state is not the one that the write was made against (`If-Match`).
    RevisionMoved,
    /// A change made with `--runtime` would not fit any more.
    OverrideInTheWay,
    /// The config that would result, or the config file, does not pass the check.
    BadConfig,
    /// The config file cannot be written (symlink, read-only, changed since it was read).
    NotWritable,
    /// A map write failed; the change was undone or is retried, as the message says.
    ApplyFailed,
    /// The agent is stopping or stuck.
    Unavailable,
}
