//! Single requests to the agent's API: HTTP over its Unix socket, as `curl --unix-socket` would.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A debug build on a busy machine, or very many services.
const PATIENCE: Duration = Duration::from_mins(2);

/// The JSON that `path` answers with.
pub fn get(socket: &Path, path: &str) -> Result<Value> {
    ask(socket, "GET", path, "")
}

/// The JSON that a changing request is answered with.
pub fn send(socket: &Path, method: &str, path: &str, body: &Value) -> Result<Value> {
    ask(socket, method, path, &body.to_string())
}

fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE)).context("read timeout")?;
    // 1.0: no chunks, and the end of the stream is the end of the body.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: xlb\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).context("send the request")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200"), "{method} {path}: {status}: {body}");
    serde_json::from_str(body).with_context(|| format!("{method} {path}: {body}"))
}
