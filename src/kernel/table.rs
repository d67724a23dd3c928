//! All sessions, and which of them is due when.
//!
//! The agenda has one lane for each provider, so that a provider which may not be asked more keeps only its own sessions
//! waiting, and one for what time alone decides.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    /// The same, where it is [`Urgency::Urgent`].
    Urgent(Arc<str>),
}

#[derive(Debug)]
pub struct Table {
    terms: Terms,
    rows: HashMap<SessionId, Row>,
    agenda: BTreeMap<Lane, BTreeSet<(Timestamp, SessionId)>>,
    census: BTreeMap<Status, usize>,
}

#[derive(Debug)]
struct Row {
    session: Arc<Session>,
    /// Where the session stands in the agenda.
    entry: Option<(Lane, Timestamp)>,
}

/// How soon a session that was set off is looked at again if nothing has changed it: the net for a lost start.
const RECHECK: Duration = Duration::from_secs(5);

impl Table {
    pub fn new(terms: Terms) -> Self {
        Self { terms, rows: HashMap::new(), agenda: BTreeMap::new(), census: BTreeMap::new() }
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

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.rows.values().map(|row| &row.session)
    }

    /// # Errors
    /// [`Refused::Exists`] when the id is taken.
    pub fn insert(&mut self, session: Session) -> Result<Arc<Session>, Refused> {
        if self.rows.contains_key(&session.id()) {
            return Err(Refused::Exists);
        }
        Ok(self.put(session))
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
        let row = self.rows.remove(&id)?;
        self.leave(row.session.status());
        self.leave_agenda(id, row.entry);
        if self.rows.len() < self.rows.capacity() / 4 {
            self.rows.shrink_to_fit();
        }
        Some(row.session)
    }

    /// The earliest deadline of each lane that has one.
    pub fn deadlines(&self) -> impl Iterator<Item = (&Lane, Timestamp)> {
        self.agenda.iter().filter_map(|(lane, entries)| entries.first().map(|(at, _)| (lane, *at)))
    }

    /// The earliest deadline of this lane.
    pub fn deadline(&self, lane: &Lane) -> Option<Timestamp> {
        self.agenda.get(lane)?.first().map(|(at, _)| *at)
    }

    /// What is due in `lane` before `from` becomes due at some time in `over` from then on: each session has its own place in it.
    pub fn spread(&mut self, lane: &Lane, from: Timestamp, over: Duration) {
        let Some(entries) = self.agenda.get_mut(lane) else { return };
        let staying = entries.split_off(&(from, SessionId::nil()));
        for (_, id) in core::mem::replace(entries, staying) {
            let [.., high, low] = *id.as_bytes();
            let at = from + over * u32::from(u16::from_be_bytes([high, low])) / 65_536;
            entries.insert((at, id));
            if let Some(row) = self.rows.get_mut(&id) {
                row.entry = Some((lane.clone(), at));
            }
        }
    }

    /// Up to `most` sessions of `lane` that are due, earliest first. Each is looked at again 5 s later unless it changes.
    pub fn set_off(&mut self, lane: &Lane, now: Timestamp, most: usize) -> Vec<SessionId> {
        let Some(entries) = self.agenda.get_mut(lane) else { return Vec::new() };
        let due: Vec<_> = entries.iter().take_while(|(at, _)| *at <= now).take(most).copied().collect();
        for (at, id) in &due {
            entries.remove(&(*at, *id));
            entries.insert((now + RECHECK, *id));
            if let Some(row) = self.rows.get_mut(id) {
                row.entry = Some((lane.clone(), now + RECHECK));
            }
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    fn put(&mut self, session: Session) -> Arc<Session> {
        let id = session.id();
        let entry = session.due(&self.terms).map(|(at, due)| match due {
            Due::Lapse => (Lane::Time, at),
            Due::Ask(Urgency::Ordinary) => (Lane::Provider(Arc::clone(&session.opening().provider)), at),
            Due::Ask(Urgency::Urgent) => (Lane::Urgent(Arc::clone(&session.opening().provider)), at),
        });
        let session = Arc::new(session);
        let row = Row { session: Arc::clone(&session), entry: entry.clone() };
        *self.census.entry(session.status()).or_default() += 1;
        if let Some(before) = self.rows.insert(id, row) {
            self.leave(before.session.status());
            self.leave_agenda(id, before.entry);
        }
        if let Some((lane, at)) = entry {
            self.agenda.entry(lane).or_default().insert((at, id));
        }
        session
    }

    fn leave(&mut self, status: Status) {
        if let Some(count) = self.census.get_mut(&status) {
            *count = count.saturating_sub(1);
        }
    }

    fn leave_agenda(&mut self, id: SessionId, entry: Option<(Lane, Timestamp)>) {
        let Some((lane, at)) = entry else { return };
        if let Some(entries) = self.agenda.get_mut(&lane) {
            entries.remove(&(at, id));
            if entries.is_empty() {
                self.agenda.remove(&lane);
            }
        }
    }
}
