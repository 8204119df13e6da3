//! HTTP and JSON over the agent's Unix socket, one connection a call.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::ETAG;
use hyper::http::response::Parts;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::args::{Socket, WriteTo};
use super::exit::CliError;
use crate::view::{ApiError, Revision};

/// How long the agent may take for one answer, or for the next part of a long one. A walk through millions of connections
/// of which none matches says nothing for some seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A client of one agent.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    /// What changes are made against.
    revision: Option<Revision>,
    within: Duration,
}

/// An answer whose body is still to be read, while the task drives its connection.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) driver: JoinHandle<hyper::Result<()>>,
    /// Who answers, where the kernel knows.
    pub(super) pid: Option<i32>,
}

impl Client {
    /// Talks to the agent behind `socket`. Nothing is opened yet.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            revision: None,
            within: ANSWER_WITHIN,
        }
    }

    /// Its changes are refused when the desired state is another than this; `None`: they are not.
    #[must_use]
    pub fn against(self, revision: Option<Revision>) -> Self {
        Self { revision, ..self }
    }

    /// `GET path`.
    pub fn get<Answer: DeserializeOwned>(&self, path: &str) -> Result<Answer, CliError> {
        self.call(Method::GET, path, Bytes::new())
    }

    /// `GET path`, with the revision of the desired state that the answer shows.
    pub fn revised<Answer: DeserializeOwned>(&self, path: &str) -> Result<(Revision, Answer), CliError> {
        let (revision, answer) = self.ask(Method::GET, path, Bytes::new())?;
        let revision = revision.ok_or_else(|| self.protocol(&format!("{path}: no revision in its ETag")))?;
        Ok((revision, answer))
    }

    /// `DELETE path`.
    pub fn delete<Answer: DeserializeOwned>(&self, path: &str) -> Result<Answer, CliError> {
        self.call(Method::DELETE, path, Bytes::new())
    }

    /// `POST path` with a JSON body.
    pub fn post<Body: Serialize, Answer: DeserializeOwned>(&self, path: &str, body: &Body) -> Result<Answer, CliError> {
        let body = serde_json::to_vec(body).map_err(|error| self.protocol(&error))?;
        self.call(Method::POST, path, body.into())
    }

    /// `PATCH path` with a JSON body.
    pub fn patch<Body: Serialize, Answer: DeserializeOwned>(
        &self,
        path: &str,
        body: &Body,
    ) -> Result<Answer, CliError> {
        let body = serde_json::to_vec(body).map_err(|error| self.protocol(&error))?;
        self.call(Method::PATCH, path, body.into())
    }

    fn call<Answer: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, CliError> {
        self.ask(method, path, body).map(|(_, answer)| answer)
    }

    fn ask<Answer: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Option<Revision>, Answer), CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CliError::Problem(format!("async runtime: {error}")))?;
        let (head, answer) = runtime.block_on(self.exchange(method, path, body))?;
        let status = head.status;
        if status.is_success() {
            let read = serde_json::from_slice(&answer).map_err(|error| self.protocol(&error))?;
            return Ok((revision_of(&head), read));
        }
        match serde_json::from_slice::<ApiError>(&answer) {
            Ok(error) => Err(CliError::Refused(error)),
            Err(_) => Err(self.protocol(&format!("{path}: HTTP status {status}"))),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(Parts, Bytes), CliError> {
        let answer = self.send(method, path, body).await?;
        let (head, body) = answer.response.into_parts();
        let whole = self.in_time(answer.pid, body.collect()).await?;
        let body = whole.map_err(|error| self.protocol(&error))?;
        answer.driver.abort();
        Ok((head, body.to_bytes()))
    }

    /// Connects and asks.
    pub(super) async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, CliError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| {
            let socket = self.socket.clone();
            match source.kind() {
                ErrorKind::PermissionDenied => CliError::Denied { socket, source },
                // The queue of connections that wait for accept is full (connect(2)): there is an agent, and it is stuck.
                ErrorKind::WouldBlock => CliError::NotAccepting { socket, source },
                _ => CliError::Unreachable { socket, source },
            }
        })?;
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.protocol(&error))?;
        // The connection's own error shows up at the request below.
        let driver = tokio::spawn(connection);
        let mut request = Request::builder()
            .uri(path)
            .header("host", "xlb")
            .header("content-type", "application/json");
        if let Some(revision) = self.revision.filter(|_| method != Method::GET) {
            request = request.header("if-match", format!("\"{revision}\""));
        }
        let request = request
            .method(method)
            .body(Full::new(body))
            .map_err(|error| self.protocol(&error))?;
        let response = self.in_time(pid, sender.send_request(request)).await?;
        let response = response.map_err(|error| self.protocol(&error))?;
        Ok(Answer { response, driver, pid })
    }

    /// Waits for a part of an answer.
    pub(super) async fn in_time<T>(&self, pid: Option<i32>, part: impl Future<Output = T>) -> Result<T, CliError> {
        let waited = timeout(self.within, part).await;
        waited.map_err(|_| CliError::Timeout {
            socket: self.socket.clone(),
            pid,
            within: self.within,
        })
    }

    pub(super) fn protocol(&self, what: &dyn std::fmt::Display) -> CliError {
        CliError::Protocol {
            socket: self.socket.clone(),
            what: what.to_string(),
        }
    }
}

