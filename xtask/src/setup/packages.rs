//! The one list of programs that tests and demo run, the Debian package of each, and why.

/// A program that tests or the demo start.
pub(crate) struct Tool {
    /// What is looked for in PATH and in the sbin directories; a whole path where another of that name will not do.
    pub(crate) program: &'static str,
    /// The Debian package that has it.
    pub(crate) package: &'static str,
    /// A system service that the package would start and enable; ours is left off.
    pub(crate) service: Option<&'static str>,
    /// What it is used for here.
    pub(crate) why: &'static str,
}

const fn tool(program: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool {
        program,
        package,
        service: None,
        why,
    }
}

/// Every tool, in the order it is shown.
pub(crate) const TOOLS: &[Tool] = &[
    tool("ip", "iproute2", "namespaces, veth pairs, addresses, neighbours"),
    tool(
        "ethtool",
        "ethtool",
        "offloads of the veth pairs that XDP frames leave by",
    ),
    tool("bpftool", "bpftool", "maps and programs as an operator sees them"),
    tool(
        "nft",
        "nftables",
        "what a firewall does to health checks and to frames that skip it",
    ),
    tool(
        "strace",
        "strace",
        "kills a write-back at each of its system calls, and makes them fail",
    ),
    tool(
        "openssl",
        "openssl",
        "TLS servers that ask for client certificates or speak old versions",
    ),
    tool("unshare", "util-linux", "a journal of the test's own"),
    tool(
        "setpriv",
        "util-linux",
        "an agent that is not root and has three capabilities",
    ),
    tool("prlimit", "util-linux", "an agent that runs out of files"),
    tool("zsh", "zsh", "reads the completion script for it"),
    tool("fish", "fish", "reads the completion script for it"),
    tool("groff", "groff-base", "reads the man pages as man(1) does"),
    // The package without a service.
    tool(
        "dnsmasq",
        "dnsmasq-base",
        "a DNS server whose zone changes and that stops",
    ),
    tool("curl", "curl", "HTTP clients, and the agent's Unix socket"),
    Tool {
        service: Some("nginx"),
        ..tool("nginx", "nginx", "real web servers on the backends' internal ports")
    },
    tool(
        "/usr/lib/nginx/modules/ngx_stream_module.so",
        "libnginx-mod-stream",
        "nginx as a balancer, to be compared with",
    ),
    Tool {
        service: Some("haproxy"),
        ..tool("haproxy", "haproxy", "another balancer to be compared with")
    },
    tool("wrk", "wrk", "connections and requests as fast as they go"),
    tool(
        "h2load",
        "nghttp2-client",
        "requests at a fixed rate, and how long each took",
    ),
    tool("/usr/bin/python3", "python3", "runs scapy"),
    tool("/usr/bin/scapy", "python3-scapy", "an independent judge of checksums"),
    tool("tcpdump", "tcpdump", "captures on each side of the balancer"),
    tool(
        "tshark",
        "tshark",
        "checksums and ports in those captures, read by another implementation",
    ),
];

/// What `cargo xtask kernels` runs besides.
pub(crate) const KERNEL_TOOLS: &[Tool] = &[
    tool("qemu-system-x86_64", "qemu-system-x86", "boots other kernels, emulated"),
    tool("busybox", "busybox-static", "the user space beside the tests there"),
];
