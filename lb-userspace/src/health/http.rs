//! The HTTP/1.1 exchange of a probe (RFC 9112): one GET, status line and headers back, and of the body what is needed.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::body;
use super::sentence::printable;
use super::tap::{Ear, Heard, Tap};
use super::tls::{begins_like_tls, late_cause};
use super::verdict::{PortVerdict, ProbeFault, Speaks};
use crate::config::HttpCheck;

/// What servers say in a page of status 400 to plain HTTP on a TLS port: nginx, Go, Apache, HAProxy.
const WANTS_TLS: &[&str] = &[
    "plain HTTP request was sent to HTTPS port",
    "sent an HTTP request to an HTTPS server",
    "speaking plain HTTP to an SSL-enabled server port",
    "plain HTTP to an HTTPS port",
];
/// Bytes of such a page that are searched.
const PAGE_BYTES: usize = 4 * 1024;

/// What lies under the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    Plain,
    Tls,
}

/// One exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange<'a> {
    pub(super) check: &'a HttpCheck,
    pub(super) layer: Layer,
    pub(super) target: SocketAddr,
    /// For the verdict only; what ends the exchange is `deadline`.
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
}

impl Exchange<'_> {
    /// Runs the exchange on a fresh connection or session.
    pub(super) async fn run(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> PortVerdict {
        let request = match request(self.check, self.target) {
            Ok(request) => request,
            Err(error) => {
                return PortVerdict::Error(ProbeFault::Other(format!("path {}: {error}", self.check.path)));
            }
        };
        let ear = Ear::default();
        match timeout_at(
            self.deadline,
            self.converse(Tap::new(stream, ear.clone()), request, &ear),
        )
        .await
        {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => self.explain(&ear.heard(), &error),
            Err(_) => PortVerdict::Silent(self.timeout),
        }
    }

    async fn converse(
        &self,
        tap: Tap<impl AsyncRead + AsyncWrite + Unpin>,
        request: Request<Empty<Bytes>>,
        ear: &Ear,
    ) -> Result<PortVerdict, hyper::Error> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(tap)).await?;
        let mut connection = pin!(connection);
        let mut exchange = pin!(async { Ok(self.judge(sender.send_request(request).await?, ear).await) });
        tokio::select! {
            verdict = &mut exchange => verdict,
            // It ended: what that means for the request is with the sender.
            _ = &mut connection => exchange.await,
        }
    }

    async fn judge(&self, response: Response<Incoming>, ear: &Ear) -> PortVerdict {
        let status = response.status().as_u16();
        let good = self.check.status.contains(&status);
        match &self.check.body {
            None if good => PortVerdict::Open,
            Some(wanted) if good => match body::search(response.into_body(), wanted, self.deadline).await {
                Ok(()) => PortVerdict::Open,
                Err(bad) => PortVerdict::BadBody(Box::new(bad)),
            },
            _ if status == 400 && self.layer == Layer::Plain => {
                let page = response.into_body();
                if body::has_one_of(page, WANTS_TLS, PAGE_BYTES, self.deadline).await {
                    return wrong(&ear.heard(), Speaks::Tls);
                }
                PortVerdict::BadStatus(status)
            }
            _ => PortVerdict::BadStatus(status),
        }
    }

    /// No complete answer: what came instead?
    fn explain(&self, heard: &Heard, error: &hyper::Error) -> PortVerdict {
        if self.layer == Layer::Tls
            && let Some(verdict) = late_cause(error)
        {
            return verdict;
        }
        if begins_like_tls(&heard.first) {
            return wrong(heard, Speaks::Tls);
        }
        let start = b"HTTP/";
        let compared = heard.first.len().min(start.len());
        if heard.first.get(..compared) != start.get(..compared) {
            return wrong(heard, Speaks::NotHttp);
        }
        if heard.ended {
            return PortVerdict::AcceptedThenClosed;
        }
        if heard.first.is_empty() {
            return PortVerdict::Error(ProbeFault::Other(error.to_string()));
        }
        wrong(heard, Speaks::NotHttp)
    }
}

fn wrong(heard: &Heard, speaks: Speaks) -> PortVerdict {
    let seen = printable(&heard.first);
    PortVerdict::WrongProtocol { seen, speaks }
}

fn request(check: &HttpCheck, target: SocketAddr) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let own_name = target.to_string();
    Request::get(&check.path)
        .header(HOST, check.host.as_deref().unwrap_or(&own_name))
        .header(USER_AGENT, concat!("xlb/", env!("CARGO_PKG_VERSION"), " health check"))
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_header_is_the_target_unless_given() {
        let mut check = HttpCheck {
            path: "/healthz".to_owned(),
            status: vec![200],
            host: None,
            body: None,
        };
        let target = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 8081));
        let by_target = request(&check, target).expect("a request");
        assert_eq!(by_target.headers()[HOST], "[2001:db8::1]:8081");
        check.host = Some("www.example.org".to_owned());
        let by_name = request(&check, target).expect("a request");
        assert_eq!(by_name.headers()[HOST], "www.example.org");
    }
}
