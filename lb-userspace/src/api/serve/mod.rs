//! Accepting connections and speaking HTTP/1 on them, with limits: whoever opens connections and leaves them must not keep
//! others from the API, nor files from the agent. It decides who is let in and how long he may be silent; what is answered
//! is the router's.

mod body;
mod open;
mod patient;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::sleep;

use super::peer::Peer;
use open::{Held, Lease, Open};
use patient::Patient;

/// A pause after an accept that failed: the reason (no file left) does not go by at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What the clients of one listener may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once. One more takes the place of the one that has been idle longest; when all are being answered it is
    /// closed.
    pub connections: usize,
    /// Without a whole request head, since the connection was made or its last answer went out; and with an answer of which
    /// nothing is taken.
    pub silence: Duration,
    /// For the whole body of a request, after its head.
    pub body: Duration,
}

impl Limits {
    /// The API socket, which `xlb` itself uses.
    pub(super) const UNIX: Self = Self::of(256);
    /// The read-only listener.
    pub(super) const HTTP: Self = Self::of(64);

    const fn of(connections: usize) -> Self {
        Self {
            connections,
            silence: Duration::from_secs(60),
            body: Duration::from_secs(10),
        }
    }
}

/// Where connections come from.
pub(super) trait Accept: Send + 'static {
    /// One connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
    fn next(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;

    /// Who is at its other end, where the kernel knows.
    fn peer(io: &Self::Io) -> Option<Peer>;
}

impl Accept for UnixListener {
    type Io = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }

    fn peer(io: &UnixStream) -> Option<Peer> {
        Some(Peer::of(io))
    }
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }

    fn peer(_: &TcpStream) -> Option<Peer> {
        None
    }
}

/// Serves `routes` until the process ends; `object` names the listener in the log.
pub(super) async fn serve<L: Accept>(listener: L, routes: Router, limits: Limits, object: &'static str) {
    let mut open = Open::new(limits.connections, object);
    let mut accepting = Accepting::Well;
    loop {
        let io = match listener.next().await {
            Ok(io) => io,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                accepting.failed(object, &error);
                // What is idle here may be what is missing there.
                open.close_oldest_idle().await;
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        accepting.works(object);
        if let Some(lease) = open.admit().await {
            let routes = routes.clone();
            let task = tokio::spawn(converse::<L>(io, routes, limits, Arc::clone(&lease)));
            open.add(lease, task);
        }
    }
}

/// Whether accepting goes on as it should, so that the log has one line for each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Well,
    Failing,
}

impl Accepting {
    fn failed(&mut self, object: &'static str, error: &io::Error) {
        if *self == Self::Well {
            tracing::error!(object, old = "accepting", new = "not accepting", cause = %error, "it goes on trying; for 'Too many open files' raise LimitNOFILE= of the unit");
            *self = Self::Failing;
        }
    }

    fn works(&mut self, object: &'static str) {
        if *self == Self::Failing {
            tracing::info!(
                object,
                old = "not accepting",
                new = "accepting",
                cause = "accept works again",
                "api"
            );
            *self = Self::Well;
        }
    }
}

/// The peer was gone before it was accepted (accept(2)); the next one is not.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// One connection, to its end.
async fn converse<L: Accept>(io: L::Io, routes: Router, limits: Limits, lease: Arc<Lease>) {
    let peer = L::peer(&io);
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(|request| answer(routes.clone(), request, peer, limits, Arc::clone(&lease)));
    let io = TokioIo::new(Patient::new(io, limits.silence));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also runs between two requests.
        .header_read_timeout(limits.silence)
        .serve_connection(io, service);
    // A client that breaks off or is silent for too long is no event of ours.
    drop(connection.await);
}

async fn answer(
    routes: TowerToHyperService<Router>,
    request: Request<Incoming>,
    peer: Option<Peer>,
    limits: Limits,
    lease: Arc<Lease>,
) -> Result<Response<Held>, Infallible> {
    let Some(work) = lease.begin() else {
        // Its place was given away just now.
        return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response().map(Held::free));
    };
    let (head, body) = request.into_parts();
    let answer = match body::whole(body, limits.body).await {
        Err(failure) => failure.into_response(),
        Ok(body) => {
            let mut request = Request::from_parts(head, axum::body::Body::from(body));
            if let Some(peer) = peer {
                request.extensions_mut().insert(ConnectInfo(peer));
            }
            match routes.call(request).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            }
        }
    };
    Ok(answer.map(|body| Held::until_sent(body, work)))
}
