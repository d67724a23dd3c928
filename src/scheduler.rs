//! Sleeps to the next deadline in the table and sets off what is due: pollers, within what each provider allows, and what
//! time alone decides.
//!
//! It holds no state: after a crash it is started again and reads everything from the table.

use std::sync::Arc;
use std::time::Duration;

use crate::kernel::session::{SessionId, Urgency};
use crate::kernel::table::Lane;
use crate::kernel::time::Timestamp;
use crate::provider::gate::{Pass, Room};
use crate::provider::{Providers, Upstream};
use crate::sessions::Sessions;
use crate::watchdog::Beat;

/// How many requests to one provider are begun in one round. Under load they end between two rounds, and few at a time are done
/// sooner than many: what they need stays in the processor's cache.
const AT_ONCE: usize = 16;
/// It looks at least this often, and so shows that it lives.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);

/// Runs for ever. `start` sets off a poller that has its place at the provider's gate; `look` is called in each round, for what
/// nobody else would notice.
pub async fn run(sessions: Sessions, providers: Arc<Providers>, start: impl Fn(SessionId, Pass), look: impl Fn(), beat: Beat) {
    loop {
        look();
        let now = sessions.clock().now();
        sessions.lapse_due(now);
        for (name, upstream) in providers.iter() {
            set_off(&sessions, name, upstream, now, &start);
        }
        sessions.sleep(next_alarm(&sessions, &providers, now)).await;
        // Only a whole round counts: one that cannot even lie down would else be forgiven, and started again, without end.
        beat.accepted();
        // What is under way goes on before more is begun.
        tokio::task::yield_now().await;
    }
}

/// Who has been due for longest comes first, whatever for; while the provider is to be left alone, the urgent alone. The place is
/// taken before the session is, for a replacement may be quicker.
fn set_off(sessions: &Sessions, name: &Arc<str>, upstream: &Upstream, now: Timestamp, start: &impl Fn(SessionId, Pass)) {
    let lanes = [Lane::Urgent(Arc::clone(name)), Lane::Provider(Arc::clone(name))];
    let [urgent, _] = &lanes;
    for (lanes, urgency) in [(&lanes[..], Urgency::Ordinary), (std::slice::from_ref(urgent), Urgency::Urgent)] {
        if let Room::Now(room) = upstream.gate.room(now, urgency) {
            for (id, pass) in sessions.set_off(lanes, now, room.min(AT_ONCE), || upstream.gate.enter(now, urgency)) {
                start(id, pass);
            }
        }
    }
}

fn next_alarm(sessions: &Sessions, providers: &Providers, now: Timestamp) -> Timestamp {
    let in_lane = |name: &Arc<str>, urgency, at: Timestamp| match providers.get(name)?.gate.room(now, urgency) {
        Room::Now(_) => Some(at),
        Room::At(opens) => Some(at.max(opens)),
        Room::WhenOneEnds => None,
    };
    let due = sessions.deadlines().into_iter().filter_map(|(lane, at)| match &lane {
        Lane::Time => sessions.may_lapse().then_some(at),
        Lane::Provider(name) => in_lane(name, Urgency::Ordinary, at),
        Lane::Urgent(name) => in_lane(name, Urgency::Urgent, at),
    });
    due.chain([now + LONGEST_SLEEP]).min().unwrap_or(now + LONGEST_SLEEP)
}
