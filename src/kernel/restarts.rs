//! How often a crash is forgiven: bookkeeping of the watchdog, as pure values.

use core::time::Duration;
use std::collections::VecDeque;

use super::time::Timestamp;

/// Crashes of one key since its last accepted work. The sixth in a row gives up; there is no time window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restarts {
    crashes: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    RestartAfter(Duration),
    GiveUp,
}

impl Restarts {
    /// Counts a crash: restart at once, then after 1, 2, 4 and 4 s; the sixth gives up.
    pub fn crashed(&mut self) -> Decision {
        self.crashes = self.crashes.saturating_add(1);
        match self.crashes {
            1 => Decision::RestartAfter(Duration::ZERO),
            2 => Decision::RestartAfter(Duration::from_secs(1)),
            3 => Decision::RestartAfter(Duration::from_secs(2)),
            4 | 5 => Decision::RestartAfter(Duration::from_secs(4)),
            _ => Decision::GiveUp,
        }
    }
}

/// Crashes of all keys together. More than 50 within 60 s are a storm, which lasts until a minute has passed without a crash.
#[derive(Clone, Debug, Default)]
pub struct Storm {
    recent: VecDeque<Timestamp>,
    raging: bool,
}

impl Storm {
    const LIMIT: usize = 50;
    const WINDOW: Duration = Duration::from_secs(60);

    pub fn crashed(&mut self, now: Timestamp) {
        self.raging = self.is_raging(now);
        self.recent.push_back(now);
        while self.recent.len() > Self::LIMIT + 1 {
            self.recent.pop_front();
        }
        let oldest = self.recent.front().copied().unwrap_or(now);
        self.raging |= self.recent.len() > Self::LIMIT && now.since(oldest) <= Self::WINDOW;
    }

    pub fn is_raging(&self, now: Timestamp) -> bool {
        self.raging && self.recent.back().is_some_and(|last| now.since(*last) <= Self::WINDOW)
    }
}
