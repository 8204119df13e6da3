//! Real listeners and real clients that behave badly.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc};

use super::*;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn limits(connections: usize) -> Limits {
    Limits {
        connections,
        silence: PATIENCE * 10,
        body: PATIENCE * 10,
    }
}

struct Server {
    address: std::net::SocketAddr,
}

impl Server {
    async fn start(routes: Router, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, routes, limits, "test"));
        Self { address }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connect")
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.expect("send");
        to_the_end(&mut stream).await
    }
}

/// What comes until the server closes.
async fn to_the_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A reset is an end, too.
    drop(read.expect("the server closes"));
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &str = "GET / HTTP/1.0\r\n\r\n";

fn hello() -> Router {
    let echo = |body: Bytes| async move { body };
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/echo", post(echo))
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones_the_oldest_first() {
    let server = Server::start(hello(), limits(4)).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(server.connect().await);
    }
    let answer = server.ask(GET).await;
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    for mut early in idle.drain(..36) {
        assert_eq!(to_the_end(&mut early).await, "");
    }
    // Of the last ones, those that are still in place work.
    let mut last = idle.pop().expect("the last");
    last.write_all(GET.as_bytes()).await.expect("send");
    assert!(to_the_end(&mut last).await.ends_with("hello"));
}

#[tokio::test]
async fn a_connection_at_work_keeps_its_place_and_a_new_one_without_a_place_is_closed() {
    let gate = Arc::new(Semaphore::new(0));
    let (begun, mut begins) = mpsc::channel(8);
    let held = Arc::clone(&gate);
    let wait = move || async move {
        begun.send(()).await.expect("the test listens");
        held.acquire().await.expect("never closed").forget();
        "done"
    };
    let server = Server::start(Router::new().route("/", get(wait)), limits(2)).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(GET.as_bytes()).await.expect("send");
        begins.recv().await.expect("it is being answered");
        busy.push(stream);
    }
    assert_eq!(to_the_end(&mut server.connect().await).await, "");
    gate.add_permits(2);
    for mut stream in busy {
        assert!(to_the_end(&mut stream).await.ends_with("done"));
    }
}

#[tokio::test]
async fn a_connection_whose_answer_went_out_is_idle_again() {
    let server = Server::start(hello(), limits(1)).await;
    let mut kept = server.connect().await;
    for _ in 0..2 {
        kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .expect("send");
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            assert_ne!(kept.read_buf(&mut answer).await.expect("read"), 0, "closed");
        }
    }
    assert!(server.ask(GET).await.ends_with("hello"));
    assert_eq!(to_the_end(&mut kept).await, "", "it made room");
}

#[tokio::test]
async fn half_a_head_and_no_second_request_end_by_themselves() {
    let quick = Limits {
        silence: Duration::from_millis(50),
        ..limits(4)
    };
    let server = Server::start(hello(), quick).await;
    assert_eq!(server.ask("").await, "");
    assert_eq!(server.ask("GET / HT").await, "");
    let kept = server.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(kept.ends_with("hello"), "{kept}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_json_error_and_the_end() {
    let quick = Limits {
        body: Duration::from_millis(50),
        ..limits(4)
    };
    let server = Server::start(hello(), quick).await;
    let slow = server
        .ask("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1234")
        .await;
    assert!(
        slow.starts_with("HTTP/1.1 408 ") && slow.contains("\"code\":\"too_slow\""),
        "{slow}"
    );
    let whole = "POST /echo HTTP/1.0\r\ncontent-length: 4\r\n\r\n1234";
    assert!(server.ask(whole).await.ends_with("1234"));
}

#[tokio::test]
async fn an_answer_that_nobody_takes_ends_and_lets_go_of_what_it_came_from() {
    let quick = Limits {
        silence: Duration::from_millis(200),
        ..limits(4)
    };
    let (sender, mut let_go) = mpsc::channel(1);
    let endless = move || async move {
        let source = Source(sender);
        let chunks = stream::unfold(source, |source| async {
            Some((Ok::<_, io::Error>(vec![0_u8; 1 << 16]), source))
        });
        Body::from_stream(chunks)
    };
    let server = Server::start(Router::new().route("/", get(endless)), quick).await;
    let mut stream = server.connect().await;
    stream.write_all(GET.as_bytes()).await.expect("send");
    let ended = tokio::time::timeout(PATIENCE, let_go.recv()).await;
    ended.expect("the answer ends").expect("told");
    drop(stream);
}

/// What an answer comes from; tells when it is let go.
struct Source(mpsc::Sender<()>);

impl Drop for Source {
    fn drop(&mut self) {
        self.0.try_send(()).ok();
    }
}

/// A listener whose first accepts fail as they do for want of files.
struct Failing {
    listener: TcpListener,
    left: AtomicU32,
}

impl Accept for Failing {
    type Io = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let count = |left: u32| left.checked_sub(1);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) {
            Ok(_) => Err(io::Error::from_raw_os_error(libc::EMFILE)),
            Err(_) => self.listener.next().await,
        }
    }

    fn peer(_: &TcpStream) -> Option<Peer> {
        None
    }
}

#[tokio::test]
async fn a_listener_outlives_accepts_that_fail() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let left = AtomicU32::new(3);
    tokio::spawn(serve(Failing { listener, left }, hello(), limits(4), "test"));
    assert!(Server { address }.ask(GET).await.ends_with("hello"));
}
