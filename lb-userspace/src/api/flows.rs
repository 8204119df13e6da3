//! `GET /v1/flows`: connections as JSON lines, as they are found.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use futures_util::stream;

use super::ApiState;
use super::error::Failure;
use crate::flows::{FlowsError, Naming};
use crate::view::{ApiError, ErrorCode, FlowQuery};

/// `GET /v1/flows?service=&backend=&client=&state=&family=&limit=`; only on the Unix socket, for it names clients.
pub(super) async fn flows(
    State(state): State<ApiState>,
    query: Result<Query<FlowQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Failure> {
    let Query(query) = query.map_err(|error| ApiError {
        code: ErrorCode::BadRequest,
        message: error.body_text(),
        next: Some("?service=NAME&backend=NAME&client=ADDR/LEN&state=STATE&family=ipv4&limit=N".to_owned()),
    })?;
    let naming = Naming::of_snapshot(&state.snapshots.borrow());
    if let Some(service) = query.service.as_deref().filter(|service| !naming.has_service(service)) {
        return Err(Failure(ApiError {
            code: ErrorCode::NotFound,
            message: format!("no service '{service}' has backends here"),
            next: Some("xlb status".to_owned()),
        }));
    }
    let flows = state
        .flows
        .as_ref()
        .ok_or_else(|| unavailable("this agent has no flow tables"))?;
    let chunks = flows
        .walk(query, naming)
        .map_err(|error| unavailable(&error.to_string()))?;
    // Whole lines only; an error breaks the answer off, so that nobody takes a part for the whole.
    let body = stream::unfold(chunks, |mut chunks| async {
        let chunk: Result<Vec<u8>, FlowsError> = chunks.recv().await?;
        if let Err(error) = &chunk {
            tracing::warn!(object = "flows", new = "broken off", cause = %error, "flows");
        }
        Some((chunk, chunks))
    });
    Ok((
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(body),
    ))
}

fn unavailable(message: &str) -> ApiError {
    ApiError {
        code: ErrorCode::Unavailable,
        message: message.to_owned(),
        next: Some("xlb status".to_owned()),
    }
}
