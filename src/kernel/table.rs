//! All sessions, and which of them is due when.
//!
//! The agenda has lanes for each provider, one for each kind of request, so that a provider which may not be asked more keeps only
//! its own sessions waiting, and one for what time alone decides.

use core::borrow::Borrow;
use core::cell::Cell;
use core::hash::{Hash, Hasher};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::session::{Due, Refused, Session, SessionId, Status, Terms, Urgency};
use super::time::Timestamp;

/// What a deadline waits for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// [`Due::Lapse`].
    Time,
    /// [`Due::Ask`], of the sessions of this provider.
    Provider(Arc<str>),
    /// The same, where it is [`Urgency::Urgent`], and so on.
    Urgent(Arc<str>),
    /// With the caller, as callers take turns.
    Beginning(Arc<str>, Option<Arc<str>>),
    Verification(Arc<str>),
    Background(Arc<str>),
}

#[derive(Debug)]
pub struct Table {
    terms: Terms,
    rows: HashSet<Row>,
    /// One for each lane that was ever needed, and only now for beginnings, so they are few.
    agenda: Vec<(Lane, Entries)>,
    census: BTreeMap<Status, usize>,
    /// Those that nobody needs any more, by the time at which they were settled.
    forgettable: Entries,
}

type Entries = BTreeSet<(Timestamp, SessionId)>;

/// A session, found by its id. There may be a million of them, so a row repeats nothing that the session knows: neither the id nor
/// the lane.
#[derive(Debug)]
struct Row {
    session: Arc<Session>,
    /// When the session is due as the agenda has it, if it is in the agenda at all.
    at: Cell<Timestamp>,
}

/// How soon a session that was set off is looked at again if nothing has changed it: the net for a lost start.
const RECHECK: Duration = Duration::from_secs(5);

impl Table {
    pub fn new(terms: Terms) -> Self {
        Self { terms, rows: HashSet::new(), agenda: Vec::new(), census: BTreeMap::new(), forgettable: Entries::new() }
    }

