//! One netlink socket for requests. Turns the library's streams into plain answers with a time limit and errors that
//! name what was asked; decides nothing.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::Stream;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};

use super::error::NeighError;

/// A dump of a large table on a busy host takes tens of milliseconds. An answer that netlink-packet-route cannot
/// parse never arrives at all, so there must be a limit.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// A netlink socket for requests, in the network namespace of the thread that opened it. Clones share the socket.
#[derive(Clone, Debug)]
pub struct Client {
    handle: rtnetlink::Handle,
}

impl Client {
    /// Opens the socket. Needs a tokio runtime, on which a task serves the socket until the last clone is dropped.
    pub fn open() -> Result<Self, NeighError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|source| NeighError::Open { source })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    pub(super) async fn links(&self) -> Result<Vec<LinkMessage>, NeighError> {
        collect("list of interfaces", self.handle.link().get().execute()).await
    }

    pub(super) async fn addresses(&self) -> Result<Vec<AddressMessage>, NeighError> {
        collect("list of addresses", self.handle.address().get().execute()).await
    }

    pub(super) async fn neighbours(&self) -> Result<Vec<NeighbourMessage>, NeighError> {
        let mut all = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = self.handle.neighbours().get().set_address_family(family);
            all.extend(collect("list of neighbours", request.execute()).await?);
        }
        Ok(all)
    }

    /// The first answer to a route lookup (there is one unless it fails).
    pub(super) async fn route(&self, what: &str, message: RouteMessage) -> Result<Option<RouteMessage>, NeighError> {
        let answers = self.exchange(what, RouteNetlinkMessage::GetRoute(message), 0).await?;
        Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        }))
    }

    /// One neighbour entry; `None` when there is none.
    pub(super) async fn neighbour(
        &self,
        what: &str,
        message: NeighbourMessage,
    ) -> Result<Option<NeighbourMessage>, NeighError> {
        match self.exchange(what, RouteNetlinkMessage::GetNeighbour(message), 0).await {
            Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(neighbour) => Some(neighbour),
                _ => None,
            })),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn neighbour_set(&self, what: &str, message: NeighbourMessage) -> Result<(), NeighError> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.exchange(what, RouteNetlinkMessage::NewNeighbour(message), flags)
            .await
            .map(drop)
    }

    pub(super) async fn neighbour_delete(&self, what: &str, message: NeighbourMessage) -> Result<(), NeighError> {
        self.exchange(what, RouteNetlinkMessage::DelNeighbour(message), NLM_F_ACK)
            .await
            .map(drop)
    }

    pub(super) async fn address_add(&self, what: &str, message: AddressMessage) -> Result<(), NeighError> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.exchange(what, RouteNetlinkMessage::NewAddress(message), flags)
            .await
            .map(drop)
    }

    pub(super) async fn address_delete(&self, what: &str, message: AddressMessage) -> Result<(), NeighError> {
        self.exchange(what, RouteNetlinkMessage::DelAddress(message), NLM_F_ACK)
            .await
            .map(drop)
    }

    async fn exchange(
        &self,
        what: &str,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, NeighError> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        let mut answers = self.handle.clone().request(message).map_err(|_| closed(what))?;
        let reading = async {
            let mut inner = Vec::new();
            while let Some(answer) = answers.next().await {
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => inner.push(message),
                    NetlinkPayload::Error(error) => match error.code {
                        Some(code) => return Err(NeighError::refused(what.to_owned(), code)),
                        None => break,
                    },
                    _ => {}
                }
            }
            Ok(inner)
        };
        in_time(what, reading).await
    }
}

/// Reads a dump. An entry that changed while it was dumped is not an error; the event that tells so follows.
async fn collect<T>(what: &str, stream: impl Stream<Item = Result<T, rtnetlink::Error>>) -> Result<Vec<T>, NeighError> {
    let reading = async {
        let mut stream = std::pin::pin!(stream);
        let mut all = Vec::new();
        while let Some(item) = stream.next().await {
            match item {
                Ok(item) => all.push(item),
                Err(rtnetlink::Error::NetlinkError(error)) => match error.code {
                    Some(code) => return Err(NeighError::refused(what.to_owned(), code)),
                    None => break,
                },
                Err(rtnetlink::Error::RequestFailed) => return Err(closed(what)),
                Err(other) => tracing::debug!(what, error = %other, "netlink_answer_skipped"),
            }
        }
        Ok(all)
    };
    in_time(what, reading).await
}

async fn in_time<T>(what: &str, reading: impl Future<Output = Result<T, NeighError>>) -> Result<T, NeighError> {
    match tokio::time::timeout(ANSWER_TIME, reading).await {
        Ok(result) => result,
        Err(_) => Err(NeighError::NoAnswer {
            what: what.to_owned(),
            waited_ms: ANSWER_TIME.as_millis(),
        }),
    }
}

fn closed(what: &str) -> NeighError {
    NeighError::Closed { what: what.to_owned() }
}

/// The address family of an address.
pub(super) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
