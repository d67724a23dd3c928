//! One attempt of one person to sign in on one device: its states, and every way in which it may change.
//!
//! A transition consumes the session and returns the next one, or [`Refused`] and nothing has changed. `now` is an argument.
//!
//! ```text
//! starting ──began──► pending ──report──► authorized ──claim──► claimed
//!     │                  │                    │
//!     └─ fail, cancel    ├─ denied, expired,  ├─ expired (nobody claimed in time)
//!                        │  failed, cancelled └─ cancelled
//!                        └─ verifying, which readers see as pending, then authorized, failed or cancelled
//! ```
//!
//! The last five states are settled: nothing leaves them, except that a denied or expired session becomes pending again when its
//! owner gets it a new code ([`Session::renew`]). What the provider is asked is announced first
//! ([`Session::attempt`]) and reported with the attempt's number; a report for any other attempt is refused. So a poller that
//! dies leaves an open attempt and no half change, and one that was given up for dead cannot write any more.

mod deadline;
mod ending;
mod errand;
mod exchange;
pub mod record;
mod renewal;
mod status;

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use secrecy::SecretString;
use uuid::Uuid;

pub use self::deadline::{Due, Urgency};
pub use self::errand::{Attempt, Errand};
use self::errand::{Kind, OpenAttempt};
pub use self::renewal::MAX_RENEWALS;
use self::renewal::Renewal;
pub use self::status::Status;
use super::pace::Pace;
use super::time::Timestamp;
use super::verdict::{DeviceCode, Failure, Grant, Prompt};

pub type SessionId = Uuid;
/// A SHA-256 digest: of a session secret, a caller key, a claim key or an idempotency key.
pub type Digest = [u8; 32];

/// Each poll makes two new sessions, so they share what polls leave as it is.
#[derive(Clone, Debug)]
pub struct Session {
    kept: Arc<Kept>,
    polling: Polling,
    attempts: u32,
    open_attempt: Option<OpenAttempt>,
}

/// All of a session that polling does not touch, and all that a store needs of it.
///
/// Two counters: `version` counts what the store must keep, `revision` what a reader can see. Neither counts polls. Version 0 is
/// not in the store: a session is first written when it has a code.
#[derive(Clone, Debug)]
pub struct Kept {
    opening: Opening,
    opened_at: Timestamp,
    version: u64,
    revision: u64,
    prompt: Option<Prompt>,
    extras: Option<Arc<Extras>>,
    state: State,
}

/// What most sessions do without.
#[derive(Clone, Default, Debug)]
struct Extras {
    creation: Option<Creation>,
    /// The first is the one that is tried, or will be next.
    revocations: Vec<Revocation>,
    renewal: Option<Renewal>,
}

/// With the two counters of their `Arc`s they fill 80 and 256 bytes, for each person who waits.
const _: () = assert!(size_of::<Session>() <= 64 && size_of::<Kept>() <= 240);

/// What is known of a session before the provider is asked; it never changes.
#[derive(Clone)]
pub struct Opening {
    pub id: SessionId,
    pub provider: Arc<str>,
    /// The caller that began it; absent when callers are anonymous.
    pub caller: Option<Arc<str>>,
    pub scope: Arc<str>,
    pub label: Option<Box<str>>,
    /// The digest of the session secret; the secret itself is only with its owner.
    pub secret: Digest,
}

/// Without the label, which people wrote.
impl fmt::Debug for Opening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Opening")
            .field("id", &self.id)
            .field("provider", &self.provider)
            .field("caller", &self.caller)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub enum State {
    Starting,
    Pending(Pending),
    /// The tokens are here, but the keys to verify their ID token are not. To readers this is `pending`.
    Verifying(Verifying),
    Authorized {
        grant: Arc<Grant>,
        claim_by: Timestamp,
    },
    Claimed {
        at: Timestamp,
        held: Option<Box<Held>>,
    },
    Denied {
        at: Timestamp,
    },
    Expired {
        at: Timestamp,
    },
    Cancelled {
        at: Timestamp,
    },
    Failed {
        at: Timestamp,
        failure: Failure,
    },
}

