//! Names of hosts, as DNS and hosts files know them (RFC 1123 2.1, RFC 1035 2.3.4; underscores as they are in use).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name without its last dot, in bytes.
const MAX_BYTES: usize = 253;
/// Longest label, in bytes.
const MAX_LABEL_BYTES: usize = 63;

/// A host's name in lower case. One with a dot at its end is looked up as it stands, others by the search list, too.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for HostName {
    /// What is wrong with it.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.len() > MAX_BYTES {
            return Err(format!("longer than {MAX_BYTES} bytes"));
        }
        if !text.is_ascii() {
            return Err("not ASCII: write an international name as xn--...".to_owned());
        }
        for label in bare.split('.') {
            if label.is_empty() {
                return Err("an empty part between dots".to_owned());
            }
            if label.len() > MAX_LABEL_BYTES {
                return Err(format!("a part longer than {MAX_LABEL_BYTES} bytes"));
            }
            if let Some(bad) = label.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_".contains(*c)) {
                return Err(format!("a host's name cannot hold {bad:?}"));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err("a part that begins or ends with a hyphen".to_owned());
            }
        }
        let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        // No top-level domain is a number (RFC 3696 2), and 10.0.0.l1 is an address that somebody mistyped.
        let numbers = bare.split('.').filter(|label| is_number(label)).count();
        if numbers > 2 || bare.rsplit('.').next().is_some_and(is_number) {
            return Err("neither an address nor a host's name".to_owned());
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_and_full_names_are_names_in_lower_case() {
        for (text, wanted) in [
            ("app", "app"),
            ("App.Internal.Example", "app.internal.example"),
            ("app.internal.example.", "app.internal.example."),
            ("_srv.a-b.3com.example", "_srv.a-b.3com.example"),
            ("1.pool.example", "1.pool.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(text.parse::<HostName>().expect(text).as_str(), wanted);
        }
    }

    #[test]
    fn mistyped_addresses_and_impossible_names_are_none() {
        let (long, label) = (["abcdefg"; 32].join("."), "a".repeat(64));
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "-a",
            "a-",
            "a b",
            "a/b",
            "a:80",
            "10.0.0.256",
            "10.0.0.l1",
            "10.0.0",
            "7",
            "bücher",
            "a@b",
            &long,
            &label,
        ] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_a_name_reads_back(text in ".{0,80}") {
            if let Ok(name) = text.parse::<HostName>() {
                prop_assert_eq!(name.as_str().parse::<HostName>(), Ok(name.clone()));
            }
        }
    }
}
