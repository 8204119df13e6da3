//! The live table: one row a backend, from the agent's status.

use serde_json::Value;

use crate::client::backends;

const HEADINGS: [&str; 8] = [
    "SERVICE", "BACKEND", "WEIGHT", "STATE", "HEALTH", "FLOWS", "NEW/s", "PPS",
];
/// Columns of numbers: aligned to the right.
const NUMBERS: [bool; 8] = [false, false, true, false, false, true, true, true];

/// The table of a status, in the order of services and of backend names.
pub(super) fn table(status: &Value) -> String {
    let mut rows: Vec<[String; 8]> = backends(status)
        .iter()
        .map(|backend| {
            let row = backend.row;
            let rate = |field: &str| format!("{:.0}", row["rates"][field].as_f64().unwrap_or_default());
            [
                backend.service.to_owned(),
                format!("{} -> {}", backend.name(), internal(row)),
                row["weight"].to_string(),
                row["state"].as_str().unwrap_or("?").to_owned(),
                health(row),
                row["flows"].to_string(),
                rate("new_per_s"),
                rate("packets_per_s"),
            ]
        })
        .collect();
    rows.sort_by(|a, b| (&a[0], &a[1]).cmp(&(&b[0], &b[1])));
    render(&rows)
}

/// Where the backend really listens.
fn internal(row: &Value) -> String {
    let address = row["address"].as_str().unwrap_or("?");
    let port = &row["internal_port"];
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

/// The verdict, and why where it is not good.
fn health(row: &Value) -> String {
    let verdict = row["health"]["verdict"].as_str().unwrap_or("?");
    match row["health"]["port_verdict"].as_str() {
        Some(port) if verdict != "up" => format!("{verdict} ({port})"),
        _ => verdict.to_owned(),
    }
}

fn render(rows: &[[String; 8]]) -> String {
    let headings = HEADINGS.map(str::to_owned);
    let widths: [usize; 8] = std::array::from_fn(|column| {
        rows.iter()
            .chain([&headings])
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    });
    let mut text = String::new();
    for row in [&headings].into_iter().chain(rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .zip(NUMBERS)
            .map(|((cell, width), number)| {
                if number {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_the_internal_port_and_why_a_backend_is_out() {
        let status = serde_json::json!({"services": [{"name": "web", "backends": [{
            "name": "b2", "address": "10.0.0.12", "internal_port": 9000, "weight": 50, "state": "down",
            "health": {"verdict": "down", "port_verdict": "refused"}, "flows": 3,
            "rates": {"new_per_s": 0.4, "packets_per_s": 12.6}}]}]});
        let text = table(&status);
        let row = text.lines().nth(1).unwrap_or_default();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>(),
            [
                "web",
                "b2",
                "->",
                "10.0.0.12:9000",
                "50",
                "down",
                "down",
                "(refused)",
                "3",
                "0",
                "13"
            ]
        );
    }
}
