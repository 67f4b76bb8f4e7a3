//! Signals, and how the service ends: the first SIGTERM or SIGINT drains, a second one ends the process at once, SIGHUP looks
//! for changed plugins.

use std::{
    io,
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::service::Running;

/// How often a running service is asked whether it failed.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// Status of a process that was ended by a second signal: 128 and the number of SIGINT.
const SECOND_SIGNAL: i32 = 130;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// End, with the work in hand done.
    Drain,
    /// Look for changed plugins.
    Rescan,
}

/// The process's signals. While it lives they do not end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    requests: Receiver<Request>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Runs until a signal or a failure, then drains.
pub fn supervise(running: Running, signals: &Signals, grace: Duration) -> ExitCode {
    let failed = loop {
        match signals.wait(CHECK_EVERY) {
            Some(Request::Drain) => break false,
            Some(Request::Rescan) => running.rescan(),
            None if running.failed() => break true,
            None => {}
        }
    };
    if failed {
        error!("a part of the service has failed; ending");
    } else {
        info!(grace = ?grace, "ending: work in hand is done first, a second signal ends at once");
    }
    let met = running.drain(grace);
    if met {
        info!("drained");
    } else {
        warn!("the grace period was not enough; what is not committed is read again at the next start");
    }
    if failed || !met { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

// === impl Signals ===

impl Signals {
    /// Takes the signals over, in a thread of its own.
    pub fn install() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut term, mut int, mut hup) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
        };
        let (sender, requests) = sync_channel(8);
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let thread = thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                let mut ending = false;
                loop {
                    tokio::select! {
                        biased;
                        _ = &mut stopped => return,
                        _ = term.recv() => end(&mut ending, &sender),
                        _ = int.recv() => end(&mut ending, &sender),
                        // A full queue holds a rescan already.
                        _ = hup.recv() => drop(sender.try_send(Request::Rescan)),
                    }
                }
            });
        })?;
        Ok(Self { requests, stop: Some(stop), thread: Some(thread) })
    }

    /// The next request, waiting at most this long.
    pub fn wait(&self, limit: Duration) -> Option<Request> {
        match self.requests.recv_timeout(limit) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            // The thread is gone: without signals nobody could end the service in an orderly way.
            Err(RecvTimeoutError::Disconnected) => Some(Request::Drain),
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Without a sender the thread ends.
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the signal thread panicked");
        }
    }
}

fn end(ending: &mut bool, sender: &SyncSender<Request>) {
    if *ending {
        error!("second signal: ending at once");
        std::process::exit(SECOND_SIGNAL);
    }
    *ending = true;
    // A full queue of rescans is emptied by the supervisor within its next checks.
    if sender.send(Request::Drain).is_err() {
        error!("nobody waits for signals any more; ending at once");
        std::process::exit(SECOND_SIGNAL);
    }
}
