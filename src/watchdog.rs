//! Runs tasks by key and starts them again when they panic or hang, within a budget; past it, gives up out loud.
//!
//! It knows no session and no table: whoever composes the program hands it [`Children`], which say how to start the task of a
//! key and what giving up means. There are never two tasks for one key. A crash costs the task that crashed and nothing else:
//! the replacement reads what it needs from the state that outlived its predecessor.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::kernel::restarts::{Decision, Restarts, Storm};
use crate::kernel::time::Timestamp;

/// What the watchdog runs.
pub trait Children: Send + Sync + 'static {
    type Key: Clone + Eq + Hash + Debug + Send + Sync + 'static;
    /// What only the first start of a task is given; a replacement gets none.
    type Ticket: Send + 'static;

    /// The task for `key`. It may panic at any point, also before it is first polled.
    fn start(&self, key: Self::Key, ticket: Option<Self::Ticket>, beat: Beat) -> BoxFuture<'static, ()>;

    /// Whether the task ends by itself. When the watchdog stops it waits for those, and drops the others at once.
    fn ends(&self, key: &Self::Key) -> bool;

    /// How long a task may go without a beat before it counts as hung. It is then dropped at its next await point, and if it
    /// has not come to one after as long again, it is stuck.
    fn patience(&self, key: &Self::Key) -> Duration;

    /// The task crashed six times in a row and is not started again. Must not panic.
    fn give_up(&self, key: Self::Key);

    /// Told of everything that goes wrong, as it happens. Must not panic.
    fn observe(&self, event: &Event<Self::Key>);
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event<K> {
    Crashed {
        key: K,
        cause: Cause,
    },
    Restarted {
        key: K,
        after: Duration,
    },
    GaveUp {
        key: K,
    },
    /// The task was dropped as hung and goes on all the same, on a thread that it keeps from all others. Told once of a task.
    Stuck {
        key: K,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    Panicked,
    /// No beat for longer than its patience.
    Hung,
}

/// With which a task shows that it lives.
#[derive(Clone)]
pub struct Beat(Arc<Pulse>);

struct Pulse {
    clock: Arc<dyn Clock>,
    last: AtomicU64,
    accepted: AtomicBool,
}

/// Starts tasks from outside. Orders are never lost and never block.
pub struct Watchdog<C: Children> {
    orders: UnboundedSender<Order<C>>,
    storm: Arc<Mutex<Storm>>,
    rounds: Rounds,
}

/// How often the watchdog went round. It does so every second, unless nothing runs on this runtime any more.
#[derive(Clone, Default)]
pub struct Rounds(Arc<AtomicU64>);

enum Order<C: Children> {
    Start(C::Key, Option<C::Ticket>),
    Forget(C::Key),
    Stop { patience_until: Timestamp },
}

/// The side that runs; its end is the end of supervision, so the process must not outlive it.
pub struct Kennel<C: Children> {
    orders: UnboundedReceiver<Order<C>>,
    storm: Arc<Mutex<Storm>>,
    rounds: Rounds,
}

struct Running<C: Children> {
    children: Arc<C>,
    clock: Arc<dyn Clock>,
    tasks: JoinSet<(C::Key, End)>,
    watched: HashMap<C::Key, Watched>,
    restarts: HashMap<C::Key, Restarts>,
    storm: Arc<Mutex<Storm>>,
    /// When it looks for tasks that hang: not later than the first of them may.
    looks_at: Timestamp,
    /// What is left of the grace of the tasks that are late, in slices; 0 while none is.
    grace: u32,
    /// How many tasks ended since it last looked.
    ended: usize,
}

/// How a task ended.
#[derive(Clone, Copy)]
enum End {
    Done,
    Panicked,
    Aborted,
}

struct Watched {
    task: AbortHandle,
    beat: Beat,
    /// Its task was to be started again while it was running; it may have looked too early.
    is_wanted: bool,
    /// It gave no sign of life in time, and has the grace that runs now to make up for it.
    is_late: bool,
    silence: Silence,
}

/// What came of it that a task gave no sign of life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Silence {
    None,
    /// It was dropped.
    Hung,
    /// Dropping it was of no use.
    Stuck,
}

/// What the watchdog waits for before it looks again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Until(Timestamp),
    /// One slice of the grace, of which so many are left.
    Slice(u32),
}

/// So many orders are taken before it is looked what else there is.
const AT_ONCE: usize = 64;
const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);
/// Between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Who stopped the process or suspended the machine made everybody late, and what a task waited for may have come long ago. So who
/// is late gets so many slices of time in which this process runs, as a pause of any length ends one slice and no more.
const GRACE: u32 = 20;
const SLICE: Duration = Duration::from_millis(100);

