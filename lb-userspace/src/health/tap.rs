//! A stream that remembers how the other side began and ended. hyper says that an answer could not be parsed; only
//! the bytes say whether it was SSH, TLS, or nothing at all.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Enough to recognize a protocol by.
const KEPT: usize = 32;

/// What came from the other side.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// The first bytes.
    pub(super) first: Vec<u8>,
    /// It closed or reset the connection.
    pub(super) ended: bool,
}

/// A shared view of what a [`Tap`] heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Ear(Arc<Mutex<Heard>>);

impl Ear {
    pub(super) fn heard(&self) -> Heard {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, bytes: &[u8]) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(heard.first.len());
        heard.first.extend(bytes.iter().take(room));
    }

    fn note_end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
    }
}

/// The stream.
pub(super) struct Tap<S> {
    stream: S,
    ear: Ear,
}

impl<S> Tap<S> {
    pub(super) fn new(stream: S, ear: Ear) -> Self {
        Self { stream, ear }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        let new = buffer.filled().get(before..).unwrap_or_default();
        match &result {
            Ok(()) if new.is_empty() && room > 0 => self.ear.note_end(),
            Ok(()) => self.ear.note(new),
            Err(_) => self.ear.note_end(),
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        if result.is_err() {
            self.ear.note_end();
        }
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Sends no FIN: the server's own would then bring our side into TIME_WAIT, and the port with it. Dropping the
    /// stream sends a reset.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
