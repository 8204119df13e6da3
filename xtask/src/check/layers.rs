//! The layer rules of ARCHITECTURE.md: which code may name what. Looks at the text of the code
//! without comments and unit tests; a rule is a place and the words that must not stand there.

use std::path::Path;

use anyhow::Result;

use super::{Findings, read_text, rust_files, without_tests};

/// Words that a place must not name.
struct Rule {
    /// Files and directories, from the checkout's root.
    places: &'static [&'static str],
    /// Places inside that may.
    except: &'static [&'static str],
    forbidden: &'static [&'static str],
    why: &'static str,
}

const AYA: &[&str] = &["aya", "aya_log", "aya_obj", "aya_ebpf", "aya_log_ebpf"];

const RULES: &[Rule] = &[
    Rule {
        places: &["lb-common/src", "lb-common/Cargo.toml"],
        except: &[],
        forbidden: &[
            "aya",
            "aya_ebpf",
            "aya-ebpf",
            "lb_ebpf",
            "lb-ebpf",
            "lb_userspace",
            "lb-userspace",
            "std::fs",
            "std::net",
        ],
        why: "lb-common is below everything: no aya, no other crate of ours, no I/O",
    },
    Rule {
        places: &["lb-ebpf/src"],
        except: &["lb-ebpf/src/program", "lb-ebpf/src/main.rs", "lb-ebpf/src/bench"],
        forbidden: AYA,
        why: "the packet logic runs on the host too; aya belongs in lb-ebpf/src/program",
    },
    Rule {
        places: &["lb-ebpf/src", "lb-ebpf/Cargo.toml"],
        except: &[],
        forbidden: &["lb_userspace", "lb-userspace"],
        why: "dependencies point from the agent to the shared types, never back",
    },
    Rule {
        places: &["lb-userspace/src"],
        except: &["lb-userspace/src/dataplane", "lb-userspace/src/dataplane.rs"],
        forbidden: AYA,
        why: "only lb-userspace/src/dataplane names aya",
    },
    Rule {
        places: &[
            "lb-userspace/src/config",
            "lb-userspace/src/config.rs",
            "lb-userspace/src/state",
            "lb-userspace/src/state.rs",
        ],
        except: &[],
        forbidden: &[
            "tokio",
            "Instant",
            "SystemTime",
            "std::fs",
            "std::io",
            "std::env",
            "std::process",
            "std::thread",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "nix",
            "libc",
            "rtnetlink",
            "println!",
            "eprintln!",
            "crate::dataplane",
            "crate::api",
            "crate::health",
        ],
        why: "config and state (maglev, diff) are pure: text and time come in as arguments, no clock, no I/O",
    },
];

/// Applies every rule.
pub(super) fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    for rule in RULES {
        for place in rule.places {
            let place = root.join(place);
            let files = if place.is_file() {
                vec![place]
            } else {
                rust_files(&place)?
            };
            for file in files {
                let name = file.strip_prefix(root).unwrap_or(&file);
                if rule.except.iter().any(|except| name.starts_with(except)) {
                    continue;
                }
                apply(rule, &name.display().to_string(), &read_text(&file)?, findings);
            }
        }
    }
    Ok(())
}

fn apply(rule: &Rule, name: &str, source: &str, findings: &mut Findings) {
    for (index, line) in without_tests(source).lines().enumerate() {
        let code = code_of(line);
        for word in rule.forbidden.iter().filter(|word| names(&code, word)) {
            findings
                .errors
                .push(format!("{name}:{}: names '{word}'; {}", index + 1, rule.why));
        }
    }
}

/// A line without its comment and without what stands in quotes (one-line strings; enough here).
fn code_of(line: &str) -> String {
    let mut code = String::new();
    for (index, piece) in line.split('"').enumerate() {
        if index % 2 == 1 {
            continue;
        }
        if let Some((before, _comment)) = piece.split_once("//") {
            code.push_str(before);
            break;
        }
        code.push_str(piece);
        code.push(' ');
    }
    code
}

/// Whether the word stands in the code as a whole identifier or path.
fn names(code: &str, word: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-');
    code.match_indices(word).any(|(start, _)| {
        let before = code.get(..start).and_then(|text| text.chars().next_back());
        let after = code.get(start + word.len()..).and_then(|text| text.chars().next());
        !inside(before) && !inside(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_only_as_a_whole() {
        assert!(names("use aya::maps::HashMap;", "aya"));
        assert!(names("fn f(now: std::time::Instant)", "Instant"));
        assert!(!names("use aya_log::EbpfLogger;", "aya"));
        assert!(!names("let malaya = 1;", "aya"));
        assert!(!names("enum InstantOrNever {}", "Instant"));
    }

    #[test]
    fn comments_strings_and_unit_tests_may_name_anything() {
        let rule = Rule {
            places: &[],
            except: &[],
            forbidden: &["tokio"],
            why: "pure",
        };
        let mut findings = Findings::default();
        apply(
            &rule,
            "a.rs",
            "//! no tokio here\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    use tokio::test;\n}\n",
            &mut findings,
        );
        assert!(findings.errors.is_empty(), "{:?}", findings.errors);
        apply(&rule, "a.rs", "let url = \"https://tokio\"; // tokio\n", &mut findings);
        assert!(findings.errors.is_empty(), "{:?}", findings.errors);
        apply(&rule, "a.rs", "\nuse tokio::task;\n", &mut findings);
        assert_eq!(findings.errors, ["a.rs:2: names 'tokio'; pure"]);
    }
}