/// A sign-in that waits for the person.
#[derive(Clone, Debug)]
pub struct Pending {
    pub device_code: Arc<DeviceCode>,
    began_at: Timestamp,
    expires_at: Timestamp,
    pace: Pace,
}

/// How polling goes, while the session is pending. A restart forgets it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Polling {
    next_at: Timestamp,
    /// What the provider's pace alone would allow, without our own back-off.
    not_before: Timestamp,
    checked_at: Timestamp,
    doubt: Doubt,
    failures: u8,
    gibberish: u8,
}

/// Tokens that are withheld until their ID token is verified; after `until` they are revoked.
#[derive(Clone, Debug)]
pub struct Verifying {
    grant: Arc<Grant>,
    next_at: Timestamp,
    until: Timestamp,
}

/// Whether an earlier request may have spent the device code without our seeing the answer.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Doubt {
    #[default]
    None,
    /// A request was sent and its answer never understood.
    Sent,
    /// We were restarted: a request may have been under way.
    Restart,
}

/// Tokens that the holder of one claim key may read again for a while.
#[derive(Clone, Debug)]
pub struct Held {
    pub key: Digest,
    pub grant: Arc<Grant>,
    pub until: Timestamp,
}

/// An idempotent `POST /sessions`: the same key and fingerprint get the same secret again until it lapses.
#[derive(Clone, Debug)]
pub struct Creation {
    pub key: Digest,
    pub fingerprint: Digest,
    pub secret: SecretString,
    pub until: Timestamp,
}

/// Tokens that nobody may have and that the provider is to revoke (RFC 7009).
#[derive(Clone, Debug)]
struct Revocation {
    grant: Arc<Grant>,
    next_at: Timestamp,
    until: Timestamp,
}

/// How long things are kept; from the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// How long authorized tokens wait for their owner.
    pub claim_ttl: Duration,
    /// How long a settled session stays readable.
    pub retention: Duration,
}

/// Why a change was refused. The session is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No such session.
    Unknown,
    /// A session with this id exists.
    Exists,
    /// Nothing to ask now: not yet due, or an attempt is being reported.
    NotDue,
    /// The report is for an attempt that is closed, or does not fit the state.
    Stale,
    /// Settled, and that is final.
    Settled,
    /// No new code for this session.
    NotRenewable,
    /// Asked for more often than makes sense.
    TooOften,
    /// A claim before the provider has said yes.
    StillPending,
    /// A claim of a session that ended without tokens.
    NotAuthorized,
    /// The tokens are bound to another claim, or their time is over.
    AlreadyClaimed,
    /// Somebody else changed it first.
    Conflict,
}

/// A claim's outcome: the tokens, and the next session unless this was a repeated read.
pub type Claimed = (Arc<Grant>, Option<Session>);

/// What [`Session::lapse`] leaves.
#[derive(Debug)]
pub enum Lapsed {
    Kept(Session),
    Forgotten,
}

/// For how long the first claim key may read the tokens again.
pub const CLAIM_WINDOW: Duration = Duration::from_secs(60);
/// For how long the same `POST /sessions` gets the same session.
pub const REPEATABLE: Duration = Duration::from_secs(600);
/// For how long a revocation is tried.
const REVOCATION_PERIOD: Duration = Duration::from_secs(3600);
const REVOCATION_RETRY: Duration = Duration::from_secs(30);
/// For how long the provider's keys are tried to be had before tokens count as untrusted.
const VERIFICATION_PERIOD: Duration = Duration::from_secs(600);
const VERIFICATION_RETRY: Duration = Duration::from_secs(5);
/// An attempt that nobody has closed for this long lost its poller; far beyond the deadline of an exchange.
const ABANDONED: Duration = Duration::from_secs(60);
/// From here on readers are told that the provider cannot be reached.
const UNREACHABLE_AFTER: u8 = 3;
/// How often a watcher may ask for a poll.
pub const CHECK_EVERY: Duration = Duration::from_secs(5);

