//! Opening the sockets. The Unix socket appears with its final mode, takes the place of one that a dead agent left, and
//! never that of a living one.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

/// Owner and group may use the API.
const SOCKET_MODE: u32 = 0o660;

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An agent answers there.
    #[error("socket {}: another agent answers there; stop it, or set [agent] socket to another path", .0.display())]
    InUse(PathBuf),
    /// Something else has that name.
    #[error("socket {}: is there and is no socket; remove it, or set [agent] socket to another path", .0.display())]
    NotASocket(PathBuf),
    /// The system said no.
    #[error("socket {}: {step}: {source}", path.display())]
    Unix {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error(
        "http listener {address}: {source}; metrics are only on the API socket; see 'ss -ltnp' or set [agent] http"
    )]
    Http {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens the API socket. Needs a tokio runtime.
pub fn listen_unix(path: &Path) -> Result<UnixListener, ListenError> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(unix(path, "make its directory"))?;
    }
    refuse_living(path)?;
    // Bound under another name and renamed: nobody ever sees it with another mode, and a dead socket is replaced.
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(unix(path, "remove an old temporary")(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&temporary).map_err(unix(path, "bind"))?;
    let mode = fs::Permissions::from_mode(SOCKET_MODE);
    fs::set_permissions(&temporary, mode).map_err(unix(path, "set its mode"))?;
    fs::rename(&temporary, path).map_err(unix(path, "rename into place"))?;
    Ok(listener)
}

/// Opens the read-only listener.
pub async fn listen_http(address: SocketAddr) -> Result<Option<TcpListener>, ListenError> {
    let listener = TcpListener::bind(address).await;
    listener
        .map(Some)
        .map_err(|source| ListenError::Http { address, source })
}

fn refuse_living(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unix(path, "stat")(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::InUse(path.to_owned())),
        Err(_) => Ok(()),
    }
}

fn unix(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> ListenError {
    let path = path.to_owned();
    move |source| ListenError::Unix { path, step, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("run/api.sock");
        drop(listen_unix(&path).expect("the first"));
        let living = listen_unix(&path).expect("takes the dead one's place");
        let mode = fs::metadata(&path).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        assert!(matches!(listen_unix(&path), Err(ListenError::InUse(_))));
        drop(living);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("api.sock");
        fs::write(&path, "precious").expect("write");
        assert!(matches!(listen_unix(&path), Err(ListenError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).expect("read"), "precious");
    }
}
