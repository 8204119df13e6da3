//! The name of one desired state: config file and overrides. Unlike the generation it stays when only health moves.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `BOOT-COUNT`, such as `3f2a9c01-12`: no two desired states of one host have the same, those of another agent's run
/// neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision {
    boot: u32,
    count: u64,
}

impl Revision {
    /// Of an agent that has just started; `boot` tells its run from others.
    pub const fn first(boot: u32) -> Self {
        Self { boot, count: 1 }
    }

    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            boot: self.boot,
            count: self.count.saturating_add(1),
        }
    }

    /// Whether both were given by the same run of an agent.
    pub const fn is_of_run(self, other: Self) -> bool {
        self.boot == other.boot
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.boot, self.count)
    }
}

impl FromStr for Revision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no revision such as 3f2a9c01-12; 'xlb status' shows the one that runs");
        let (boot, count) = text.split_once('-').ok_or_else(wrong)?;
        let read = Self {
            boot: u32::from_str_radix(boot, 16).map_err(|_| wrong())?,
            count: count.parse().map_err(|_| wrong())?,
        };
        // One way to write it, so that texts can be compared.
        if read.to_string() == text {
            Ok(read)
        } else {
            Err(wrong())
        }
    }
}

impl TryFrom<String> for Revision {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        revision.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_reads_what_it_writes_and_nothing_else() {
        let revision = Revision::first(0x3f2a).next();
        assert_eq!(revision.to_string(), "00003f2a-2");
        assert_eq!(revision.to_string().parse(), Ok(revision));
        for wrong in [
            "",
            "-",
            "2",
            "3f2a-2",
            "00003F2A-2",
            "00003f2a-02",
            "00003f2a-+2",
            "00003f2a--2",
            "\"00003f2a-2\"",
        ] {
            wrong.parse::<Revision>().unwrap_err();
        }
    }
}