impl Session {
    /// A new session, `starting` and not stored: the provider is to be asked for a code at once.
    pub fn open(opening: Opening, creation: Option<Creation>, now: Timestamp) -> Self {
        Self::from(Kept {
            opening,
            opened_at: now,
            version: 0,
            revision: 1,
            prompt: None,
            extras: Extras { creation, ..Extras::default() }.shared(),
            state: State::Starting,
        })
    }

    pub fn id(&self) -> SessionId {
        self.kept.opening.id
    }

    pub fn opening(&self) -> &Opening {
        &self.kept.opening
    }

    pub fn opened_at(&self) -> Timestamp {
        self.kept.opened_at
    }

    pub fn version(&self) -> u64 {
        self.kept.version
    }

    pub fn revision(&self) -> u64 {
        self.kept.revision
    }

    /// What the person is shown; absent until the provider has answered.
    pub fn prompt(&self) -> Option<&Prompt> {
        self.kept.prompt.as_ref()
    }

    /// The `POST /sessions` that may be repeated; absent without an idempotency key and once it has lapsed.
    pub fn creation(&self) -> Option<&Creation> {
        self.kept.extras.as_ref()?.creation.as_ref()
    }

    pub fn state(&self) -> &State {
        &self.kept.state
    }

    /// What the store needs. It stays the same, and shared, from poll to poll.
    pub fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    pub fn status(&self) -> Status {
        match self.kept.state {
            State::Starting => Status::Starting,
            State::Pending(_) | State::Verifying(_) => Status::Pending,
            State::Authorized { .. } => Status::Authorized,
            State::Claimed { .. } => Status::Claimed,
            State::Denied { .. } => Status::Denied,
            State::Expired { .. } => Status::Expired,
            State::Cancelled { .. } => Status::Cancelled,
            State::Failed { .. } => Status::Failed,
        }
    }

    /// False from the third failed poll in a row until the next good answer.
    pub fn provider_reachable(&self) -> bool {
        !matches!(self.kept.state, State::Pending(_) if self.polling.failures >= UNREACHABLE_AFTER)
    }

    /// Nothing but [`Session::renew`] leads out of a settled state.
    pub fn is_settled(&self) -> bool {
        self.status().is_settled()
    }

    /// Settled sessions stay readable for the retention, and longer while their tokens may be read again.
    pub fn is_readable(&self, now: Timestamp, terms: &Terms) -> bool {
        match self.kept.state {
            _ if self.is_renewing() => true,
            State::Claimed { held: Some(_), .. } => true,
            State::Claimed { at, .. }
            | State::Denied { at }
            | State::Expired { at }
            | State::Cancelled { at }
            | State::Failed { at, .. } => now < at + terms.retention,
            State::Starting | State::Pending(_) | State::Verifying(_) | State::Authorized { .. } => true,
        }
    }

    /// Whether it counts against the limits: it waits for the provider, the person or the owner.
    pub fn is_live(&self) -> bool {
        self.is_renewing()
            || matches!(self.kept.state, State::Starting | State::Pending(_) | State::Verifying(_) | State::Authorized { .. })
    }

    /// The same change, made to the session as it is `now`. While `self` was on its way to the store it may have been noted that
    /// an answer has arrived, or that a poller died; a change from `base` that has nothing to do with that leaves it as it is.
    pub(super) fn onto(self, base: &Self, now: &Self) -> Self {
        let exchange = |session: &Self| (session.polling, session.attempts, session.open_attempt);
        if exchange(&self) != exchange(base) {
            return self;
        }
        let (polling, attempts, open_attempt) = exchange(now);
        Self { polling, attempts, open_attempt, ..self }
    }

    /// What the store has of a session, in the place of `stale`, which is something else. Readers see a later revision, and what
    /// is under way at the provider can be reported.
    pub fn in_place_of(mut self, stale: &Self) -> Self {
        let kept = self.kept_mut();
        kept.revision = kept.revision.max(stale.revision().saturating_add(1));
        // Except for a revocation: it would be taken for one of other tokens.
        let open_attempt = stale.open_attempt.filter(|open| open.kind != Kind::Revoke);
        Self { attempts: stale.attempts, open_attempt, ..self }
    }

