//! Errors as HTTP answers: every one is an [`ApiError`] in JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::view::{ApiError, ErrorCode};

/// An error answer.
#[derive(Debug)]
pub(super) struct Failure(pub ApiError);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (status(self.0.code), Json(self.0)).into_response()
    }
}

const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::TooSlow => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::Exists | ErrorCode::NotWritable | ErrorCode::OverrideInTheWay => StatusCode::CONFLICT,
        ErrorCode::RevisionMoved => StatusCode::PRECONDITION_FAILED,
        ErrorCode::BadConfig => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::ApplyFailed => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}
