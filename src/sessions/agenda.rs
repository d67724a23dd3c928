//! What the scheduler asks for: the deadlines, what is due, and what time alone demands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Sessions;
use super::shard::Shard;
use crate::kernel::session::{Lapsed, Session, SessionId};
use crate::kernel::table::Lane;
use crate::kernel::time::Timestamp;

impl Sessions {
    /// The earliest deadline of each lane. Until [`sleep`](Self::sleep) is called every change rings the bell.
    pub fn deadlines(&self) -> BTreeMap<Lane, Timestamp> {
        self.shared.alarm.store(u64::MAX, Ordering::SeqCst);
        let mut earliest = BTreeMap::new();
        for shard in &self.shared.shards {
            for (lane, at) in shard.lock().table.deadlines() {
                earliest.entry(lane.clone()).and_modify(|known: &mut Timestamp| *known = at.min(*known)).or_insert(at);
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

    /// Whether a session of `lanes` is due.
    pub fn is_due(&self, lanes: &[Lane], now: Timestamp) -> bool {
        self.longest_due(lanes).is_some_and(|(at, ..)| at <= now)
    }

    /// The session of `lanes` that has been due for longest; see [`Table::set_off`](crate::kernel::table::Table::set_off).
    pub fn set_off_next(&self, lanes: &[Lane], now: Timestamp) -> Option<SessionId> {
        let (_, shard, lane) = self.longest_due(lanes)?;
        shard.lock().table.set_off(lane, now, 1).pop()
    }

    fn longest_due<'a>(&self, lanes: &'a [Lane]) -> Option<(Timestamp, &Shard, &'a Lane)> {
        let first = |shard: &'_ Arc<Shard>, lane: &'a Lane| Some((shard.lock().table.deadline(lane)?, lane));
        let in_shard = |shard| lanes.iter().filter_map(|lane| first(shard, lane)).min_by_key(|(at, _)| *at);
        let firsts = self.shared.shards.iter().filter_map(|shard| in_shard(shard).map(|(at, lane)| (at, &**shard, lane)));
        firsts.min_by_key(|(at, ..)| *at)
    }

    /// What is due in `lane` before `from` becomes due at some time in `over` from then on.
    pub fn spread(&self, lane: &Lane, from: Timestamp, over: Duration) {
        for shard in &self.shared.shards {
            shard.lock().table.spread(lane, from, over);
        }
    }

    /// Does what time alone demands of the sessions that are due, in tasks of their own and not too many at once.
    pub fn lapse_due(&self, now: Timestamp) {
        while let Ok(permit) = Arc::clone(&self.shared.lapsing).try_acquire_owned()
            && let Some(id) = self.set_off_next(&[Lane::Time], now)
        {
            let sessions = self.clone();
            self.shared.tasks.spawn(async move {
                sessions.lapse(id).await;
                drop(permit);
                sessions.shared.bell.notify_one();
            });
        }
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
                let _ = self.write(&current, next).await;
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
