//! What hangs, what only seems to, and what cannot be dropped.

use std::io::{BufRead, BufReader, Write, stdin};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use anteroom::app::{App, lockup};
use anteroom::clock::Clock;
use anteroom::kernel::time::Timestamp;
use anteroom::telemetry::{self, Format};
use anteroom::watchdog::{Beat, Cause, Children, Event, Watchdog, watchdog};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime;
use tokio::sync::oneshot;

use crate::clock::ManualClock;
use crate::rig::{Setup, eventually, within};

const PATIENCE: Duration = Duration::from_secs(30);

/// Each key is started once with what it is to do; a replacement does nothing.
struct Kids {
    deeds: Mutex<Vec<BoxFuture<'static, ()>>>,
    events: Mutex<Vec<Event<u32>>>,
}

impl Kids {
    /// With the watchdog running.
    fn start(deeds: Vec<BoxFuture<'static, ()>>, clock: &ManualClock) -> (Arc<Self>, Watchdog<Self>) {
        let kids = Arc::new(Self { deeds: Mutex::new(deeds), events: Mutex::default() });
        let (dog, kennel) = watchdog();
        tokio::spawn(kennel.run(kids.clone(), clock.as_clock()));
        (kids, dog)
    }

    fn events(&self) -> Vec<Event<u32>> {
        self.events.lock().clone()
    }
}

impl Children for Kids {
    type Key = u32;
    type Ticket = ();

    fn start(&self, _: u32, ticket: Option<()>, beat: Beat) -> BoxFuture<'static, ()> {
        let deed = ticket.and_then(|()| self.deeds.lock().pop());
        async move {
            if let Some(deed) = deed {
                deed.await;
                beat.accepted();
            }
        }
        .boxed()
    }

    fn ends(&self, _: &u32) -> bool {
        true
    }

    fn patience(&self, _: &u32) -> Duration {
        PATIENCE
    }

    fn give_up(&self, _: u32) {}

    fn observe(&self, event: &Event<u32>) {
        self.events.lock().push(event.clone());
    }
}

/// Keeps its thread until it is told to let go.
fn block(until: Receiver<()>) -> BoxFuture<'static, ()> {
    async move {
        let _ = until.recv();
        tokio::task::yield_now().await;
    }
    .boxed()
}

/// The process was stopped, or the machine suspended: the clock went on, and the answer came and waits in its socket.
#[tokio::test]
async fn an_answer_that_came_while_nothing_ran_is_taken() {
    let clock = ManualClock::default();
    let (answer, answered) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    let deed = async move {
        answered.await.unwrap();
        // As a socket does, it takes some turns to give all of it.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        done.send(()).unwrap();
    };
    let (kids, dog) = Kids::start(vec![deed.boxed()], &clock);
    let deadline = clock.now() + PATIENCE;
    dog.start(1, Some(()));
    within(clock.sleeper(|at| at == deadline)).await;
    clock.advance(PATIENCE + Duration::from_secs(10));
    answer.send(()).unwrap();
    within(is_done).await.expect("it was not dropped");
    assert_eq!(kids.events(), []);
}