    pub fn get(&self, id: SessionId) -> Option<&Arc<Session>> {
        self.rows.get(&id).map(|row| &row.session)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many sessions are in each state.
    pub fn census(&self) -> &BTreeMap<Status, usize> {
        &self.census
    }

    /// The settled sessions that nobody needs any more, those that were settled first before the others.
    pub fn forgettable(&self) -> impl ExactSizeIterator<Item = (Timestamp, SessionId)> {
        self.forgettable.iter().copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.rows.iter().map(|row| &row.session)
    }

    /// # Errors
    /// [`Refused::Exists`] when the id is taken.
    pub fn insert(&mut self, session: Session) -> Result<Arc<Session>, Refused> {
        if self.rows.contains(&session.id()) {
            return Err(Refused::Exists);
        }
        Ok(self.put(session))
    }

    /// Puts `next`, a change of `base` that was made durable meanwhile, in the place of the session; see [`Session::onto`].
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_onto(&mut self, base: &Session, next: Session) -> Result<Arc<Session>, Refused> {
        let now = Arc::clone(self.get(next.id()).ok_or(Refused::Unknown)?);
        self.commit(next.onto(base, &now))
    }

    /// Puts `session` in the place of what is there, whatever that is; see [`Session::in_place_of`].
    pub fn replace(&mut self, session: Session) -> Arc<Session> {
        self.put(session)
    }

    /// Puts `next` in the place of the session it came from.
    ///
    /// # Errors
    /// [`Refused::Unknown`] when the session is gone; [`Refused::Conflict`] when `next` does not follow from what is there:
    /// an older version or revision, or another outcome of a settled session.
    pub fn commit(&mut self, next: Session) -> Result<Arc<Session>, Refused> {
        let row = self.rows.get(&next.id()).ok_or(Refused::Unknown)?;
        if !row.session.may_become(&next) {
            return Err(Refused::Conflict);
        }
        Ok(self.put(next))
    }

    pub fn forget(&mut self, id: SessionId) -> Option<Arc<Session>> {
        let row = self.rows.take(&id)?;
        self.leave(&row);
        if self.rows.len() < self.rows.capacity() / 4 {
            self.rows.shrink_to_fit();
        }
        Some(row.session)
    }

    /// The earliest deadline of each lane that has one.
    pub fn deadlines(&self) -> impl Iterator<Item = (&Lane, Timestamp)> {
        self.agenda.iter().filter_map(|(lane, entries)| entries.first().map(|(at, _)| (lane, *at)))
    }

    /// The deadlines of this lane, earliest first.
    pub fn deadlines_in(&self, lane: &Lane) -> impl Iterator<Item = Timestamp> {
        let entries = self.agenda.iter().find(|(known, _)| known == lane).map(|(_, entries)| entries);
        entries.into_iter().flatten().map(|(at, _)| *at)
    }

    /// What is due in `lane` before `from` becomes due at some time in `over` from then on: each session has its own place in it.
    pub fn spread(&mut self, lane: &Lane, from: Timestamp, over: Duration) {
        let place = |id: SessionId| {
            let [.., high, low] = *id.as_bytes();
            from + over * u32::from(u16::from_be_bytes([high, low])) / 65_536
        };
        self.defer(lane, usize::MAX, |at| at < from, place);
    }

    /// Up to `most` sessions of `lane` that are due, earliest first. Each is looked at again 5 s later unless it changes.
    pub fn set_off(&mut self, lane: &Lane, now: Timestamp, most: usize) -> Vec<SessionId> {
        self.defer(lane, most, |at| at <= now, |_| now + RECHECK)
    }

    fn put(&mut self, session: Session) -> Arc<Session> {
        let session = Arc::new(session);
        let due = session.due(&self.terms);
        let row = Row { session: Arc::clone(&session), at: Cell::new(due.map(|(at, _)| at).unwrap_or_default()) };
        *self.census.entry(session.status()).or_default() += 1;
        if let Some(before) = self.rows.replace(row) {
            self.leave(&before);
        }
        if let Some(since) = session.forgettable_since() {
            self.forgettable.insert((since, session.id()));
        }
        if let Some((at, due)) = due {
            match self.agenda.iter_mut().find(|(lane, _)| lane.holds(&session, due)) {
                Some((_, entries)) => {
                    entries.insert((at, session.id()));
                }
                None => self.agenda.push((Lane::of(&session, due), Entries::from([(at, session.id())]))),
            }
        }
        session
    }

    fn leave(&mut self, row: &Row) {
        if let Some(count) = self.census.get_mut(&row.session.status()) {
            *count = count.saturating_sub(1);
        }
        if let Some(since) = row.session.forgettable_since() {
            self.forgettable.remove(&(since, row.session.id()));
        }
        if let Some((_, due)) = row.session.due(&self.terms)
            && let Some((_, entries)) = self.agenda.iter_mut().find(|(lane, _)| lane.holds(&row.session, due))
        {
            entries.remove(&(row.at.get(), row.session.id()));
            // There may be many callers, of whom few begin something just now.
            if entries.is_empty() {
                self.agenda.retain(|(lane, entries)| !matches!(lane, Lane::Beginning(..)) || !entries.is_empty());
            }
        }
    }

    /// Gives up to `most` sessions of `lane`, earliest first and as long as their deadlines are `wanted`, the deadlines `later`.
    fn defer(
        &mut self,
        lane: &Lane,
        most: usize,
        wanted: impl Fn(Timestamp) -> bool,
        later: impl Fn(SessionId) -> Timestamp,
    ) -> Vec<SessionId> {
        let Some((_, entries)) = self.agenda.iter_mut().find(|(known, _)| known == lane) else { return Vec::new() };
        let next = || entries.first().is_some_and(|(at, _)| wanted(*at)).then(|| entries.pop_first()).flatten();
        let deferred: Vec<_> = core::iter::from_fn(next).take(most).map(|(_, id)| id).collect();
        for id in &deferred {
            if let Some(row) = self.rows.get(id) {
                row.at.set(later(*id));
                entries.insert((row.at.get(), *id));
            }
        }
        deferred
    }
}

impl Lane {
    /// Whose requests are in it, and what they may expect; absent where nobody is asked.
    pub fn asks(&self) -> Option<(&Arc<str>, Urgency)> {
        match self {
            Self::Time => None,
            Self::Provider(name) => Some((name, Urgency::Ordinary)),
            Self::Urgent(name) => Some((name, Urgency::Urgent)),
            Self::Beginning(name, _) => Some((name, Urgency::Beginning)),
            Self::Verification(name) => Some((name, Urgency::Verification)),
            Self::Background(name) => Some((name, Urgency::Background)),
        }
    }

    fn of(session: &Session, due: Due) -> Self {
        let provider = || Arc::clone(&session.opening().provider);
        match due {
            Due::Lapse => Self::Time,
            Due::Ask(Urgency::Ordinary) => Self::Provider(provider()),
            Due::Ask(Urgency::Urgent) => Self::Urgent(provider()),
            Due::Ask(Urgency::Beginning) => Self::Beginning(provider(), session.opening().caller.clone()),
            Due::Ask(Urgency::Verification) => Self::Verification(provider()),
            Due::Ask(Urgency::Background) => Self::Background(provider()),
        }
    }

    /// Whether it is [`Lane::of`] these.
    fn holds(&self, session: &Session, due: Due) -> bool {
        match (self, due) {
            (Self::Time, Due::Lapse) => true,
            (Self::Provider(name), Due::Ask(Urgency::Ordinary))
            | (Self::Urgent(name), Due::Ask(Urgency::Urgent))
            | (Self::Verification(name), Due::Ask(Urgency::Verification))
            | (Self::Background(name), Due::Ask(Urgency::Background)) => *name == session.opening().provider,
            (Self::Beginning(name, caller), Due::Ask(Urgency::Beginning)) => {
                *name == session.opening().provider && *caller == session.opening().caller
            }
            _ => false,
        }
    }
}

impl Borrow<SessionId> for Row {
    fn borrow(&self) -> &SessionId {
        &self.session.opening().id
    }
}

impl Hash for Row {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.session.id().hash(state);
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.session.id() == other.session.id()
    }
}

impl Eq for Row {}
