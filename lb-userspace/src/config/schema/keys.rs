//! Every key of the config file, once: type, default and meaning. The JSON schema and the tables of docs/config.md are
//! made of this, and tests hold the reader to it.
//!
//! To add a key: read it (`agent.rs`, `service.rs`, `probe.rs`), add its row here, write it into examples/xlb.toml, and
//! run `XLB_BLESS=1 cargo test -p lb-userspace --lib config::` to rewrite the tables of docs/config.md. The tests of
//! `config/tests/docs.rs` and `config/tests/schema.rs` say what is missing.

use super::{Key, Kind, Section};

const fn key(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        meaning,
    }
}

/// Every section, in the order of the docs.
#[cfg(test)]
pub(in crate::config) static SECTIONS: &[&Section] = &[
    &AGENT,
    &LIMITS,
    &TIMEOUTS,
    &DNS,
    &SERVICE,
    &BACKEND,
    &CHECK,
    &CHECK_HTTP,
    &CHECK_HTTPS,
    &SILENCE,
];

/// `[agent]`.
pub(super) static AGENT: Section = Section {
    heading: "## `[agent]`",
    keys: &[
        key(
            "interfaces",
            Kind::Names,
            "required",
            "Interfaces that packets come in on and leave by. The XDP program is attached to each of them.",
        ),
        key(
            "xdp_mode",
            Kind::Word(&["native", "auto", "generic"]),
            r#"`"native"`"#,
            "`native`: by the driver, or not at all. `auto`: by the driver where it can, else generic (on a NIC far slower; status says so). `generic`: always generic.",
        ),
        key(
            "tx",
            Kind::Word(&["auto", "tx", "redirect"]),
            r#"`"auto"`"#,
            "How a packet leaves by the interface it came in on. `tx`: `XDP_TX`. `redirect`: through the device map. `auto`: by driver (veth needs `redirect`).",
        ),
        key(
            "snat_addresses",
            Kind::Addresses,
            "the interfaces' own",
            "Source addresses towards backends of `full_nat` services; backends answer to them, so they must be local or routed to this node. Up to 64 of each family. Default: the interfaces' addresses in a backend's subnet; where there is none, all their addresses with a subnet; VIPs and link-local addresses are left out.",
        ),
        key(
            "snat_ports",
            Kind::PortRange,
            r#"`"10240-32767"`"#,
            "Source ports towards backends, per SNAT address and backend port. Keep it apart from `check_ports` and from the host's own ports (`ip_local_port_range`, 32768-60999 by default).",
        ),
        key(
            "check_ports",
            Kind::PortRange,
            r#"`"9216-10239"`"#,
            "Source ports of health probes.",
        ),
        key(
            "manage_vip",
            Kind::Bool,
            "`false`",
            "`true`: the agent adds VIPs to the first interface (as /32 or /128) and removes them when they leave the config. `false`: VIPs must be local or routed to this node by other means; `xlb check` and `xlb status` say which.",
        ),
        key(
            "hash_seed",
            Kind::Number(0, 4_294_967_295),
            "`0`",
            "Seed of rings and flow hash. Nodes with the same services and seed send a flow to the same backend.",
        ),
        key(
            "rst_per_second",
            Kind::Number(0, 1_000_000),
            "`1000`",
            "TCP resets that the program itself sends for packets without a flow, per second and CPU; more are dropped and counted as `rst_limited`.",
        ),
        key(
            "socket",
            Kind::Path,
            r#"`"/run/xlb/api.sock"`"#,
            "Unix socket of the API; the CLI finds it by `--socket` or `XLB_SOCKET`.",
        ),
        key(
            "socket_group",
            Kind::Text,
            "the agent's own",
            "Group, by name or number, whose members may use the API socket (its mode is 0660). The agent must be root or in that group.",
        ),
        key(
            "http",
            Kind::Listener,
            r#"`"127.0.0.1:9180"`"#,
            "Read-only listener for metrics and health.",
        ),
        key(
            "pin_dir",
            Kind::Path,
            r#"`"/sys/fs/bpf/xlb"`"#,
            "Directory on a BPF file system for maps, programs and links. They outlive the agent.",
        ),
        key(
            "state_dir",
            Kind::Path,
            r#"`"/var/lib/xlb"`"#,
            "Directory where the agent keeps the changes made with `--runtime` (`overrides.json`) and the last addresses of names (`names.json`), so that they outlive it. One agent a directory. Made at the start where it is missing; where that fails, both end with the agent, and status says so.",
        ),
        key(
            "managed_by",
            Kind::Text,
            "what the file's head says",
            "The program that writes this file, such as `\"puppet\"`: xlb does not write into it, and changes by command need `--runtime`. Without the key a comment above the first key counts that says `managed by`, `generated by` or `do not edit` (in any case). `\"none\"`: nobody does, whatever such a comment says.",
        ),
        key(
            "watch",
            Kind::Bool,
            "`true`",
            "`true`: a change of this file is reloaded within a moment, as `xlb reload` would; editors that rename and links that are swapped (ConfigMaps) count. On by default because a file that differs from what runs is the surprise; a bad file changes nothing and is said in status, log and metric. `false`: only `xlb reload` and SIGHUP read it.",
        ),
        key(
            "sandbox",
            Kind::Bool,
            "`true`",
            "`true`: the agent gives up every capability and, by Landlock, every file that it does not need, see [running](running.md). `false`: neither, for a config file that another user owns or a machine where the rules are in the way.",
        ),
        key(
            "silence",
            Kind::Tables(&SILENCE),
            "none",
            "Warnings and hints about this table that are meant to be so, each with a reason; see below.",
        ),
    ],
};