/// Stopped again and again, also in the middle of the grace.
#[tokio::test]
async fn what_really_hangs_is_found_after_any_pause() {
    let clock = ManualClock::default();
    let (kids, dog) = Kids::start(vec![std::future::pending().boxed()], &clock);
    let deadline = clock.now() + PATIENCE;
    dog.start(1, Some(()));
    within(clock.sleeper(|at| at == deadline)).await;
    clock.advance(PATIENCE * 2);
    tokio::time::sleep(Duration::from_millis(50)).await;
    clock.advance(PATIENCE);
    let expected = [Event::Crashed { key: 1, cause: Cause::Hung }, Event::Restarted { key: 1, after: Duration::ZERO }];
    eventually("it is dropped and started again", || kids.events() == expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_cannot_be_dropped_is_reported_once_and_is_a_crash_when_it_ends() {
    let clock = ManualClock::default();
    let (release, until) = channel();
    let (kids, dog) = Kids::start(vec![block(until)], &clock);
    let started_at = clock.now();
    dog.start(1, Some(()));
    for patience in 1..=2 {
        within(clock.sleeper(|at| at == started_at + PATIENCE * patience)).await;
        assert_eq!(kids.events(), []);
        clock.advance(PATIENCE);
    }
    eventually("it is reported", || !kids.events().is_empty()).await;
    assert_eq!(kids.events(), [Event::Stuck { key: 1 }]);
    // Looks again, for another.
    let (_keeps_open, never) = oneshot::channel::<()>();
    kids.deeds.lock().push(never.map(|_| ()).boxed());
    dog.start(2, Some(()));
    let deadline = clock.now() + PATIENCE;
    within(clock.sleeper(|at| at == deadline)).await;
    clock.advance(PATIENCE);
    eventually("the other is dropped", || kids.events().len() == 3).await;
    release.send(()).unwrap();
    let ended = [Event::Crashed { key: 1, cause: Cause::Hung }, Event::Restarted { key: 1, after: Duration::ZERO }];
    eventually("it ends", || kids.events().ends_with(&ended)).await;
    assert_eq!(kids.events().iter().filter(|event| **event == Event::Stuck { key: 1 }).count(), 1);
}

/// Blocks whoever sleeps for just so long.
#[derive(Clone)]
struct Trap {
    clock: ManualClock,
    holds: Duration,
    has_caught: Arc<AtomicBool>,
}

struct Trapped(Arc<AtomicBool>);

impl Future for Trapped {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        self.0.store(true, Ordering::SeqCst);
        loop {
            thread::park();
        }
    }
}

impl Clock for Trap {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        if deadline == self.now() + self.holds { Trapped(self.has_caught.clone()).boxed() } else { self.clock.sleep_until(deadline) }
    }
}

#[test]
fn a_scheduler_that_is_stuck_makes_the_service_unready_and_ends_it() {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let clock = ManualClock::default();
            // So long it sleeps where there is no sign-in.
            let trap = Trap { clock: clock.clone(), holds: Duration::from_secs(20), has_caught: Arc::default() };
            let has_caught = trap.has_caught.clone();
            let started_at = clock.now();
            let (_provider, parts) = Setup::on(trap).build().await;
            let app = App::start(parts);
            eventually("the scheduler is stuck", || has_caught.load(Ordering::SeqCst)).await;
            for patience in 1..=2 {
                assert!(app.health().watchdog_is_ready());
                within(clock.sleeper(|at| at == started_at + Duration::from_secs(60) * patience)).await;
                clock.advance(Duration::from_secs(60));
            }
            within(app.broken()).await;
            assert!(!app.health().watchdog_is_ready());
            let counted = app.metrics.render(&app.sessions.census());
            assert!(counted.contains("anteroom_stuck_tasks_total{task=\"scheduler\"} 1"), "{counted}");
        })
    }));
    // As the binary does: nobody waits for what is stuck.
    runtime.shutdown_background();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

const PLAYS_THE_PROCESS: &str = "ANTEROOM_TEST_PLAYS_THE_PROCESS";
/// Sixty of them are longer than a round of the watchdog.
const SLICE: Duration = Duration::from_millis(50);

/// Runs itself as the process: says when it runs, and blocks every thread of its runtime when it is told to.
#[test]
fn a_process_in_which_nothing_runs_ends_with_a_failure_and_one_that_was_stopped_goes_on() {
    if std::env::var_os(PLAYS_THE_PROCESS).is_some() {
        return play_the_process();
    }
    let name = "hangs::a_process_in_which_nothing_runs_ends_with_a_failure_and_one_that_was_stopped_goes_on";
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(PLAYS_THE_PROCESS, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with("running")));
    let pid = Pid::from_child(&process);
    kill_process(pid, Signal::STOP).unwrap();
    thread::sleep(SLICE * 80);
    kill_process(pid, Signal::CONT).unwrap();
    thread::sleep(SLICE * 20);
    assert!(process.try_wait().unwrap().is_none(), "it was taken for one that hangs");
    writeln!(process.stdin.take().unwrap(), "hang").unwrap();
    assert!(lines.any(|line| line == "hanging"));
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("nothing runs any more"), "{told}");
}

fn play_the_process() {
    let telemetry = telemetry::init(Format::Json, "info").unwrap();
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let blocked = (0..2).map(|_| Trapped(Arc::default()).boxed()).collect();
    let dog = runtime.block_on(async {
        let (_, dog) = Kids::start(blocked, &ManualClock::default());
        dog
    });
    lockup::guard(dog.rounds(), SLICE, 7).unwrap();
    println!("running");
    stdin().read_line(&mut String::new()).unwrap();
    println!("hanging");
    (0..2).for_each(|key| dog.start(key, Some(())));
    runtime.block_on(std::future::pending::<()>());
    drop(telemetry);
}
