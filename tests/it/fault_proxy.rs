//! A network that fails on purpose: a TCP proxy of the tests' own between the service and a `redis-server`. It refuses, resets,
//! stalls, slows down, swallows replies, and leads to another server when told to. What it does at random is given by a seed.
//! All of it lives in one thread, which ends when the proxy is dropped.

use std::{
    io,
    net::SocketAddr,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};

/// What the network does. Each lasts until another one is set.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It works.
    None,
    /// Nobody listens; what is connected stays so.
    Refuse,
    /// A reset after every so many bytes of replies, drawn from the range, over all connections together.
    Reset(Range<u64>),
    /// The same with an orderly close.
    Cut(Range<u64>),
    /// Nothing passes and nothing is closed; who connects is not answered. What was open then is reset when this ends.
    HalfOpen,
    /// Replies pass at so many bytes a second, each piece that late.
    Slow { bytes_per_second: usize, delay: Duration },
    /// Of commands that hold this text so many are executed, and their replies swallowed by a reset.
    LoseReplies { to: &'static str, times: u64 },
}

/// The proxy. Listens on a loopback port for as long as it lives.
pub(crate) struct FaultProxy {
    port: u16,
    plan: watch::Sender<Plan>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
struct Plan {
    fault: Fault,
    /// The server's unix socket.
    backend: PathBuf,
    /// Raised when every connection must be reset.
    era: u64,
    stop: bool,
}

struct Shared {
    rng: Mutex<Rng>,
    /// Bytes of replies until the next reset or cut.
    left: AtomicU64,
    /// Replies that are still to be swallowed.
    to_lose: AtomicU64,
    /// How often a fault struck.
    struck: AtomicU64,
}

/// How a connection ends.
enum End {
    Close,
    Reset,
}

// === impl FaultProxy ===

impl FaultProxy {
    /// Leads to the server behind this unix socket.
    pub(crate) fn start(backend: PathBuf, seed: u64) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (plan, planned) = watch::channel(Plan { fault: Fault::None, backend, era: 0, stop: false });
        let shared = Arc::new(Shared {
            rng: Mutex::new(Rng::with_seed(seed)),
            left: AtomicU64::new(0),
            to_lose: AtomicU64::new(0),
            struck: AtomicU64::new(0),
        });
        let state = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // What still runs when this returns is dropped with the runtime, which closes its sockets.
            runtime.block_on(accept(listener, planned, state)).unwrap();
        });
        Self { port, plan, shared, thread: Some(thread) }
    }

    /// For `REDIS_URL`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Begins a fault, in the place of the one before.
    pub(crate) fn set(&self, fault: Fault) {
        match &fault {
            Fault::Reset(range) | Fault::Cut(range) => self.shared.draw(range),
            Fault::LoseReplies { times, .. } => self.shared.to_lose.store(*times, Ordering::Release),
            _ => {}
        }
        self.plan.send_modify(|plan| plan.fault = fault);
    }

    /// All is well again.
    pub(crate) fn heal(&self) {
        self.set(Fault::None);
    }

    /// Resets every connection; new ones go on.
    pub(crate) fn reset_all(&self) {
        self.plan.send_modify(|plan| plan.era += 1);
    }

    /// Leads to another server, as a fail-over does: what is open is reset.
    pub(crate) fn swap(&self, backend: PathBuf) {
        self.plan.send_modify(|plan| {
            plan.backend = backend;
            plan.era += 1;
        });
    }

    /// How often a fault struck so far: connections refused to listen to are not seen, and not counted.
    pub(crate) fn struck(&self) -> u64 {
        self.shared.struck.load(Ordering::Acquire)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.plan.send_modify(|plan| plan.stop = true);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking(), "the proxy's thread panicked");
    }
}

// === impl Shared ===

impl Shared {
    fn draw(&self, range: &Range<u64>) {
        self.left.store(self.rng.lock().unwrap().u64(range.clone()), Ordering::Release);
    }

    fn strike(&self) {
        self.struck.fetch_add(1, Ordering::AcqRel);
    }

    /// How much of a piece of a reply passes before the connection ends; `None`: all of it, and it goes on.
    fn cut(&self, length: usize, range: &Range<u64>) -> Option<usize> {
        let left = self.left.load(Ordering::Acquire);
        if (length as u64) < left {
            self.left.store(left - length as u64, Ordering::Release);
            return None;
        }
        self.strike();
        self.draw(range);
        Some(left as usize)
    }
}

