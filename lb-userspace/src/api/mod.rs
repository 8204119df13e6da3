//! The API: HTTP and JSON over a Unix socket, and the read-only HTTP listener for `/metrics` and `/healthz`. It reads
//! snapshots and hands changes to [`Admin`]; it decides nothing.

mod error;
mod flows;
mod listen;
mod peer;
mod read;
mod revised;
mod serve;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::routing::{delete, get, post};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};

pub use listen::{BoundUnix, ListenError, adopt_http, bind_http, bind_unix, listen_unix};

use crate::agent::Admin;
use crate::flows::Flows;
use crate::reconcile::{Event, Snapshot};
use crate::view::{ApiError, ErrorCode};
use error::Failure;
use serve::Limits;

/// What every handler may use.
#[derive(Clone, Debug)]
pub struct ApiState {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    events: mpsc::Sender<Event>,
    admin: Arc<Admin>,
    flows: Option<Flows>,
}

impl ApiState {
    /// Reads from `snapshots`, asks the writer through `events`, changes through `admin`.
    pub fn new(snapshots: watch::Receiver<Arc<Snapshot>>, events: mpsc::Sender<Event>, admin: Arc<Admin>) -> Self {
        Self {
            snapshots,
            events,
            admin,
            flows: None,
        }
    }

    /// Connections can be listed.
    #[must_use]
    pub fn with_flows(mut self, flows: Flows) -> Self {
        self.flows = Some(flows);
        self
    }
}

/// Serves everything on the Unix socket, until the process ends.
pub async fn serve_unix(listener: UnixListener, state: ApiState) {
    let routes = reading()
        .route("/v1/services", post(write::add_service))
        .route("/v1/services/{service}", delete(write::remove_service))
        .route("/v1/backends", post(write::add_backend))
        .route(
            "/v1/services/{service}/backends/{backend}",
            delete(write::remove_backend).patch(write::set_backend),
        )
        .route("/v1/overrides", get(read::overrides))
        .route("/v1/overrides/save", post(write::save_overrides))
        .route("/v1/overrides/drop", post(write::drop_overrides))
        .route("/v1/reload", post(write::reload))
        .route("/v1/flows", get(flows::flows))
        .with_state(state);
    serve::serve(listener, routes, Limits::UNIX, "api").await;
}

/// Serves what only reads over TCP, until the process ends.
pub async fn serve_http(listener: TcpListener, state: ApiState) {
    serve::serve(listener, reading().with_state(state), Limits::HTTP, "http").await;
}

fn reading() -> Router<ApiState> {
    Router::new()
        .route("/v1/status", get(read::status))
        .route("/v1/services", get(read::services))
        .route("/v1/drops", get(read::drops))
        .route("/metrics", get(read::metrics))
        .route("/healthz", get(read::healthz))
        .route("/livez", get(read::healthz))
        .route("/readyz", get(read::readyz))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
}

const ALL_THERE_IS: &str = "GET /v1/status, /v1/services, /v1/drops, /metrics, /healthz, /livez, /readyz; on the Unix socket also \
     GET /v1/flows, /v1/overrides; POST /v1/services, /v1/backends, /v1/overrides/save, /v1/overrides/drop, /v1/reload; DELETE \
     /v1/services/SERVICE; PATCH and DELETE /v1/services/SERVICE/backends/BACKEND";

async fn unknown(method: Method, uri: Uri) -> Failure {
    Failure(ApiError {
        code: ErrorCode::NotFound,
        message: format!("{method} {} is not part of this API", uri.path()),
        next: Some(ALL_THERE_IS.to_owned()),
    })
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    Failure(ApiError {
        code: ErrorCode::MethodNotAllowed,
        message: format!(
            "{} does not take {method}; what it takes here is in the answer's 'allow'",
            uri.path()
        ),
        next: Some(ALL_THERE_IS.to_owned()),
    })
}