/// `[limits]`.
pub(super) static LIMITS: Section = Section {
    heading: "## `[limits]`",
    keys: &[
        key(
            "connections",
            Kind::Number(64, 67_108_864),
            "`262144`",
            "Established connections, for IPv4 and for IPv6 each. A full table is a counted drop (`flow_table_full`), never an eviction.",
        ),
        key(
            "half_open",
            Kind::Number(64, 16_777_216),
            "`65536`",
            "Connections that are not established yet, for each family. The oldest give way.",
        ),
        key("services", Kind::Number(1, 65_535), "`1024`", "Services."),
        key(
            "backends",
            Kind::Number(1, 1_048_576),
            "`4096`",
            "Backends, counted once for each service they are in; removed ones count while they have connections.",
        ),
        key(
            "ring_slots",
            Kind::Number(256, 67_108_864),
            "`1048576`",
            "Slots of all rings, four bytes each. A service takes about 100 per backend (rounded up to a power of two, 256 to 65536; more where weights differ a lot) for each family, and a changed ring is built beside the one in force: leave room for the largest once more. A ring that never finds room is said (`no_ring_room`).",
        ),
        key(
            "endpoints",
            Kind::Number(1, 1_048_576),
            "`8192`",
            "VIPs times services, and internal ports of `gateway` backends.",
        ),
    ],
};

/// `[timeouts]`.
pub(super) static TIMEOUTS: Section = Section {
    heading: "## `[timeouts]`",
    keys: &[
        key(
            "half_open",
            Kind::Duration("1s", "5m"),
            r#"`"10s"`"#,
            "TCP before the handshake is complete.",
        ),
        key(
            "established",
            Kind::Duration("1s", "7d"),
            r#"`"1h"`"#,
            "TCP, established.",
        ),
        key(
            "closing",
            Kind::Duration("1s", "7d"),
            r#"`"30s"`"#,
            "TCP after FIN or RST.",
        ),
        key(
            "udp",
            Kind::Duration("1s", "7d"),
            r#"`"60s"`"#,
            "UDP that the backend has not answered.",
        ),
        key(
            "udp_answered",
            Kind::Duration("1s", "7d"),
            r#"`"180s"`"#,
            "UDP that the backend has answered.",
        ),
    ],
};

