//! The steps that a million sign-ins take most often, one by one: `cargo bench --bench micro`, with a filter behind `--`.
//!
//! Sizes and rates of the whole are the other bench's, `ceiling`.

#[path = "ceiling/sample.rs"]
mod sample;

use std::time::Duration;

use anteroom::http::view::SessionView;
use anteroom::kernel::pace::Jitter;
use anteroom::kernel::session::{Session, State};
use anteroom::kernel::table::{Lane, Table};
use anteroom::kernel::time::{Offset, Timestamp};
use anteroom::kernel::verdict::Verdict;
use anteroom::provider::classify;
use anteroom::provider::dialect::Dialect;
use anteroom::provider::exchange::{Answer, NoAnswer};
use divan::{Bencher, black_box};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const INTERVAL: Duration = Duration::from_secs(5);
const LIVE: usize = 100_000;

fn main() {
    // `cargo bench -- --full` and the like are for `ceiling`.
    if std::env::args().any(|arg| ["--full", "--json", "--churn"].contains(&arg.as_str())) {
        return;
    }
    divan::main();
}

/// Ready for its first poll, and the moment of that.
fn due() -> (Session, Timestamp) {
    let session = sample::pending(NOW, INTERVAL);
    let at = session.next_poll_at().expect("it is polled");
    (session, at)
}

// === the kernel ===

#[divan::bench]
fn begin(bencher: Bencher) {
    let ready = || (sample::attempted(sample::opened(NOW), NOW), sample::began(NOW, INTERVAL));
    bencher.with_inputs(ready).bench_values(|((session, attempt, _), began)| session.began(attempt, began, NOW, Jitter(7)));
}

#[divan::bench]
fn attempt(bencher: Bencher) {
    bencher.with_inputs(due).bench_values(|(session, at)| session.attempt(at));
}

#[divan::bench]
fn report_pending(bencher: Bencher) {
    let asked = || {
        let (session, at) = due();
        (sample::attempted(session, at), at)
    };
    bencher
        .with_inputs(asked)
        .bench_values(|((session, attempt, _), at)| session.report(attempt, Verdict::Pending, at, Jitter(7), &sample::TERMS));
}

#[divan::bench]
fn report_authorized(bencher: Bencher) {
    let asked = || {
        let (session, at) = due();
        (sample::attempted(session, at), at, Verdict::Authorized(sample::grant(at)))
    };
    bencher
        .with_inputs(asked)
        .bench_values(|((session, attempt, _), at, verdict)| session.report(attempt, verdict, at, Jitter(7), &sample::TERMS));
}

#[divan::bench]
fn claim(bencher: Bencher) {
    bencher.with_inputs(|| sample::approved(sample::pending(NOW, INTERVAL))).bench_values(|(session, at)| session.claim(Some([1; 32]), at));
}

// === the table ===

fn full() -> Table {
    let mut table = Table::new(sample::TERMS);
    for number in 0..LIVE as u64 {
        // Begun over one interval, as people come.
        let begun = NOW + Duration::from_millis(number * 5_000 / LIVE as u64);
        let _ = table.insert(sample::pending(begun, INTERVAL));
    }
    table
}

/// An attempt that is written into a table of 100,000.
#[divan::bench(sample_count = 1_000, sample_size = 1)]
fn commit(bencher: Bencher) {
    let mut table = full();
    let mut sessions = table.iter().map(|session| Session::clone(session)).collect::<Vec<_>>().into_iter().cycle();
    bencher
        .with_inputs(move || {
            let session = sessions.next().expect("a cycle");
            let at = session.next_poll_at().expect("it is polled");
            sample::attempted(session, at).0
        })
        .bench_local_values(move |next| table.commit(next).is_ok());
}

/// The next 64 of 100,000, again and again.
#[divan::bench(sample_count = 1_000, sample_size = 1)]
fn set_off(bencher: Bencher) {
    let mut table = full();
    let lane = Lane::Provider("demo".into());
    let mut now = NOW + INTERVAL;
    bencher.bench_local(move || {
        now = now + Duration::from_millis(4);
        table.set_off(black_box(&lane), now, 64).len()
    });
}

// === what providers say ===

fn verdict(bencher: Bencher, status: u16, body: &str) {
    let answered: Result<Answer, NoAnswer> =
        Ok(Answer { status, received_at: Offset::ZERO.wall(NOW), date: None, retry_after: None, body: body.as_bytes().to_vec() });
    bencher.bench(|| classify::verdict(black_box(&answered), &Dialect::RFC8628));
}

#[divan::bench]
fn verdict_pending(bencher: Bencher) {
    verdict(bencher, 400, r#"{"error":"authorization_pending","error_description":"the person has not decided yet"}"#);
}

#[divan::bench]
fn verdict_slow_down(bencher: Bencher) {
    verdict(bencher, 400, r#"{"error":"slow_down","error_description":"this poll came too early"}"#);
}

#[divan::bench]
fn verdict_tokens(bencher: Bencher) {
    let body = format!(r#"{{"access_token":"{}","token_type":"Bearer","expires_in":3600,"scope":"openid profile"}}"#, "a".repeat(43));
    verdict(bencher, 200, &body);
}

// === what readers see ===

#[divan::bench]
fn json_of_a_pending_session(bencher: Bencher) {
    let session = sample::pending(NOW, INTERVAL);
    assert!(matches!(session.state(), State::Pending(_)));
    bencher.bench(|| SessionView::new(black_box(&session), None, Offset::ZERO).to_json());
}
