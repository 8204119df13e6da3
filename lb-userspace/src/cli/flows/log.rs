//! `xlb flows --log FILE`: every interval one walk over the connections; what is new and what is gone goes into the file, which
//! is only ever appended to.
//!
//! An entry stays in its table after its connection has ended ([timeouts]: 30 s after a FIN or RST, 60 s after the last
//! datagram, by default), so an interval below those misses nothing but entries whose tuple was taken over early because
//! the SNAT ports ran short.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use super::memory::Memory;
use super::record::Record;
use super::{path, query, view};
use crate::cli::args::FlowsArgs;
use crate::cli::client::Client;
use crate::cli::exit::{CliError, Exit};
use crate::cli::output;
use crate::view::Timestamp;

/// Owner and group read who talked to whom; nobody else.
const FILE_MODE: u32 = 0o640;

/// Runs until SIGTERM or SIGINT.
pub(super) fn log(args: &FlowsArgs, file: &Path) -> Result<Exit, CliError> {
    let signals = signals()?;
    let mut book = Book::open(file)?;
    let client = Client::from(&args.socket);
    let path = path(&query(args));
    let mut memory = Memory::default();
    // The first walk says whether there is an agent at all; later ones outlive its restarts.
    pass(&client, &path, &mut memory, &mut book)?;
    let mut lost = false;
    loop {
        match wait(&signals, args, Instant::now())? {
            Told::Nothing => {}
            Told::Reopen => {
                book = Book::open(file)?;
                continue;
            }
            Told::Stop => break,
        }
        match pass(&client, &path, &mut memory, &mut book) {
            Ok(()) => lost = false,
            Err(
                error @ (CliError::Unreachable { .. }
                | CliError::Timeout { .. }
                | CliError::NotAccepting { .. }
                | CliError::Protocol { .. }),
            ) => {
                if !lost {
                    output::note(&format!("{error}\n  this log goes on when the agent answers"));
                }
                lost = true;
            }
            Err(error) => return Err(error),
        }
    }
    let now = Timestamp::now();
    memory.stop(now, |record| book.write(record))?;
    book.flush()?;
    Ok(Exit::Ok)
}

/// One walk. Where it breaks off nothing is taken for ended.
fn pass(client: &Client, path: &str, memory: &mut Memory, book: &mut Book) -> Result<(), CliError> {
    let now = Timestamp::now();
    memory.begin_pass();
    let walked = client.lines(path, |line| {
        for record in memory.see(&view(line)?, now) {
            book.write(&record)?;
        }
        Ok(ControlFlow::Continue(()))
    });
    if walked.is_ok() {
        memory.end_pass(now, |record| book.write(record))?;
    }
    book.flush()?;
    walked
}

/// What came from outside.
enum Told {
    Nothing,
    Reopen,
    Stop,
}

fn wait(signals: &Receiver<Told>, args: &FlowsArgs, since: Instant) -> Result<Told, CliError> {
    match signals.recv_timeout(args.interval.saturating_sub(since.elapsed())) {
        Ok(told) => Ok(told),
        Err(RecvTimeoutError::Timeout) => Ok(Told::Nothing),
        Err(RecvTimeoutError::Disconnected) => Err(CliError::Problem("the signal thread ended".to_owned())),
    }
}

/// A thread turns signals into messages.
fn signals() -> Result<Receiver<Told>, CliError> {
    let problem = |error: io::Error| CliError::Problem(format!("handle signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(problem)?;
    let (hangup, terminate, interrupt) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::hangup()).map_err(problem)?,
            signal(SignalKind::terminate()).map_err(problem)?,
            signal(SignalKind::interrupt()).map_err(problem)?,
        )
    };
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("xlb-signals".to_owned())
        .spawn(move || runtime.block_on(forward(hangup, terminate, interrupt, &sender)))
        .map_err(problem)?;
    Ok(receiver)
}

async fn forward(
    mut hangup: tokio::signal::unix::Signal,
    mut terminate: tokio::signal::unix::Signal,
    mut interrupt: tokio::signal::unix::Signal,
    sender: &Sender<Told>,
) {
    loop {
        let told = tokio::select! {
            _ = hangup.recv() => Told::Reopen,
            _ = terminate.recv() => Told::Stop,
            _ = interrupt.recv() => Told::Stop,
        };
        if sender.send(told).is_err() {
            return;
        }
    }
}

/// The open file.
struct Book {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Book {
    fn open(path: &Path) -> Result<Self, CliError> {
        let problem = failed(path, "open");
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(FILE_MODE)
            .open(path)
            .map_err(&problem)?;
        // A disk that was full may have cut the last line: ours begin on their own.
        let mut last = [b'\n'];
        if file.metadata().map_err(&problem)?.len() > 0 && file.seek(SeekFrom::End(-1)).is_ok() {
            file.read_exact(&mut last).map_err(&problem)?;
        }
        if last != [b'\n'] {
            file.write_all(b"\n").map_err(&problem)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(64 * 1024, file),
        })
    }

    fn write(&mut self, record: &Record) -> Result<(), CliError> {
        let written = serde_json::to_writer(&mut self.file, record).map_err(io::Error::from);
        written
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(failed(&self.path, "write"))
    }

    fn flush(&mut self) -> Result<(), CliError> {
        let flushed = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        match flushed {
            // A pipe or a device cannot be synchronised.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result.map_err(failed(&self.path, "write")),
        }
    }
}

fn failed(path: &Path, action: &'static str) -> impl Fn(io::Error) -> CliError {
    move |error| {
        CliError::Problem(format!(
            "flow log {}: {action}: {error}; what was written before is kept\n  next: make room or name another file, then \
             start again: connections that are still open are logged anew",
            path.display()
        ))
    }
}
