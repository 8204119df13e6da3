//! Real peers: what clients and backends run inside their namespaces.

mod capture;
mod datagram;
mod dns;
mod load;
mod nginx;
mod ping;
mod talk;
mod transfer;

pub use capture::{Capture, Segment, Verdict};
pub use datagram::{DatagramServer, ask_datagram};
pub use dns::DnsServer;
pub use load::{Load, Report};
pub use nginx::Nginx;
pub use ping::ping;
pub use talk::{LATER_DELAY, Talk, TalkServer, count_names};
pub use transfer::{Transfer, download, http_get, make_file, sha256_of, start_download, start_upload, upload};
