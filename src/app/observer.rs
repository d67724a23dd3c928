//! Who is told of what happens: the metrics, the audit log, the watchdog's memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tracing::{debug, error, info, warn};

use super::{Child, Crew};
use crate::kernel::session::{Session, SessionId, State};
use crate::kernel::time::Timestamp;
use crate::metrics::{Asked, Metrics};
use crate::sessions::Observer;
use crate::telemetry::{AUDIT, EXCHANGE, SUPERVISION};
use crate::watchdog::{Cause, Event, Watchdog};

/// The end of a session that left without an outcome: the store did not have it.
const ABANDONED: &str = "abandoned";

/// How often the poller of each session crashed, for people who want to see it.
#[derive(Default)]
pub struct Crashes(Mutex<HashMap<SessionId, u32>>);

pub struct Witness {
    pub metrics: Arc<Metrics>,
    pub crashes: Arc<Crashes>,
    pub watchdog: Watchdog<Crew>,
}

impl Observer for Witness {
    fn opened(&self, session: &Session) {
        let opening = session.opening();
        self.metrics.created(&opening.provider);
        info!(
            target: AUDIT,
            event = "opened",
            session = fingerprint(session.id()),
            provider = &*opening.provider,
            caller = opening.caller.as_deref().unwrap_or("anonymous"),
        );
    }

    fn moved(&self, _: &Session, after: &Session) {
        let provider = &*after.opening().provider;
        let outcome = match after.state() {
            State::Failed { failure, .. } => failure.code(),
            _ => after.status().as_str(),
        };
        if after.is_settled() {
            self.metrics.settled(provider, outcome);
        }
        let lasted_ms = settled_at(after).map(|at| in_ms(at.since(after.opened_at())));
        info!(target: AUDIT, event = outcome, session = fingerprint(after.id()), provider, lasted_ms);
    }

    fn lost(&self, session: &Session) {
        self.metrics.lost();
        error!(session = fingerprint(session.id()), "its row in the store cannot be read; the session has failed");
    }

    fn forgotten_early(&self, sessions: usize) {
        self.metrics.forgotten_early(sessions);
    }

    fn stranded(&self, id: SessionId) {
        self.metrics.stranded();
        error!(session = fingerprint(id), "tokens came for a sign-in that is gone; they stay valid until they expire");
    }

    fn gone(&self, session: &Session) {
        if !session.is_settled() {
            let provider = &*session.opening().provider;
            self.metrics.settled(provider, ABANDONED);
            info!(target: AUDIT, event = ABANDONED, session = fingerprint(session.id()), provider);
        }
        self.watchdog.forget(Child::Poller(session.id()));
        self.crashes.0.lock().remove(&session.id());
    }
}

impl Crashes {
    pub fn of(&self, id: SessionId) -> u32 {
        self.0.lock().get(&id).copied().unwrap_or(0)
    }
}

/// Logs and counts an exchange with a provider.
pub(super) fn asked(id: SessionId, asked: Asked<'_>, metrics: &Metrics) {
    let Asked { provider, errand, answer, took, late } = asked;
    metrics.asked(asked);
    debug!(target: EXCHANGE, session = fingerprint(id), provider, errand, answer, took_ms = in_ms(took), late_ms = in_ms(late));
}

/// Logs and counts what went wrong under the watchdog.
pub(super) fn observe(event: &Event<Child>, metrics: &Metrics, crashes: &Crashes) {
    match event {
        Event::Crashed { key, cause } => {
            let cause = match cause {
                Cause::Panicked => "panicked",
                Cause::Hung => "hung",
            };
            metrics.crashed(key.task(), cause);
            warn!(target: SUPERVISION, task = key.task(), session = key.session(), cause, "crashed");
            if let Child::Poller(id) = key {
                *crashes.0.lock().entry(*id).or_default() += 1;
            }
        }
        Event::Restarted { key, after } => {
            metrics.restarted();
            warn!(target: SUPERVISION, task = key.task(), session = key.session(), after_ms = in_ms(*after), "started again");
        }
        Event::GaveUp { key } => {
            metrics.gave_up();
            error!(target: SUPERVISION, task = key.task(), session = key.session(), "crashed six times in a row, given up");
        }
        Event::Stuck { key } => {
            metrics.stuck(key.task());
            error!(target: SUPERVISION, task = key.task(), session = key.session(), "stuck: hangs, cannot be dropped, and keeps a thread");
        }
    }
}

impl Child {
    fn task(&self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Poller(_) => "poller",
        }
    }

    fn session(&self) -> Option<String> {
        match self {
            Self::Scheduler => None,
            Self::Poller(id) => Some(fingerprint(*id)),
        }
    }
}

/// The first half of the id's SHA-256, in hex: the same in every line and the id of the session's trace, and of no use to whoever
/// reads them.
pub(super) fn fingerprint(id: SessionId) -> String {
    let half = Sha256::digest(id.as_bytes()).first_chunk().copied().unwrap_or_default();
    format!("{:032x}", u128::from_be_bytes(half))
}

fn settled_at(session: &Session) -> Option<Timestamp> {
    match session.state() {
        State::Claimed { at, .. } | State::Denied { at } | State::Expired { at } | State::Cancelled { at } | State::Failed { at, .. } => {
            Some(*at)
        }
        State::Starting | State::Pending(_) | State::Verifying(_) | State::Authorized { .. } => None,
    }
}

fn in_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
