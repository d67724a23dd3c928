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

/// It looks at least this often, and so shows that it lives.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);

/// Runs for ever. `start` sets off a poller that has its place at the provider's gate.
pub async fn run(sessions: Sessions, providers: Arc<Providers>, start: impl Fn(SessionId, Pass), beat: Beat) {
    loop {
        let now = sessions.clock().now();
        sessions.lapse_due(now);
        for (name, upstream) in providers.iter() {
            set_off(&sessions, name, upstream, now, &start);
        }
        let alarm = next_alarm(&sessions, &providers, now);
        beat.accepted();
        sessions.sleep(alarm).await;
    }
}

/// In the order in which they became due, whatever they are due for; only while the provider is to be left alone the urgent go
/// first, and alone.
fn set_off(sessions: &Sessions, name: &Arc<str>, upstream: &Upstream, now: Timestamp, start: &impl Fn(SessionId, Pass)) {
    let gate = &upstream.gate;
    let all = [Lane::Urgent(Arc::clone(name)), Lane::Provider(Arc::clone(name))];
    let urgent = [Lane::Urgent(Arc::clone(name))];
    loop {
        let (lanes, places) = match (gate.room(now, Urgency::Ordinary), gate.room(now, Urgency::Urgent)) {
            (Room::Now(places), _) => (&all[..], places),
            (_, Room::Now(places)) => (&urgent[..], places),
            _ => return,
        };
        let places = places.min(BATCH);
        let due = sessions.set_off(lanes, now, places);
        let more = due.len() == places;
        for id in due {
            // A replacement may have taken the place: the agenda brings the session back.
            let Some(pass) = gate.enter(now, Urgency::Urgent) else { return };
            start(id, pass);
        }
        if !more {
            return;
        }
    }
}

/// How many pollers are set off in one go.
const BATCH: usize = 64;

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
