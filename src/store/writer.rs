//! Group commit: one task has the one connection. It takes what has gathered while the last commit was under way, commits all of
//! it at once, and only then answers each. With little to do a change costs one commit; with much to do, a share of one.

use std::collections::{HashSet, VecDeque};
use std::future::{Future, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::row::Row;
use super::{Observer, StoreError, Unreadable};
use crate::clock::Clock;
use crate::kernel::time::Timestamp;

/// One database, through one connection.
pub trait Backend: Send + 'static {
    /// Commits the whole batch or nothing of it; no id is in it twice. Answers for each whether the stored version was the
    /// expected one; where it was not, nothing was written.
    fn commit(&mut self, batch: &[Op]) -> impl Future<Output = Result<Vec<bool>, Fault>> + Send;

    fn version(&mut self, id: Uuid) -> impl Future<Output = Result<Option<i64>, Fault>> + Send;

    /// Some of the rows behind `after`.
    fn page(&mut self, after: Option<Mark>) -> impl Future<Output = Result<Page, Fault>> + Send;

    fn row(&mut self, id: Uuid) -> impl Future<Output = Result<Option<Result<Row, Unreadable>>, Fault>> + Send;

    /// Writes so many bytes, to tell whether something can be written now.
    fn probe(&mut self, bytes: usize) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Whether the database is still where the next process will look for it.
    fn look(&mut self) -> impl Future<Output = Result<(), Fault>> + Send {
        ready(Ok(()))
    }

    /// Removes what is left of erased rows.
    fn tidy(&mut self) -> impl Future<Output = Result<(), Fault>> + Send;

    fn close(self) -> impl Future<Output = ()> + Send;
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Writes the row where the stored version is `expected`; 0: where there is none.
    Save {
        expected: i64,
        row: Box<Row>,
    },
    Remove(Uuid),
}

/// Some rows, and where the next ones begin; without `end` there were none left.
pub struct Page {
    pub rows: Rows,
    pub end: Option<Mark>,
}

/// Each is decoded as it is taken, which is for others than the writer's task to do.
pub type Rows = Box<dyn Iterator<Item = Read> + Send>;

/// A row as it stands in the database; `None`: not even its id can be read.
pub type Read = Option<Result<Row, Unreadable>>;

/// The last row of a page, in the order that its database reads fastest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    RowId(i64),
    Id(Uuid),
}

/// What went wrong; the text is for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing was changed. It may work again later.
    Unavailable(String),
    /// Perhaps all was written, perhaps nothing. It is decided by now.
    Unknown(String),
    /// The database cannot be trusted through this process any more.
    Broken(String),
}

/// The way to the writer's task.
#[derive(Clone)]
pub struct Writer {
    orders: mpsc::Sender<Order>,
    observer: Arc<OnceLock<Observer>>,
    is_failing: Arc<AtomicBool>,
    broken: CancellationToken,
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

enum Order {
    Write(Op, Answer<()>),
    Version(Uuid, Answer<Option<i64>>),
    Page(Option<Mark>, Answer<Page>),
    Row(Uuid, Answer<Option<Result<Row, Unreadable>>>),
    Probe(Answer<()>),
    Close(Answer<()>),
}

struct Work<B> {
    backend: B,
    clock: Arc<dyn Clock>,
    orders: mpsc::Receiver<Order>,
    waiting: VecDeque<Order>,
    observer: Arc<OnceLock<Observer>>,
    is_failing: Arc<AtomicBool>,
    /// When it was last seen whether it works.
    seen_at: Timestamp,
    /// The last attempt to tidy up came to nothing.
    is_untidy: bool,
    is_broken: bool,
    /// However the task ends, unless it was asked to: the process must not go on.
    alarm: DropGuard,
}

/// How many changes go into one commit, and how many may wait before their senders have to.
const BATCH: usize = 200;
const QUEUE: usize = 4096;
/// A commit that takes longer than this counts as failing until it is over.
const SLOW: Duration = Duration::from_secs(1);
/// For how long the last answer says whether the database works.
const FRESH: Duration = Duration::from_millis(500);
/// How long erased rows may leave traces.
const TIDY_EVERY: Duration = Duration::from_secs(10);
/// After how long it is noticed, though nothing is written, that the database was removed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What a probe writes while all is well, and what once something could not be written: more than a sign-in takes, or the little
/// room that a large commit had not enough of would look like enough.
const PROBE: usize = 16;
const PROBE_OF_FAILING: usize = 64 * 1024;

impl Writer {
    pub fn start<B: Backend>(backend: B, clock: Arc<dyn Clock>) -> Self {
        let (send, orders) = mpsc::channel(QUEUE);
        let broken = CancellationToken::new();
        let alarm = broken.clone().drop_guard();
        let seen_at = clock.now();
        let observer = Arc::<OnceLock<Observer>>::default();
        let is_failing = Arc::<AtomicBool>::default();
        let work = Work {
            backend,
            clock,
            orders,
            waiting: VecDeque::new(),
            observer: Arc::clone(&observer),
            is_failing: Arc::clone(&is_failing),
            seen_at,
            is_untidy: false,
            is_broken: false,
            alarm,
        };
        #[expect(clippy::disallowed_methods, reason = "its end is noticed by everybody who waits for `broken`")]
        tokio::spawn(work.run());
        Self { orders: send, observer, is_failing, broken }
    }

