//! `ADDRESS[:PORT]` as typed: `10.0.0.9`, `10.0.0.9:8080`, `2001:db8::9`, `[2001:db8::9]`, `[2001:db8::9]:8080`.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// An address with an optional port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address.
    pub address: IpAddr,
    /// Its port, where one was given; never 0.
    pub port: Option<u16>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse() {
            return Ok(Self { address, port: None });
        }
        match text.parse::<SocketAddr>() {
            Ok(socket) if socket.port() == 0 => Err(format!("'{text}': port 0 cannot be listened on; give 1 to 65535")),
            Ok(socket) => Ok(Self {
                address: socket.ip(),
                port: Some(socket.port()),
            }),
            Err(_) => Err(format!(
                "'{text}' is no IP address with an optional port, such as 10.0.0.9:8080 or [2001:db8::9]:8080"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_target_is_read() {
        for (text, address, port) in [
            ("10.0.0.9", "10.0.0.9", None),
            ("10.0.0.9:8080", "10.0.0.9", Some(8080)),
            ("2001:db8::9", "2001:db8::9", None),
            ("[2001:db8::9]", "2001:db8::9", None),
            ("[2001:db8::9]:8080", "2001:db8::9", Some(8080)),
        ] {
            let address = address.parse().expect("a test address");
            assert_eq!(text.parse(), Ok(Target { address, port }));
        }
    }

    #[test]
    fn names_ports_alone_and_port_zero_are_refused() {
        for text in ["backend", ":80", "10.0.0.9:", "10.0.0.9:0", "10.0.0.9:65536", "10.0.0"] {
            text.parse::<Target>().unwrap_err();
        }
    }
}
