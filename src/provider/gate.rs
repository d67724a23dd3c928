//! How much one provider may be asked by all sessions together: requests in flight, requests per second, and the times at which
//! it is left alone: because it demanded that (429, Retry-After), or because it is down.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::kernel::pace::Jitter;
use crate::kernel::session::Urgency;
use crate::kernel::time::Timestamp;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_in_flight: usize,
    /// Requests per second; absent: no limit.
    pub max_per_second: Option<u32>,
}

pub struct Gate {
    limits: Limits,
    state: Arc<Mutex<State>>,
    bell: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// All, and of them those of which there may be only so many.
    in_flight: usize,
    beginnings: usize,
    verifications: usize,
    revocations: usize,
    /// How many were begun beyond [`AT_EASE`], in the last millisecond in which some were.
    added: usize,
    added_at: Timestamp,
    /// Fewer were allowed than there is room for.
    is_held_back: bool,
    /// The earliest moment for the next request under the rate limit, and how many were made of this millisecond.
    next_slot: Timestamp,
    made: u32,
    /// The same for what nobody waits for.
    next_background_slot: Timestamp,
    paused_until: Timestamp,
    /// As `paused_until`, for device authorization requests alone.
    full_until: Timestamp,
    failures: u8,
    failing_since: Timestamp,
    closed_until: Timestamp,
    /// How often it was closed since it last gave a good answer.
    closings: u32,
    /// Up to when the backlog is taken care of.
    spread_from: Timestamp,
}

/// The right to have one request under way; given back on drop.
pub struct Pass {
    state: Arc<Mutex<State>>,
    urgency: Urgency,
    limits: Limits,
    bell: Arc<Notify>,
}

/// When more may be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// This many requests may start now.
    Now(usize),
    /// None before this moment.
    At(Timestamp),
    /// None before a request that is under way has ended.
    WhenOneEnds,
}

/// What has gathered, or will, while nobody was to ask: all that is due before `from`. It is to be done over this time from then
/// on, or the provider would be met by a burst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backlog {
    pub from: Timestamp,
    pub over: Duration,
}

/// So many requests may be under way whenever they are due. Beyond that, each millisecond adds an eighth of what is under way, and at
/// least so many: no provider is met by a burst, and where answers come sooner than that there need not be more, which is less work
/// for both sides.
const AT_EASE: usize = 64;
const ADDED: usize = 16;
/// One in so many places, and slots, of a provider is for what nobody waits for.
const PARTS: u32 = 8;
/// As for a single session: from the third failure in a row the provider counts as unreachable.
const UNREACHABLE_AFTER: u8 = 3;
/// How long there must have been nothing but failures before the provider counts as down and is left alone. By then the sessions
/// themselves have noticed, each by its own three failures.
const DOWN_AFTER: Duration = Duration::from_secs(60);
/// For how long at first; doubled with every failure, up to the cap.
const CLOSING: Duration = Duration::from_secs(5);
/// No single answer keeps everybody waiting for longer. The session that was told to wait longer does.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a provider is left alone that limits our rate without saying for how long.
const THROTTLED: Duration = Duration::from_secs(5);
/// What gathers in less is no burst.
const SHORTEST_BACKLOG: Duration = Duration::from_secs(1);
/// The longest time over which a backlog is done.
const CATCHING_UP: Duration = Duration::from_secs(10);

// === asking ===

impl Gate {
    /// `bell` is rung when there is room again before [`Gate::room`] said.
    pub fn new(limits: Limits, bell: Arc<Notify>) -> Self {
        Self { limits, state: Arc::default(), bell }
    }

    /// How many requests may be begun now, or when some may. They become more only little by little.
    pub fn room(&self, now: Timestamp, urgency: Urgency) -> Room {
        let mut state = self.state.lock();
        match state.room(&self.limits, now, urgency) {
            Room::Now(free) => state.little_by_little(free, now),
            later => later,
        }
    }

