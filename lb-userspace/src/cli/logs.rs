//! Where the agent's log lines go: text or JSON on standard error, or the journal where standard error leads there.
//! Decides the shape of a line, never what is logged.

mod journal;

use std::io;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::args::LogFormat;
use super::exit::CliError;
use super::output::Paint;
use journal::Journal;

/// Words that stand for a level in a filter.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A filter as the command line takes it: `LEVEL` or `TARGET=LEVEL`, several with commas between them.
///
/// `EnvFilter` takes a lone word that is no level for a target, so that `--log inof` would log nothing.
pub(super) fn check_filter(text: &str) -> Result<String, String> {
    let next = "next: --log info, or --log info,lb_userspace::health=debug";
    // Spans in brackets hold commas of their own.
    let lone = text.split(',').map(str::trim).filter(|_| !text.contains('['));
    for word in lone.filter(|word| !word.contains('=')) {
        if !LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
            return Err(format!(
                "'{word}' is no level ({}) and no TARGET=LEVEL; {next}",
                LEVELS.join(", ")
            ));
        }
    }
    EnvFilter::try_new(text).map_err(|error| format!("{error}; {next}"))?;
    Ok(text.to_owned())
}

/// Starts logging. `filter` has passed [`check_filter`].
pub(super) fn start(format: LogFormat, filter: &str) -> Result<(), CliError> {
    // netlink_proto calls every message it does not know an error, and the kernel has many.
    let filter = EnvFilter::try_new(format!("netlink_proto=off,{filter}"))
        .map_err(|error| CliError::Problem(format!("--log '{filter}': {error}")))?;
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match (format, Journal::of_stderr()) {
        (LogFormat::Auto, Some(journal)) => Box::new(journal),
        (LogFormat::Auto | LogFormat::Text, _) => Box::new(text(io::stderr, Paint::for_stderr())),
        (LogFormat::Json, _) => Box::new(
            tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(io::stderr),
        ),
    };
    let started = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
    started.map_err(|error| CliError::Problem(format!("logging does not start: {error}")))
}

/// One line an event: time, level, module, what it is about, then its fields in the order of the code.
fn text<S, W>(
    writer: W,
    paint: Paint,
) -> tracing_subscriber::fmt::Layer<
    S,
    tracing_subscriber::fmt::format::DefaultFields,
    tracing_subscriber::fmt::format::Format,
    W,
>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(paint == Paint::Color)
        .with_writer(writer)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_change_of_state_is_one_line_with_object_old_new_and_cause() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = text(move || writer.clone(), Paint::Plain).without_time();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(
                object = "web/a",
                old = "up",
                new = "down",
                cause = "10.0.0.11:8081 refused the connection",
                "health"
            );
            tracing::warn!(
                object = "eth0",
                old = "attached",
                new = "missing",
                cause = "no such interface",
                "interface"
            );
            tracing::error!(
                object = "config",
                old = "running",
                new = "refused",
                cause = "SIGHUP",
                error = "two\nlines",
                "config"
            );
        });
        let text = String::from_utf8(lines.0.lock().expect("nobody panics").clone()).expect("UTF-8");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_filter_without_meaning_is_refused() {
        for good in [
            "info",
            "WARN",
            "info,lb_userspace::health=debug",
            "lb_userspace=off",
            "off",
        ] {
            check_filter(good).expect(good);
        }
        for bad in ["inof", "", "info,healht", "lb_userspace=inof", "a=b=c"] {
            check_filter(bad).expect_err(bad);
        }
    }
}
