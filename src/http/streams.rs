//! How many event streams are open, of one client address and of one session: nobody takes all the places.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::limit::Client;
use super::problem::{Code, Problem};
use crate::kernel::session::SessionId;

/// Places that are counted by key; clones count together.
pub struct Places<K: Hash + Eq> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    most: usize,
}

/// A place that is taken; given back on drop.
pub struct Place<K: Hash + Eq> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    key: K,
}

/// The event streams.
pub struct Streams {
    addresses: Places<IpAddr>,
    sessions: Places<SessionId>,
}

/// One open stream.
pub struct Open {
    _address: Option<Place<IpAddr>>,
    _session: Place<SessionId>,
}

impl<K: Hash + Eq + Copy> Places<K> {
    pub fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// `None`: the key has as many as it may.
    pub fn take(&self, key: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock();
        let count = taken.entry(key).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { taken: Arc::clone(&self.taken), key })
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

impl Streams {
    /// `most` of one client address, and as many of one session.
    pub fn new(most: usize) -> Self {
        Self { addresses: Places::new(most), sessions: Places::new(most) }
    }

    /// # Errors
    /// `rate_limited`: there are too many already.
    pub fn open(&self, Client(address): Client, session: SessionId) -> Result<Open, Problem> {
        let too_many = || Problem::from(Code::RateLimited);
        let address = address.map(|address| self.addresses.take(address).ok_or_else(too_many)).transpose()?;
        Ok(Open { _address: address, _session: self.sessions.take(session).ok_or_else(too_many)? })
    }
}
