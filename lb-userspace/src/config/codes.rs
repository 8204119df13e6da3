//! Every finding's code: severity, title and explanation in one list. Append-only: a code keeps its meaning.

use super::Severity;

/// A kind of finding.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `XLB0xxx`.
    pub id: &'static str,
    /// Error, warning or hint.
    pub severity: Severity,
    /// What it is about, in a few words.
    pub title: &'static str,
    /// Why it matters and what to do.
    pub explanation: &'static str,
    /// Whether it depends on the host that the file is checked on.
    pub host: bool,
}

impl Code {
    /// Whether `silence` may name it: warnings and hints, but for those about `silence` itself.
    pub fn can_be_silenced(&self) -> bool {
        self.severity != Severity::Error && *self != SILENCE_UNUSED
    }
}

macro_rules! host {
    () => {
        false
    };
    (Host) => {
        true
    };
}

macro_rules! codes {
    ($($konst:ident = $id:literal $severity:ident $($host:ident)? $title:literal $explanation:literal;)+) => {
        $(pub(super) static $konst: Code = Code {
            id: $id, severity: Severity::$severity, title: $title, explanation: $explanation,
            host: host!($($host)?),
        };)+
        /// Every code, in order.
        pub static CODES: &[&Code] = &[$(&$konst),+];
    };
}

