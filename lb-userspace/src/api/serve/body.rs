//! The body of a request, whole, before anybody handles it: bodies of this API are small.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use tokio::time::timeout;

use crate::api::error::Failure;
use crate::view::{ApiError, ErrorCode};

/// More than the largest service with every backend that its limit allows.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// How much of a body that is too large is read and thrown away: a client that still sends when its connection ends sees a
/// broken pipe in place of the answer.
const MAX_DISCARDED_BYTES: usize = 8 * MAX_BYTES;

/// All of it, or why not; nothing was changed then.
pub(super) async fn whole(body: Incoming, within: Duration) -> Result<Bytes, Failure> {
    let mut size = 0;
    let read = timeout(within, collect(body, &mut size)).await;
    let (code, message, next) = match read {
        Ok(Ok(body)) if size <= MAX_BYTES => return Ok(body.into()),
        _ if size > MAX_BYTES => (
            ErrorCode::TooLarge,
            format!("body: more than {MAX_BYTES} bytes"),
            "one request for each service or backend",
        ),
        Ok(Err(error)) => (
            ErrorCode::BadRequest,
            format!("body: it broke off: {error}"),
            "send as many bytes as content-length says",
        ),
        Ok(Ok(_)) | Err(_) => (
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

/// The body as far as it may go, and its size as far as it was read.
async fn collect(mut body: Incoming, size: &mut usize) -> Result<Vec<u8>, hyper::Error> {
    let mut kept = Vec::new();
    while *size <= MAX_DISCARDED_BYTES
        && let Some(frame) = body.frame().await
    {
        let Ok(data) = frame?.into_data() else { continue };
        *size += data.len();
        if *size <= MAX_BYTES {
            kept.extend_from_slice(&data);
        } else {
            kept = Vec::new();
        }
    }
    Ok(kept)
}
