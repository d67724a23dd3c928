//! How long, and how often, somebody is asked again who does not answer.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::kernel::time::Timestamp;

pub struct Patience {
    clock: Arc<dyn Clock>,
    until: Timestamp,
    /// Before the next try.
    pause: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A person waits, so a service that is back is to be noticed soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

impl Patience {
    pub fn until(until: Timestamp, clock: &Arc<dyn Clock>) -> Self {
        Self { clock: Arc::clone(clock), until, pause: FIRST_PAUSE }
    }

    pub fn left(&self) -> Duration {
        self.until.since(self.clock.now())
    }

    /// Waits before the next try, the last of which is at the very end. False: that one was it.
    pub async fn wait(&mut self, retry_after: Option<Duration>) -> bool {
        let left = self.left();
        if left.is_zero() {
            return false;
        }
        let pause = self.pause.max(retry_after.unwrap_or_default()).min(left);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.clock.sleep_until(self.clock.now() + pause).await;
        true
    }
}
