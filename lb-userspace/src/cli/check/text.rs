//! What `xlb check` says to people: every finding, the addresses, one line that sums up.

use super::{AddressView, CheckView};
use crate::cli::output;
use crate::config::{Severity, many};

/// All of it.
pub(super) fn text(view: &CheckView) -> String {
    let mut text = String::new();
    for found in &view.diagnostics {
        output::line(&mut text, &format!("{}\n", found.rendered.trim_end()));
    }
    for address in &view.addresses {
        output::line(&mut text, &address_line(address));
    }
    output::line(&mut text, &summary(view));
    text
}

/// The sentence of `xlb status` where something is wrong with it.
fn address_line(address: &AddressView) -> String {
    let Some(obstacle) = address.obstacle() else {
        let on = address.interface.as_deref().map(|name| format!(" on {name}"));
        let (role, on) = (address.role.title(), on.unwrap_or_default());
        return format!("{role} {}: {}{on}", address.address, address.presence);
    };
    let weight = if counts(address) { "warning" } else { "note" };
    let next = address.next.as_deref().map(|next| format!("\n  next: {next}"));
    format!("{weight}: {obstacle}{}", next.unwrap_or_default())
}

/// Whether it is a warning: as in `xlb status`, where a routed address is none.
fn counts(address: &AddressView) -> bool {
    address.is_missing() && address.next.as_deref() != Some(super::MANAGED)
}

fn summary(view: &CheckView) -> String {
    let count = |severity: Severity| {
        let found = view
            .diagnostics
            .iter()
            .filter(|found| found.severity == severity.as_str());
        found.count()
    };
    let missing = view.addresses.iter().filter(|address| counts(address)).count();
    let mut counts = vec![many(count(Severity::Warning) + missing, "warning")];
    counts.extend(Some(count(Severity::Hint)).filter(|n| *n > 0).map(|n| many(n, "hint")));
    let silenced = Some(view.silenced.len()).filter(|n| *n > 0);
    counts.extend(silenced.map(|n| format!("{n} silenced")));
    let (file, counts) = (view.file.display(), counts.join(", "));
    if view.ok {
        format!(
            "{file}: ok, {}, {}, {counts}",
            many(view.services, "service"),
            many(view.backends, "backend")
        )
    } else {
        format!(
            "{file}: {}, {counts}; nothing was applied",
            many(count(Severity::Error), "error")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{CheckArgs, Format};
    use crate::view::AddressRole;

    fn looked(file: &str) -> CheckView {
        super::super::look(&CheckArgs {
            config: file.into(),
            output: Format::Json,
        })
    }

    #[test]
    fn a_file_that_cannot_be_read_is_said_in_json_too() {
        let view = looked("/nonexistent/xlb.toml");
        let json = serde_json::to_value(&view).expect("JSON");
        assert_eq!(json["ok"], false);
        let error = json["error"].as_str().expect("an error");
        assert!(error.contains("/nonexistent/xlb.toml"), "{error}");
    }

    #[test]
    fn a_missing_address_is_a_warning_with_its_command_and_a_managed_one_is_none() {
        let mut view = looked("/nonexistent/xlb.toml");
        view.ok = true;
        let mut address = AddressView {
            address: "203.0.113.10".parse().expect("an address"),
            role: AddressRole::Vip,
            presence: "missing".to_owned(),
            interface: None,
            next: Some("ip address add 203.0.113.10/32 dev eth0".to_owned()),
        };
        view.addresses.push(address.clone());
        let said = text(&view);
        assert!(
            said.starts_with("warning: VIP 203.0.113.10 is not an address of this host"),
            "{said}"
        );
        assert!(
            said.contains("\n  next: ip address add 203.0.113.10/32 dev eth0\n"),
            "{said}"
        );
        assert!(
            said.trim_end().ends_with("ok, 0 services, 0 backends, 1 warning"),
            "{said}"
        );
        address.next = Some(super::super::MANAGED.to_owned());
        view.addresses = vec![address];
        let said = text(&view);
        assert!(
            said.starts_with("note: VIP 203.0.113.10") && said.trim_end().ends_with("0 warnings"),
            "{said}"
        );
    }
}
