//! The body of a request, whole, before anybody handles it: bodies of this API are small.

use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use tokio::time::timeout;

use crate::api::error::Failure;
use crate::view::{ApiError, ErrorCode};

/// More than the largest service with every backend that its limit allows.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// All of it, or why not; nothing was changed then.
pub(super) async fn whole(body: Incoming, within: Duration) -> Result<Bytes, Failure> {
    let read = timeout(within, Limited::new(body, MAX_BYTES).collect()).await;
    let (code, message, next) = match read {
        Ok(Ok(body)) => return Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => (
            ErrorCode::TooLarge,
            format!("body: more than {MAX_BYTES} bytes"),
            "one request for each service or backend",
        ),
        Ok(Err(error)) => (
            ErrorCode::BadRequest,
            format!("body: it broke off: {error}"),
            "send as many bytes as content-length says",
        ),
        Err(_) => (
            ErrorCode::TooSlow,
            format!("body: not whole within {} s", within.as_secs_f32()),
            "send head and body in one go",
        ),
    };
    Err(Failure(ApiError {
        code,
        message: format!("{message}; nothing was changed"),
        next: Some(next.to_owned()),
    }))
}