    /// Takes a place for one request, if there is one at all.
    pub fn enter(&self, now: Timestamp, urgency: Urgency) -> Option<Pass> {
        let mut state = self.state.lock();
        let Room::Now(_) = state.room(&self.limits, now, urgency) else { return None };
        if let Some(rate) = self.limits.max_per_second {
            state.take_slot(rate, now, urgency);
        }
        state.begin(now, urgency);
        Some(Pass { state: Arc::clone(&self.state), urgency, limits: self.limits, bell: Arc::clone(&self.bell) })
    }

    /// There is one place only, so there is no share of it: what nobody waits for comes when nothing else is due.
    pub fn is_narrow(&self) -> bool {
        self.limits.max_in_flight == 1 || self.state.lock().closings > 0
    }

    /// Until when no sign-in can begin, because the provider wants to be asked less.
    pub fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        let state = self.state.lock();
        Some(state.paused_until.max(state.full_until)).filter(|until| *until > now)
    }

    /// Whether one is under way that asks where the provider's endpoints are, if that is not known.
    pub fn is_exploring(&self) -> bool {
        let state = self.state.lock();
        state.beginnings + state.verifications + state.revocations > 0
    }

    /// How many requests are under way.
    pub fn in_flight(&self) -> usize {
        self.state.lock().in_flight
    }

    pub fn is_reachable(&self) -> bool {
        self.state.lock().failures < UNREACHABLE_AFTER
    }
}

// === heeding what came back ===

impl Gate {
    /// A good answer, whatever it says of the sign-in: the provider is up.
    pub fn heard(&self, now: Timestamp) -> Option<Backlog> {
        let mut state = self.state.lock();
        let was_down = state.closings > 0;
        (state.failures, state.closings, state.closed_until) = (0, 0, Timestamp::default());
        was_down.then(|| {
            self.bell.notify_one();
            Backlog { from: now, over: CATCHING_UP }
        })
    }

    /// No answer, or none that makes sense. While it is down the provider is asked ever more seldom, and once at a time.
    pub fn unheard(&self, now: Timestamp, jitter: Jitter) {
        let mut state = self.state.lock();
        if state.failures == 0 {
            state.failing_since = now;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures < UNREACHABLE_AFTER || now < state.failing_since + DOWN_AFTER || now < state.closed_until {
            return;
        }
        let wait = CLOSING.saturating_mul(1u32.checked_shl(state.closings).unwrap_or(u32::MAX)).min(LONGEST_PAUSE);
        state.closings = state.closings.saturating_add(1);
        state.closed_until = now + jitter.stretch(wait);
    }

    /// The provider asked to be left alone (429, Retry-After).
    pub fn pause(&self, now: Timestamp, retry_after: Option<Duration>) -> Option<Backlog> {
        let until = now + retry_after.unwrap_or(THROTTLED).min(LONGEST_PAUSE);
        let mut state = self.state.lock();
        state.paused_until = state.paused_until.max(until);
        state.backlog(now, until)
    }

    /// The provider gives no more codes for so long; sign-ins under way go on.
    pub fn pause_beginnings(&self, now: Timestamp, retry_after: Duration) {
        let until = now + retry_after.min(LONGEST_PAUSE);
        let mut state = self.state.lock();
        state.full_until = state.full_until.max(until);
    }
}

impl State {
    fn room(&self, limits: &Limits, now: Timestamp, urgency: Urgency) -> Room {
        let (opens, most) = match urgency {
            Urgency::Urgent | Urgency::Beginning | Urgency::Verification => (Timestamp::default(), limits.max_in_flight),
            Urgency::Ordinary | Urgency::Background if self.closings > 0 => (self.paused_until.max(self.closed_until), 1),
            Urgency::Ordinary | Urgency::Background => (self.paused_until, limits.max_in_flight),
        };
        let free = most.saturating_sub(self.in_flight).min(self.share(limits, urgency));
        let slot = match urgency {
            Urgency::Background => self.next_slot.max(self.next_background_slot),
            _ => self.next_slot,
        };
        match limits.max_per_second {
            _ if opens > now => Room::At(opens),
            _ if free == 0 => Room::WhenOneEnds,
            // It asks for keys now and then; mostly nobody is asked.
            _ if urgency == Urgency::Verification => Room::Now(free),
            Some(_) if slot > now => Room::At(slot),
            Some(_) => Room::Now(1),
            None => Room::Now(free),
        }
    }

