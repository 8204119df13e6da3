//! `xlb flows --who ADDR:PORT --log FILE`: which clients used a SNAT tuple, from the flow log.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use super::record::{Event, Record};
use crate::cli::args::WideFormat;
use crate::cli::exit::{CliError, Exit};
use crate::cli::output::{self, Paint};
use crate::cli::table::{Rows, plain};
use crate::view::{SCHEMA, Timestamp};

/// Stamps have a resolution of a second, and the kernel notes a packet at most once a second.
const SLACK_S: u64 = 2;

#[derive(Debug, Serialize)]
struct Answer {
    schema: u32,
    tuple: SocketAddr,
    at: Option<Timestamp>,
    /// Lines that are none of ours (cut off by a full disk or a crash).
    unreadable_lines: u64,
    users: Vec<Record>,
}

/// Prints the users of `tuple`, oldest first; exit code 1 when there is none.
pub(super) fn who(file: &Path, tuple: SocketAddr, at: Option<Timestamp>, format: WideFormat) -> Result<Exit, CliError> {
    let answer = read(file, tuple, at)?;
    match format {
        WideFormat::Json => output::json(&answer)?,
        WideFormat::Table | WideFormat::Wide => output::text(&text(&answer))?,
    }
    Ok(if answer.users.is_empty() {
        Exit::Problem
    } else {
        Exit::Ok
    })
}

fn read(file: &Path, tuple: SocketAddr, at: Option<Timestamp>) -> Result<Answer, CliError> {
    let problem = |error: std::io::Error| CliError::Problem(format!("flow log {}: {error}", file.display()));
    let lines = BufReader::new(File::open(file).map_err(problem)?).split(b'\n');
    // A quick look before a line is taken apart: most lines are about other tuples.
    let needle = format!("\"snat\":\"{tuple}\"").into_bytes();
    let (mut users, mut unreadable) = (Vec::<Record>::new(), 0);
    for line in lines {
        let line = line.map_err(problem)?;
        if line.is_empty() {
            continue;
        }
        if !(line.starts_with(b"{") && line.ends_with(b"}")) {
            unreadable += 1;
        } else if line.windows(needle.len()).any(|window| window == needle) {
            match serde_json::from_slice(&line) {
                Ok(record) => take(&mut users, record),
                Err(_) => unreadable += 1,
            }
        }
    }
    let ends = ends(&users);
    let mut ends = ends.iter();
    users.retain(|user| {
        let end = ends.next().copied().flatten();
        at.is_none_or(|at| used_at(user, end, at))
    });
    Ok(Answer {
        schema: SCHEMA,
        tuple,
        at,
        unreadable_lines: unreadable,
        users,
    })
}

/// A later line of the same connection takes the place of the earlier one.
fn take(users: &mut Vec<Record>, record: Record) {
    let known = users
        .iter_mut()
        .rev()
        .find(|known| known.id == record.id && known.client == record.client && known.protocol == record.protocol);
    match known {
        Some(known) => *known = record,
        None => users.push(record),
    }
}

/// When each use was over at the latest; `None`: it may go on. What has no last line ended when the next began.
fn ends(users: &[Record]) -> Vec<Option<Timestamp>> {
    let next = |index: usize, user: &Record| {
        let later = users
            .iter()
            .skip(index + 1)
            .find(|later| later.protocol == user.protocol);
        later.map(|later| later.first_seen)
    };
    let end = |(index, user): (usize, &Record)| match user.event {
        Event::End => Some(user.last_seen),
        Event::Begin | Event::Open => next(index, user),
    };
    users.iter().enumerate().map(end).collect()
}

fn used_at(user: &Record, end: Option<Timestamp>, at: Timestamp) -> bool {
    user.first_seen.unix_s <= at.unix_s + SLACK_S && end.is_none_or(|end| at.unix_s <= end.unix_s + SLACK_S)
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    if answer.users.is_empty() {
        let when = answer.at.map(|at| format!(" at {at}")).unwrap_or_default();
        output::line(&mut text, &format!("no logged connection used {}{when}", answer.tuple));
    } else {
        let mut rows = Rows::new(
            &["CLIENT", "PROTO", "VIP", "BACKEND", "FIRST SEEN", "LAST SEEN", "END"],
            Paint::Plain,
        );
        for user in &answer.users {
            rows.push([
                plain(user.client.to_string()),
                plain(user.protocol.clone()),
                plain(user.vip.to_string()),
                plain(format!("{}/{}", user.service, user.backend)),
                plain(user.first_seen.to_string()),
                plain(user.last_seen.to_string()),
                plain(if user.event == Event::End { "yes" } else { "not logged" }),
            ]);
        }
        text.push_str(&rows.text());
    }
    if answer.unreadable_lines > 0 {
        output::line(
            &mut text,
            &format!("{} lines of the log cannot be read", answer.unreadable_lines),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::cli::flows::rows::tests::flow;
    use crate::view::FlowView;

    fn record(event: Event, id: u64, client: &str, first: u64, last: u64) -> Record {
        let flow = FlowView {
            client: client.parse().expect("a socket address"),
            created: Timestamp { unix_s: first },
            last_seen: Timestamp { unix_s: last },
            ..flow(id)
        };
        Record::of(event, &flow, Timestamp { unix_s: last })
    }

    #[test]
    fn the_client_of_a_tuple_at_a_time_is_found() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut text = String::new();
        for record in [
            record(Event::Begin, 1, "198.51.100.1:1", 1_000, 1_000),
            record(Event::End, 1, "198.51.100.1:1", 1_000, 1_100),
            record(Event::Begin, 2, "198.51.100.2:2", 1_200, 1_200),
            record(Event::Begin, 3, "198.51.100.3:3", 1_400, 1_400),
        ] {
            let line = serde_json::to_string(&record).expect("a line");
            writeln!(text, "{line}").expect("a String takes it");
        }
        text.push_str("{\"cut off");
        std::fs::write(file.path(), text).expect("write the log");
        let tuple = "10.0.0.1:10240".parse().expect("a socket address");
        for (at, clients) in [
            (900, &[][..]),
            (1_050, &["198.51.100.1:1"][..]),
            (1_150, &[]),
            (1_300, &["198.51.100.2:2"]),
            (9_999, &["198.51.100.3:3"]),
        ] {
            let answer = read(file.path(), tuple, Some(Timestamp { unix_s: at })).expect("a log");
            let found: Vec<String> = answer.users.iter().map(|user| user.client.to_string()).collect();
            assert_eq!(found, clients, "at {at}");
            assert_eq!(answer.unreadable_lines, 1);
        }
        assert_eq!(read(file.path(), tuple, None).expect("a log").users.len(), 3);
        let other = "10.0.0.1:1024".parse().expect("a socket address");
        assert!(read(file.path(), other, None).expect("a log").users.is_empty());
    }
}
