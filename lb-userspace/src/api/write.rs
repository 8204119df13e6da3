//! Handlers that change something; only on the Unix socket.

use std::future::Future;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use super::ApiState;
use super::error::Failure;
use super::revised::{Asked, Revised};
use crate::agent::Chosen;
use crate::config::write_back::BackendSetting;
use crate::view::{
    AddBackend, AddService, ApiError, Changed, ChooseOverrides, ErrorCode, OverridesChanged, Reloaded, SetBackend,
};

const ENCODE: &str = "percent-encode the names in the path";

/// Query of `DELETE`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveQuery {
    #[serde(default)]
    runtime: bool,
}

/// `POST /v1/services`.
pub(super) async fn add_service(
    State(state): State<ApiState>,
    Asked(caller): Asked,
    body: Bytes,
) -> Result<Revised<Changed>, Failure> {
    let request: AddService = serde_json::from_slice(&body).map_err(|error| {
        let example = r#"{"service":{"name":"web","vip":["203.0.113.10"],"port":80,"check":{"tcp":{}},"backends":[{"address":"10.0.0.9"}]}}"#;
        bad_request(&format!("body: {error}"), &format!("send JSON such as {example}"))
    })?;
    let changed = to_the_end(async move { state.admin.add_service(request, &caller).await }).await?;
    Ok(Revised(changed.revision, changed))
}

/// `DELETE /v1/services/{service}?runtime=`.
pub(super) async fn remove_service(
    State(state): State<ApiState>,
    Asked(caller): Asked,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<RemoveQuery>, QueryRejection>,
) -> Result<Revised<Changed>, Failure> {
    let Path(service) = path.map_err(|error| bad_request(&error.body_text(), ENCODE))?;
    let store = runtime(query)?.into();
    let remove = async move { state.admin.remove_service(service, store, &caller).await };
    let changed = to_the_end(remove).await?;
    Ok(Revised(changed.revision, changed))
}

fn runtime(query: Result<Query<RemoveQuery>, QueryRejection>) -> Result<bool, ApiError> {
    let query = query.map_err(|error| bad_request(&error.body_text(), "?runtime=true or ?runtime=false"))?;
    Ok(query.runtime)
}

/// `POST /v1/backends`.
pub(super) async fn add_backend(
    State(state): State<ApiState>,
    Asked(caller): Asked,
    body: Bytes,
) -> Result<Revised<Changed>, Failure> {
    let request: AddBackend = serde_json::from_slice(&body).map_err(|error| {
        let example = r#"{"service":"web","address":"10.0.0.9","port":8080}"#;
        bad_request(&format!("body: {error}"), &format!("send JSON such as {example}"))
    })?;
    let changed = to_the_end(async move { state.admin.add_backend(request, &caller).await }).await?;
    Ok(Revised(changed.revision, changed))
}

/// `DELETE /v1/services/{service}/backends/{backend}?runtime=`.
pub(super) async fn remove_backend(
    State(state): State<ApiState>,
    Asked(caller): Asked,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<RemoveQuery>, QueryRejection>,
) -> Result<Revised<Changed>, Failure> {
    let Path((service, backend)) = path.map_err(|error| bad_request(&error.body_text(), ENCODE))?;
    let store = runtime(query)?.into();
    let remove = async move { state.admin.remove_backend(service, backend, store, &caller).await };
    let changed = to_the_end(remove).await?;
    Ok(Revised(changed.revision, changed))
}

/// `PATCH /v1/services/{service}/backends/{backend}`.
pub(super) async fn set_backend(
    State(state): State<ApiState>,
    Asked(caller): Asked,
    path: Result<Path<(String, String)>, PathRejection>,
    body: Bytes,
) -> Result<Revised<Changed>, Failure> {
    const EXAMPLE: &str = r#"send JSON such as {"weight":50} or {"state":"drain"}"#;
    let Path((service, backend)) = path.map_err(|error| bad_request(&error.body_text(), ENCODE))?;
    let request: SetBackend =
        serde_json::from_slice(&body).map_err(|error| bad_request(&format!("body: {error}"), EXAMPLE))?;
    let setting = match (request.weight, request.state) {
        (Some(weight), None) => BackendSetting::Weight(weight),
        (None, Some(state)) => BackendSetting::State(state),
        _ => return Err(Failure(bad_request("body: wanted one of weight and state", EXAMPLE))),
    };
    let store = request.runtime.into();
    let set = async move { state.admin.set_backend(service, backend, setting, store, &caller).await };
    let changed = to_the_end(set).await?;
    Ok(Revised(changed.revision, changed))
}

/// `POST /v1/overrides/save`.
pub(super) async fn save_overrides(
    State(state): State<ApiState>,
    Asked(caller): Asked,
    body: Bytes,
) -> Result<Revised<OverridesChanged>, Failure> {
    let chosen = chosen(&body)?;
    let changed = to_the_end(async move { state.admin.save_overrides(chosen, &caller).await }).await?;
    Ok(Revised(changed.revision, changed))
}

/// `POST /v1/overrides/drop`.
pub(super) async fn drop_overrides(
    State(state): State<ApiState>,
    Asked(caller): Asked,
    body: Bytes,
) -> Result<Revised<OverridesChanged>, Failure> {
    let chosen = chosen(&body)?;
    let changed = to_the_end(async move { state.admin.drop_overrides(chosen, &caller).await }).await?;
    Ok(Revised(changed.revision, changed))
}

fn chosen(body: &[u8]) -> Result<Chosen, ApiError> {
    const EXAMPLE: &str = r#"send JSON such as {"service":"web","backend":"a"}, or {} for all"#;
    let request: ChooseOverrides =
        serde_json::from_slice(body).map_err(|error| bad_request(&format!("body: {error}"), EXAMPLE))?;
    match (request.service, request.backend) {
        (None, None) => Ok(Chosen::All),
        (Some(service), None) => Ok(Chosen::Service(service)),
        (Some(service), Some(backend)) => Ok(Chosen::Backend(service, backend)),
        (None, Some(_)) => Err(bad_request("body: a backend without its service", EXAMPLE)),
    }
}

/// `POST /v1/reload`.
pub(super) async fn reload(State(state): State<ApiState>, Asked(caller): Asked) -> Result<Revised<Reloaded>, Failure> {
    let reloaded = to_the_end(async move { state.admin.reload(&caller).await }).await?;
    Ok(Revised(reloaded.revision, reloaded))
}

/// A change goes on where the asker hangs up: broken off, half of it would be in the maps and not in the file.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(change).await.unwrap_or_else(|error| {
        Err(ApiError {
            code: ErrorCode::Unavailable,
            message: format!("the change was cut off: {error}; whether it was made is not known"),
            next: Some("xlb status".to_owned()),
        })
    })
}

pub(super) fn bad_request(message: &str, next: &str) -> ApiError {
    ApiError {
        code: ErrorCode::BadRequest,
        message: format!("{message}; nothing was changed"),
        next: Some(next.to_owned()),
    }
}