/// `[dns]`.
pub(super) static DNS: Section = Section {
    heading: "## `[dns]`",
    keys: &[
        key(
            "servers",
            Kind::Addresses,
            "the host's own",
            "Name servers that are asked, on port 53. Default: `/etc/hosts`, then the servers and search list of `/etc/resolv.conf`, both read again before each question. With `servers`, neither file is used.",
        ),
        key(
            "min_ttl",
            Kind::Duration("1s", "1h"),
            r#"`"5s"`"#,
            "An answer is good for its TTL, but for at least this long.",
        ),
        key(
            "max_ttl",
            Kind::Duration("1s", "7d"),
            r#"`"5m"`"#,
            "And for at most this long, which is also how long a line of `/etc/hosts` is good for.",
        ),
        key(
            "max_addresses",
            Kind::Number(1, 256),
            "`32`",
            "Backends that one name makes in one service; the lowest addresses come first, status and log name what is left out.",
        ),
        key(
            "on_empty",
            Kind::Word(&["keep", "remove"]),
            r#"`"keep"`"#,
            "What an answer without addresses (the name is there and has none) does to those of the answer before. `keep`: they stay. `remove`: they are removed; their connections go on.",
        ),
    ],
};

/// `[[service]]`.
pub(super) static SERVICE: Section = Section {
    heading: "## `[[service]]`",
    keys: &[
        key(
            "name",
            Kind::Text,
            "required",
            "Unique; 1 to 63 of `A-Z a-z 0-9 . _ -`, the first of them no `-`. Names it in commands, metrics and maps.",
        ),
        key(
            "vip",
            Kind::Addresses,
            "required",
            "Addresses that clients dial. xlb does not translate between IPv4 and IPv6: one without a backend of its family drops its packets (`no_backend`).",
        ),
        key(
            "port",
            Kind::Number(1, 65_535),
            "required",
            "Service port: the port that clients dial.",
        ),
        key("protocol", Kind::Word(&["tcp", "udp"]), r#"`"tcp"`"#, "`tcp` or `udp`."),
        key(
            "mode",
            Kind::Word(&["full_nat", "gateway"]),
            r#"`"full_nat"`"#,
            "`full_nat`: source and destination rewritten; works with any backend, which sees a SNAT address as the client. `gateway`: destination rewritten only; backends see the client and must route their answers through this node.",
        ),
        key(
            "internal_port",
            Kind::Number(1, 65_535),
            "the service port",
            "Port that backends listen on, unless they name their own.",
        ),
        key(
            "on_miss",
            Kind::Word(&["reset", "drop"]),
            r#"`"reset"`"#,
            "What a TCP packet of no known connection gets in `full_nat`. `reset`: a reset, within `rst_per_second`. `drop`: nothing.",
        ),
        key(
            "panic",
            Kind::Word(&["refuse", "use_all"]),
            r#"`"refuse"`"#,
            "What happens to new connections while every backend of a family is down by its checks. `refuse`: a counted drop (`no_backend`). `use_all`: they go to all backends as if these were up, until one is; those in drain or maintenance or with weight 0 stay out.",
        ),
        key(
            "check",
            Kind::Table(&CHECK),
            "none",
            "Health check of its backends, see below. Without one they are taken to be up.",
        ),
        key(
            "backend",
            Kind::Tables(&BACKEND),
            "none",
            "Its backends, as `[[service.backend]]`. A service without any drops its packets (`no_backend`).",
        ),
        key(
            "silence",
            Kind::Tables(&SILENCE),
            "none",
            "Warnings and hints about this service and its backends that are meant to be so, each with a reason; see below.",
        ),
    ],
};

/// `[[service.backend]]`.
pub(super) static BACKEND: Section = Section {
    heading: "## `[[service.backend]]`",
    keys: &[
        key(
            "name",
            Kind::Text,
            "`address:port`",
            "Unique in the service; as a service's name, and `: [ ]`. Default with a host's name: `host:port`.",
        ),
        key(
            "address",
            Kind::Host,
            "required",
            "Where it is: an IP address, or the name of a host, which makes a backend of each of its addresses; see below.",
        ),
        key(
            "port",
            Kind::Number(1, 65_535),
            "the service's `internal_port`",
            "Its own internal port.",
        ),
        key(
            "weight",
            Kind::Number(0, 1_000),
            "`100`",
            "Its share of new connections, in proportion to the others'. 0: no new ones, old ones go on.",
        ),
        key(
            "state",
            Kind::Word(&["ready", "drain", "maint"]),
            r#"`"ready"`"#,
            "What you want of it. `ready`: new connections when healthy. `drain`: no new ones, old ones go on. `maint`: as `drain`, and it is not probed; back to `ready` it takes new ones after `rise` good probes. `xlb backend drain`, `maint` and `ready` write it.",
        ),
        key(
            "check",
            Kind::Table(&CHECK),
            "the service's",
            "Its own health check, instead of the service's.",
        ),
        key(
            "silence",
            Kind::Tables(&SILENCE),
            "none",
            "Warnings and hints about this backend that are meant to be so, each with a reason; see below.",
        ),
    ],
};

/// `check`.
pub(super) static CHECK: Section = Section {
    heading: "## `check`",
    keys: &[
        key(
            "tcp",
            Kind::Empty,
            "one of three",
            "`tcp = {}`: the internal port accepts a TCP connection.",
        ),
        key(
            "http",
            Kind::Table(&CHECK_HTTP),
            "one of three",
            "The internal port answers a GET over HTTP/1.1.",
        ),
        key(
            "https",
            Kind::Table(&CHECK_HTTPS),
            "one of three",
            "The same inside TLS 1.2 or 1.3, with a certificate that passes.",
        ),
        key(
            "port",
            Kind::Number(1, 65_535),
            "the internal port",
            "What is probed. Another port than the traffic's is an error unless `other_port` says that it is meant.",
        ),
        key(
            "other_port",
            Kind::Bool,
            "`false`",
            "`true`: `port` may differ from the internal port; status names both.",
        ),
        key(
            "interval",
            Kind::Duration("100ms", "1h"),
            r#"`"2s"`"#,
            "From the start of one probe to the start of the next.",
        ),
        key(
            "timeout",
            Kind::Duration("10ms", "`interval`"),
            r#"`"1s"`"#,
            "A probe that takes longer has failed. With a shorter `interval` and no `timeout`: the interval.",
        ),
        key(
            "rise",
            Kind::Number(1, 100),
            "`2`",
            "Good probes in a row before a backend that was down is up.",
        ),
        key(
            "fall",
            Kind::Number(1, 100),
            "`3`",
            "Bad probes in a row before a backend that was up is down.",
        ),
    ],
};

const PATH: Key = key(
    "path",
    Kind::Text,
    r#"`"/"`"#,
    "What is asked for; starts with a slash.",
);
const STATUS: Key = key(
    "status",
    Kind::Numbers(100, 599),
    "`[200]`",
    "Status codes that are good.",
);
const HOST: Key = key(
    "host",
    Kind::Text,
    "address and port",
    "`Host` header. Of a backend by name its default is that name, with the port unless it is the usual one.",
);
const BODY: Key = key(
    "body",
    Kind::Sought,
    "none",
    "Text that the first 64 KiB of the body must hold. Without it the body is not read.",
);

/// `check.http`.
pub(super) static CHECK_HTTP: Section = Section {
    heading: "### `check.http`",
    keys: &[PATH, STATUS, HOST, BODY],
};

/// `check.https`.
pub(super) static CHECK_HTTPS: Section = Section {
    heading: "### `check.https`",
    keys: &[
        PATH,
        STATUS,
        HOST,
        BODY,
        key(
            "sni",
            Kind::Text,
            "the `host`",
            "Server name that is asked for and that the certificate must be for. Without `sni` and `host` it is the name of a backend by name; else no name is sent and the certificate must be for the backend's address.",
        ),
        key(
            "roots",
            Kind::Roots,
            r#"`"system"`"#,
            "Certificates that must have signed the server's: the host's own, or a PEM file. The file is read when a config is checked, applied and reloaded; with `sandbox` keep it beside the config or under `/etc/ssl`.",
        ),
        key(
            "verify",
            Kind::Bool,
            "`true`",
            "`false`: any certificate passes, expired or not.",
        ),
    ],
};

/// One `silence`.
pub(super) static SILENCE: Section = Section {
    heading: "## `silence`",
    keys: &[
        key(
            "code",
            Kind::Code,
            "required",
            "Code of a warning or hint, such as `\"XLB0303\"`.",
        ),
        key(
            "reason",
            Kind::Text,
            "required",
            "Why it is meant to be so. Not empty; `xlb check -o json` lists it.",
        ),
    ],
};
