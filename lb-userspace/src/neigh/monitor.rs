//! The task that watches: events and a slow poll in, whole truths out. One loop owns all state; what changed is read,
//! neighbours are tended, and what differs from the last update is told.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::client::Client;
use super::error::NeighError;
use super::events::{Event, Events};
use super::keeper::{Keeper, Keeping};
use super::known::{Known, Stale};
use super::table::NeighKey;
use super::told::{Over, Told};
use super::{NetUpdate, Wanted};

/// Unresolved neighbours are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// Everything is read again this often, whatever the events said.
const POLL: Duration = Duration::from_secs(10);
/// Events taken in one go before they are acted on.
const BATCH: usize = 4096;

/// Whether there is something to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    None,
    Some,
}

pub(super) struct Monitor {
    client: Client,
    events: Events,
    wanted: watch::Receiver<Wanted>,
    known: Known,
    keeper: Keeper,
    told: Told,
    news: News,
    polled_at: Instant,
}

impl Monitor {
    pub(super) fn open(
        keeping: Keeping,
        wanted: watch::Receiver<Wanted>,
        updates: mpsc::Sender<NetUpdate>,
    ) -> Result<Self, NeighError> {
        Ok(Self {
            // The events first: what changes after the first dump is then told, not missed.
            events: Events::open()?,
            client: Client::open()?,
            wanted,
            known: Known::nothing(),
            keeper: Keeper::new(keeping),
            told: Told::nothing(updates),
            news: News::Some,
            polled_at: Instant::now(),
        })
    }

    pub(super) async fn run(mut self) {
        while self.round().await.is_ok() {}
    }

    async fn round(&mut self) -> Result<(), Over> {
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, "netlink_failed");
            self.reopen().await;
        }
        self.told.tell(&self.known).await?;
        self.told.tell_moved(self.known.neighbours.take_moved()).await?;
        // A busy network talks about neighbours all the time; most of it concerns none of ours.
        self.news = News::None;
        while self.news == News::None {
            self.wait().await?;
        }
        Ok(())
    }

    /// Reads what is stale and tends the neighbours.
    async fn refresh(&mut self) -> Result<(), NeighError> {
        let wanted = self.wanted.borrow_and_update().clone();
        self.known.refresh(&self.client, &wanted).await?;
        self.told.log_interfaces(&wanted.interfaces, &self.known.links);
        let (needed, neighbours) = (&self.known.needed, &self.known.neighbours);
        self.keeper.tend(&self.client, needed, neighbours).await
    }

    /// Waits for the next thing to do, and takes all events that are there already.
    async fn wait(&mut self) -> Result<(), Over> {
        let until = [self.known.routes_due(), self.told.settles_at()]
            .into_iter()
            .flatten()
            .fold(Instant::now() + TICK, Instant::min);
        tokio::select! {
            event = self.events.next() => self.take(event).await,
            changed = self.wanted.changed() => {
                changed.map_err(|_| Over)?;
                self.news = News::Some;
            }
            () = self.told.closed() => return Err(Over),
            () = sleep_until(until) => self.news = News::Some,
        }
        for _ in 0..BATCH {
            let Some(event) = self.events.next().now_or_never() else {
                break;
            };
            self.take(event).await;
        }
        if self.polled_at.elapsed() >= POLL {
            self.polled_at = Instant::now();
            self.sweep().await;
            self.must_read(Stale::ALL);
        }
        Ok(())
    }

    async fn take(&mut self, event: Option<Event>) {
        match event {
            // A link that came up resolves its neighbours anew; a route may hang on links and addresses.
            Some(Event::Links) => self.must_read([Stale::Links, Stale::Routes]),
            // An IPv6 address that has just become usable is the source that solicitations waited for.
            Some(Event::Addresses) => {
                self.must_read([Stale::Addresses, Stale::Routes]);
                self.keeper.hurry();
            }
            Some(Event::Routes) => self.must_read([Stale::Routes]),
            Some(Event::NeighbourSet(message)) => {
                let changed = self.known.neighbours.set(&message);
                self.concerns(changed);
            }
            Some(Event::NeighbourGone(message)) => {
                let changed = self.known.neighbours.remove(&message);
                self.concerns(changed);
            }
            Some(Event::Lost) => {
                tracing::warn!("netlink_events_lost");
                self.must_read(Stale::ALL);
            }
            Some(Event::Nothing) => {}
            None => self.reopen().await,
        }
    }

    fn must_read(&mut self, what: impl IntoIterator<Item = Stale>) {
        self.known.must_read(what);
        self.news = News::Some;
    }

    fn concerns(&mut self, changed: Option<NeighKey>) {
        if self.known.neighbours.has_moved() || changed.is_some_and(|key| self.known.needed.contains(&key)) {
            self.news = News::Some;
        }
    }

    /// New sockets after an error, and everything read again; a failure is retried by the next round.
    async fn reopen(&mut self) {
        tokio::time::sleep(TICK).await;
        self.must_read(Stale::ALL);
        match (Events::open(), Client::open()) {
            (Ok(events), Ok(client)) => {
                self.events = events;
                self.client = client;
            }
            (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "netlink_failed"),
        }
    }

    async fn sweep(&self) {
        let (needed, neighbours) = (&self.known.needed, &self.known.neighbours);
        if let Err(error) = self.keeper.sweep(&self.client, needed, neighbours).await {
            tracing::warn!(%error, "netlink_failed");
        }
    }
}
