//! Answers of JSON lines: each line is handled as it arrives, whatever the length of the answer.

use std::ops::ControlFlow;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Bytes;

use super::client::{Answer, Client};
use super::exit::CliError;
use crate::view::ApiError;

impl Client {
    /// `GET path`: `each` gets the lines one by one, and its `Break` hangs up. An answer that breaks off is an error.
    pub fn lines(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<(), CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CliError::Problem(format!("async runtime: {error}")))?;
        let result = runtime.block_on(async {
            let Answer { response, driver, pid } = self.send(Method::GET, path, Bytes::new()).await?;
            let status = response.status();
            let mut body = response.into_body();
            if !status.is_success() {
                let answer = self.in_time(pid, body.collect()).await?;
                let answer = answer.map_err(|error| self.protocol(&error))?.to_bytes();
                return Err(match serde_json::from_slice::<ApiError>(&answer) {
                    Ok(error) => CliError::Refused(error),
                    Err(_) => self.protocol(&format!("{path}: HTTP status {status}")),
                });
            }
            let mut lines = Lines::default();
            while let Some(frame) = self.in_time(pid, body.frame()).await? {
                let broken = |error| self.protocol(&format!("the list broke off before its end ({error})"));
                let Ok(data) = frame.map_err(broken)?.into_data() else {
                    continue;
                };
                if lines.push(&data, &mut each)?.is_break() {
                    break;
                }
            }
            driver.abort();
            Ok(())
        });
        // A standard output that blocks must not hold up the end.
        runtime.shutdown_timeout(Duration::ZERO);
        result
    }
}

/// Puts lines together that arrive in pieces.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn push(
        &mut self,
        data: &[u8],
        each: &mut impl FnMut(&[u8]) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<ControlFlow<()>, CliError> {
        let mut pieces = data.split(|byte| *byte == b'\n');
        // What follows the last newline is the beginning of a line.
        let begun = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.rest.extend_from_slice(piece);
            let line = std::mem::take(&mut self.rest);
            if each(&line)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            // Its space serves the next line.
            self.rest = line;
            self.rest.clear();
        }
        self.rest.extend_from_slice(begun);
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let text = b"one\ntwo\n\nfour\n";
        for size in 1..=text.len() {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for piece in text.chunks(size) {
                let flow = lines.push(piece, &mut |line| {
                    seen.push(String::from_utf8_lossy(line).into_owned());
                    Ok(ControlFlow::Continue(()))
                });
                assert!(flow.is_ok_and(|flow| flow.is_continue()));
            }
            assert_eq!(seen, ["one", "two", "", "four"]);
        }
    }
}
