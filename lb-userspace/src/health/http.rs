//! The HTTP/1.1 exchange of a probe (RFC 9112): one GET, status line and headers back. The body is never read.

use std::net::SocketAddr;
use std::pin::pin;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Probe;
use super::sentence::printable;
use super::tap::{Ear, Heard, Tap};
use super::verdict::{PortVerdict, ProbeFault, Speaks};

/// What to ask for and what to accept.
pub(super) struct Exchange<'a> {
    pub(super) path: &'a str,
    pub(super) host: Option<&'a str>,
    pub(super) status: &'a [u16],
}

/// Runs the exchange on a fresh connection.
pub(super) async fn ask(stream: TcpStream, exchange: &Exchange<'_>, probe: &Probe, deadline: Instant) -> PortVerdict {
    let request = match request(exchange, probe.target) {
        Ok(request) => request,
        Err(error) => return PortVerdict::Error(ProbeFault::Other(format!("path {}: {error}", exchange.path))),
    };
    let ear = Ear::default();
    match timeout_at(deadline, send(Tap::new(stream, ear.clone()), request)).await {
        Ok(Ok(status)) if exchange.status.contains(&status.as_u16()) => PortVerdict::Open,
        Ok(Ok(status)) => PortVerdict::BadStatus(status.as_u16()),
        Ok(Err(error)) => explain(&ear.heard(), &error),
        Err(_) => PortVerdict::Silent(probe.timeout),
    }
}

async fn send(tap: Tap, request: Request<Empty<Bytes>>) -> Result<StatusCode, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(tap)).await?;
    let mut connection = pin!(connection);
    let mut sending = pin!(sender.send_request(request));
    let response = tokio::select! {
        response = &mut sending => response,
        // It ended: what that means for the request is with the sender.
        _ = &mut connection => sending.await,
    };
    response.map(|response| response.status())
}

fn request(exchange: &Exchange<'_>, target: SocketAddr) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let own_name = target.to_string();
    Request::get(exchange.path)
        .header(HOST, exchange.host.unwrap_or(&own_name))
        .header(USER_AGENT, concat!("xlb/", env!("CARGO_PKG_VERSION"), " health check"))
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::new())
}

/// No complete answer: what came instead?
fn explain(heard: &Heard, error: &hyper::Error) -> PortVerdict {
    let start = b"HTTP/";
    let compared = heard.first.len().min(start.len());
    if heard.first.get(..compared) != start.get(..compared) {
        return wrong(heard);
    }
    if heard.ended {
        return PortVerdict::AcceptedThenClosed;
    }
    if heard.first.is_empty() {
        return PortVerdict::Error(ProbeFault::Other(error.to_string()));
    }
    wrong(heard)
}

fn wrong(heard: &Heard) -> PortVerdict {
    PortVerdict::WrongProtocol {
        seen: printable(&heard.first),
        speaks: Speaks::NotHttp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_header_is_the_target_unless_given() {
        let mut exchange = Exchange {
            path: "/healthz",
            host: None,
            status: &[200],
        };
        let target = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 8081));
        let by_target = request(&exchange, target).expect("a request");
        assert_eq!(by_target.headers()[HOST], "[2001:db8::1]:8081");
        exchange.host = Some("www.example.org");
        let by_name = request(&exchange, target).expect("a request");
        assert_eq!(by_name.headers()[HOST], "www.example.org");
    }
}