    /// When it was settled, if nobody needs it any more but to be told so: it has nothing to hand out and nothing to revoke.
    pub fn forgettable_since(&self) -> Option<Timestamp> {
        let is_needed = self.is_renewing() || self.creation().is_some() || !self.revocations().is_empty() || self.open_attempt.is_some();
        match self.kept.state {
            _ if is_needed => None,
            State::Claimed { at, held: None }
            | State::Denied { at }
            | State::Expired { at }
            | State::Cancelled { at }
            | State::Failed { at, .. } => Some(at),
            _ => None,
        }
    }

    /// Whether `next` may take the place of `self` in the table.
    pub(super) fn may_become(&self, next: &Self) -> bool {
        let settled_stays = !self.is_settled() || self.status() == next.status() || self.renewals() < next.renewals();
        self.id() == next.id() && settled_stays && self.version() <= next.version() && self.revision() <= next.revision()
    }

    fn revoking(mut self, grant: Arc<Grant>, now: Timestamp) -> Self {
        let revocation = Revocation { grant, next_at: now, until: now + REVOCATION_PERIOD };
        self.change_extras(|extras| extras.revocations.push(revocation));
        self
    }

    fn has(&self, grant: &Arc<Grant>) -> bool {
        let own = match &self.kept.state {
            State::Verifying(Verifying { grant, .. }) | State::Authorized { grant, .. } => Some(grant),
            State::Claimed { held: Some(held), .. } => Some(&held.grant),
            _ => None,
        };
        own.into_iter().chain(self.revocations().iter().map(|revocation| &revocation.grant)).any(|known| Arc::ptr_eq(known, grant))
    }

    fn revocations(&self) -> &[Revocation] {
        self.kept.extras.as_ref().map_or(&[], |extras| &extras.revocations)
    }

    fn renewal(&self) -> Option<&Renewal> {
        self.kept.extras.as_ref()?.renewal.as_ref()
    }

    fn change_extras(&mut self, change: impl FnOnce(&mut Extras)) {
        let kept = self.kept_mut();
        let mut extras = kept.extras.take().map(Arc::unwrap_or_clone).unwrap_or_default();
        change(&mut extras);
        kept.extras = extras.shared();
    }

    fn durably(mut self) -> Self {
        let kept = self.kept_mut();
        kept.version = kept.version.saturating_add(1);
        self
    }

    fn visibly(mut self) -> Self {
        let kept = self.kept_mut();
        kept.revision = kept.revision.saturating_add(1);
        self
    }

    fn become_visibly(self, state: State) -> Self {
        self.showing(state).durably()
    }

    fn showing(mut self, state: State) -> Self {
        self.kept_mut().state = state;
        self.visibly()
    }

    /// Whoever still reads the session that this one came from keeps what was there.
    fn kept_mut(&mut self) -> &mut Kept {
        Arc::make_mut(&mut self.kept)
    }
}

impl Kept {
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl Extras {
    /// The answer will be about the first.
    fn put_first(&mut self, grant: &Arc<Grant>) {
        if let Some(place) = self.revocations.iter().position(|revocation| Arc::ptr_eq(&revocation.grant, grant)) {
            self.revocations.swap(0, place);
        }
    }

    /// The first tokens were tried: they are done with, or their turn comes again behind the others'. Says whether they are gone.
    fn tried_to_revoke(&mut self, done: bool, now: Timestamp) -> bool {
        if self.revocations.is_empty() {
            return false;
        }
        let tried = self.revocations.remove(0);
        let is_over = done || tried.until <= now;
        if !is_over {
            self.revocations.push(Revocation { next_at: now + REVOCATION_RETRY, ..tried });
        }
        is_over
    }

    fn shared(self) -> Option<Arc<Self>> {
        let is_empty = self.creation.is_none() && self.revocations.is_empty() && self.renewal.is_none();
        (!is_empty).then(|| Arc::new(self))
    }
}

impl From<Kept> for Session {
    fn from(kept: Kept) -> Self {
        Self { kept: Arc::new(kept), polling: Polling::default(), attempts: 0, open_attempt: None }
    }
}
