//! What was received, when, and what came of it.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::codes::Manners;
use super::options::Recording;
use super::script::Endpoint;
use crate::kernel::time::Timestamp;

/// One request and what it was answered.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub endpoint: Endpoint,
    /// The code that the request was about, or that its answer carried. `None` if it is not one of ours.
    pub user_code: Option<Arc<str>>,
    pub at: Timestamp,
    /// When the answer was handed to the connection, or the connection ended. `None` while it is open.
    pub answered_at: Option<Timestamp>,
    /// Whether there was an `Authorization` header.
    pub authorization: bool,
    /// The form parameters as they came; secrets are `[redacted]`, but there.
    pub params: Vec<(String, String)>,
    pub outcome: Option<Outcome>,
}

/// How a request ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A real answer that is neither tokens nor an error.
    Done,
    Tokens,
    /// The tokens were issued, but the answer did not get through.
    TokensLost,
    /// A real OAuth error (RFC 6749 §5.2), delivered.
    Error(Cow<'static, str>),
    /// An answer made to order, with this status.
    Scripted(u16),
    /// The client got no answer, or not all of it.
    NoAnswer,
}

/// Totals since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    pub connections: u64,
    pub discoveries: u64,
    pub device_requests: u64,
    pub token_requests: u64,
    pub revocations: u64,
    pub userinfos: u64,
    pub key_requests: u64,
    /// Token answers, lost ones included.
    pub grants: u64,
    pub slow_downs: u64,
    /// Polls sooner after the previous answer than the interval and all `slow_down`s demand.
    pub early_polls: u64,
    /// Polls that arrived while another one for the same code was open.
    pub overlapping_polls: u64,
}

pub struct Record {
    book: Mutex<Book>,
    written: Notify,
}

#[derive(Default)]
struct Book {
    counts: Counts,
    exchanges: Vec<Exchange>,
}

/// Where an exchange stands in the book; `None` when only counts are kept.
pub type Entry = Option<usize>;

impl Record {
    pub fn new() -> Self {
        Self { book: Mutex::default(), written: Notify::new() }
    }

    pub fn connected(&self) {
        self.book.lock().counts.connections += 1;
        self.written.notify_waiters();
    }

    /// A request has arrived. Its exchange is built only if it is kept.
    pub fn arrived(&self, endpoint: Endpoint, manners: Manners, keep: Recording, exchange: impl FnOnce() -> Exchange) -> Entry {
        let entry = {
            let mut book = self.book.lock();
            let counts = &mut book.counts;
            *match endpoint {
                Endpoint::Discovery => &mut counts.discoveries,
                Endpoint::DeviceAuthorization => &mut counts.device_requests,
                Endpoint::Token => &mut counts.token_requests,
                Endpoint::Revocation => &mut counts.revocations,
                Endpoint::Userinfo => &mut counts.userinfos,
                Endpoint::Keys => &mut counts.key_requests,
            } += 1;
            counts.early_polls += u64::from(manners.early);
            counts.overlapping_polls += u64::from(manners.overlapping);
            (keep == Recording::Full).then(|| {
                book.exchanges.push(exchange());
                book.exchanges.len() - 1
            })
        };
        self.written.notify_waiters();
        entry
    }

    pub fn ended(&self, entry: Entry, now: Timestamp, outcome: Outcome, slow_down: bool, user_code: Option<Arc<str>>) {
        {
            let mut book = self.book.lock();
            book.counts.slow_downs += u64::from(slow_down);
            book.counts.grants += u64::from(matches!(outcome, Outcome::Tokens | Outcome::TokensLost));
            if let Some(exchange) = entry.and_then(|entry| book.exchanges.get_mut(entry)) {
                exchange.answered_at = Some(now);
                exchange.outcome = Some(outcome);
                exchange.user_code = exchange.user_code.take().or(user_code);
            }
        }
        self.written.notify_waiters();
    }

    pub fn counts(&self) -> Counts {
        self.book.lock().counts
    }

    pub fn exchanges(&self, wanted: impl Fn(&Exchange) -> bool) -> Vec<Exchange> {
        self.book.lock().exchanges.iter().filter(|exchange| wanted(exchange)).cloned().collect()
    }

    /// Returns as soon as `satisfied`, which is asked again after everything that is written.
    pub async fn wait_for(&self, mut satisfied: impl FnMut() -> bool) {
        loop {
            let mut written = pin!(self.written.notified());
            written.as_mut().enable();
            if satisfied() {
                return;
            }
            written.await;
        }
    }
}

/// The waits between the answers and the requests that followed them. A request that did not wait for an answer waited for nothing.
pub fn gaps(exchanges: &[Exchange]) -> Vec<Duration> {
    let pairs = exchanges.iter().zip(exchanges.iter().skip(1));
    pairs.map(|(before, after)| before.answered_at.map_or(Duration::ZERO, |answered| after.at.since(answered))).collect()
}
