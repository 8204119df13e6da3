//! A tiny TCP service of our own: every line is answered by the backend's name. Connections stay open as long as the
//! client wants, so a test can ask later whether they still reach the same backend.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use crate::netns::Namespace;

const BACKLOG: i32 = 4096;
/// The line after whose answer the server closes.
const BYE: &str = "bye";
/// The line that is answered after [`LATER_DELAY`].
const LATER: &str = "later";
/// How long the server keeps a client waiting that asks for it.
pub const LATER_DELAY: Duration = Duration::from_secs(1);

/// A running server. Dropping it closes its port and every connection.
#[derive(Debug)]
pub struct TalkServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    accepted: AtomicU64,
    answered: AtomicU64,
    peers: Mutex<Vec<SocketAddr>>,
}

impl TalkServer {
    /// Listens on every address of the namespace, both families.
    pub fn start(namespace: &Namespace, name: &str, port: u16) -> Result<Self> {
        let listener = namespace.enter(|| listen(port))??;
        let seen = Arc::new(Seen::default());
        let (stop, stopped) = oneshot::channel();
        let answer: Arc<[u8]> = Arc::from(format!("{name}\n").into_bytes());
        let seen_inside = Arc::clone(&seen);
        let thread = thread::Builder::new()
            .name(format!("talk {name}"))
            .spawn(move || serve(listener, &answer, &seen_inside, stopped))
            .context("start the server's thread")?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            seen,
        })
    }

    /// Connections accepted so far, checks included.
    pub fn accepted(&self) -> u64 {
        self.seen.accepted.load(Ordering::Relaxed)
    }

    /// Lines answered so far.
    pub fn answered(&self) -> u64 {
        self.seen.answered.load(Ordering::Relaxed)
    }

    /// Remote ends of the connections that asked something, in the order of their first line.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.seen.peers.lock().map(|peers| peers.clone()).unwrap_or_default()
    }
}

impl Drop for TalkServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has already been printed.
            let _ = thread.join();
        }
    }
}

/// One client connection.
#[derive(Debug)]
pub struct Talk {
    stream: BufReader<TcpStream>,
}

impl Talk {
    /// Connects from inside the namespace.
    pub fn connect(namespace: &Namespace, to: SocketAddr, patience: Duration) -> Result<Self> {
        let stream = namespace
            .enter(|| TcpStream::connect_timeout(&to, patience))?
            .with_context(|| format!("connect to {to}"))?;
        Self::over(stream, patience)
    }

    /// Connects from a fixed source; the caller is inside the namespace already.
    pub fn connect_from(from: SocketAddr, to: SocketAddr, patience: Duration) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).context("socket")?;
        socket.set_reuse_address(true).context("SO_REUSEADDR")?;
        socket.bind(&from.into()).with_context(|| format!("bind to {from}"))?;
        socket
            .connect_timeout(&to.into(), patience)
            .with_context(|| format!("connect {from} to {to}"))?;
        Self::over(socket.into(), patience)
    }

    /// Over a connected stream.
    pub fn over(stream: TcpStream, patience: Duration) -> Result<Self> {
        stream.set_read_timeout(Some(patience)).context("read timeout")?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a line; the name of the backend that answers.
    pub fn ask(&mut self) -> Result<String> {
        self.say("who")
    }

    /// Asks the server to close first, and waits until it has. The name of the backend.
    pub fn bye(mut self) -> Result<String> {
        let name = self.say(BYE)?;
        let mut rest = String::new();
        self.stream.read_line(&mut rest).context("wait for the end")?;
        Ok(name)
    }

    /// Asks for an answer after [`LATER_DELAY`]. Until [`Talk::hear`] the client says nothing more.
    pub fn ask_later(&mut self) -> Result<()> {
        self.write(LATER)
    }

    fn say(&mut self, word: &str) -> Result<String> {
        self.write(word)?;
        self.hear()
    }

    fn write(&mut self, word: &str) -> Result<()> {
        let line = format!("{word}\n");
        self.stream.get_mut().write_all(line.as_bytes()).context("send a line")
    }

    /// Waits for an answer.
    pub fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).context("wait for the answer")?;
        if read == 0 {
            bail!("the connection was closed instead of answered");
        }
        Ok(line.trim().to_owned())
    }

    /// The socket, for options.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

/// How often each name occurs.
pub fn count_names<I: IntoIterator<Item = String>>(names: I) -> HashMap<String, u32> {
    let mut counts = HashMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).context("socket")?;
    socket.set_only_v6(false).context("both families")?;
    socket.set_reuse_address(true).context("SO_REUSEADDR")?;
    let address = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
    socket
        .bind(&address.into())
        .with_context(|| format!("bind to {address}"))?;
    socket.listen(BACKLOG).context("listen")?;
    socket.set_nonblocking(true).context("non-blocking")?;
    Ok(socket.into())
}

fn serve(listener: TcpListener, answer: &Arc<[u8]>, seen: &Arc<Seen>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for the server");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a non-blocking listener");
        let accept = async {
            loop {
                // An error here is a client that went away before it was accepted.
                let Ok((stream, peer)) = listener.accept().await else {
                    continue;
                };
                seen.accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(converse(stream, peer, Arc::clone(answer), Arc::clone(seen)));
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    });
}

async fn converse(mut stream: tokio::net::TcpStream, peer: SocketAddr, answer: Arc<[u8]>, seen: Arc<Seen>) {
    let (read, mut write) = stream.split();
    let mut read = tokio::io::BufReader::new(read);
    let mut line = String::new();
    let mut asked = false;
    while let Ok(1..) = read.read_line(&mut line).await {
        if !asked {
            asked = true;
            if let Ok(mut peers) = seen.peers.lock() {
                peers.push(peer);
            }
        }
        if line.trim_end() == LATER {
            tokio::time::sleep(LATER_DELAY).await;
        }
        // Counted before the client can know of it.
        seen.answered.fetch_add(1, Ordering::Relaxed);
        if write.write_all(&answer).await.is_err() {
            return;
        }
        if line.trim_end() == BYE {
            return;
        }
        line.clear();
    }
}