impl From<&Socket> for Client {
    fn from(socket: &Socket) -> Self {
        Self::new(&socket.socket)
    }
}

impl From<&WriteTo> for Client {
    fn from(to: &WriteTo) -> Self {
        Self::from(&to.socket).against(to.if_revision)
    }
}

/// The desired state that an answer shows.
fn revision_of(head: &Parts) -> Option<Revision> {
    let tag = head.headers.get(ETAG)?.to_str().ok()?;
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// A name as one segment of a path (RFC 3986, 3.3).
pub(super) fn path_segment(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
            _ => path.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]),
        }
    }
    path
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(nibble.into(), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::cli::exit::Exit;

    /// A client with little patience, and the other end of its socket.
    fn hurried(directory: &tempfile::TempDir) -> (Client, UnixListener) {
        let socket = directory.path().join("api.sock");
        let listener = UnixListener::bind(&socket).expect("bind");
        let within = Duration::from_millis(100);
        let client = Client {
            within,
            ..Client::new(&socket)
        };
        (client, listener)
    }

    #[test]
    fn an_agent_that_does_not_answer_is_a_timeout_that_names_socket_and_process() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (client, _listener) = hurried(&directory);
        let asked = client.get::<serde_json::Value>("/v1/status");
        let listed = client.lines("/v1/flows", |_| panic!("no line was sent"));
        for error in [asked.map(drop), listed].map(|result| result.expect_err("nobody answers")) {
            assert_eq!(error.exit(), Exit::Timeout);
            let text = error.to_string();
            let process = format!("(pid {}) did not answer within 0.1 s", std::process::id());
            assert!(text.contains("api.sock ") && text.contains(&process), "{text}");
            assert!(text.contains("journalctl -u xlb"), "{text}");
        }
    }

    #[test]
    fn an_agent_that_accepts_nobody_any_more_is_a_timeout_too() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (client, listener) = hurried(&directory);
        // The shortest queue there is, and it is filled.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).expect("a queue")).expect("listen");
        let _waits = std::os::unix::net::UnixStream::connect(&client.socket).expect("the one that fits");
        let error = client
            .get::<serde_json::Value>("/v1/status")
            .expect_err("no room in the queue");
        assert_eq!(error.exit(), Exit::Timeout, "{error}");
    }

    #[test]
    fn names_with_colons_and_slashes_stay_one_segment() {
        assert_eq!(path_segment("[2001:db8::1]:80"), "%5B2001%3Adb8%3A%3A1%5D%3A80");
        assert_eq!(path_segment("a/b c"), "a%2Fb%20c");
    }
}
