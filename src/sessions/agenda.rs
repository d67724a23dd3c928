//! What the scheduler asks for: the deadlines, what is due, and what time alone demands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::ready;
use futures_util::stream;

use super::{ChangeError, LAPSING, Sessions};
use crate::kernel::session::{Lapsed, Session, SessionId};
use crate::kernel::table::Lane;
use crate::kernel::time::Timestamp;

impl Sessions {
    /// The earliest deadline of each lane. Until [`sleep`](Self::sleep) is called every change rings the bell.
    pub fn deadlines(&self) -> BTreeMap<Lane, Timestamp> {
        self.shared.alarm.store(u64::MAX, Ordering::SeqCst);
        let mut earliest: BTreeMap<Lane, Timestamp> = BTreeMap::new();
        for shard in &self.shared.shards {
            for (lane, at) in shard.lock().table.deadlines() {
                match earliest.get_mut(lane) {
                    Some(known) => *known = at.min(*known),
                    None => drop(earliest.insert(lane.clone(), at)),
                }
            }
        }
        earliest
    }

    /// The scheduler sleeps until `alarm`, or until something is due earlier.
    pub async fn sleep(&self, alarm: Timestamp) {
        self.shared.alarm.store(alarm.as_millis(), Ordering::SeqCst);
        tokio::select! {
            () = self.shared.bell.notified() => {}
            () = self.shared.clock.sleep_until(alarm) => {}
        }
    }

    /// Sets off up to `most` sessions of `lanes` that are due, those that have been due for longest; see
    /// [`Table::set_off`](crate::kernel::table::Table::set_off). Each needs a place, and has it before it is set off.
    pub fn set_off<P>(&self, lanes: &[Lane], now: Timestamp, most: usize, place: impl FnMut() -> Option<P>) -> Vec<(SessionId, P)> {
        let mut due = Vec::new();
        for (number, shard) in self.shared.shards.iter().enumerate() {
            let inner = shard.lock();
            for lane in lanes {
                let in_lane = inner.table.deadlines_in(lane).take_while(|at| *at <= now).take(most);
                due.extend(in_lane.map(|at| (at, number, lane)));
            }
        }
        let places: Vec<P> = std::iter::from_fn(place).take(due.len().min(most)).collect();
        if places.len() < due.len() {
            due.select_nth_unstable(places.len());
            due.truncate(places.len());
        }
        let mut places = places.into_iter();
        due.sort_unstable_by_key(|(_, number, lane)| (*number, *lane));
        let mut set_off = Vec::with_capacity(due.len());
        for of_one in due.chunk_by(|(_, one, lane), (_, other, other_lane)| (one, lane) == (other, other_lane)) {
            if let Some((_, number, lane)) = of_one.first()
                && let Some(shard) = self.shared.shards.get(*number)
            {
                let ids = shard.lock().table.set_off(lane, now, of_one.len());
                set_off.extend(ids.into_iter().zip(&mut places));
            }
        }
        set_off
    }

    /// What is due in `lane` before `from` becomes due at some time in `over` from then on.
    pub fn spread(&self, lane: &Lane, from: Timestamp, over: Duration) {
        for shard in &self.shared.shards {
            shard.lock().table.spread(lane, from, over);
        }
    }

    /// Does what time alone demands of the sessions that are due, in tasks of their own and not too many at once.
    pub fn lapse_due(&self, now: Timestamp) {
        let permit = || Arc::clone(&self.shared.lapsing).try_acquire_owned().ok();
        for (id, permit) in self.set_off(&[Lane::Time], now, LAPSING, permit) {
            let sessions = self.clone();
            self.shared.tasks.spawn(async move {
                sessions.lapse(id).await;
                drop(permit);
                sessions.shared.bell.notify_one();
            });
        }
        self.forget_surplus();
    }

    /// Of the settled sessions that nobody needs any more only so many are kept; those that were settled first go first.
    fn forget_surplus(&self) {
        let Ok(permit) = Arc::clone(&self.shared.forgetting).try_acquire_owned() else { return };
        let settled: usize = self.shared.shards.iter().map(|shard| shard.lock().table.forgettable().len()).sum();
        let surplus = settled.saturating_sub(self.shared.quota.most_settled());
        if surplus == 0 {
            return;
        }
        let mut first: Vec<_> =
            self.shared.shards.iter().flat_map(|shard| shard.lock().table.forgettable().take(surplus).collect::<Vec<_>>()).collect();
        first.sort_unstable();
        first.truncate(surplus);
        let sessions = self.clone();
        self.shared.tasks.spawn(async move {
            let forgotten = first.into_iter().map(|(_, id)| sessions.forget_early(id));
            let forgotten = stream::iter(forgotten).buffer_unordered(LAPSING).filter(|forgotten| ready(*forgotten)).count().await;
            sessions.shared.observer.forgotten_early(forgotten);
            drop(permit);
        });
    }

    async fn forget_early(&self, id: SessionId) -> bool {
        let _turn = self.shard(id).turn(id).await;
        let is_forgettable = self.peek(id).is_some_and(|session| session.forgettable_since().is_some());
        is_forgettable && self.shared.store.remove(id).await.is_ok() && self.forget(id).is_some()
    }

    /// Whether more sessions may lapse now.
    pub fn may_lapse(&self) -> bool {
        self.shared.lapsing.available_permits() > 0
    }

    async fn lapse(&self, id: SessionId) {
        let _turn = self.shard(id).turn(id).await;
        let Some(current) = self.peek(id) else { return };
        match Session::clone(&current).lapse(self.now(), &self.shared.terms) {
            Ok(Lapsed::Kept(next)) => {
                // Where the store refuses, the agenda brings the session back.
                if self.write(&current, next).await == Err(ChangeError::Conflict) {
                    let _ = self.reload(&current).await;
                }
            }
            Ok(Lapsed::Forgotten) => {
                if self.shared.store.remove(id).await.is_ok() {
                    self.forget(id);
                }
            }
            Err(_) => {}
        }
    }
}
