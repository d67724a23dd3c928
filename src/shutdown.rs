//! When to stop: the first SIGTERM or SIGINT asks, the second insists.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Clones share one fate.
#[derive(Clone, Default, Debug)]
pub struct Shutdown {
    requested: CancellationToken,
    aborted: CancellationToken,
}

/// The signals that a [`Shutdown`] listens to.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// Begin to drain: no new work, finish what is under way.
    pub async fn requested(&self) {
        self.requested.cancelled().await;
    }

    /// Stop at once.
    pub async fn aborted(&self) {
        self.aborted.cancelled().await;
    }

    pub fn is_requested(&self) -> bool {
        self.requested.is_cancelled()
    }

    pub fn request(&self) {
        self.requested.cancel();
    }

    pub fn abort(&self) {
        self.requested.cancel();
        self.aborted.cancel();
    }

    /// Obeys the signals, until the second has come.
    pub async fn obey(self, mut signals: Signals) {
        let first = signals.next().await;
        tracing::info!(signal = first, "shutting down; send it again to stop at once");
        self.request();
        let second = signals.next().await;
        tracing::warn!(signal = second, "stopping at once");
        self.abort();
    }
}

impl Signals {
    /// From here on the signals no longer end the process by themselves. Needs a tokio runtime.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
