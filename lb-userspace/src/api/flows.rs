//! `GET /v1/flows`: connections as JSON lines, as they are found.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use futures_util::stream;

use super::ApiState;
use super::error::Failure;
use crate::agent::Desired;
use crate::config::names_there;
use crate::flows::{FlowsError, Naming, is_meant};
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
    refuse_unknown(&query, &naming, &Arc::clone(&state.snapshots.borrow()).desired)?;
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

/// Names that are neither in the config nor in the maps, where what was removed still is.
fn refuse_unknown(query: &FlowQuery, naming: &Naming, desired: &Desired) -> Result<(), ApiError> {
    let not_found = |message: String, next: String| ApiError {
        code: ErrorCode::NotFound,
        message,
        next: Some(next),
    };
    let mut services: BTreeSet<&str> = naming.services().collect();
    services.extend(desired.config.services.iter().map(|service| service.name.as_str()));
    if let Some(service) = query.service.as_deref().filter(|service| !services.contains(service)) {
        let there: Vec<&str> = services.into_iter().collect();
        let message = format!("no service {service}; there are: {}", names_there(service, &there));
        return Err(not_found(message, "xlb service list".to_owned()));
    }
    let Some(backend) = query.backend.as_deref() else {
        return Ok(());
    };
    let (of_service, name) = naming.split(backend);
    let wanted = query.service.clone().or(of_service);
    let wanted = wanted.as_deref();
    let mut backends: BTreeSet<String> = naming.backends(wanted).map(str::to_owned).collect();
    let known = desired
        .config
        .services
        .iter()
        .filter(|service| wanted.is_none_or(|wanted| wanted == service.name));
    backends.extend(
        known
            .flat_map(|service| desired.backends_of(&service.name))
            .map(|(name, _)| name),
    );
    if backends.iter().any(|known| is_meant(&name, known)) {
        return Ok(());
    }
    let there: Vec<&str> = backends.iter().map(String::as_str).collect();
    let of = wanted.map_or_else(String::new, |service| format!(" in service {service}"));
    let message = format!("no backend {name}{of}; there are: {}", names_there(&name, &there));
    let next = format!("xlb backend list {}", wanted.unwrap_or_default());
    Err(not_found(message, next.trim_end().to_owned()))
}

fn unavailable(message: &str) -> ApiError {
    ApiError {
        code: ErrorCode::Unavailable,
        message: message.to_owned(),
        next: Some("xlb status".to_owned()),
    }
}