    pub async fn write(&self, op: Op) -> Result<(), StoreError> {
        self.ask(|answer| Order::Write(op, answer)).await
    }

    pub async fn version(&self, id: Uuid) -> Result<Option<i64>, StoreError> {
        self.ask(|answer| Order::Version(id, answer)).await
    }

    pub async fn page(&self, after: Option<Mark>) -> Result<Page, StoreError> {
        self.ask(|answer| Order::Page(after, answer)).await
    }

    pub async fn row(&self, id: Uuid) -> Result<Option<Result<Row, Unreadable>>, StoreError> {
        self.ask(|answer| Order::Row(id, answer)).await
    }

    pub async fn probe(&self) -> Result<(), StoreError> {
        self.ask(Order::Probe).await
    }

    pub fn observe(&self, observer: Observer) {
        // Only the first to ask is told.
        let _ = self.observer.set(observer);
    }

    /// Whether the last order came to nothing, or a commit takes far too long.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// How many orders the task has not yet taken.
    pub fn queue(&self) -> usize {
        self.orders.max_capacity() - self.orders.capacity()
    }

    /// Completes once everything that was asked for before is done.
    pub async fn close(&self) {
        let _ = self.ask(Order::Close).await;
    }

    /// Completes when the task has ended without being asked to.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    async fn ask<T>(&self, order: impl FnOnce(Answer<T>) -> Order) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).await.map_err(|_| StoreError::Unavailable)?;
        answered.await.unwrap_or(Err(StoreError::Unknown))
    }
}

impl<B: Backend> Work<B> {
    async fn run(mut self) {
        let (mut tidy_at, mut look_at) = (self.clock.now() + TIDY_EVERY, self.clock.now() + LOOK_EVERY);
        loop {
            if tidy_at <= self.clock.now() {
                let tidied = self.backend.tidy().await;
                self.heed_tidied(tidied);
                tidy_at = self.clock.now() + TIDY_EVERY;
            } else if look_at <= self.clock.now() {
                let looked = self.backend.look().await;
                let _ = self.heed(looked);
                look_at = self.clock.now() + LOOK_EVERY;
            } else if !self.gather(tidy_at.min(look_at)).await {
                return self.end(None).await;
            }
            match self.waiting.pop_front() {
                None => {}
                Some(Order::Close(answer)) => return self.end(Some(answer)).await,
                Some(order) => self.carry_out(order).await,
            }
            if self.is_broken {
                return;
            }
        }
    }

    /// Waits for something to do, at the latest until `until`. False: nobody is left who could ask.
    async fn gather(&mut self, until: Timestamp) -> bool {
        if self.waiting.is_empty() {
            let mut received = Vec::with_capacity(BATCH);
            tokio::select! {
                number = self.orders.recv_many(&mut received, BATCH) => if number == 0 { return false },
                () = self.clock.sleep_until(until) => {}
            }
            self.waiting.extend(received);
        }
        while self.waiting.len() < BATCH
            && let Ok(order) = self.orders.try_recv()
        {
            self.waiting.push_back(order);
        }
        true
    }

    async fn carry_out(&mut self, order: Order) {
        match order {
            Order::Write(op, answer) => self.commit(op, answer).await,
            Order::Version(id, answer) => {
                let version = self.backend.version(id).await;
                let _ = answer.send(self.heed(version));
            }
            Order::Page(after, answer) => {
                let page = self.backend.page(after).await;
                let _ = answer.send(self.heed(page));
            }
            Order::Row(id, answer) => {
                let row = self.backend.row(id).await;
                let _ = answer.send(self.heed(row));
            }
            Order::Probe(answer) => {
                let well = match self.clock.now().since(self.seen_at) < FRESH {
                    true if self.is_failing.load(Ordering::Relaxed) => Err(StoreError::Unavailable),
                    true => Ok(()),
                    false => {
                        let bytes = if self.is_failing.load(Ordering::Relaxed) { PROBE_OF_FAILING } else { PROBE };
                        let probed = self.backend.probe(bytes).await;
                        self.heed_written(probed, |()| true)
                    }
                };
                let _ = answer.send(well);
            }
            Order::Close(_) => {}
        }
    }

