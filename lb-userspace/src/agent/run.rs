//! Start, wiring, signals, stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};

use super::admin::{Admin, Caller, SIGHUP, log_dropped, log_findings};
use super::confine::{confine, refusal};
use super::desired::{Desired, DesiredError};
use super::kept::Kept;
use super::kernel::{Kernel, forward_packet_log, origin};
use super::network::{first_look, first_wanted, forward, forward_net, warn_missing};
use super::signals::Signals;
use super::{heap, names, presence, supervise, watch as file_watch};
use crate::api::{self, ApiState};
use crate::dataplane::{self, DataplaneError, LogObject};
use crate::flows::Flows;
use crate::health;
use crate::neigh::{self, NeighError};
use crate::reconcile::{ApplyError, Event, Outputs, Start, VipsWanted, Writer};
use crate::view::{Revision, Timestamp};

/// Events that may wait for the writer; senders wait when there are more.
const EVENT_QUEUE: usize = 16_384;

/// What `xlb run` was told.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Config file.
    pub config: PathBuf,
    /// Whether the program logs packets.
    pub packet_log: LogObject,
}

/// Why the agent did not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The config is bad.
    #[error("{0}")]
    Config(#[from] DesiredError),
    /// The kernel would refuse to load, attach or read, with answers that name another cause.
    #[error("{}", refusal(.0))]
    Capabilities(Vec<String>),
    /// The kernel part does not start.
    #[error("{0}")]
    Dataplane(#[from] DataplaneError),
    /// Netlink does not start.
    #[error("{0}")]
    Neigh(#[from] NeighError),
    /// The config gives no image.
    #[error("{0}")]
    Apply(#[from] ApplyError),
    /// A socket could not be opened.
    #[error("{0}")]
    Api(#[from] api::ListenError),
    /// Netlink did not say which interfaces there are.
    #[error("netlink did not name the interfaces of this host within 10 s; see 'ip link', then start again")]
    NoLinks,
    /// The task that owns the maps ended by itself.
    #[error(
        "the writer ended, which is a bug; traffic goes on with the state in the maps; see the log above and start again"
    )]
    WriterEnded,
    /// The process could not get a thread, a signal handler, ...
    #[error("agent: {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Runs the agent until it is told to stop. Traffic goes on after it.
pub fn run(options: &RunOptions) -> Result<(), AgentError> {
    let started = Timestamp::now();
    heap::share();
    // Commands that are told as next steps are typed in other directories.
    let path = std::path::absolute(&options.config).unwrap_or_else(|_| options.config.clone());
    let desired = Desired::read(&path, &[])?;
    for warning in &desired.warnings {
        tracing::warn!(object = "config", code = warning.code, cause = %warning.message, line = warning.line, "config");
    }
    let agent = &desired.config.agent;
    // What takes more rights than the rest of this process's life comes first, and before there is a second thread.
    let lock = dataplane::lock(&agent.pin_dir)?;
    dataplane::note_loaded();
    let sockets = Sockets {
        unix: api::bind_unix(&agent.socket, agent.socket_group.as_deref())?,
        http: agent.http.map(api::bind_http).transpose(),
    };
    let mut kept = Kept::open(&agent.state_dir);
    let answers = Arc::new(kept.names.answers());
    let desired = desired.with_what_fits(&kept.overrides).with_answers(&answers);
    // Without any, everything waits for the first answer.
    if !answers.is_empty() {
        log_findings(&[], &desired.name_findings);
    }
    log_dropped(&desired, "start");
    let desired = desired.with_notices(&kept.dropped);
    kept.note_dropped(&desired);
    for warning in &kept.warnings {
        tracing::warn!(
            object = "overrides",
            old = "starting",
            new = "starting",
            cause = warning,
            "overrides"
        );
    }
    let desired = Arc::new(Desired {
        revision: Revision::first(fastrand::u32(..)),
        ..desired
    });
    let confinement = confine(&desired.config, &desired.path);
    if !confinement.missing.is_empty() {
        return Err(AgentError::Capabilities(confinement.missing));
    }
    for warning in &confinement.warnings {
        tracing::warn!(
            object = "agent",
            old = "starting",
            new = "starting",
            cause = warning,
            "confinement"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("xlb-io")
        .enable_all()
        .build()
        .map_err(system("start the async runtime"))?;
    let signals = {
        let _inside = runtime.enter();
        Signals::take()?
    };
    // The kernel verifies the program for a second or more: an operator should not wonder.
    tracing::info!(object = "dataplane", old = "none", new = "loading", cause = "start", pins = %desired.config.agent.pin_dir.display(), "dataplane");
    let kernel = Kernel::open(&desired, options.packet_log, started, lock, confinement)?;
    runtime.block_on(serve(&runtime, kernel, signals, desired, kept, sockets))
}

/// The listeners, not yet in use.
struct Sockets {
    unix: api::BoundUnix,
    /// An error is told and not the end.
    http: Result<Option<std::net::TcpListener>, api::ListenError>,
}

async fn serve(
    runtime: &Runtime,
    kernel: Kernel,
    mut signals: Signals,
    desired: Arc<Desired>,
    kept: Kept,
    sockets: Sockets,
) -> Result<(), AgentError> {
    let agent = &desired.config.agent;
    let (events, event_queue) = mpsc::channel(EVENT_QUEUE);
    let socket = sockets.unix.publish()?;
    let http = match sockets.http {
        Ok(listener) => listener.map(api::adopt_http).transpose(),
        Err(error) => Err(error),
    };
    // Netlink first: the first image should hold the next hops that are known.
    let image = kernel.dataplane.read_image()?;
    let (wanted_sender, wanted) = watch::channel(first_wanted(&desired));
    let (net_sender, mut net) = mpsc::channel(64);
    neigh::start(wanted, net_sender)?;
    let (links, hops) = first_look(&mut net).await?;
    warn_missing(&desired, &links);

    let http_error = http.as_ref().err().map(ToString::to_string);
    let origin = Arc::new(origin(&kernel, &desired, kept.warnings.into_iter().chain(http_error)));
    tracing::info!(object = "dataplane", old = "loading", new = origin.adoption, cause = "start", pins = %origin.pin_dir.display(), "dataplane");
    let Kernel {
        mut dataplane,
        hz,
        packet_log,
        lock,
        ..
    } = kernel;
    if packet_log == LogObject::On {
        forward_packet_log(&mut dataplane)?;
    }
    let flows = dataplane.flow_tables().map(Flows::new);
    let writer = Writer::new(Start {
        dataplane,
        image,
        desired: Arc::clone(&desired),
        links,
        hops,
        origin,
        hz,
    })?;
    let (snapshots, snapshot) = watch::channel(writer.snapshot());
    let (probe_sender, probes) = watch::channel(Vec::new());
    let (vips_sender, vips) = watch::channel(VipsWanted::default());
    let outputs = Outputs {
        snapshots,
        wanted: wanted_sender,
        probes: probe_sender,
        vips: vips_sender,
    };
    let writer_ended = spawn_writer(writer, event_queue, outputs)?;

    let links_changed = Arc::new(Notify::new());
    let (results_sender, results) = mpsc::channel(4_096);
    health::start(probes, results_sender);
    runtime.spawn(forward(results, events.clone(), Event::Probe));
    runtime.spawn(forward_net(net, events.clone(), Arc::clone(&links_changed)));
    runtime.spawn(presence::run(vips, links_changed, events.clone()));

    let admin = Admin::new(Arc::clone(&desired), events.clone()).keeping(kept.file.map(Arc::new));
    let admin = Arc::new(admin);
    let state = ApiState::new(snapshot.clone(), events.clone(), Arc::clone(&admin));
    let state = match flows {
        Ok(flows) => state.with_flows(flows),
        // They are for people to look at; packets do not wait for that.
        Err(error) => {
            tracing::warn!(object = "flows", old = "starting", new = "not available", cause = %error, "flows");
            state
        }
    };
    runtime.spawn(api::serve_unix(socket, state.clone()));
    if let Ok(Some(listener)) = http {
        runtime.spawn(api::serve_http(listener, state));
    }
    runtime.spawn(supervise::watchdog(events.clone()));
    runtime.spawn(supervise::run(agent.socket.clone(), snapshot.clone()));
    runtime.spawn(file_watch::run(desired.path.clone(), Arc::clone(&admin)));
    runtime.spawn(names::run(Arc::clone(&admin), snapshot.clone(), kept.names));
    let generation = snapshot.borrow().generation;
    tracing::info!(
        object = "agent",
        old = "starting",
        new = "running",
        cause = "start",
        generation,
        socket = %agent.socket.display(),
        config = %desired.path.display(),
        "agent"
    );

    let mut writer_ended = writer_ended;
    let cause = loop {
        tokio::select! {
            // The answer is in the log and in the status.
            _ = signals.hangup.recv() => drop(admin.reload(&Caller::agent(SIGHUP)).await),
            _ = signals.terminate.recv() => break "SIGTERM",
            _ = signals.interrupt.recv() => break "SIGINT",
            _ = &mut writer_ended => return Err(AgentError::WriterEnded),
        }
    };
    supervise::stopping();
    // The writer may be gone already.
    drop(events.send(Event::Stop).await);
    drop(tokio::time::timeout(Duration::from_secs(5), writer_ended).await);
    drop(lock);
    // Gone already when somebody removed it by hand.
    drop(std::fs::remove_file(&agent.socket));
    tracing::info!(
        object = "agent",
        old = "running",
        new = "stopped",
        cause,
        "traffic goes on with the state in the maps; health changes are not followed any more; 'xlb run' takes over, 'xlb \
         unload' stops forwarding"
    );
    Ok(())
}

/// The writer has a thread of its own: its system calls must not hold up probes or the API.
fn spawn_writer(
    writer: Writer,
    events: mpsc::Receiver<Event>,
    outputs: Outputs,
) -> Result<tokio::sync::oneshot::Receiver<()>, AgentError> {
    let (ended, ended_receiver) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(system("start the writer's runtime"))?;
    std::thread::Builder::new()
        .name("xlb-writer".to_owned())
        .spawn(move || {
            runtime.block_on(writer.run(events, outputs));
            // Tells the main task by its end, whatever the reason.
            drop(ended);
        })
        .map_err(system("start the writer's thread"))?;
    Ok(ended_receiver)
}

pub(super) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> AgentError {
    move |source| AgentError::System { what, source }
}
