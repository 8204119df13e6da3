//! The open connections of one listener: as many as it may have, and which of them goes when one more wants in.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::task::JoinHandle;

/// Between two lines of the log about a full listener.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// Connections of one listener.
#[derive(Debug)]
pub(super) struct Open {
    object: &'static str,
    max: usize,
    all: Vec<(Arc<Lease>, JoinHandle<()>)>,
    /// Closed for want of room, and not told yet.
    untold: u64,
    told: Option<Instant>,
}

impl Open {
    pub(super) fn new(max: usize, object: &'static str) -> Self {
        Self {
            object,
            max,
            all: Vec::new(),
            untold: 0,
            told: None,
        }
    }

    /// A place, where there is one or one can be made.
    pub(super) async fn admit(&mut self) -> Option<Arc<Lease>> {
        self.all.retain(|(_, task)| !task.is_finished());
        if self.all.len() >= self.max {
            self.untold += 1;
            self.tell();
            if !self.close_oldest_idle().await {
                return None;
            }
        }
        Some(Arc::new(Lease::idle()))
    }

    /// Takes a connection in that was admitted.
    pub(super) fn add(&mut self, lease: Arc<Lease>, task: JoinHandle<()>) {
        self.all.push((lease, task));
    }

    /// Closes one; `false` when there is none that is idle.
    pub(super) async fn close_oldest_idle(&mut self) -> bool {
        let all = self.all.iter().enumerate();
        let mut idle: Vec<(Instant, usize)> = all
            .filter_map(|(index, (lease, _))| Some((lease.idle_since()?, index)))
            .collect();
        idle.sort_unstable();
        // One that has begun a request just now is passed over.
        let oldest = idle.iter().find(|(_, index)| self.all[*index].0.give_up());
        let Some((_, index)) = oldest.copied() else {
            return false;
        };
        let (_, task) = self.all.swap_remove(index);
        task.abort();
        // Its socket is closed when this has ended, and not before.
        drop(task.await);
        true
    }

    fn tell(&mut self) {
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            tracing::warn!(
                object = self.object,
                old = "open",
                new = "full",
                cause = "as many connections as it takes",
                connections = self.max,
                closed = self.untold,
                "a new connection takes the place of the one that has been idle longest; see 'ss -tnp' and 'ss -xp'"
            );
            self.told = Some(Instant::now());
            self.untold = 0;
        }
    }
}

/// What a connection does.
#[derive(Clone, Copy, Debug)]
enum State {
    /// No request of it is being answered.
    Idle(Instant),
    Busy,
    /// Its place is somebody else's.
    GivenUp,
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Lease(Mutex<State>);

impl Lease {
    fn idle() -> Self {
        Self(Mutex::new(State::Idle(Instant::now())))
    }

    fn idle_since(&self) -> Option<Instant> {
        match self.with(|state| *state) {
            State::Idle(since) => Some(since),
            State::Busy | State::GivenUp => None,
        }
    }

    /// Whether it was idle; no request of it begins after that.
    fn give_up(&self) -> bool {
        self.with(|state| {
            let idle = matches!(state, State::Idle(_));
            if idle {
                *state = State::GivenUp;
            }
            idle
        })
    }

    /// A request begins; its connection is busy for as long as the value lives. `None`: it is to be closed.
    pub(super) fn begin(self: Arc<Self>) -> Option<Work> {
        let given_up = self.with(|state| match state {
            State::GivenUp => true,
            State::Idle(_) | State::Busy => {
                *state = State::Busy;
                false
            }
        });
        (!given_up).then(|| Work(self))
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Work(Arc<Lease>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.with(|state| {
            if matches!(state, State::Busy) {
                *state = State::Idle(Instant::now());
            }
        });
    }
}

/// The body of an answer, which keeps its connection busy until hyper has taken the last of it.
#[derive(Debug)]
pub(super) struct Held {
    body: Body,
    _work: Option<Work>,
}

impl Held {
    /// Keeps nothing busy.
    pub(super) fn free(body: Body) -> Self {
        Self { body, _work: None }
    }

    /// Keeps it busy.
    pub(super) fn until_sent(body: Body, work: Work) -> Self {
        Self {
            body,
            _work: Some(work),
        }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
