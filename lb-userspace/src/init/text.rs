//! The config file of a [`Proposal`], with the reason at the end of each line.

use std::fmt::Display;

use super::Proposal;

impl Proposal {
    /// The file.
    pub fn text(&self) -> String {
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut add = |line: String, why: &str| lines.push((line, why.to_owned()));
        let reasons = |all: &[(String, String)]| {
            let each = all.iter().map(|(name, why)| format!("{name} {why}"));
            each.collect::<Vec<_>>().join("; ")
        };
        let snat: Vec<String> = self.snat.iter().map(|(_, why)| why.clone()).collect();
        let names = self.interfaces.iter().map(|(name, _)| quoted(name));
        add("[agent]".to_owned(), "");
        add(format!("interfaces = {}", list(names)), &reasons(&self.interfaces));
        let addresses = self.snat.iter().map(|(address, _)| quoted(address));
        let why = format!("{}; what backends see as the client", snat.join(", "));
        add(format!("snat_addresses = {}", list(addresses)), &why);
        if self.manage_vip {
            add(
                "manage_vip = true".to_owned(),
                "the agent adds the VIP to the first interface",
            );
        }
        add(String::new(), "");
        add("[[service]]".to_owned(), "");
        add("name = \"web\"".to_owned(), "");
        add(format!("vip = {}", quoted(self.vip.0)), &self.vip.1);
        add(format!("port = {}", self.port), "what clients dial");
        if self.backends.is_empty() {
            add(String::new(), "");
            add(String::new(), "then: xlb backend add web ADDRESS:PORT, or here:");
            add(String::new(), "backend = [{ address = \"10.0.0.11\", port = 8080 }]");
        } else {
            let each = self.backends.iter();
            let each = each.map(|(address, port)| format!("{{ address = {}, port = {port} }}", quoted(address)));
            add("check = { tcp = {} }".to_owned(), "or http = { path = \"/healthz\" }");
            add(format!("backend = {}", list(each)), "");
        }
        // Comments start in one column, but for very long lines.
        let width = lines
            .iter()
            .filter(|(_, why)| !why.is_empty())
            .map(|(line, _)| line.len());
        let width = width.filter(|width| *width <= 60).max().unwrap_or(0);
        let whole = lines.iter().map(|(line, why)| match (line.as_str(), why.as_str()) {
            (line, "") => format!("{line}\n"),
            ("", why) => format!("# {why}\n"),
            (line, why) => format!("{line:width$}  # {why}\n"),
        });
        whole.collect()
    }

    /// What was left out, and why; what else should be known.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

fn quoted(value: impl Display) -> String {
    format!("\"{value}\"")
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}
