//! `ETag` and `If-Match`: answers name the desired state they show or made, writes the one they were made against. The tag
//! is of the desired state, not of the document: counters and health move without it.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::extract::connect_info::ConnectInfo;
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::ApiState;
use super::error::Failure;
use super::peer::Peer;
use super::write::bad_request;
use crate::agent::{Caller, Expected};
use crate::view::Revision;

/// A JSON answer with the desired state's revision as its `ETag`.
#[derive(Debug)]
pub(super) struct Revised<T>(pub Revision, pub T);

impl<T: Serialize> IntoResponse for Revised<T> {
    fn into_response(self) -> Response {
        ([(ETAG, format!("\"{}\"", self.0))], Json(self.1)).into_response()
    }
}

/// Who asks for a change, as the socket and the request's head say.
#[derive(Debug)]
pub(super) struct Asked(pub Caller);

impl FromRequestParts<ApiState> for Asked {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Failure> {
        let peer = ConnectInfo::<Peer>::from_request_parts(parts, state).await;
        let ConnectInfo(peer) = peer.map_err(|error| bad_request(&error.body_text(), "use the Unix socket"))?;
        let mut tags = Vec::new();
        for value in parts.headers.get_all(IF_MATCH) {
            let wrong = || {
                let message = format!("If-Match: {value:?} is no list of tags");
                bad_request(
                    &message,
                    "send a revision in double quotes, as ETag has it, or leave it out",
                )
            };
            let text = value.to_str().map_err(|_| wrong())?;
            for tag in text.split(',').map(str::trim) {
                tags.push(tag_of(tag).ok_or_else(wrong)?);
            }
        }
        let any = tags.is_empty() || tags.contains(&Tag::Any);
        let named = tags.into_iter().filter_map(|tag| match tag {
            Tag::Any => None,
            Tag::Revision(revision) => Some(revision),
        });
        Ok(Self(Caller {
            by: peer.to_string(),
            expected: if any {
                Expected::Any
            } else {
                Expected::OneOf(named.collect())
            },
        }))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Tag {
    Any,
    Revision(String),
}

/// Weak tags never match here (RFC 9110, 8.8.3.2), but are tags; their prefix stays, so that the refusal names them.
fn tag_of(text: &str) -> Option<Tag> {
    if text == "*" {
        return Some(Tag::Any);
    }
    let (weak, quoted) = match text.strip_prefix("W/") {
        Some(rest) => ("W/", rest),
        None => ("", text),
    };
    let inside = quoted.strip_prefix('"')?.strip_suffix('"')?;
    (!inside.contains('"')).then(|| Tag::Revision(format!("{weak}{inside}")))
}
