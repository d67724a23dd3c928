//! What the page and a script can break from outside, shared by the server and the [`Saboteur`](super::Saboteur).

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

/// Breakages that are armed until somebody runs into them.
#[derive(Default)]
pub struct Switches {
    crashes: Mutex<HashMap<Box<str>, VecDeque<Crash>>>,
    reach: Mutex<Reach>,
}

/// Where in its exchange a poller dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    BeforeAsking,
    /// The provider has answered, and the answer dies with the poller.
    AfterTheAnswer,
}

/// Whether the provider can be reached. The page always can.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Reach {
    #[default]
    Up,
    /// Every request gets a TCP reset.
    Reset,
    /// Every request gets the 502 page of a proxy.
    BadGateway,
}

impl Switches {
    /// Makes one poll for this device code panic. Calls add up.
    pub fn crash(&self, device_code: &str, crash: Crash) {
        self.crashes.lock().entry(device_code.into()).or_default().push_back(crash);
    }

    /// The panics that are still to come for this device code.
    pub fn crashes_left(&self, device_code: &str) -> usize {
        self.crashes.lock().get(device_code).map_or(0, VecDeque::len)
    }

    pub fn set_reach(&self, reach: Reach) {
        *self.reach.lock() = reach;
    }

    pub fn reach(&self) -> Reach {
        *self.reach.lock()
    }

    /// Disarms the next crash for this device code and says what it was.
    pub(super) fn take_crash(&self, device_code: &str) -> Option<Crash> {
        let mut crashes = self.crashes.lock();
        let armed = crashes.get_mut(device_code)?;
        let next = armed.pop_front();
        if armed.is_empty() {
            crashes.remove(device_code);
        }
        next
    }
}
