//! The stream of changes: one multicast socket, and what each message is about. Decides only which part of our
//! knowledge a message touches.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};

use super::error::NeighError;

/// Changes of next-hop objects come as changes of the routes that use them (`net.ipv4.nexthop_compat_mode`).
const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// What a message says.
#[derive(Debug)]
pub(super) enum Event {
    /// Interfaces must be listed again.
    Links,
    /// Addresses must be listed again.
    Addresses,
    /// Routes must be looked up again.
    Routes,
    /// A neighbour is as the message says.
    NeighbourSet(NeighbourMessage),
    /// A neighbour is gone.
    NeighbourGone(NeighbourMessage),
    /// The kernel dropped messages: everything must be read again.
    Lost,
    /// Nothing that concerns us.
    Nothing,
}

/// The open socket.
pub(super) struct Events {
    stream: Pin<Box<dyn Stream<Item = Event> + Send + Sync>>,
    /// The library closes the socket when no handle is left.
    _handle: rtnetlink::Handle,
}

impl Events {
    pub(super) fn open() -> Result<Self, NeighError> {
        let (connection, handle, messages) =
            rtnetlink::new_multicast_connection(&GROUPS).map_err(|source| NeighError::Open { source })?;
        tokio::spawn(connection);
        Ok(Self {
            stream: Box::pin(messages.map(|(message, _)| read(message))),
            _handle: handle,
        })
    }

    /// The next event; `None` when the socket is gone.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.stream.next().await
    }
}

fn read(message: NetlinkMessage<RouteNetlinkMessage>) -> Event {
    let inner = match message.payload {
        NetlinkPayload::InnerMessage(inner) => inner,
        NetlinkPayload::Overrun(_) => return Event::Lost,
        _ => return Event::Nothing,
    };
    match inner {
        // A bridge tells about its ports in messages of its own family.
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => match link.header.interface_family {
            AddressFamily::Unspec => Event::Links,
            _ => Event::Nothing,
        },
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => Event::Addresses,
        RouteNetlinkMessage::NewRoute(_)
        | RouteNetlinkMessage::DelRoute(_)
        | RouteNetlinkMessage::NewRule(_)
        | RouteNetlinkMessage::DelRule(_) => Event::Routes,
        RouteNetlinkMessage::NewNeighbour(neighbour) => Event::NeighbourSet(neighbour),
        RouteNetlinkMessage::DelNeighbour(neighbour) => Event::NeighbourGone(neighbour),
        _ => Event::Nothing,
    }
}