async fn accept(
    listener: std::net::TcpListener,
    mut plan: watch::Receiver<Plan>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let mut listener = Some(TcpListener::from_std(listener)?);
    loop {
        let (stop, refuse) = {
            let plan = plan.borrow_and_update();
            (plan.stop, matches!(plan.fault, Fault::Refuse))
        };
        if stop {
            return Ok(());
        }
        if refuse {
            listener = None;
            plan.changed().await.map_err(io::Error::other)?;
            continue;
        }
        let open = match listener.take() {
            Some(open) => open,
            None => listen_again(address).await,
        };
        let open = listener.insert(open);
        tokio::select! {
            accepted = open.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(connection(client, plan.clone(), Arc::clone(&shared)));
                }
            }
            changed = plan.changed() => changed.map_err(io::Error::other)?,
        }
    }
}

/// The port is free: it was ours, and nobody else asks for that number.
async fn listen_again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn connection(mut client: TcpStream, plan: watch::Receiver<Plan>, shared: Arc<Shared>) {
    let ended = relay(&mut client, plan, &shared).await.unwrap_or(End::Close);
    if matches!(ended, End::Reset) {
        // Closed with linger 0: the peer gets RST, whatever is still unsent.
        drop(client.set_zero_linger());
    }
}

/// Passes bytes until a side closes or a fault ends it.
async fn relay(client: &mut TcpStream, mut plan: watch::Receiver<Plan>, shared: &Shared) -> io::Result<End> {
    client.set_nodelay(true)?;
    let (era, backend) = {
        let plan = plan.borrow();
        (plan.era, plan.backend.clone())
    };
    // A server that is gone: the client sees its connection closed.
    let mut backend = UnixStream::connect(backend).await?;
    let ((client_in, client_out), (backend_in, backend_out)) = (client.split(), backend.split());
    let lose = AtomicBool::new(false);
    let commands = pump_commands(client_in, backend_out, plan.clone(), shared, &lose);
    let replies = pump_replies(backend_in, client_out, plan.clone(), shared, &lose);
    let killed = async { drop(plan.wait_for(|plan| plan.era != era || plan.stop).await) };
    tokio::select! {
        ended = commands => ended,
        ended = replies => ended,
        () = killed => Ok(End::Reset),
    }
}

async fn pump_commands(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    plan: watch::Receiver<Plan>,
    shared: &Shared,
    lose: &AtomicBool,
) -> io::Result<End> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(End::Close);
        }
        if stalled(plan.clone(), shared).await {
            return Ok(End::Reset);
        }
        let fault = plan.borrow().fault.clone();
        // Commands of interest are short and sent in one go: they are not looked for over two pieces.
        if let Fault::LoseReplies { to, .. } = fault
            && memchr::memmem::find(&buffer[..length], to.as_bytes()).is_some()
            && shared.to_lose.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
        {
            lose.store(true, Ordering::Release);
        }
        to.write_all(&buffer[..length]).await?;
    }
}

async fn pump_replies(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    plan: watch::Receiver<Plan>,
    shared: &Shared,
    lose: &AtomicBool,
) -> io::Result<End> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let fault = plan.borrow().fault.clone();
        let limit = match fault {
            Fault::Slow { bytes_per_second, .. } => (bytes_per_second / 20).clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        let length = from.read(&mut buffer[..limit]).await?;
        if length == 0 {
            return Ok(End::Close);
        }
        if lose.load(Ordering::Acquire) {
            // It was executed, and nobody hears of it.
            shared.strike();
            return Ok(End::Reset);
        }
        if stalled(plan.clone(), shared).await {
            return Ok(End::Reset);
        }
        let fault = plan.borrow().fault.clone();
        let (pass, end) = match &fault {
            Fault::Reset(range) => (shared.cut(length, range), End::Reset),
            Fault::Cut(range) => (shared.cut(length, range), End::Close),
            Fault::Slow { delay, .. } => {
                shared.strike();
                tokio::time::sleep(*delay + Duration::from_millis(50)).await;
                (None, End::Close)
            }
            _ => (None, End::Close),
        };
        to.write_all(&buffer[..pass.unwrap_or(length)]).await?;
        if pass.is_some() {
            return Ok(end);
        }
    }
}

/// While half-open: waits until that is over; `true` when it was, and the connection is dead.
async fn stalled(mut plan: watch::Receiver<Plan>, shared: &Shared) -> bool {
    if !matches!(plan.borrow().fault, Fault::HalfOpen) {
        return false;
    }
    shared.strike();
    // An error means that the proxy ends.
    drop(plan.wait_for(|plan| !matches!(plan.fault, Fault::HalfOpen)).await);
    true
}
