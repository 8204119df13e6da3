//! Real listeners with one habit each, and one probe against them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_userspace::config::HttpCheck;
use lb_userspace::health::{self, PortVerdict, Probe, ProbeFault, ProbeKind, ProbeResult};
use lb_userspace::state::BackendRef;
use socket2::SockRef;
use tokio::sync::{mpsc, watch};
use xlb_tests::netns::Namespace;

use crate::netlab::{Lab, inside};

/// Source ports of the probes here.
pub(crate) const CHECK_PORTS: RangeInclusive<u16> = 9216..=10239;

/// A listener that treats every connection the same way, until it is dropped.
pub(crate) struct Server {
    listener: Arc<TcpListener>,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens inside `namespace`; `habit` gets each connection in a thread of its own.
    pub(crate) fn start(
        namespace: &Namespace,
        address: &str,
        habit: impl Fn(TcpStream) + Clone + Send + 'static,
    ) -> Result<Self> {
        let listener = namespace
            .enter(|| TcpListener::bind(address))?
            .with_context(|| format!("listen on {address}"))?;
        // The standard library's backlog is too short for a thousand checks a second on a busy machine.
        SockRef::from(&listener).listen(4096)?;
        let listener = Arc::new(listener);
        let peers = Arc::new(Mutex::new(Vec::new()));
        let accepting = thread::spawn({
            let (listener, peers) = (Arc::clone(&listener), Arc::clone(&peers));
            move || {
                while let Ok((stream, peer)) = listener.accept() {
                    peers.lock().unwrap_or_else(PoisonError::into_inner).push(peer);
                    let habit = habit.clone();
                    thread::spawn(move || habit(stream));
                }
            }
        });
        Ok(Self {
            listener,
            peers,
            accepting: Some(accepting),
        })
    }

    /// Who has connected so far.
    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Wakes the accepting thread, which then ends.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Reads until the other side is gone, and says nothing.
pub(crate) fn silent(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while matches!(stream.read(&mut buffer), Ok(read) if read > 0) {}
}

/// Reads once (the request), writes `answer`, waits for the other side to go.
pub(crate) fn answering(answer: &'static [u8]) -> impl Fn(TcpStream) + Clone + Send + 'static {
    move |mut stream| {
        let mut request = [0; 1024];
        if stream.read(&mut request).is_ok() && stream.write_all(answer).is_ok() {
            silent(stream);
        }
    }
}

/// Writes `greeting` without being asked, then waits for the other side to go.
pub(crate) fn greeting(greeting: &'static [u8]) -> impl Fn(TcpStream) + Clone + Send + 'static {
    move |mut stream| {
        if stream.write_all(greeting).is_ok() {
            silent(stream);
        }
    }
}

/// A probe of `target` with a second of patience.
pub(crate) fn probe(target: &str, kind: ProbeKind) -> Result<Probe> {
    Ok(Probe {
        backend: BackendRef {
            service: "web".to_owned(),
            backend: target.to_owned(),
        },
        target: target.parse().with_context(|| format!("target {target}"))?,
        kind,
        interval: Duration::from_millis(200),
        timeout: Duration::from_secs(1),
        source: None,
        source_ports: CHECK_PORTS,
    })
}

/// GET /healthz, 200 or 204.
pub(crate) fn http() -> ProbeKind {
    ProbeKind::Http(HttpCheck {
        path: "/healthz".to_owned(),
        status: vec![200, 204],
        host: None,
        body: None,
    })
}

/// The verdict of one probe from our side.
pub(crate) fn verdict(lab: &Lab, probe: Probe) -> Result<PortVerdict> {
    let result = inside(&lab.us, async || first_result(probe).await)?;
    // Each verdict has a sentence that names the target.
    let sentence = result.sentence();
    ensure!(sentence.starts_with(&result.target.to_string()), "{sentence}");
    // And, unless all is well, the next step.
    ensure!(
        result.verdict == PortVerdict::Open || sentence.contains("; "),
        "{sentence}"
    );
    Ok(result.verdict)
}

/// The first result of one probe, run by the real scheduler. A run that this loaded machine held up is not one.
pub(crate) async fn first_result(probe: Probe) -> Result<ProbeResult> {
    let (_probes, list) = watch::channel(vec![probe]);
    let (to_us, mut results) = mpsc::channel(16);
    let running = health::start(list, to_us);
    let result = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            match results.recv().await {
                Some(result) if matches!(result.verdict, PortVerdict::Error(ProbeFault::Late(_))) => {}
                other => return other,
            }
        }
    });
    let result = result.await;
    running.abort();
    result.context("no result in 30 s")?.context("the scheduler ended")
}
