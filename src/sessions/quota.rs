//! How many sessions may be live at once, in all and for each caller, and how many settled ones are kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::kernel::session::Opening;

pub struct Quota {
    all: Share,
    most_settled: usize,
    callers: HashMap<Arc<str>, Share>,
}

struct Share {
    live: AtomicUsize,
    most: usize,
}

impl Quota {
    pub fn new(most: usize, callers: impl IntoIterator<Item = (Arc<str>, usize)>) -> Self {
        Self {
            all: Share::new(most),
            most_settled: usize::MAX,
            callers: callers.into_iter().map(|(name, most)| (name, Share::new(most))).collect(),
        }
    }

    /// Beyond so many, settled sessions are forgotten before their time.
    pub fn with_settled(self, most_settled: usize) -> Self {
        Self { most_settled, ..self }
    }

    pub fn most_settled(&self) -> usize {
        self.most_settled
    }

    /// Takes a place, or changes nothing and says false.
    pub fn admit(&self, caller: Option<&Arc<str>>) -> bool {
        let share = caller.and_then(|name| self.callers.get(name));
        if share.is_some_and(|share| !share.admit()) {
            return false;
        }
        let admitted = self.all.admit();
        if !admitted && let Some(share) = share {
            share.release();
        }
        admitted
    }

    /// Counts a session that was admitted before a restart, also beyond a limit that is lower now.
    pub fn readmit(&self, opening: &Opening) {
        self.all.live.fetch_add(1, Ordering::Relaxed);
        if let Some(share) = opening.caller.as_ref().and_then(|name| self.callers.get(name)) {
            share.live.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn release(&self, opening: &Opening) {
        self.all.release();
        if let Some(share) = opening.caller.as_ref().and_then(|name| self.callers.get(name)) {
            share.release();
        }
    }

    pub fn live(&self) -> usize {
        self.all.live.load(Ordering::Relaxed)
    }
}

impl Share {
    fn new(most: usize) -> Self {
        Self { live: AtomicUsize::new(0), most }
    }

    fn admit(&self) -> bool {
        self.live.try_update(Ordering::Relaxed, Ordering::Relaxed, |live| (live < self.most).then(|| live + 1)).is_ok()
    }

    fn release(&self) {
        let _ = self.live.try_update(Ordering::Relaxed, Ordering::Relaxed, |live| live.checked_sub(1));
    }
}
