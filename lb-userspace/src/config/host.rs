//! What the host says about its ports: ephemeral ones, reserved ones, listeners, and its addresses. Pure: the text of /proc
//! files in (proc(5), Linux's ip-sysctl.rst), facts out; `crate::host` reads them. What could not be read is `None`, and then
//! nothing is claimed about it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{PortRange, Protocol};

/// Facts about the host that a file is checked on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// `net.ipv4.ip_local_port_range`; IPv6 uses it, too.
    pub ephemeral: Option<PortRange>,
    /// `net.ipv4.ip_local_reserved_ports`, ascending.
    pub reserved: Option<Vec<PortRange>>,
    /// Listening TCP sockets and unconnected UDP sockets.
    pub listeners: Option<Vec<Listener>>,
    /// Names of its interfaces.
    pub interfaces: Option<Vec<String>>,
    /// Interface and address.
    pub addresses: Option<Vec<(String, IpAddr)>>,
}

/// A socket that waits for packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where; the address may be unspecified.
    pub at: SocketAddr,
}

impl Listener {
    /// Whether it takes what is sent to `address`. An unspecified IPv6 address takes IPv4, too, unless the server says
    /// otherwise, which /proc does not show.
    pub fn takes(&self, address: IpAddr) -> bool {
        let own = self.at.ip();
        own == address || (own.is_unspecified() && (own.is_ipv6() || address.is_ipv4()))
    }
}

/// Reads `ip_local_port_range`: two numbers.
pub fn ephemeral(text: &str) -> Option<PortRange> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let (min, max) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (min > 0 && min <= max).then_some(PortRange { min, max })
}

/// Reads `ip_local_reserved_ports`: `8080,9000-9100`, or nothing.
pub fn reserved(text: &str) -> Option<Vec<PortRange>> {
    let parts = text.trim().split(',').filter(|part| !part.is_empty());
    let read = parts.map(|part| {
        let (min, max) = part.split_once('-').unwrap_or((part, part));
        let (min, max) = (min.parse().ok()?, max.parse().ok()?);
        (min <= max).then_some(PortRange { min, max })
    });
    Some(union(read.collect::<Option<Vec<_>>>()?))
}

/// Reads `/proc/net/{tcp,tcp6,udp,udp6}`; lines of another form are left out.
pub fn listeners(protocol: Protocol, text: &str) -> Vec<Listener> {
    let wanted = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    let read = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let waits = state == wanted && remote.ends_with(":0000");
        let (address, port) = local.split_once(':')?;
        let at = SocketAddr::new(address_of(address)?, u16::from_str_radix(port, 16).ok()?);
        waits.then_some(Listener { protocol, at })
    };
    let mut all: Vec<Listener> = text.lines().filter_map(read).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Words of 32 bits in the byte order of the machine, as the kernel prints them.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (at, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

/// Ascending, without overlaps, neighbours joined.
pub(super) fn union(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable_by_key(|range| range.min);
    let mut joined: Vec<PortRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if u32::from(range.min) <= u32::from(last.max) + 1 => last.max = last.max.max(range.max),
            _ => joined.push(range),
        }
    }
    joined
}

/// As the kernel takes them: `80,9000-9100`.
pub(super) fn list(ranges: &[PortRange]) -> String {
    let each = ranges.iter().map(|range| match range {
        PortRange { min, max } if min == max => min.to_string(),
        range => range.to_string(),
    });
    each.collect::<Vec<_>>().join(",")
}

/// The ports of `range` that are inside `of` and not in `without` (ascending).
pub(super) fn shared(range: PortRange, of: PortRange, without: &[PortRange]) -> Vec<PortRange> {
    let (mut low, high) = (u32::from(range.min.max(of.min)), u32::from(range.max.min(of.max)));
    let mut left = Vec::new();
    let mut push = |min: u32, max: u32| {
        // Both stem from u16.
        if let (true, Ok(min), Ok(max)) = (min <= max, u16::try_from(min), u16::try_from(max)) {
            left.push(PortRange { min, max });
        }
    };
    for hole in without {
        let (min, max) = (u32::from(hole.min), u32::from(hole.max));
        if min > high {
            break;
        }
        if max >= low {
            push(low, min.saturating_sub(1));
            low = max + 1;
        }
    }
    push(low, high);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Vec<PortRange> {
        reserved(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn sysctls_are_read_as_the_kernel_prints_them() {
        assert_eq!(
            ephemeral("32768\t60999\n"),
            Some(PortRange {
                min: 32_768,
                max: 60_999
            })
        );
        for bad in ["", "1", "a b", "2 1", "0 5"] {
            assert_eq!(ephemeral(bad), None, "{bad}");
        }
        assert_eq!(reserved("\n"), Some(vec![]));
        let shown: Vec<String> = ranges("9000-9100,80,81\n").iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["80-81", "9000-9100"]);
        assert_eq!(reserved("x"), None);
    }

    #[test]
    fn listeners_are_those_that_wait() {
        let tcp = "  sl  local_address rem_address   st tx_queue\n\
                   0: 0100007F:23DC 00000000:0000 0A 00000000:00000000\n\
                   1: 0100007F:23DC 0100007F:C000 01 00000000:00000000\n\
                   nonsense\n\n: : :\n";
        let found = listeners(Protocol::Tcp, tcp);
        assert_eq!(found.len(), 1, "{found:?}");
        if cfg!(target_endian = "little") {
            assert_eq!(found[0].at, "127.0.0.1:9180".parse().expect("an address"));
        }
        let udp6 = "0: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 0\n";
        let found = listeners(Protocol::Udp, udp6);
        assert_eq!(found[0].at, "[::]:53".parse().expect("an address"));
        assert!(found[0].takes("192.0.2.1".parse().expect("v4")) && found[0].takes("2001:db8::1".parse().expect("v6")));
    }

    #[test]
    fn what_is_shared_leaves_reserved_ports_out() {
        let (range, of) = (PortRange { min: 10, max: 50 }, PortRange { min: 20, max: 65_535 });
        let shown = |without: &str| -> Vec<String> {
            shared(range, of, &ranges(without))
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(shown(""), ["20-50"]);
        assert_eq!(shown("1-24,30,45-60"), ["25-29", "31-44"]);
        assert_eq!(shown("1-65535"), Vec::<String>::new());
        assert_eq!(shown("60-70"), ["20-50"]);
        assert_eq!(shared(range, PortRange { min: 51, max: 60 }, &[]), []);
    }
}
