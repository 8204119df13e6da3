//! Log lines as journal entries: each field of an event is a field of its own (`OBJECT`, `OLD`, `NEW`, `CAUSE` ...), and
//! `MESSAGE` is the whole line, so that plain `journalctl` reads as the text format does. (tracing-journald puts the event's
//! name alone into `MESSAGE`.)
//!
//! Source: systemd.journal-fields(7), "Native journal protocol" of systemd.io.

use std::fmt::{Debug, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;

use nix::sys::stat::fstat;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const SOCKET: &str = "/run/systemd/journal/socket";
/// Bytes of one field; a datagram holds about 200 KiB.
const LONGEST: usize = 16 * 1024;

/// The journal's socket.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// The journal, if it is what standard error leads to: `JOURNAL_STREAM` names the device and inode of that stream, and an
    /// inherited variable alone says nothing.
    pub(super) fn of_stderr() -> Option<Self> {
        let named = std::env::var("JOURNAL_STREAM").ok()?;
        let stream = fstat(std::io::stderr().as_fd()).ok()?;
        if named != format!("{}:{}", stream.st_dev, stream.st_ino) {
            return None;
        }
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(SOCKET).ok()?;
        Some(Self(socket))
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let entry = entry(*metadata.level(), metadata.target(), &fields);
        // There is nobody left to tell.
        drop(self.0.send(&entry));
    }
}

/// Fields of an event, in the order of the code.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, format!("{value:?}"));
    }
}

impl Fields {
    fn take(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            // What crates that use `log` add: their target once more, and lines of their code.
            name if name.starts_with("log.") => {}
            name => self.others.push((name, value)),
        }
    }
}

fn entry(level: Level, target: &str, fields: &Fields) -> Vec<u8> {
    let mut message = fields.message.clone();
    for (name, value) in &fields.others {
        // To a string.
        let _ = write!(message, " {name}={value:?}");
    }
    let priority = match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    };
    let mut entry = Vec::new();
    put(&mut entry, "MESSAGE", &message);
    put(&mut entry, "PRIORITY", priority);
    put(&mut entry, "SYSLOG_IDENTIFIER", "xlb");
    put(&mut entry, "TARGET", target);
    for (name, value) in &fields.others {
        put(&mut entry, &journal_name(name), value);
    }
    entry
}

/// Field names of the journal are upper case letters, digits and underscores, and start with a letter.
fn journal_name(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper
        .replace(|c: char| !c.is_ascii_alphanumeric(), "_")
        .trim_start_matches('_')
        .to_owned()
}

fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    let end = value.floor_char_boundary(LONGEST);
    let value = value.get(..end).unwrap_or(value).as_bytes();
    entry.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_fields_and_the_message_reads_alone() {
        let fields = Fields {
            message: "health".to_owned(),
            others: vec![
                ("object", "web/a".to_owned()),
                ("took_us", "7".to_owned()),
                ("cause", "two\nlines".to_owned()),
            ],
        };
        let entry = entry(Level::WARN, "xlb", &fields);
        let text = String::from_utf8_lossy(&entry);
        assert!(
            text.starts_with("MESSAGE=health object=\"web/a\" took_us=\"7\" cause=\"two\\nlines\"\n"),
            "{text}"
        );
        assert!(
            text.contains("\nPRIORITY=4\nSYSLOG_IDENTIFIER=xlb\nTARGET=xlb\nOBJECT=web/a\nTOOK_US=7\nCAUSE\n"),
            "{text}"
        );
        assert!(entry.ends_with(b"CAUSE\n\x09\0\0\0\0\0\0\0two\nlines\n"), "{text:?}");
    }
}