/// The two ends of a watchdog. Orders wait until [`Kennel::run`].
pub fn watchdog<C: Children>() -> (Watchdog<C>, Kennel<C>) {
    let (send, orders) = unbounded_channel();
    let (storm, rounds) = (Arc::<Mutex<Storm>>::default(), Rounds::default());
    (Watchdog { orders: send, storm: Arc::clone(&storm), rounds: rounds.clone() }, Kennel { orders, storm, rounds })
}

impl<C: Children> Clone for Watchdog<C> {
    fn clone(&self) -> Self {
        Self { orders: self.orders.clone(), storm: Arc::clone(&self.storm), rounds: self.rounds.clone() }
    }
}

impl<C: Children> Watchdog<C> {
    /// Runs the task of `key`. If it is running or about to be started again, it runs once more when it has ended.
    pub fn start(&self, key: C::Key, ticket: Option<C::Ticket>) {
        let _ = self.orders.send(Order::Start(key, ticket));
    }

    /// Forgets how often `key` crashed: it is over and will not be started again.
    pub fn forget(&self, key: C::Key) {
        let _ = self.orders.send(Order::Forget(key));
    }

    /// Starts nothing more, waits until `patience_until` for what runs, then drops the rest.
    pub fn stop(&self, patience_until: Timestamp) {
        let _ = self.orders.send(Order::Stop { patience_until });
    }

    /// False while tasks crash in a storm; see [`Storm`].
    pub fn is_calm(&self, now: Timestamp) -> bool {
        !self.storm.lock().is_raging(now)
    }

    pub fn rounds(&self) -> Rounds {
        self.rounds.clone()
    }
}

