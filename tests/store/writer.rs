//! One writer, many at once, and nothing in silence.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::store::row::Row;
use anteroom::store::seal::Keyring;
use anteroom::store::writer::{Backend, Fault, Mark, Op, Page, Writer};
use anteroom::store::{StoreError, Unreadable};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::clock::ManualClock;
use crate::sample;
use crate::scratch::Scratch;

/// A backend that commits one batch for each permit.
struct Paced {
    permits: Arc<Semaphore>,
    batches: Arc<Mutex<Vec<Vec<Uuid>>>>,
    versions: HashMap<Uuid, i64>,
    then: Outcome,
}

#[derive(Clone, Copy)]
enum Outcome {
    Commit,
    Fail(fn(String) -> Fault),
    Panic,
}

impl Backend for Paced {
    async fn commit(&mut self, batch: &[Op]) -> Result<Vec<bool>, Fault> {
        self.permits.acquire().await.expect("it is open").forget();
        self.batches.lock().expect("no panic").push(batch.iter().map(Op::id).collect());
        match self.then {
            Outcome::Commit => Ok(batch.iter().map(|op| self.write(op)).collect()),
            Outcome::Fail(fault) => Err(fault("as it was told".to_owned())),
            Outcome::Panic => panic!("as it was told"),
        }
    }
    async fn version(&mut self, id: Uuid) -> Result<Option<i64>, Fault> {
        Ok(self.versions.get(&id).copied())
    }
    async fn page(&mut self, _: Option<Mark>) -> Result<Page, Fault> {
        Ok(Page { rows: Box::new(std::iter::empty()), end: None })
    }
    async fn row(&mut self, _: Uuid) -> Result<Option<Result<Row, Unreadable>>, Fault> {
        Ok(None)
    }
    async fn probe(&mut self, _: usize) -> Result<(), Fault> {
        Ok(())
    }
    async fn tidy(&mut self) -> Result<(), Fault> {
        Ok(())
    }
    async fn close(self) {}
}

impl Paced {
    fn write(&mut self, op: &Op) -> bool {
        match op {
            Op::Remove(id) => {
                self.versions.remove(id);
                true
            }
            Op::Save { expected, row } => {
                let matches = self.versions.get(&row.id).copied().unwrap_or(0) == *expected;
                if matches {
                    self.versions.insert(row.id, row.version);
                }
                matches
            }
        }
    }
}

struct Bench {
    writer: Writer,
    permits: Arc<Semaphore>,
    batches: Arc<Mutex<Vec<Vec<Uuid>>>>,
    keyring: Keyring,
    clock: ManualClock,
    _scratch: Scratch,
}

impl Bench {
    fn new(then: Outcome) -> Self {
        let (permits, batches) = (Arc::new(Semaphore::new(0)), Arc::<Mutex<Vec<Vec<Uuid>>>>::default());
        let backend = Paced { permits: Arc::clone(&permits), batches: Arc::clone(&batches), versions: HashMap::new(), then };
        let scratch = Scratch::default();
        let keyring = Keyring::create(&scratch.join("a.key")).expect("a new key file");
        let clock = ManualClock::default();
        Self { writer: Writer::start(backend, clock.as_clock()), permits, batches, keyring, clock, _scratch: scratch }
    }

    fn save(&self, id: Uuid, version: i64) -> Op {
        let row = Row { version, ..Row::seal(&sample::opened(id).record(), &self.keyring, 1).expect("randomness") };
        Op::Save { expected: version - 1, row: Box::new(row) }
    }

    fn sizes(&self) -> Vec<usize> {
        self.batches.lock().expect("no panic").iter().map(Vec::len).collect()
    }

    async fn is_broken(&self) -> bool {
        tokio::time::timeout(Duration::from_secs(10), self.writer.broken()).await.is_ok()
    }
}

#[tokio::test]
async fn what_gathers_during_a_commit_is_committed_together() {
    let bench = Bench::new(Outcome::Commit);
    let all = (0..450).map(|_| bench.writer.write(bench.save(Uuid::new_v4(), 1)));
    bench.permits.add_permits(10);
    assert!(join_all(all).await.into_iter().all(|saved| saved.is_ok()));
    let sizes = bench.sizes();
    assert_eq!(sizes.iter().sum::<usize>(), 450);
    assert!(sizes.len() < 20 && sizes.iter().all(|size| *size <= 200), "{sizes:?}");
}

