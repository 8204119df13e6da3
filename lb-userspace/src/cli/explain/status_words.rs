//! The words that `xlb status` and the lists print, with what each means and what to look at.

use super::topics::{Kind, Topic, bare};

/// (word, meaning, next step).
const WORDS: &[(&str, &str, Option<&str>)] = &[
    (
        "ok",
        "Overall: nothing that is wanted is missing; notices may still stand below it.",
        None,
    ),
    (
        "degraded",
        "Overall: a line that begins with ! says what is wrong and the next step, or a service is not up. Of a service: some of its \
         backends that should take new connections do not, or panic uses all of them. xlb status ends with 1 then.",
        Some("xlb status -o wide"),
    ),
    (
        "up",
        "Health: the last checks were good, as many as rise says. Of a service: every backend that should take new connections \
         does.",
        None,
    ),
    (
        "down",
        "Health: the last checks were bad, as many as fall says; behind it the port verdict and how often in a row. Of a backend: it \
         takes no new connections. Of a service: no backend takes new connections.",
        Some("the sentence of that backend below the table"),
    ),
    (
        "unknown",
        "Health: no check has decided yet. The backend takes no new connections unless it did before the agent's start.",
        Some("xlb status -o wide; after five rounds without a result status says why"),
    ),
    (
        "unchecked",
        "Health: no check is configured, or the backend is in maintenance.",
        None,
    ),
    ("active", "Of a backend: it takes new connections.", None),
    (
        "pending",
        "Of a backend: in the config and not in the maps yet.",
        Some("the failed map writes of xlb status, or the log"),
    ),
    (
        "draining",
        "Of a backend: the operator wants no new connections for it, or its weight is 0; those it has go on, and it is checked.",
        Some("xlb backend ready SERVICE BACKEND, or xlb backend weight SERVICE BACKEND N"),
    ),
    (
        "maint",
        "Of a backend: in maintenance. No new connections, those it has go on, and it is not checked.",
        Some("xlb backend ready SERVICE BACKEND"),
    ),
    (
        "removed",
        "Of a backend or service: no longer in the config; shown while its last connections go on.",
        Some("xlb flows --service SERVICE"),
    ),
];

/// All of them.
pub(super) fn topics() -> impl Iterator<Item = Topic> {
    WORDS.iter().map(|(word, meaning, next)| Topic {
        next: *next,
        page: "docs/cli.md",
        ..bare(word, Kind::StatusWord, meaning)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::explain::topics::find;
    use crate::view::{BackendState, ServiceState};

    #[test]
    fn every_state_that_status_prints_is_explained() {
        use BackendState::{Active, Down, Draining, Maint, Pending, Removed};
        let backends = [Down, Pending, Maint, Draining, Active, Removed].map(BackendState::as_str);
        let services = [
            ServiceState::Down,
            ServiceState::Degraded,
            ServiceState::Up,
            ServiceState::Removed,
        ];
        let services = services.map(ServiceState::as_str);
        let health = ["up", "down", "unknown", "unchecked", "ok", "DEGRADED"];
        for word in backends.into_iter().chain(services).chain(health) {
            let topic = find(word).unwrap_or_else(|| panic!("{word}"));
            assert_eq!(topic.kind, Kind::StatusWord, "{word}");
        }
    }
}
