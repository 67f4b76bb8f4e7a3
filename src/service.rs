//! Build, spawn, drain: the parts of the service and how they are wired.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{config::Config, source};

/// The service, built and not yet running.
pub struct Service {
    never: std::convert::Infallible,
}

/// The running service.
pub struct Running {
    never: std::convert::Infallible,
}

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The parts are not there.
    #[error("this build has no data path")]
    Parts,
}

// === impl Service ===

impl Service {
    /// Takes what it needs: sockets, folders, locks. Starts nothing.
    pub fn build(_config: Config) -> Result<Self, ServiceError> {
        Err(ServiceError::Parts)
    }

    /// Where HTTP listens.
    pub fn address(&self) -> SocketAddr {
        match self.never {}
    }

    /// The stream, to append to.
    pub fn stream(&self) -> Arc<dyn source::Stream> {
        match self.never {}
    }

    /// Starts all threads; cannot fail.
    pub fn spawn(self) -> Running {
        match self.never {}
    }
}

// === impl Running ===

impl Running {
    /// Ends; `false`: the grace period was exceeded.
    pub fn drain(self, _grace: Duration) -> bool {
        match self.never {}
    }

    /// Whether a part has failed for good.
    pub fn failed(&self) -> bool {
        match self.never {}
    }

    /// Looks for changed plugins now.
    pub fn rescan(&self) {
        match self.never {}
    }
}