#[tokio::test]
async fn two_changes_of_one_session_are_committed_one_after_the_other() {
    let bench = Bench::new(Outcome::Commit);
    let (id, other) = (Uuid::new_v4(), Uuid::new_v4());
    bench.permits.add_permits(10);
    let changes = [bench.save(id, 1), bench.save(other, 1), bench.save(id, 2), bench.save(id, 2), Op::Remove(other)];
    let saved = join_all(changes.map(|op| bench.writer.write(op))).await;
    assert_eq!(saved, [Ok(()), Ok(()), Ok(()), Err(StoreError::Conflict), Ok(())]);
    let batches = bench.batches.lock().expect("no panic").clone();
    assert!(batches.iter().all(|batch| batch.iter().filter(|changed| **changed == id).count() <= 1), "{batches:?}");
    assert_eq!(bench.writer.version(id).await, Ok(Some(2)));
}

#[tokio::test]
async fn nothing_is_acknowledged_before_its_commit() {
    let bench = Bench::new(Outcome::Commit);
    let mut saving = Box::pin(bench.writer.write(bench.save(Uuid::new_v4(), 1)));
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert!((&mut saving).now_or_never().is_none());
    }
    bench.permits.add_permits(1);
    assert_eq!(saving.await, Ok(()));
}

#[tokio::test]
async fn a_fault_is_everybodys_and_no_reason_to_end() {
    for (fault, error) in [(Fault::Unavailable as fn(String) -> Fault, StoreError::Unavailable), (Fault::Unknown, StoreError::Unknown)] {
        let bench = Bench::new(Outcome::Fail(fault));
        bench.permits.add_permits(10);
        let saved = join_all((0..3).map(|_| bench.writer.write(bench.save(Uuid::new_v4(), 1)))).await;
        assert_eq!(saved, [Err(error); 3]);
        assert!(bench.writer.broken().now_or_never().is_none());
    }
}

#[tokio::test]
async fn it_is_failing_from_a_failed_commit_to_one_that_works() {
    let bench = Bench::new(Outcome::Fail(Fault::Unavailable));
    assert!(!bench.writer.is_failing());
    bench.permits.add_permits(1);
    assert!(bench.writer.write(bench.save(Uuid::new_v4(), 1)).await.is_err());
    assert!(bench.writer.is_failing());
    bench.clock.advance(Duration::from_millis(500));
    assert_eq!(bench.writer.probe().await, Ok(()));
    assert!(!bench.writer.is_failing());
}

/// What reads, or had nothing to do, proves nothing.
#[tokio::test]
async fn nothing_but_a_write_ends_the_failing() {
    let bench = Bench::new(Outcome::Fail(Fault::Unavailable));
    bench.permits.add_permits(1);
    assert!(bench.writer.write(bench.save(Uuid::new_v4(), 1)).await.is_err());
    bench.clock.advance(Duration::from_secs(11));
    for _ in 0..3 {
        assert_eq!(bench.writer.version(Uuid::new_v4()).await, Ok(None));
        assert!(bench.writer.is_failing());
    }
}

#[tokio::test]
async fn a_commit_that_takes_long_counts_as_failing_until_it_is_over() {
    let bench = Bench::new(Outcome::Commit);
    let mut saving = Box::pin(bench.writer.write(bench.save(Uuid::new_v4(), 1)));
    assert!((&mut saving).now_or_never().is_none());
    let slow = bench.clock.now() + Duration::from_secs(1);
    bench.clock.sleeper(|at| at == slow).await;
    assert!(!bench.writer.is_failing());
    bench.clock.advance_to(slow);
    while !bench.writer.is_failing() {
        tokio::task::yield_now().await;
    }
    bench.permits.add_permits(1);
    assert_eq!(saving.await, Ok(()));
    assert!(!bench.writer.is_failing());
}

#[tokio::test]
async fn a_broken_database_ends_everything_unanswered() {
    let bench = Bench::new(Outcome::Fail(Fault::Broken));
    bench.permits.add_permits(10);
    assert_eq!(bench.writer.write(bench.save(Uuid::new_v4(), 1)).await, Err(StoreError::Unknown));
    assert!(bench.is_broken().await);
    assert_eq!(bench.writer.write(bench.save(Uuid::new_v4(), 1)).await, Err(StoreError::Unavailable));
}

#[tokio::test]
async fn a_writer_that_dies_is_noticed() {
    let bench = Bench::new(Outcome::Panic);
    bench.permits.add_permits(10);
    assert_eq!(bench.writer.write(bench.save(Uuid::new_v4(), 1)).await, Err(StoreError::Unknown));
    assert!(bench.is_broken().await);
}

#[tokio::test]
async fn closing_finishes_what_was_asked_for_and_breaks_nothing() {
    let bench = Bench::new(Outcome::Commit);
    let mut saving = Box::pin(bench.writer.write(bench.save(Uuid::new_v4(), 1)));
    assert!((&mut saving).now_or_never().is_none());
    bench.permits.add_permits(1);
    bench.writer.close().await;
    assert_eq!(saving.await, Ok(()));
    assert!(bench.writer.broken().now_or_never().is_none());
}
