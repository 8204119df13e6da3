//! Opening the sockets. The Unix socket appears with its final mode, takes the place of one that a dead agent left, and
//! never that of a living one.

use std::fs;
use std::io;
use std::net::{self, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{self as unix_net, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group};
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
    /// There is no such group.
    #[error("socket {}: [agent] socket_group: no group {group}; 'getent group' lists them", path.display())]
    NoGroup {
        /// The socket.
        path: PathBuf,
        /// What the config says.
        group: String,
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

/// The API socket, bound and listening, under a name that nobody looks for yet.
#[derive(Debug)]
pub struct BoundUnix {
    listener: unix_net::UnixListener,
    temporary: PathBuf,
    path: PathBuf,
}

impl BoundUnix {
    /// Gives it its name. Needs a tokio runtime.
    pub fn publish(self) -> Result<UnixListener, ListenError> {
        let Self {
            listener,
            temporary,
            path,
        } = self;
        listener
            .set_nonblocking(true)
            .map_err(unix(&path, "make it asynchronous"))?;
        let listener = UnixListener::from_std(listener).map_err(unix(&path, "make it asynchronous"))?;
        fs::rename(&temporary, &path).map_err(unix(&path, "rename into place"))?;
        Ok(listener)
    }
}

/// Opens the API socket for the agent's own group. Needs a tokio runtime.
pub fn listen_unix(path: &Path) -> Result<UnixListener, ListenError> {
    bind_unix(path, None)?.publish()
}

/// Binds the API socket; `group` by name or number may use it. Needs no runtime, so that it can be done while the process
/// still may change a file's group.
pub fn bind_unix(path: &Path, group: Option<&str>) -> Result<BoundUnix, ListenError> {
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
    let listener = unix_net::UnixListener::bind(&temporary).map_err(unix(path, "bind"))?;
    let mode = fs::Permissions::from_mode(SOCKET_MODE);
    if let Some(name) = group {
        let group = group_id(name).ok_or_else(|| ListenError::NoGroup {
            path: path.to_owned(),
            group: name.to_owned(),
        })?;
        chown(&temporary, None, Some(group.as_raw())).map_err(unix(path, "give it to socket_group"))?;
    }
    fs::set_permissions(&temporary, mode).map_err(unix(path, "set its mode"))?;
    Ok(BoundUnix {
        listener,
        temporary,
        path: path.to_owned(),
    })
}

fn group_id(name: &str) -> Option<Gid> {
    let by_number = || name.parse().ok().map(Gid::from_raw);
    let by_name = Group::from_name(name).ok().flatten().map(|group| group.gid);
    by_name.or_else(by_number)
}

/// Opens the read-only listener. Needs no runtime.
pub fn bind_http(address: SocketAddr) -> Result<net::TcpListener, ListenError> {
    let bind = || {
        let listener = net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|source| ListenError::Http { address, source })
}

/// Hands the listener to the runtime, which must be there.
pub fn adopt_http(listener: net::TcpListener) -> Result<TcpListener, ListenError> {
    let address = listener.local_addr();
    TcpListener::from_std(listener).map_err(|source| ListenError::Http {
        address: address.unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0))),
        source,
    })
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

    #[test]
    fn a_group_is_found_by_name_or_number_and_one_that_is_not_is_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("api.sock");
        // Only root and members may give a file to a group.
        assert!(bind_unix(&path, Some("root")).is_ok() || !nix::unistd::geteuid().is_root());
        let own = nix::unistd::getegid().as_raw().to_string();
        drop(bind_unix(&path, Some(&own)).expect("the own group by number"));
        let error = bind_unix(&path, Some("no-such-group"))
            .expect_err("refused")
            .to_string();
        assert!(error.contains("no group no-such-group; 'getent group'"), "{error}");
        assert!(!path.exists(), "a socket without its group has the name");
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
