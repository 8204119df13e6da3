//! `GET /v1/flows`, below HTTP: walks the flow tables on a thread of its own, filters, and hands JSON lines over in chunks.
//! It holds one chunk at a time, so its memory does not grow with the number of connections; it never speaks to the writer,
//! so neither changes nor checks wait for it.

mod filter;
mod naming;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use crate::dataplane::{Connection, DataplaneError, Family, FlowTables, Place, TickClock};
use crate::view::{FlowFamily, FlowQuery, FlowView, SCHEMA};
pub(crate) use filter::is_meant;
use filter::{Filter, mode_of, protocol_of, state_of};
pub use naming::Naming;

/// Bytes after which a chunk is sent.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that may wait for the reader.
const CHUNKS_WAITING: usize = 2;
/// Walks at once; more are refused.
const READERS: usize = 8;
/// How long a reader may leave a full queue alone before the walk ends.
const READER_PATIENCE: Duration = Duration::from_secs(60);

/// What a walk gives: text of whole lines, or why it broke off.
pub type Chunk = Result<Vec<u8>, FlowsError>;

/// Why a walk did not start, or did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum FlowsError {
    /// Too many walks at once.
    #[error("{READERS} readers already walk the flow tables; try again when one has ended")]
    Busy,
    /// The kernel said no.
    #[error("{0}")]
    Dataplane(#[from] DataplaneError),
    /// The reader left the connection open without reading.
    #[error("the reader took nothing for {} s", READER_PATIENCE.as_secs())]
    ReaderStopped,
}

/// The flow tables, for several readers.
#[derive(Clone, Debug)]
pub struct Flows {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tables: FlowTables,
    readers: Semaphore,
}

impl Flows {
    /// Readers walk `tables`.
    pub fn new(tables: FlowTables) -> Self {
        Self {
            shared: Arc::new(Shared {
                tables,
                readers: Semaphore::new(READERS),
            }),
        }
    }

    /// Starts a walk. It ends when it has seen everything, when the limit is reached, or when the receiver is dropped.
    pub fn walk(&self, query: FlowQuery, naming: Naming) -> Result<mpsc::Receiver<Chunk>, FlowsError> {
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let shared = Arc::clone(&self.shared);
        // Tried once for the error; held by the thread.
        if shared.readers.available_permits() == 0 {
            return Err(FlowsError::Busy);
        }
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let Ok(permit) = shared.readers.try_acquire() else {
                drop(sender.blocking_send(Err(FlowsError::Busy)));
                return;
            };
            let filter = Filter::new(query, &naming);
            let reader = Reader { sender, runtime };
            if let Err(error) = walk(&shared.tables, &filter, &naming, &reader, &permit) {
                // Nobody is left to tell when the reader is gone.
                drop(reader.sender.blocking_send(Err(error)));
            }
        });
        Ok(receiver)
    }
}

/// The other end.
struct Reader {
    sender: mpsc::Sender<Chunk>,
    runtime: Handle,
}

impl Reader {
    /// `Break`: nobody reads any more.
    fn send(&self, chunk: Vec<u8>) -> Result<ControlFlow<()>, FlowsError> {
        let sent = async { tokio::time::timeout(READER_PATIENCE, self.sender.send(Ok(chunk))).await };
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(ControlFlow::Continue(())),
            Ok(Err(_)) => Ok(ControlFlow::Break(())),
            Err(_) => Err(FlowsError::ReaderStopped),
        }
    }
}

fn walk(
    tables: &FlowTables,
    filter: &Filter,
    naming: &Naming,
    reader: &Reader,
    _permit: &SemaphorePermit<'_>,
) -> Result<(), FlowsError> {
    let clock = tables.clock()?;
    let mut left = filter.limit();
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + 1_024);
    let mut broken = Ok(());
    for place in [Place::HalfOpen, Place::Established] {
        for family in [Family::Ipv4, Family::Ipv6] {
            if !filter.wants(place, family) {
                continue;
            }
            let walked = tables.walk(place, family, &mut |connection| {
                if left == 0 {
                    return ControlFlow::Break(());
                }
                if !filter.takes(&connection, naming) {
                    // A walk that matches little still notices that its reader is gone.
                    return hung_up(reader);
                }
                left -= 1;
                write_line(&mut chunk, &view(&connection, naming, &clock));
                if chunk.len() < CHUNK_BYTES {
                    return ControlFlow::Continue(());
                }
                let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_BYTES + 1_024));
                reader.send(full).unwrap_or_else(|error| {
                    broken = Err(error);
                    ControlFlow::Break(())
                })
            })?;
            std::mem::replace(&mut broken, Ok(()))?;
            if walked.is_break() && left > 0 {
                return Ok(());
            }
        }
    }
    reader.send(chunk).map(drop)
}

fn hung_up(reader: &Reader) -> ControlFlow<()> {
    if reader.sender.is_closed() {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

/// A line; serializing plain fields into memory does not fail.
fn write_line(chunk: &mut Vec<u8>, view: &FlowView) {
    let start = chunk.len();
    match serde_json::to_writer(&mut *chunk, view) {
        Ok(()) => chunk.push(b'\n'),
        Err(_) => chunk.truncate(start),
    }
}

/// What people see of a connection.
fn view(connection: &Connection, naming: &Naming, clock: &TickClock) -> FlowView {
    let (service, backend) = naming.of(connection.backend_id);
    FlowView {
        schema: SCHEMA,
        id: format!("{:016x}", connection.conn_id),
        service: service.to_owned(),
        backend: backend.to_owned(),
        protocol: protocol_of(connection).to_owned(),
        family: if connection.client.is_ipv4() {
            FlowFamily::Ipv4
        } else {
            FlowFamily::Ipv6
        },
        mode: mode_of(connection).to_owned(),
        state: state_of(connection),
        client: connection.client,
        vip: connection.vip,
        snat: (connection.source != connection.client).then_some(connection.source),
        backend_address: connection.backend,
        created: clock.time(connection.created).into(),
        last_seen: clock.time(connection.last_seen).into(),
        age_s: clock.age(connection.created).as_secs(),
        idle_s: clock.age(connection.last_seen).as_secs(),
    }
}
