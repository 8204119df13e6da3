//! Why a packet ended the way it did. One list feeds the counters' size, the metric labels, `xlb drops` and
//! docs/reasons.md. Append-only: a number keeps its meaning.

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident from $base:literal { $($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// Every reason, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Index into `xlb_reason_st`.
            #[inline(always)]
            #[must_use]
            pub const fn index(self) -> u32 {
                $base + self as u32
            }

            /// Metric label and row in the docs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What it means and, where there is one, what to do.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

/// Entries of `xlb_reason_st`.
pub const REASON_SLOTS: u32 = 128;

reasons! {
    /// Why a packet was dropped. Indices from 0.
    DropReason from 0 {
        /// The IP version nibble is not that of the Ethernet type.
        BadIpVersion = "bad_ip_version",
        /// The IPv4 header length is below 20 bytes.
        BadIhl = "bad_ihl",
        /// The IP length is shorter than its headers or longer than the frame.
        BadIpLength = "bad_ip_length",
        /// The frame ends inside the TCP, UDP or ICMP header.
        TruncatedL4 = "truncated_l4",
        /// The TCP data offset is below 20 bytes or past the packet.
        BadTcpOffset = "bad_tcp_offset",
        /// The UDP length is below 8 bytes or past the packet.
        BadUdpLength = "bad_udp_length",
        /// SYN together with FIN or RST.
        BadTcpFlags = "bad_tcp_flags",
        /// A first fragment for a service: its ports cannot be translated in the fragments that follow. Lower the
        /// sender's MTU or MSS.
        Fragment = "fragment",
        /// An IPv4 source-route option, or an IPv6 routing header with segments left.
        SourceRoute = "source_route",
        /// The source is a VIP's service port or one of our SNAT tuples: our own output, looped or forged.
        SourceIsOurs = "source_is_ours",
        /// The source is loopback, multicast, broadcast or unspecified.
        SourceInvalid = "source_invalid",
        /// TTL or hop limit would reach 0.
        TtlExpired = "ttl_expired",
        /// A UDP checksum of 0 over IPv6 (RFC 8200 forbids it).
        Udp6ZeroChecksum = "udp6_zero_checksum",
        /// A source or destination port of 0.
        PortZero = "port_zero",
        /// No backend of the service takes new flows in this family. See `xlb status`.
        NoBackend = "no_backend",
        /// The next hop towards the backend is not known yet. See `ip neigh`.
        NoNeighbour = "no_neighbour",
        /// No SNAT address of the packet's family is configured.
        NoSnatAddress = "no_snat_address",
        /// Every SNAT tuple tried towards this backend is in use. Add `snat_addresses` or widen `snat_ports`.
        SnatExhausted = "snat_exhausted",
        /// A packet to a SNAT tuple without a flow: an old or forged reply.
        SnatNoFlow = "snat_no_flow",
        /// A TCP packet that opens nothing, without a flow; answered by nothing (`on_miss = "drop"`).
        TcpNoFlow = "tcp_no_flow",
        /// As `tcp_no_flow`, where a reset was due but over the limit `rst_per_second`.
        RstLimited = "rst_limited",
        /// Gateway mode: a reply from a backend's internal port without a flow.
        GatewayNoFlow = "gateway_no_flow",
        /// Gateway mode: this client's address and port already talk to this backend's port through another VIP.
        GatewayTupleInUse = "gateway_tuple_in_use",
        /// Half-open: the packet does not acknowledge the backend's SYN-ACK.
        HandshakeUnproven = "handshake_unproven",
        /// The table of established flows is full. Raise `[limits] connections`.
        FlowTableFull = "flow_table_full",
        /// The table of half-open flows took no entry.
        HalfTableFull = "half_table_full",
        /// Another connection got the tuple while this one was half-open, or an entry was being deleted; the sender's
        /// retransmission starts anew.
        ClaimLost = "claim_lost",
        /// The device map has no entry for the outgoing interface.
        NoTxPort = "no_tx_port",
        /// A map lookup that must succeed did not: the maps do not belong together. Restart the agent.
        MapInconsistent = "map_inconsistent",
    }
}

reasons! {
    /// Why a packet was left to the kernel. Indices from 64.
    PassReason from 64 {
        /// The agent has not configured the program yet, or has another ABI.
        NotConfigured = "not_configured",
        /// The interface is not in `xlb_ifaces`.
        UnknownInterface = "unknown_interface",
        /// The destination MAC is not this interface's.
        NotOurMac = "not_our_mac",
        /// Neither IPv4 nor IPv6 (ARP, VLAN tags, ...).
        NotIp = "not_ip",
        /// The frame is too short to hold a destination address.
        TruncatedIp = "truncated_ip",
        /// The destination is no VIP, SNAT tuple or gateway-mode backend.
        NotOurs = "not_ours",
        /// A fragment other than the first, to one of our addresses: its port is unknown.
        LaterFragment = "later_fragment",
        /// To one of our addresses, but neither TCP, UDP nor an echo request for a VIP.
        OtherProtocol = "other_protocol",
        /// To one of our addresses, but no service port or SNAT tuple.
        OtherPort = "other_port",
    }
}

reasons! {
    /// Packets the program answered itself. Indices from 96.
    AnswerReason from 96 {
        /// ICMP echo request to a VIP.
        Echo = "echo",
        /// `ICMPv6` echo request to a VIP.
        Echo6 = "echo6",
        /// TCP packet without a flow, answered by a reset.
        TcpReset = "tcp_reset",
    }
}

const _: () = assert!(DropReason::ALL.len() <= 64);
const _: () = assert!(PassReason::ALL.len() <= 32);
const _: () = assert!(AnswerReason::ALL.len() <= 32);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{collections::BTreeSet, vec::Vec};

    #[test]
    fn labels_and_indices_are_unique() {
        let all: Vec<(u32, &str)> = DropReason::ALL
            .iter()
            .map(|r| (r.index(), r.as_str()))
            .chain(PassReason::ALL.iter().map(|r| (r.index(), r.as_str())))
            .chain(AnswerReason::ALL.iter().map(|r| (r.index(), r.as_str())))
            .collect();
        let indices: BTreeSet<u32> = all.iter().map(|(i, _)| *i).collect();
        let labels: BTreeSet<&str> = all.iter().map(|(_, l)| *l).collect();
        assert_eq!((indices.len(), labels.len()), (all.len(), all.len()));
        assert!(indices.iter().all(|i| *i < REASON_SLOTS));
    }
}
