//! Which XDP program the kernel has on an interface of this network namespace (rtnetlink, `IFLA_XDP`).

use std::io;

use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::AttachMode;

/// What is on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnInterface {
    /// Id of the program.
    pub(super) program_id: u32,
    /// How it is attached.
    pub(super) mode: AttachMode,
}

/// What the kernel answered about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// There is no such interface here.
    Gone,
    /// It has this name, and perhaps a program.
    Here {
        /// Its name.
        ifname: String,
        /// The XDP program on it.
        xdp: Option<OnInterface>,
    },
}

/// Asks about one interface.
pub(super) fn ask(ifindex: u32) -> io::Result<Answer> {
    // The index of no interface, which a link shows once its own is gone; the kernel calls it an invalid question.
    if ifindex == 0 {
        return Ok(Answer::Gone);
    }
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;

    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::GetLink(link)));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let (answer, _) = socket.recv_from_full()?;
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(read(&link)),
        NetlinkPayload::Error(error) => match error.to_io() {
            error if error.raw_os_error() == Some(libc::ENODEV) => Ok(Answer::Gone),
            error => Err(error),
        },
        other => Err(io::Error::other(format!("unexpected netlink answer {other:?}"))),
    }
}

fn read(link: &LinkMessage) -> Answer {
    let ifname = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    let xdp = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(parts) => read_xdp(parts),
        _ => None,
    });
    Answer::Here {
        ifname: ifname.unwrap_or_default(),
        xdp,
    }
}

fn read_xdp(parts: &[LinkXdp]) -> Option<OnInterface> {
    let mode = parts.iter().find_map(|part| match part {
        LinkXdp::Attached(XdpAttached::Driver) => Some(AttachMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(AttachMode::Generic),
        LinkXdp::Attached(XdpAttached::Hardware) => Some(AttachMode::Offloaded),
        LinkXdp::Attached(XdpAttached::Multiple) => Some(AttachMode::Several),
        _ => None,
    })?;
    // With several modes at once there is no single id: the native one stands for them.
    let program_id = parts.iter().find_map(|part| match part {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => Some(*id),
        _ => None,
    })?;
    Some(OnInterface { program_id, mode })
}