codes! {
    SYNTAX = "XLB0001" Error "TOML syntax"
        "The file is not TOML 1.0 at this place. Everything after it may be misread, so look at the first of these first.";
    NOT_UTF8 = "XLB0002" Error "not UTF-8"
        "TOML files are UTF-8. Save the file in that encoding; comments count too.";
    UNKNOWN_KEY = "XLB0101" Error "unknown key"
        "A key that xlb does not know is never ignored, because a misspelt key would silently leave its default in force. docs/config.md lists every key.";
    MISSING_KEY = "XLB0102" Error "missing key"
        "A key without a default is not set. docs/config.md shows which keys must be.";
    WRONG_TYPE = "XLB0103" Error "wrong type"
        "The value has another TOML type than the key takes: \"80\" in quotes is text, 80 is a number.";
    OUT_OF_RANGE = "XLB0104" Error "number out of range"
        "The number is outside of what the key takes; the message names both ends.";
    UNKNOWN_WORD = "XLB0105" Error "unknown word"
        "The key takes one of a few words; the message lists them.";
    BAD_ADDRESS = "XLB0106" Error "not an IP address"
        "Addresses are written without prefix length, port or zone: 192.0.2.10 or 2001:db8::10. Only a backend may be given by the name of a host, which the running agent looks up.";
    BAD_DURATION = "XLB0107" Error "not a duration"
        "Durations are a whole number and a unit in quotes: \"500ms\", \"10s\", \"5m\", \"1h\", \"2d\".";
    BAD_PORT_RANGE = "XLB0108" Error "not a port range"
        "Port ranges are written \"LOW-HIGH\", both included, low end first, from 1 to 65535.";
    BAD_NAME = "XLB0109" Error "not a usable name"
        "Names of services and backends stand in maps, metrics and commands: 1 to 63 of the characters A-Z a-z 0-9 . _ - and, for backends, : [ ]. A name that starts with - would be taken for an option, and . and .. for directories.";
    EMPTY_LIST = "XLB0110" Error "empty list"
        "The list needs at least one entry.";
    BAD_PATH = "XLB0111" Error "not a usable path"
        "The agent's paths must be absolute, because it has no useful working directory; an HTTP path starts with a slash and holds no blanks.";
    BAD_LISTENER = "XLB0112" Error "not a listener address"
        "http takes ADDRESS:PORT, such as \"127.0.0.1:9180\" or \"[::1]:9180\", or \"off\".";
    CHECK_KIND = "XLB0113" Error "check without one kind"
        "A check has exactly one of tcp = {}, http = { ... } and https = { ... }.";
    BAD_ROOTS = "XLB0114" Error "not usable as roots"
        "roots takes \"system\" or the absolute path of a PEM file. To believe any certificate, which finds no expired or exchanged one, write verify = false.";
    ROOTS_UNVERIFIED = "XLB0115" Error "roots without verification"
        "verify = false believes any certificate, so that roots would be accepted and ignored. Keep one of the two.";
    BAD_BODY = "XLB0116" Error "not a text to look for"
        "body takes 1 to 1024 bytes that the answer's body must hold.";
    BAD_GROUP = "XLB0125" Error "not a group"
        "socket_group takes the name of a group of the host, or its number in quotes. Its members may use the API as the agent's own user may.";
    BAD_KEEPER = "XLB0126" Error "nobody named"
        "managed_by names the program that writes the file, such as \"puppet\", or says \"none\". Empty it could mean either.";
    NOT_IN_RELEASE = "XLB0201" Error "mode not in this release"
        "The modes dsr_l2, dsr_ipip and dsr_gue come with a later release. Use full_nat, which needs nothing on the backends, or gateway, where the backends route through xlb.";
    PORT_ZERO = "XLB0202" Error "port 0"
        "Port 0 cannot be dialled and nothing can listen on it.";
    SERVICE_CLASH = "XLB0203" Error "two services on one VIP, protocol and port"
        "A packet to this address and port could belong to either. Give one of them another VIP or port, or merge their backends.";
    BACKEND_CLASH = "XLB0204" Error "backend listed twice"
        "The same address and internal port stands twice in one service. To give a backend a larger share, raise its weight.";
    NAME_CLASH = "XLB0205" Error "name used twice"
        "Services have unique names, and backends have unique names in their service: commands and metrics tell them apart by name.";
    RANGES_OVERLAP = "XLB0207" Error "snat_ports and check_ports overlap"
        "Health probes bind to check_ports. A port in both could be claimed for a client's connection, and XDP would take the probe's answer.";
    VIP_IS_BACKEND = "XLB0208" Error "VIP that is a backend's address"
        "Packets sent to the backend would be taken for the service again. A VIP and a backend never share an address.";
    UNUSABLE_ADDRESS = "XLB0209" Error "address that cannot be used"
        "Unspecified, loopback, multicast, broadcast and link-local addresses, and IPv4 addresses written as ::ffff:a.b.c.d, cannot be VIPs, SNAT addresses or backends.";
    GATEWAY_SHARED = "XLB0210" Error "backend port in two gateway services"
        "In gateway mode a reply is told apart by the backend's address, internal port and protocol alone. Two services that share them would mix their replies. Let the backend listen on a second port, or use full_nat.";
    SNAT_IS_BACKEND = "XLB0211" Error "SNAT address that is a backend's address"
        "Replies go to the SNAT address; it must be an address of this node, not of a backend.";
    LISTED_TWICE = "XLB0212" Error "listed twice"
        "The same entry stands twice in one list.";
    TOO_MANY = "XLB0213" Error "more than there is room for"
        "Maps have a fixed size. Raise the named key in [limits] (its maps are made anew: 'xlb unload', then start), or split the config over several nodes.";
    TIMEOUT_OVER_INTERVAL = "XLB0214" Error "check timeout longer than its interval"
        "A probe must have ended before the next one starts.";
    VIP_PORT_IN_SNAT = "XLB0215" Error "service port inside snat_ports of the same address"
        "The VIP is also a SNAT address and the service port lies inside snat_ports: a reply from a backend and a client's packet could not be told apart. Move snat_ports, or use another SNAT address.";
    LISTENER_CLASH = "XLB0216" Error "service port that is the agent's own listener"
        "XDP takes the packets to this address and port, so that the agent's own listener would never see them.";
    SILENCE_UNKNOWN = "XLB0220" Error "silence of a code that does not exist"
        "silence names a code that no finding has. 'xlb explain' lists them all.";
    SILENCE_ERROR = "XLB0221" Error "silence of what cannot be silenced"
        "Only warnings and hints can be silenced: a config with an error cannot work. XLB0310 cannot be silenced either; remove the silence that it is about.";
    SILENCE_WITHOUT_REASON = "XLB0222" Error "silence without a reason"
        "Whoever reads the file next must learn why a warning is meant to be so. Write it as reason.";
    HTTP_IN_SNAT = "XLB0223" Error "the agent's own listener inside snat_ports"
        "XDP takes what is sent to snat_ports of a SNAT address, so that nobody could reach the agent's listener (http) there. Give it another port, or an address that is no SNAT address.";
    PORT_IGNORED = "XLB0224" Error "mode that would ignore the internal port"
        "The dsr modes change a packet's way and leave its ports alone: it would arrive at the service port. Only full_nat and gateway translate to another internal port.";
    ROOTS_UNUSABLE = "XLB0240" Error "roots that cannot be used"
        "The file is not there, cannot be read, or holds something else than certificates in PEM. The agent reads it when a config is applied; a reload reads it again.";
    OTHER_PORT = "XLB0241" Error "check of another port than the traffic"
        "A check that probes another port than the traffic's finds neither a wrong internal port nor a firewall in front of it. Where a server of its own tells of the other's health, say so with other_port = true; status then names both ports.";
    TTL_ORDER = "XLB0245" Error "min_ttl longer than max_ttl"
        "An answer of the DNS is good for its TTL, but for at least [dns] min_ttl and at most max_ttl. No time is both.";
    NO_BACKENDS = "XLB0301" Warning "service without backends"
        "Packets to the service are dropped and counted as no_backend until a backend is added.";
    NO_SERVICES = "XLB0302" Warning "no services"
        "The agent starts and forwards nothing.";
    UDP_CHECK = "XLB0303" Warning "UDP service checked over TCP"
        "The probe connects to the internal port over TCP, which says nothing about UDP on the same port. Keep it only if the backend serves both.";
    SNAT_EPHEMERAL = "XLB0304" Warning Host "snat_ports reach into the ephemeral range"
        "The kernel gives the host's own connections ports of net.ipv4.ip_local_port_range, 32768 to 60999 by default. XDP takes what is sent to snat_ports of a SNAT address, so that the host's own connections from such a port fail. Reserve the range with the sysctl net.ipv4.ip_local_reserved_ports, as the finding writes it, or move it.";
    NO_WEIGHT = "XLB0305" Warning "all weights are 0"
        "No backend of this family takes new connections.";
    BACKEND_UNUSED = "XLB0306" Warning "backend of a family without a VIP"
        "The service has no VIP of this backend's family, so that the backend gets no traffic.";
    SILENCE_UNUSED = "XLB0310" Warning "silence that silences nothing"
        "The finding that this silence names is not there (any more), or it is about another object. Remove the silence, so that it does not hide a later mistake. One of a service also covers its backends; one of [agent] covers [agent] only.";
    SHARED_BACKEND = "XLB0311" Warning "backend port behind two services"
        "Two services send to the same backend address, internal port and protocol. In full_nat their flows never collide, because each has a SNAT tuple of its own, but the two share the SNAT ports towards that port, and the backend sees no difference between them: its health, its logs and its limits are one. Two services in gateway mode would mix their replies, which is an error (XLB0210). Let the backend listen on a second port, or silence this with a reason.";
    GATEWAY_VIPS = "XLB0312" Warning "two VIPs on one backend port in gateway mode"
        "In gateway mode a reply shows the backend's address and port and the client's, but not the VIP. While a client has a connection to one VIP, a new one to another VIP from the same source port to the same backend is dropped and counted as gateway_tuple_in_use; nothing is ever mixed. In full_nat SNAT ports tell them apart. Otherwise give each VIP a service with an internal port of its own.";
    FAMILY_WITHOUT_BACKEND = "XLB0313" Warning "VIP family without a backend"
        "xlb does not translate between IPv4 and IPv6: until a backend of this family is added, packets to this VIP are dropped and counted as no_backend, as those of a service without any backends are. Add a backend of this family or take the VIP out.";
    LISTENER_IN_SNAT = "XLB0314" Warning Host "listener of the host inside snat_ports"
        "XDP takes what is sent to snat_ports of a SNAT address, so that a server of this host that listens there cannot be reached on it. Let it listen on another port, or on an address that is no SNAT address, or move snat_ports.";
    LISTENER_BEHIND_VIP = "XLB0316" Warning Host "listener of the host behind a VIP"
        "A server of this host listens on the very VIP and port of a service. XDP takes the packets, so that it gets none of them as long as xlb runs. Stop it, or let it listen on another address.";
    PLAIN_CHECK = "XLB0401" Hint "plain HTTP check of a TLS port"
        "Clients dial this service port with TLS by custom, and xlb passes TLS through to the backends. A check in plain HTTP fails on a backend that wants TLS, and never sees an expired certificate on one that takes both. Check it with https = { ... }.";
    SAME_PORT = "XLB0402" Hint "full_nat without a port to translate"
        "Every internal port is the service port. Where the backends can route their answers through this node, gateway mode saves the SNAT ports and half of the translation, and the backends see the clients' addresses. Where they cannot, full_nat is right.";
    NAME_AT_RUNTIME = "XLB0403" Hint "backend by name"
        "The check asks no DNS server: the running agent looks the name up and follows its TTL. Only there is it known how many backends it makes, whether an address is unusable, a VIP, or a backend twice, and whether every VIP has a backend of its family; 'xlb status' and the log say so.";
    NO_INTERFACE = "XLB0404" Hint Host "interface that is not on this host"
        "The agent does not start without its interfaces. Where the file is meant for another host than the one it is checked on, all is well; else correct the name ('ip link' lists them), or make the interface first.";
}

/// The code with this id, in any case.
pub fn explain(id: &str) -> Option<&'static Code> {
    CODES.iter().copied().find(|code| code.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_ascending_and_found_in_any_case() {
        assert!(CODES.is_sorted_by(|a, b| a.id < b.id));
        assert_eq!(explain("xlb0203").map(|code| code.id), Some("XLB0203"));
        assert_eq!(explain("XLB9999"), None);
    }
}
