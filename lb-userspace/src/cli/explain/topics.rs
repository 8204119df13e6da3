//! Everything that has a name and an explanation: codes, reasons, verdicts. Each text has its one source elsewhere.

use lb_common::reason::{AnswerReason, DropReason, PassReason};
use serde::Serialize;

use super::status_words;

use crate::agent::WRITE_CODES;
use crate::config::{self, CODES, Code};
use crate::health::{WORDS, Word};

/// Something that can be explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Topic {
    /// `XLB0203`, `no_backend`, `filtered`.
    pub(in crate::cli) name: &'static str,
    /// What the name is one of.
    pub(super) kind: Kind,
    /// Of a code: how bad it is.
    pub(super) severity: Option<&'static str>,
    /// Of a verdict: what it counts as.
    pub(super) counts: Option<&'static str>,
    /// In one line.
    pub(in crate::cli) title: &'static str,
    /// In full; for reasons and verdicts the same as the title.
    pub(super) explanation: &'static str,
    /// What to look at first.
    pub(super) next: Option<&'static str>,
    /// Finer causes of a verdict.
    pub(super) causes: Vec<CauseView>,
    /// Of some codes.
    pub(super) example: Option<ExampleView>,
    /// Where there is more.
    pub(super) page: &'static str,
}

/// What a name is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Kind {
    /// A finding of `xlb check`, or why a config file is not written.
    Code,
    /// Why a packet was dropped.
    DropReason,
    /// Why a packet was left to the kernel.
    PassReason,
    /// Why the program answered a packet.
    AnswerReason,
    /// What a probe found.
    PortVerdict,
    /// What status says of an object.
    StatusWord,
}

impl Kind {
    /// For people.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::DropReason => "drop reason",
            Self::PassReason => "pass reason",
            Self::AnswerReason => "answer reason",
            Self::PortVerdict => "port verdict",
            Self::StatusWord => "word of status",
        }
    }
}

/// One cause of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct CauseView {
    pub(super) cause: &'static str,
    pub(super) explanation: &'static str,
    pub(super) next: &'static str,
}

/// A config with the mistake, and one without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct ExampleView {
    pub(super) wrong: &'static str,
    pub(super) right: &'static str,
}

/// All, codes first.
pub(in crate::cli) fn topics() -> Vec<Topic> {
    let drops = DropReason::ALL.iter();
    let passes = PassReason::ALL.iter();
    let answers = AnswerReason::ALL.iter();
    let mut all: Vec<Topic> = CODES.iter().map(|code| of_code(code)).collect();
    all.extend(WRITE_CODES.iter().map(|code| Topic {
        page: "docs/cli.md",
        ..of_code(code)
    }));
    all.extend(WORDS.iter().map(of_verdict));
    all.extend(drops.map(|one| of_reason(one.as_str(), Kind::DropReason, one.meaning())));
    all.extend(passes.map(|one| of_reason(one.as_str(), Kind::PassReason, one.meaning())));
    all.extend(answers.map(|one| of_reason(one.as_str(), Kind::AnswerReason, one.meaning())));
    all.extend(status_words::topics());
    all
}

/// The topic that a word names: any case, codes also by their number alone, names also with dashes, verdicts also by
/// one of their causes.
pub(super) fn find(word: &str) -> Option<Topic> {
    let known = topics();
    let name = match number(word) {
        Some(number) => format!("XLB{number:04}"),
        None => word.to_ascii_lowercase().replace('-', "_"),
    };
    let by_name = known.iter().find(|topic| topic.name == name);
    let by_cause = || {
        known
            .iter()
            .find(|topic| topic.causes.iter().any(|one| one.cause == name))
    };
    by_name.or_else(by_cause).cloned()
}

/// The number of a code, with or without its prefix.
pub(super) fn number(word: &str) -> Option<u16> {
    let prefixed = word.get(..3).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xlb"));
    let digits = if prefixed { word.get(3..)? } else { word };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(u16::MAX))
}

fn of_code(code: &Code) -> Topic {
    let example = config::example(code.id).map(|found| ExampleView {
        wrong: found.wrong,
        right: found.right,
    });
    Topic {
        severity: Some(code.severity.as_str()),
        example,
        page: "docs/config.md",
        explanation: code.explanation,
        ..bare(code.id, Kind::Code, code.title)
    }
}

fn of_reason(name: &'static str, kind: Kind, meaning: &'static str) -> Topic {
    // A doc comment's lines begin with the blank after its slashes.
    bare(name, kind, meaning.trim())
}

fn of_verdict(word: &Word) -> Topic {
    let causes = word.causes.iter().map(|one| CauseView {
        cause: one.cause,
        explanation: one.happened,
        next: one.next,
    });
    Topic {
        counts: Some(word.judgement.as_str()),
        next: (!word.next.is_empty()).then_some(word.next),
        causes: causes.collect(),
        page: "docs/port-verdicts.md",
        ..bare(word.word, Kind::PortVerdict, word.happened)
    }
}

pub(super) fn bare(name: &'static str, kind: Kind, title: &'static str) -> Topic {
    Topic {
        name,
        kind,
        severity: None,
        counts: None,
        title,
        explanation: title,
        next: None,
        causes: Vec::new(),
        example: None,
        page: "docs/reasons.md",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_topics_share_a_name() {
        let all = topics();
        let names: BTreeSet<_> = all.iter().map(|topic| topic.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|topic| find(topic.name).as_ref() == Some(topic)));
    }

    #[test]
    fn codes_are_found_by_number_and_names_in_any_case() {
        let name = |word: &str| find(word).map(|topic| topic.name);
        for word in ["XLB0203", "xlb0203", "0203", "203", "Xlb203"] {
            assert_eq!(name(word), Some("XLB0203"), "{word}");
        }
        assert_eq!(name("No-Backend"), Some("no_backend"));
        assert_eq!(name("expired"), Some("tls_error"));
        for word in ["", "xlb", "xlb9999", "99999999", "xl€", "no backend"] {
            assert_eq!(name(word), None, "{word}");
        }
    }
}
