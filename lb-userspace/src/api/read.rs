//! Handlers that only read.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::ApiState;
use super::error::Failure;
use super::revised::Revised;
use crate::metrics;
use crate::reconcile::{Event, Port, PortState, Snapshot, drops_view, status_view};
use crate::view::{ApiError, DropsView, ErrorCode, OverridesView, ServiceView, StatusView, Timestamp, WarningView};

/// How long the writer may take for a fresh reading; the newest published one is shown after that.
const FRESH_WITHIN: Duration = Duration::from_millis(500);
/// How long it may take before it counts as stuck.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// `GET /v1/status`.
pub(super) async fn status(State(state): State<ApiState>) -> Revised<StatusView> {
    let view = view(&state).await;
    Revised(view.agent.config.revision, view)
}

/// `GET /v1/services`.
pub(super) async fn services(State(state): State<ApiState>) -> Revised<Vec<ServiceView>> {
    let view = view(&state).await;
    Revised(view.agent.config.revision, view.services)
}

/// `GET /v1/overrides`.
pub(super) async fn overrides(State(state): State<ApiState>) -> Revised<OverridesView> {
    let view = state.admin.overrides().await;
    Revised(view.revision, view)
}

/// `GET /v1/drops`.
pub(super) async fn drops(State(state): State<ApiState>) -> Result<Json<DropsView>, Failure> {
    Ok(Json(read_drops(&state).await?))
}

/// `GET /metrics`.
pub(super) async fn metrics(State(state): State<ApiState>) -> Result<impl IntoResponse, Failure> {
    let drops = read_drops(&state).await?;
    let text = metrics::render(&view(&state).await, &drops).map_err(|error| ApiError {
        code: ErrorCode::Unavailable,
        message: format!("metrics could not be written: {error}"),
        next: None,
    })?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}

/// `GET /healthz`: whether the agent works (not whether every backend does).
pub(super) async fn healthz(State(state): State<ApiState>) -> impl IntoResponse {
    match fresh(&state, ALIVE_WITHIN).await {
        Some(_) => (StatusCode::OK, "ok\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the writer does not answer\n"),
    }
}

/// `GET /readyz`: whether this host takes packets: the agent works, and the program is on every interface of the config.
/// Health of backends is no part of it; `/v1/status` has that.
pub(super) async fn readyz(State(state): State<ApiState>) -> impl IntoResponse {
    let not_ready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n"));
    let Some(snapshot) = fresh(&state, ALIVE_WITHIN).await else {
        return not_ready("the writer does not answer".to_owned());
    };
    let missed: Vec<String> = snapshot.ports.iter().filter_map(without_program).collect();
    if missed.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    not_ready(format!("{}; see 'xlb status'", missed.join(", ")))
}

fn without_program(port: &Port) -> Option<String> {
    match &port.state {
        PortState::Attached { .. } | PortState::Adopted => None,
        PortState::Missing => Some(format!("interface {} is missing", port.name)),
        PortState::Failed { .. } => Some(format!("interface {} is not attached", port.name)),
    }
}

async fn view(state: &ApiState) -> StatusView {
    let snapshot = fresh(state, FRESH_WITHIN).await;
    let snapshot = snapshot.unwrap_or_else(|| Arc::clone(&state.snapshots.borrow()));
    let reload = state.admin.last_error();
    let mut status = status_view(&snapshot, reload.as_deref(), Timestamp::now());
    if let Some(why) = state.admin.not_kept() {
        status.add_problem(WarningView {
            code: "overrides_not_kept".to_owned(),
            message: format!("changes made with --runtime end with the agent: {why}"),
            next: Some("xlb override list, then xlb override save --all".to_owned()),
        });
    }
    let names = state.admin.names();
    status.names.clone_from(&names.rows);
    names
        .problems
        .iter()
        .rev()
        .for_each(|problem| status.add_problem(problem.clone()));
    status
}

/// A snapshot with counters of now; `None` when the writer is stuck or gone.
async fn fresh(state: &ApiState, within: Duration) -> Option<Arc<Snapshot>> {
    let (reply, answer) = oneshot::channel();
    let ask = async {
        state.events.send(Event::Sample { reply }).await.ok()?;
        answer.await.ok()
    };
    timeout(within, ask).await.ok().flatten()
}

async fn read_drops(state: &ApiState) -> Result<DropsView, ApiError> {
    let (reply, answer) = oneshot::channel();
    let ask = async {
        state.events.send(Event::Drops { reply }).await.ok()?;
        answer.await.ok()
    };
    let unavailable = |message: String| ApiError {
        code: ErrorCode::Unavailable,
        message,
        next: Some("xlb status".to_owned()),
    };
    match timeout(ALIVE_WITHIN, ask).await.ok().flatten() {
        Some(Ok(drops)) => Ok(drops_view(&state.snapshots.borrow(), &drops, Timestamp::now())),
        Some(Err(error)) => Err(unavailable(format!("the reasons' counters cannot be read: {error}"))),
        None => Err(unavailable("the writer does not answer".to_owned())),
    }
}
