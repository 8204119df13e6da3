//! `xlb check`: every error of a config file at once, and whether its addresses are here. Needs no privilege and no
//! agent.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Serialize;

use super::args::{CheckArgs, Format};
use super::exit::{CliError, Exit};
use super::output;
use crate::agent::{Desired, DesiredError, address_view};
use crate::config::{Config, Diagnostic, Severity};
use crate::view::{AddressRole, AddressView, SCHEMA};

/// The JSON answer.
#[derive(Debug, Serialize)]
struct CheckView {
    schema: u32,
    file: std::path::PathBuf,
    ok: bool,
    services: usize,
    backends: usize,
    diagnostics: Vec<DiagnosticView>,
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
            rendered: found.rendered.clone(),
        }
    }
}

/// Checks and reports.
pub(super) fn check(args: &CheckArgs) -> Result<Exit, CliError> {
    let (config, diagnostics) = match Desired::read(&args.config, &[]) {
        Ok((desired, _)) => (Some(desired.config), desired.warnings),
        Err(DesiredError::Check { diagnostics, .. }) => (None, diagnostics),
        Err(error) => return Err(CliError::Problem(error.to_string())),
    };
    let services = config.as_ref().map_or(&[][..], |config| &config.services);
    let view = CheckView {
        schema: SCHEMA,
        file: args.config.clone(),
        ok: config.is_some(),
        services: services.len(),
        backends: services.iter().map(|service| service.backends.len()).sum(),
        diagnostics: diagnostics.iter().map(Into::into).collect(),
        addresses: config.as_ref().map_or_else(Vec::new, addresses),
    };
    match args.output {
        Format::Json => output::json(&view)?,
        Format::Table => output::text(&text(&view))?,
    }
    Ok(if view.ok { Exit::Ok } else { Exit::Problem })
}

fn text(view: &CheckView) -> String {
    let mut text = String::new();
    for found in &view.diagnostics {
        output::line(&mut text, &format!("{}\n", found.rendered.trim_end()));
    }
    for address in &view.addresses {
        let role = match address.role {
            AddressRole::Vip => "vip",
            AddressRole::Snat => "snat",
        };
        let on = address
            .interface
            .as_deref()
            .map(|name| format!(" on {name}"))
            .unwrap_or_default();
        let next = address
            .next
            .as_deref()
            .map(|next| format!("; next: {next}"))
            .unwrap_or_default();
        output::line(
            &mut text,
            &format!("{role} {}: {}{on}{next}", address.address, address.presence),
        );
    }
    let errors = view
        .diagnostics
        .iter()
        .filter(|found| found.severity == Severity::Error.as_str());
    let (errors, all) = (errors.count(), view.diagnostics.len());
    let file = view.file.display();
    let warnings = all - errors;
    let summary = if view.ok {
        format!(
            "{file}: ok, {} services, {} backends, {warnings} warnings",
            view.services, view.backends
        )
    } else {
        format!("{file}: {errors} errors, {warnings} warnings; nothing was applied")
    };
    output::line(&mut text, &summary);
    text
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
                        view.next = Some("the agent adds it (manage_vip)".to_owned());
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
