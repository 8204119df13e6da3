//! `xlb check`: every finding about a config file at once, and whether its addresses are here. Needs no privilege and no
//! agent.

mod text;

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Serialize;

use super::args::{CheckArgs, Format};
use super::exit::{CliError, Exit};
use super::output;
use crate::agent::{DesiredError, address_view, read_all, read_config_or_fifo};
use crate::config::{self, Config, Diagnostic};
use crate::health::{Trust, look_at_roots};
use crate::host;
use crate::view::{AddressRole, AddressView, SCHEMA};

/// The next step for a missing VIP that the agent takes care of.
const MANAGED: &str = "nothing: the agent adds it (manage_vip)";

/// The JSON answer.
#[derive(Debug, Serialize)]
struct CheckView {
    schema: u32,
    file: std::path::PathBuf,
    ok: bool,
    /// Why the file could not be read, or the agent would refuse it here for another reason than what it says.
    error: Option<String>,
    services: usize,
    backends: usize,
    diagnostics: Vec<DiagnosticView>,
    silenced: Vec<DiagnosticView>,
    addresses: Vec<AddressView>,
}

/// One finding.
#[derive(Debug, Serialize)]
struct DiagnosticView {
    code: &'static str,
    severity: &'static str,
    message: String,
    line: usize,
    column: usize,
    help: Option<String>,
    /// Why it is silenced.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip)]
    rendered: String,
}

impl From<&Diagnostic> for DiagnosticView {
    fn from(found: &Diagnostic) -> Self {
        Self {
            code: found.code,
            severity: found.severity.as_str(),
            message: found.message.clone(),
            line: found.line,
            column: found.column,
            help: found.help.clone(),
            reason: found.silenced.clone(),
            rendered: found.rendered.clone(),
        }
    }
}

/// Checks and reports.
pub(super) fn check(args: &CheckArgs) -> Result<Exit, CliError> {
    let view = look(args);
    match (args.output, &view.error) {
        (Format::Json, _) => output::json(&view)?,
        (Format::Table, Some(error)) => return Err(CliError::Problem(error.clone())),
        (Format::Table, None) => output::text(&text::text(&view))?,
    }
    Ok(if view.ok { Exit::Ok } else { Exit::Problem })
}

fn look(args: &CheckArgs) -> CheckView {
    let path = &args.config;
    let mut view = CheckView {
        schema: SCHEMA,
        file: path.clone(),
        ok: false,
        error: None,
        services: 0,
        backends: 0,
        diagnostics: Vec::new(),
        silenced: Vec::new(),
        addresses: Vec::new(),
    };
    let read = if path.as_os_str() == "-" {
        read_all(std::io::stdin().lock())
    } else {
        read_config_or_fifo(path)
    };
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(source) => {
            let path = path.clone();
            view.error = Some(DesiredError::Read { path, source }.to_string());
            return view;
        }
    };
    let examined = config::examine(path, &bytes, &look_at_roots, &host::facts());
    view.diagnostics = examined.findings.iter().map(Into::into).collect();
    view.silenced = examined.silenced.iter().map(Into::into).collect();
    if let Some(config) = &examined.config {
        // Such as a host without roots of its own, and an HTTPS check that believes them.
        let path = path.clone();
        let trust = Trust::load(config).map_err(|source| DesiredError::Trust { path, source });
        view.error = trust.err().map(|error| error.to_string());
        view.ok = view.error.is_none();
        view.services = config.services.len();
        let services = config.services.iter();
        view.backends = services
            .map(|service| service.backends.len() + service.names.len())
            .sum();
        view.addresses = addresses(config);
    }
    view
}

/// Presence of the addresses that the file names. Empty where netlink cannot be asked: the check of the file stands.
fn addresses(config: &Config) -> Vec<AddressView> {
    let vips: BTreeSet<IpAddr> = config
        .services
        .iter()
        .flat_map(|service| service.vips.iter().copied())
        .collect();
    let interface = config.agent.interfaces.first().map(String::as_str);
    let wanted = vips.into_iter().map(|vip| (vip, AddressRole::Vip)).chain(
        config
            .agent
            .snat_addresses
            .iter()
            .map(|snat| (*snat, AddressRole::Snat)),
    );
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    runtime.block_on(async {
        let mut views = Vec::new();
        for (address, role) in wanted {
            match address_view(address, role, interface).await {
                Ok(mut view) => {
                    if config.agent.manage_vip && role == AddressRole::Vip && view.presence != "local" {
                        view.next = Some(MANAGED.to_owned());
                    }
                    views.push(view);
                }
                Err(error) => {
                    output::note(&format!("addresses were not looked at: {error}"));
                    return Vec::new();
                }
            }
        }
        views
    })
}
