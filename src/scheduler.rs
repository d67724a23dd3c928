//! Sleeps to the next deadline in the table and sets off what is due: pollers, within what each provider allows, and what
//! time alone decides.
//!
//! It holds no state that matters: after a crash it is started again and reads everything from the table.

use std::collections::BTreeMap;
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

/// Whose turn it is at one provider, where not all that is due has room. To lose it costs nobody more than one turn.
#[derive(Default)]
struct Turn {
    is_of_polls: bool,
    /// Where the caller was whose sign-in began last.
    latest: Option<Lane>,
}

/// Runs for ever. `start` sets off a poller that has its place at the provider's gate; `look` is called in each round, for what
/// nobody else would notice.
pub async fn run(sessions: Sessions, providers: Arc<Providers>, start: impl Fn(SessionId, Pass), look: impl Fn(), beat: Beat) {
    let mut turns: BTreeMap<Arc<str>, Turn> = BTreeMap::new();
    loop {
        look();
        let now = sessions.clock().now();
        sessions.lapse_due(now);
        let callers: Vec<Lane> = sessions.deadlines().into_keys().filter(|lane| matches!(lane, Lane::Beginning(..))).collect();
        for (name, upstream) in providers.iter() {
            let callers = callers.iter().filter(|lane| lane.asks().is_some_and(|(provider, _)| provider == name)).cloned().collect();
            Round { sessions: &sessions, name, upstream, now, start: &start }.set_off(callers, turns.entry(Arc::clone(name)).or_default());
        }
        sessions.sleep(next_alarm(&sessions, &providers, now)).await;
        // Only a whole round counts: one that cannot even lie down would else be forgiven, and started again, without end.
        beat.accepted();
        // What is under way goes on before more is begun.
        tokio::task::yield_now().await;
    }
}

/// What is set off at one provider. Each needs a place, and has it before its session is taken, for a replacement may be quicker.
struct Round<'a, F> {
    sessions: &'a Sessions,
    name: &'a Arc<str>,
    upstream: &'a Upstream,
    now: Timestamp,
    start: &'a F,
}

impl<F: Fn(SessionId, Pass)> Round<'_, F> {
    /// Of each kind, who has been due for longest comes first; while the provider is to be left alone, the urgent alone. What nobody
    /// waits for has its small share, which nothing else may take. Polls and beginnings take turns, and callers among beginnings.
    fn set_off(&self, callers: Vec<Lane>, turn: &mut Turn) {
        let is_narrow = self.upstream.gate.is_narrow();
        if !is_narrow {
            self.set_off_in_the_background();
        }
        self.set_off_in(&Lane::Urgent(Arc::clone(self.name)), AT_ONCE);
        let polls = Lane::Provider(Arc::clone(self.name));
        if turn.is_of_polls {
            turn.is_of_polls = self.set_off_in(&polls, AT_ONCE) == 0;
            self.begin(callers, turn);
        } else {
            turn.is_of_polls = self.begin(callers, turn) > 0;
            self.set_off_in(&polls, AT_ONCE);
        }
        if is_narrow {
            self.set_off_in_the_background();
        }
    }

    fn set_off_in_the_background(&self) {
        self.set_off_in(&Lane::Verification(Arc::clone(self.name)), AT_ONCE);
        self.set_off_in(&Lane::Background(Arc::clone(self.name)), AT_ONCE);
    }

    fn begin(&self, mut callers: Vec<Lane>, turn: &mut Turn) -> usize {
        let Room::Now(room) = self.upstream.room(self.now, Urgency::Beginning) else { return 0 };
        let next = callers.iter().position(|caller| Some(caller) > turn.latest.as_ref()).unwrap_or_default();
        callers.rotate_left(next);
        let each = (room.min(AT_ONCE) / callers.len().max(1)).max(1);
        let mut begun = 0;
        for caller in callers {
            let number = self.set_off_in(&caller, each);
            if number > 0 {
                turn.latest = Some(caller);
            }
            begun += number;
        }
        begun
    }

    fn set_off_in(&self, lane: &Lane, most: usize) -> usize {
        let Some((_, urgency)) = lane.asks() else { return 0 };
        let Room::Now(room) = self.upstream.room(self.now, urgency) else { return 0 };
        let place = || self.upstream.enter(self.now, urgency);
        let set_off = self.sessions.set_off(std::slice::from_ref(lane), self.now, room.min(most), place);
        let number = set_off.len();
        for (id, pass) in set_off {
            (self.start)(id, pass);
        }
        number
    }
}

fn next_alarm(sessions: &Sessions, providers: &Providers, now: Timestamp) -> Timestamp {
    let due = sessions.deadlines().into_iter().filter_map(|(lane, at)| match lane.asks() {
        None => sessions.may_lapse().then_some(at),
        Some((name, urgency)) => match providers.get(name)?.room(now, urgency) {
            Room::Now(_) => Some(at),
            Room::At(opens) => Some(at.max(opens)),
            Room::WhenOneEnds => None,
        },
    });
    due.chain([now + LONGEST_SLEEP]).min().unwrap_or(now + LONGEST_SLEEP)
}
