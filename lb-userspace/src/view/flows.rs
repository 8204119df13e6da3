//! `GET /v1/flows`: one [`FlowView`] a line, and what may be asked for.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowView {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// Connection id, 16 hexadecimal digits; never used twice while the maps live.
    pub id: String,
    /// Service name; `?` while the agent does not know the id.
    pub service: String,
    /// Backend name; `?` while the agent does not know the id.
    pub backend: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `ipv4` or `ipv6`.
    pub family: FlowFamily,
    /// `full_nat` or `gateway`.
    pub mode: String,
    /// Where it is in its life.
    pub state: FlowState,
    /// The client.
    pub client: SocketAddr,
    /// VIP and service port.
    pub vip: SocketAddr,
    /// SNAT address and port, as the backend sees the client; absent in gateway mode.
    pub snat: Option<SocketAddr>,
    /// The backend's address and internal port.
    pub backend_address: SocketAddr,
    /// When it was made (TCP: its latest SYN before the handshake ended).
    pub created: Timestamp,
    /// Its last packet in either direction; up to a second old.
    pub last_seen: Timestamp,
    /// Seconds since `created`.
    pub age_s: u64,
    /// Seconds since `last_seen`.
    pub idle_s: u64,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// TCP: the handshake is not over. UDP: not answered yet.
    HalfOpen,
    /// Open.
    Established,
    /// A FIN or RST was seen; the entry waits for its lifetime to end.
    Closing,
}

impl FlowState {
    /// As in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HalfOpen => "half_open",
            Self::Established => "established",
            Self::Closing => "closing",
        }
    }
}

/// Address family of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What to show; everything that is absent matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowQuery {
    /// Service name.
    pub service: Option<String>,
    /// Backend name, or `SERVICE/BACKEND`.
    pub backend: Option<String>,
    /// `ADDRESS` or `ADDRESS/LENGTH`.
    pub client: Option<Prefix>,
    /// State.
    pub state: Option<FlowState>,
    /// Family.
    pub family: Option<FlowFamily>,
    /// At most so many.
    pub limit: Option<u64>,
}

/// An address with the number of leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// Leading bits: 0 to 32, or to 128.
    pub length: u8,
}

impl Prefix {
    /// Whether `address` is inside.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => {
                let differ = u32::from(mine) ^ u32::from(other);
                differ.checked_shr(32 - u32::from(self.length)).unwrap_or(0) == 0
            }
            (IpAddr::V6(mine), IpAddr::V6(other)) => {
                let differ = u128::from(mine) ^ u128::from(other);
                differ.checked_shr(128 - u32::from(self.length)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("'{text}' is no address or prefix such as 198.51.100.7, 198.51.100.0/24 or 2001:db8::/32");
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) => length.parse().map_err(|_| wrong())?,
            None => most,
        };
        if length > most {
            return Err(wrong());
        }
        Ok(Self { address, length })
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        format!("{}/{}", prefix.address, prefix.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(prefix: &str, address: &str) -> bool {
        let prefix: Prefix = prefix.parse().expect("a prefix");
        prefix.holds(address.parse().expect("an address"))
    }

    #[test]
    fn prefixes_hold_what_they_should() {
        for (prefix, address, inside) in [
            ("198.51.100.7", "198.51.100.7", true),
            ("198.51.100.7", "198.51.100.8", false),
            ("198.51.100.0/24", "198.51.100.255", true),
            ("198.51.100.0/24", "198.51.101.0", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("::/0", "ffff::", true),
        ] {
            assert_eq!(holds(prefix, address), inside, "{prefix} {address}");
        }
    }

    #[test]
    fn prefixes_that_make_no_sense_are_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/x", "web", "10.0.0.0/-1"] {
            text.parse::<Prefix>().unwrap_err();
        }
    }
}
