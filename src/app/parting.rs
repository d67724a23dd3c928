//! Notices that somebody set the wall clock, and says so once.

use std::time::Duration;

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::kernel::time::Offset;

/// The offset that was told of last.
#[derive(Default)]
pub struct Parting(Mutex<Offset>);

/// As far as ID tokens and assertions can bear without trouble.
const TOLERABLE: Duration = Duration::from_secs(30);

impl Parting {
    pub fn look(&self, clock: &dyn Clock) {
        let offset = clock.offset();
        let mut told = self.0.lock();
        if offset.apart(*told) <= TOLERABLE {
            return;
        }
        *told = offset;
        drop(told);
        let seconds = offset.abs().as_secs_f64().round();
        match offset.abs() > TOLERABLE {
            true if offset.is_ahead() => {
                warn!(seconds, "the wall clock was set forward since the start; times are shown by it, what waits goes on as it was");
            }
            true => warn!(seconds, "the wall clock was set back since the start; times are shown by it, what waits goes on as it was"),
            false => info!("the wall clock is again what it was at the start"),
        }
    }
}
