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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use tracing::{Event, Level, Subscriber};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;
    use crate::kernel::time::Timestamp;

    /// Its wall clock is ahead.
    struct SetAhead(Offset);

    impl Clock for SetAhead {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }

        fn offset(&self) -> Offset {
            self.0
        }

        fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
            core::future::pending().boxed()
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<Level>>>);

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().push(*event.metadata().level());
        }
    }

    #[test]
    fn each_step_of_more_than_half_a_minute_is_told_once() {
        let (parting, lines) = (Parting::default(), Lines::default());
        let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
        let told = |seconds: i64| {
            parting.look(&SetAhead(Offset::from_millis(seconds * 1000)));
            std::mem::take(&mut *lines.0.lock())
        };
        let rows = [
            (0, None),
            (30, None),
            (31, Some(Level::WARN)),
            (31, None),
            (45, None),
            (-40, Some(Level::WARN)),
            (-40, None),
            (0, Some(Level::INFO)),
            (0, None),
        ];
        for (seconds, level) in rows {
            assert_eq!(told(seconds), Vec::from_iter(level), "{seconds}");
        }
    }
}
