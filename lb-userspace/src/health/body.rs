//! Looks for a text in the body of an answer, in a bounded number of bytes and a bounded time.

use std::pin::pin;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes};
use tokio::time::{Instant, timeout_at};

use super::sentence::printable;
use super::verdict::{BadBody, BodyEnd};

/// Bytes of a body that are searched.
pub(super) const SEARCHED_BYTES: usize = 64 * 1024;
/// Bytes of a body that a verdict shows.
const SHOWN_BYTES: usize = 48;

/// Searches until the text was found, the body or the limit was reached, or the deadline has passed.
pub(super) async fn search(body: impl Body<Data = Bytes>, wanted: &str, deadline: Instant) -> Result<(), BadBody> {
    let (found, read, end) = read(body, &[wanted], SEARCHED_BYTES, deadline).await;
    if found {
        return Ok(());
    }
    Err(BadBody {
        wanted: wanted.to_owned(),
        begins: printable(read.get(..SHOWN_BYTES).unwrap_or(&read)),
        searched_bytes: read.len(),
        end,
    })
}

/// Whether one of the texts is among the first `limit` bytes.
pub(super) async fn has_one_of(body: impl Body<Data = Bytes>, texts: &[&str], limit: usize, deadline: Instant) -> bool {
    read(body, texts, limit, deadline).await.0
}

async fn read(
    body: impl Body<Data = Bytes>,
    texts: &[&str],
    limit: usize,
    deadline: Instant,
) -> (bool, Vec<u8>, BodyEnd) {
    let mut body = pin!(body);
    let mut read: Vec<u8> = Vec::new();
    let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return (false, read, BodyEnd::Time),
            Ok(None) => return (false, read, BodyEnd::Whole),
            Ok(Some(Err(_))) => return (false, read, BodyEnd::Closed),
            Ok(Some(Ok(frame))) => frame,
        };
        let Some(data) = frame.data_ref() else { continue };
        // A text may have begun in the bytes before.
        let from = read.len().saturating_sub(longest.saturating_sub(1));
        let room = limit.saturating_sub(read.len());
        read.extend_from_slice(data.get(..room).unwrap_or(data));
        let new = read.get(from..).unwrap_or_default();
        if texts.iter().any(|text| contains(new, text.as_bytes())) {
            return (true, read, BodyEnd::Whole);
        }
        if data.len() >= room {
            return (false, read, BodyEnd::Limit);
        }
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    !text.is_empty() && bytes.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::time::Duration;

    async fn searched(parts: &[&str], wanted: &str) -> Result<(), BadBody> {
        let frames: Vec<_> = parts
            .iter()
            .map(|part| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(part.as_bytes()))))
            .collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        search(StreamBody::new(stream::iter(frames)), wanted, deadline).await
    }

    #[tokio::test]
    async fn a_text_is_found_across_the_borders_of_chunks() {
        assert_eq!(searched(&["ab", "cd", "ef"], "bcde").await, Ok(()));
        assert_eq!(searched(&["", "status: ok\n"], "ok").await, Ok(()));
    }

    #[tokio::test]
    async fn a_body_without_it_is_shown_by_its_beginning() {
        let missing = searched(&["starting up\n", "not yet"], "ready")
            .await
            .expect_err("not there");
        assert_eq!(
            (missing.begins.as_str(), missing.searched_bytes),
            ("\"starting up\"", 19)
        );
        assert_eq!(missing.end, BodyEnd::Whole);
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_is_searched_up_to_the_limit() {
        let long = "x".repeat(SEARCHED_BYTES);
        let missing = searched(&[&long[1..], "yz", "ready"], "ready")
            .await
            .expect_err("past the limit");
        assert_eq!((missing.searched_bytes, missing.end), (SEARCHED_BYTES, BodyEnd::Limit));
    }
}
