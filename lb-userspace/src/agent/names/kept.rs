//! `names.json` in the state directory: the last addresses of every name, so that an agent that starts while the DNS is down
//! has the backends of the one before. Shape and atomicity are those of the overrides' file beside it.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::agent::kept::{KeepError, OverrideFile, io_error, read, replace};
use crate::config::{Answers, HostName};
use crate::view::Timestamp;

/// Of the file's shape.
const VERSION: u32 = 1;
const FILE: &str = "names.json";

/// What a start finds.
#[derive(Debug, Default)]
pub(in crate::agent) struct KeptNames {
    /// `None`: the state directory cannot be used.
    pub(super) file: Option<NamesFile>,
    pub(super) names: Answers,
}

/// The file, in a directory that the overrides' file has locked.
#[derive(Debug)]
pub(in crate::agent) struct NamesFile {
    directory: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    /// When it was written.
    at: Timestamp,
    names: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    name: HostName,
    addresses: Vec<IpAddr>,
}

/// Read before the rest: a later version may have another shape.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl KeptNames {
    /// Looks; one that cannot be read is a warning, and the names wait for their first answer.
    pub(in crate::agent) fn open(beside: &OverrideFile) -> (Self, Option<String>) {
        let file = NamesFile {
            directory: beside.directory().to_owned(),
        };
        let (names, warning) = match file.read() {
            Ok(names) => (names, None),
            Err(error) => (Answers::new(), Some(error.to_string())),
        };
        let file = Some(file);
        (Self { file, names }, warning)
    }

    /// Addresses by name.
    pub(in crate::agent) fn answers(&self) -> Answers {
        self.names.clone()
    }
}

impl NamesFile {
    fn read(&self) -> Result<Answers, KeepError> {
        Ok(read(&self.directory, FILE, parse)?.unwrap_or_default())
    }

    /// Replaces what was written.
    ///
    /// # Errors
    /// When the system refuses; the old file is in place then.
    pub(super) fn write(&self, answers: &Answers, at: Timestamp) -> Result<(), KeepError> {
        let entry = |(name, addresses): (&HostName, &std::collections::BTreeSet<IpAddr>)| Entry {
            name: name.clone(),
            addresses: addresses.iter().copied().collect(),
        };
        let document = Document {
            version: VERSION,
            at,
            names: answers.iter().map(entry).collect(),
        };
        replace(&self.directory, FILE, &document)?;
        sync(&self.directory)
    }
}

fn sync(directory: &Path) -> Result<(), KeepError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(io_error(directory, "fsync"))
}

fn parse(bytes: &[u8]) -> Result<Answers, String> {
    let wrong = |error: serde_json::Error| error.to_string();
    let head: Head = serde_json::from_slice(bytes).map_err(wrong)?;
    if head.version != VERSION {
        return Err(format!("it has version {}, this xlb reads {VERSION}", head.version));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(wrong)?;
    let entries = document.names.into_iter();
    Ok(entries
        .map(|entry| (entry.name, entry.addresses.into_iter().collect()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        let addresses = ["10.0.0.11", "2001:db8::9"].map(|text| text.parse().expect("an address"));
        Answers::from([("app.internal.example".parse().expect("a name"), addresses.into())])
    }

    #[test]
    fn answers_are_read_by_the_next_agent_and_the_shape_of_version_1_stays() {
        let room = tempfile::tempdir().expect("a temporary directory");
        let overrides = OverrideFile::open(room.path()).expect("made and taken");
        let (kept, warning) = KeptNames::open(&overrides);
        assert_eq!((kept.answers(), warning), (Answers::new(), None));
        let file = kept.file.expect("a file");
        file.write(&answers(), Timestamp { unix_s: 1_000_000_000 })
            .expect("written");
        let (kept, warning) = KeptNames::open(&overrides);
        assert_eq!((kept.answers(), warning), (answers(), None));
        insta::assert_snapshot!(std::fs::read_to_string(room.path().join(FILE)).expect("text"));
    }

    #[test]
    fn a_file_that_means_nothing_is_set_aside_and_said() {
        let room = tempfile::tempdir().expect("a temporary directory");
        let overrides = OverrideFile::open(room.path()).expect("made and taken");
        for text in [
            "{",
            "{\"version\":2}",
            "{\"version\":1,\"at\":\"2026-01-31T12:00:00Z\",\"names\":[{\"name\":\"a b\",\"addresses\":[]}]}",
        ] {
            std::fs::write(room.path().join(FILE), text).expect("write");
            let (kept, warning) = KeptNames::open(&overrides);
            assert_eq!(kept.answers(), Answers::new());
            let warning = warning.expect("said");
            assert!(warning.contains("names.json.bad"), "{warning}");
            assert!(kept.file.is_some(), "new ones are kept");
        }
    }
}