impl Rounds {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<C: Children> Kennel<C> {
    /// Runs until [`Watchdog::stop`] or until every [`Watchdog`] is gone.
    pub async fn run(self, children: Arc<C>, clock: Arc<dyn Clock>) {
        let Self { mut orders, storm, rounds } = self;
        let mut running = Running {
            children,
            clock,
            tasks: JoinSet::new(),
            watched: HashMap::new(),
            restarts: HashMap::new(),
            storm,
            looks_at: NEVER,
            grace: 0,
            ended: 0,
        };
        let mut round = tokio::time::interval(ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wait = running.wait();
        let mut look = running.waited(wait);
        let mut received = Vec::with_capacity(AT_ONCE);
        loop {
            // One timer for all tasks, not one for each.
            if wait != running.wait() {
                wait = running.wait();
                look = running.waited(wait);
            }
            tokio::select! {
                number = orders.recv_many(&mut received, AT_ONCE) => {
                    if number == 0 {
                        return running.tasks.shutdown().await;
                    }
                    for order in received.drain(..) {
                        match order {
                            Order::Start(key, ticket) => running.start(key, ticket),
                            Order::Forget(key) => drop(running.restarts.remove(&key)),
                            Order::Stop { patience_until } => return running.drain(patience_until).await,
                        }
                    }
                }
                Some(joined) = running.tasks.join_next() => running.ended(joined),
                () = &mut look => running.look(),
                _ = round.tick() => drop(rounds.0.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }
}

impl<C: Children> Running<C> {
    fn start(&mut self, key: C::Key, ticket: Option<C::Ticket>) {
        match self.watched.get_mut(&key) {
            Some(watched) => watched.is_wanted = true,
            None => self.spawn(key, ticket, Duration::ZERO),
        }
    }

    fn spawn(&mut self, key: C::Key, ticket: Option<C::Ticket>, delay: Duration) {
        let begins_at = self.clock.now() + delay;
        let beat = Beat::new(Arc::clone(&self.clock), begins_at);
        self.looks_at = self.looks_at.min(begins_at + self.children.patience(&key));
        let task = self.tasks.spawn({
            let (children, clock) = (Arc::clone(&self.children), Arc::clone(&self.clock));
            let (key, beat) = (key.clone(), beat.clone());
            async move {
                let run = async {
                    if !delay.is_zero() {
                        clock.sleep_until(begins_at).await;
                        beat.alive();
                    }
                    children.start(key.clone(), ticket, beat.clone()).await;
                };
                let ended = AssertUnwindSafe(run).catch_unwind().await;
                (key, if ended.is_ok() { End::Done } else { End::Panicked })
            }
        });
        self.watched.insert(key, Watched { task, beat, is_wanted: false, is_late: false, silence: Silence::None });
    }

    fn wait(&self) -> Wait {
        if self.grace > 0 { Wait::Slice(self.grace) } else { Wait::Until(self.looks_at) }
    }

    fn waited(&self, wait: Wait) -> BoxFuture<'static, ()> {
        match wait {
            Wait::Until(deadline) => self.clock.sleep_until(deadline),
            Wait::Slice(_) => tokio::time::sleep(SLICE).boxed(),
        }
    }

    fn look(&mut self) {
        self.grace = self.grace.saturating_sub(1);
        if self.grace == 0 {
            self.look_at_all();
        }
    }

    /// Who is late has a grace, and who had one and is late still is dropped, or known to be stuck.
    fn look_at_all(&mut self) {
        let now = self.clock.now();
        (self.looks_at, self.ended) = (NEVER, 0);
        for (key, watched) in &mut self.watched {
            let patience = self.children.patience(key);
            if watched.deadline(patience) <= now && watched.is_late {
                watched.is_late = false;
                match watched.silence {
                    Silence::None => {
                        watched.silence = Silence::Hung;
                        watched.task.abort();
                    }
                    Silence::Hung => {
                        watched.silence = Silence::Stuck;
                        self.children.observe(&Event::Stuck { key: key.clone() });
                    }
                    Silence::Stuck => {}
                }
            }
            let deadline = watched.deadline(patience);
            watched.is_late = deadline <= now;
            if watched.is_late {
                self.grace = GRACE;
            } else {
                self.looks_at = self.looks_at.min(deadline);
            }
        }
    }

    fn ended(&mut self, joined: Result<(C::Key, End), JoinError>) {
        let (key, end) = match joined {
            Ok(ended) => ended,
            // It was aborted, or panicked as it was dropped: seldom enough to look for whose it was.
            Err(error) => {
                let Some((key, _)) = self.watched.iter().find(|(_, watched)| watched.task.id() == error.id()) else { return };
                (key.clone(), if error.is_panic() { End::Panicked } else { End::Aborted })
            }
        };
        let Some(watched) = self.watched.remove(&key) else { return };
        // So many ends for one look that a look costs an end next to nothing.
        self.ended += 1;
        if self.grace == 0 && self.ended >= self.watched.len() {
            self.look_at_all();
        }
        if watched.beat.was_accepted() {
            self.restarts.remove(&key);
        }
        let cause = match end {
            End::Panicked => Cause::Panicked,
            End::Aborted if watched.silence != Silence::None => Cause::Hung,
            End::Done if watched.is_wanted => return self.spawn(key, None, Duration::ZERO),
            End::Done | End::Aborted => return,
        };
        self.storm.lock().crashed(self.clock.now());
        self.children.observe(&Event::Crashed { key: key.clone(), cause });
        match self.restarts.entry(key.clone()).or_default().crashed() {
            Decision::RestartAfter(after) => {
                self.spawn(key.clone(), None, after);
                self.children.observe(&Event::Restarted { key, after });
            }
            Decision::GiveUp => {
                self.restarts.remove(&key);
                self.children.observe(&Event::GaveUp { key: key.clone() });
                self.children.give_up(key);
            }
        }
    }

    async fn drain(mut self, patience_until: Timestamp) {
        for (key, watched) in &self.watched {
            if !self.children.ends(key) {
                watched.task.abort();
            }
        }
        let mut too_late = self.clock.sleep_until(patience_until);
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => if ended.is_none() { return },
                () = &mut too_late => {
                    // Who is stuck would keep it waiting for ever.
                    let _ = tokio::time::timeout(SLICE, self.tasks.shutdown()).await;
                    return;
                }
            }
        }
    }
}

impl Watched {
    /// When it is late, unless it gives a sign of life first.
    fn deadline(&self, patience: Duration) -> Timestamp {
        match self.silence {
            Silence::None => self.beat.last() + patience,
            Silence::Hung => self.beat.last() + patience + patience,
            Silence::Stuck => NEVER,
        }
    }
}

impl Beat {
    fn new(clock: Arc<dyn Clock>, begins_at: Timestamp) -> Self {
        let last = AtomicU64::new(begins_at.as_millis());
        Self(Arc::new(Pulse { clock, last, accepted: AtomicBool::new(false) }))
    }

    /// The task has done accepted work: its earlier crashes are forgiven.
    pub fn accepted(&self) {
        self.0.accepted.store(true, Ordering::Relaxed);
        self.alive();
    }

    fn alive(&self) {
        self.0.last.store(self.0.clock.now().as_millis(), Ordering::Relaxed);
    }

    fn last(&self) -> Timestamp {
        Timestamp::from_millis(self.0.last.load(Ordering::Relaxed))
    }

    fn was_accepted(&self) -> bool {
        self.0.accepted.load(Ordering::Relaxed)
    }
}