    /// How many more of this kind there may be, whatever else there is. Verifications are made one by one: the first brings the keys,
    /// and the others need not wait for them in places. Revocations leave it one, if they can.
    fn share(&self, limits: &Limits, urgency: Urgency) -> usize {
        let small = (limits.max_in_flight / PARTS as usize).max(1);
        let left = small.saturating_sub(self.verifications + self.revocations);
        match urgency {
            Urgency::Ordinary | Urgency::Urgent => usize::MAX,
            Urgency::Beginning => (limits.max_in_flight / 2).max(1).saturating_sub(self.beginnings),
            Urgency::Verification => 1usize.saturating_sub(self.verifications).min(left),
            Urgency::Background => (small - 1).max(1).saturating_sub(self.revocations).min(left),
        }
    }

    fn of_its_kind(&mut self, urgency: Urgency) -> Option<&mut usize> {
        match urgency {
            Urgency::Ordinary | Urgency::Urgent => None,
            Urgency::Beginning => Some(&mut self.beginnings),
            Urgency::Verification => Some(&mut self.verifications),
            Urgency::Background => Some(&mut self.revocations),
        }
    }

    fn little_by_little(&mut self, free: usize, now: Timestamp) -> Room {
        let at_ease = AT_EASE.saturating_sub(self.in_flight);
        let added = if self.added_at == now { self.added } else { 0 };
        let more = (self.in_flight / 8).max(ADDED).saturating_sub(added);
        match free.min(at_ease.max(more)) {
            0 => {
                self.is_held_back = true;
                Room::At(now + Duration::from_millis(1))
            }
            room => Room::Now(room),
        }
    }

    fn begin(&mut self, now: Timestamp, urgency: Urgency) {
        if self.in_flight >= AT_EASE {
            self.added = if self.added_at == now { self.added + 1 } else { 1 };
            self.added_at = now;
        }
        self.in_flight += 1;
        if let Some(number) = self.of_its_kind(urgency) {
            *number += 1;
        }
    }

    /// Whether there is room again before it was promised.
    fn end(&mut self, limits: &Limits, urgency: Urgency) -> bool {
        // Whoever is one of only so many may have kept the next of them waiting.
        let was_full = self.in_flight >= limits.max_in_flight || self.closings > 0 || self.of_its_kind(urgency).is_some();
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(number) = self.of_its_kind(urgency) {
            *number = number.saturating_sub(1);
        }
        let is_at_ease = self.is_held_back && self.in_flight <= AT_EASE / 2;
        self.is_held_back &= !is_at_ease;
        was_full || is_at_ease
    }

    /// Requests are spread evenly over the second: it never sees more of them than `rate`.
    fn take_slot(&mut self, rate: u32, now: Timestamp, urgency: Urgency) {
        if urgency == Urgency::Verification {
            return;
        }
        let gap = Duration::from_secs(1) / rate.clamp(1, 1000);
        self.made += 1;
        if self.made >= rate / 1000 {
            self.made = 0;
            self.next_slot = now + gap;
        }
        if urgency == Urgency::Background {
            self.next_background_slot = now + gap * PARTS;
        }
    }

    fn backlog(&mut self, now: Timestamp, until: Timestamp) -> Option<Backlog> {
        if until < now.max(self.spread_from) + SHORTEST_BACKLOG {
            return None;
        }
        self.spread_from = until;
        Some(Backlog { from: until, over: until.since(now).min(CATCHING_UP) })
    }
}

impl Pass {
    /// Whether the request is one of those that the place is for. A session may have become another since it was taken.
    pub fn is_for(&self, urgency: Urgency) -> bool {
        let is_poll = |urgency| matches!(urgency, Urgency::Ordinary | Urgency::Urgent);
        self.urgency == urgency || (is_poll(self.urgency) && is_poll(urgency))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.state.lock().end(&self.limits, self.urgency) {
            self.bell.notify_one();
        }
    }
}
