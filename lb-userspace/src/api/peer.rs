//! Who is at the other end of the Unix socket, for the log and the list of overrides.

use tokio::net::UnixStream;

/// Credentials of the peer, as the kernel knows them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    uid: Option<u32>,
    pid: Option<i32>,
}

impl Peer {
    /// Of a connection.
    pub(super) fn of(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
        Self {
            uid: credentials.map(|peer| peer.uid()),
            pid: credentials.and_then(|peer| peer.pid()),
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("api")?;
        if let Some(uid) = self.uid {
            write!(f, " uid {uid}")?;
        }
        self.pid.map_or(Ok(()), |pid| write!(f, " pid {pid}"))
    }
}