    /// Commits `first` together with the changes right behind it, up to the second one of a session.
    async fn commit(&mut self, first: Op, answer: Answer<()>) {
        let mut ids = HashSet::from([first.id()]);
        let (mut batch, mut answers) = (vec![first], vec![answer]);
        while let Some(Order::Write(op, _)) = self.waiting.front()
            && ids.insert(op.id())
            && batch.len() < BATCH
            && let Some(Order::Write(op, answer)) = self.waiting.pop_front()
        {
            batch.push(op);
            answers.push(answer);
        }
        let begun = Instant::now();
        let committed = self.commit_watched(&batch).await;
        if let Some(observe) = self.observer.get() {
            observe(batch.len(), begun.elapsed());
        }
        // Whether a row was there to be removed is not known.
        let has_saved = |written: &Vec<bool>| batch.iter().zip(written).any(|(op, written)| matches!(op, Op::Save { .. }) && *written);
        match self.heed_written(committed, has_saved) {
            Ok(written) => {
                for (written, answer) in written.into_iter().zip(answers) {
                    let _ = answer.send(if written { Ok(()) } else { Err(StoreError::Conflict) });
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error));
                }
            }
        }
    }

    async fn commit_watched(&mut self, batch: &[Op]) -> Result<Vec<bool>, Fault> {
        let mut commit = std::pin::pin!(self.backend.commit(batch));
        tokio::select! {
            committed = &mut commit => return committed,
            () = self.clock.sleep_until(self.clock.now() + SLOW) => {}
        }
        note_failure(&self.is_failing, "a commit takes longer than a second");
        commit.await
    }

    /// Nothing but what was written proves that something can be.
    fn heed_written<T>(&mut self, result: Result<T, Fault>, is_proof: impl Fn(&T) -> bool) -> Result<T, StoreError> {
        if result.as_ref().is_ok_and(is_proof) {
            self.seen_at = self.clock.now();
            if self.is_failing.swap(false, Ordering::Relaxed) {
                info!("the store works again");
            }
        }
        self.heed(result)
    }

    /// What is not merged is durable nevertheless, and no reason to refuse what could be written.
    fn heed_tidied(&mut self, tidied: Result<(), Fault>) {
        match tidied {
            Ok(()) => self.is_untidy = false,
            Err(Fault::Unavailable(reason) | Fault::Unknown(reason)) => {
                if !std::mem::replace(&mut self.is_untidy, true) {
                    warn!(reason, "what was erased cannot be removed from the files of the store yet; it is tried again");
                }
            }
            broken @ Err(Fault::Broken(_)) => drop(self.heed(broken)),
        }
    }

    fn heed<T>(&mut self, result: Result<T, Fault>) -> Result<T, StoreError> {
        let (error, reason) = match result {
            Ok(done) => return Ok(done),
            Err(Fault::Unavailable(reason)) => (StoreError::Unavailable, reason),
            Err(Fault::Unknown(reason)) => (StoreError::Unknown, reason),
            Err(Fault::Broken(reason)) => {
                error!(reason, "the store cannot be trusted any more; the service ends and reads it back when it is started again");
                self.is_broken = true;
                return Err(StoreError::Unknown);
            }
        };
        self.seen_at = self.clock.now();
        note_failure(&self.is_failing, &reason);
        Err(error)
    }

    async fn end(self, answer: Option<Answer<()>>) {
        let Self { backend, alarm, .. } = self;
        backend.close().await;
        alarm.disarm();
        if let Some(answer) = answer {
            let _ = answer.send(Ok(()));
        }
    }
}

fn note_failure(is_failing: &AtomicBool, reason: &str) {
    if !is_failing.swap(true, Ordering::Relaxed) {
        warn!(reason, "the store does not work; no sign-in can begin or end until it does");
    }
}

impl Op {
    pub fn id(&self) -> Uuid {
        match self {
            Self::Save { row, .. } => row.id,
            Self::Remove(id) => *id,
        }
    }
}
