//! Many sign-ins at once: what happens to one is nothing to the others.

use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::demo::{Answer, Crash, Options, RateCheck, Window};
use anteroom::kernel::session::{SessionId, Status};
use anteroom::kernel::verdict::Failure;
use anteroom::sessions::CreateError;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::rig::{Rig, Setup, SignIn, begin, eventually, within};

const STEP: Duration = Duration::from_secs(1);

async fn begin_many(rig: &Rig, number: usize) -> Vec<SignIn> {
    stream::iter(0..number).map(|_| begin(&rig.sessions, None)).buffer_unordered(50).try_collect().await.unwrap()
}

#[tokio::test]
async fn among_1_000_sessions_one_poisoned_one_makes_no_other_miss_a_poll() {
    let rate_check = Some(RateCheck::BeforeApproval(Window::Sliding));
    // The poisoned one polls more often, so that it is through with its crashes while the others are polled twice.
    let rig = Rig::with_options(Options { interval: Some(1), rate_check, ..Options::default() }).await;
    let poisoned = rig.begin().await;
    rig.provider.configure(|options| options.interval = Some(10));
    for crash in [Crash::BeforeAsking, Crash::AfterTheAnswer].into_iter().cycle().take(6) {
        rig.provider.crash_poller(&poisoned.user_code, crash);
    }
    let others = begin_many(&rig, 999).await;
    let (mut crashes, mut restart_at) = (0, rig.clock.now());
    // 12 s to 13.2 s to the first poll, as much again to the second, and not yet to the third.
    for _ in 0..35 {
        rig.clock.advance(STEP);
        eventually("all that is due is done", || others.iter().all(|sign_in| rig.is_at_rest(sign_in))).await;
        eventually("the poisoned one rests, or its poller waits", || {
            rig.is_at_rest(&poisoned) || (crashes > 0 && rig.clock.now() < restart_at) || rig.crashes(&poisoned) > crashes
        })
        .await;
        if rig.crashes(&poisoned) > crashes {
            crashes = rig.crashes(&poisoned);
            restart_at = rig.clock.now() + Duration::from_secs([0, 1, 2, 4, 4, 0][crashes as usize - 1]);
            if restart_at > rig.clock.now() {
                within(rig.clock.sleeper(|deadline| deadline == restart_at)).await;
            }
        }
    }
    assert_eq!(rig.failure(&poisoned), Some(Failure::InternalError));
    assert_eq!((rig.provider.early_polls(), rig.provider.counts().slow_downs), (0, 0));
    for sign_in in &others {
        assert_eq!((rig.status(sign_in), rig.crashes(sign_in)), (Status::Pending, 0));
    }
    let gaps: Vec<Duration> = others.iter().flat_map(|sign_in| rig.provider.gaps(&sign_in.user_code)).collect();
    assert_eq!(gaps.len(), 2 * 999);
    let (shortest, longest) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*shortest >= Duration::from_secs(12), "{shortest:?}");
    assert!(*longest <= Duration::from_millis(13_200) + STEP, "{longest:?}");
}

#[tokio::test]
async fn a_provider_that_hangs_for_one_session_is_polled_for_the_others() {
    let rig = Rig::start().await;
    let (stuck, other) = (rig.begin().await, rig.begin().await);
    rig.provider.script_polls(&stuck.user_code, [Answer::Stall]);
    rig.set_off(&stuck).await;
    rig.rest(&other).await;
    rig.polls(2, &other).await;
    rig.provider.approve(&other.user_code);
    rig.poll(&other).await;
    assert_eq!((rig.status(&other), rig.session(&stuck).next_poll_at()), (Status::Authorized, None));
}

#[tokio::test]
async fn more_than_50_crashes_in_a_minute_make_the_service_unready_until_a_minute_is_calm() {
    let rig = Rig::start().await;
    let health = rig.app.health();
    let sign_ins = begin_many(&rig, 51).await;
    for sign_in in &sign_ins {
        rig.provider.crash_poller(&sign_in.user_code, Crash::BeforeAsking);
    }
    let crashes = |number: u32| {
        let crashes: u32 = sign_ins.iter().map(|sign_in| rig.crashes(sign_in)).sum();
        crashes == number
    };
    let last = sign_ins.iter().max_by_key(|sign_in| rig.due(sign_in)).unwrap();
    let last_due = rig.due(last);
    rig.clock.advance_to(last_due - Duration::from_millis(1));
    let due_later = sign_ins.iter().filter(|sign_in| rig.session(sign_in).next_poll_at() == Some(last_due)).count() as u32;
    eventually("all but the last crash", || crashes(51 - due_later)).await;
    assert!(health.watchdog_is_ready());
    rig.clock.advance_to(last_due);
    eventually("the last crashes", || crashes(51)).await;
    assert!(!health.watchdog_is_ready());

    rig.clock.advance(Duration::from_secs(60));
    assert!(!health.watchdog_is_ready());
    rig.clock.advance(Duration::from_millis(1));
    assert!(health.watchdog_is_ready());
    eventually("all go on", || sign_ins.iter().all(|sign_in| rig.is_at_rest(sign_in))).await;
    assert!(sign_ins.iter().all(|sign_in| rig.status(sign_in) == Status::Pending));
}

#[tokio::test]
async fn the_session_above_the_limit_is_refused_until_one_ends() {
    const LIMIT: usize = 1_000;
    let rig = Rig::with(Setup { max_sessions: LIMIT, ..Setup::default() }).await;
    let sign_ins = begin_many(&rig, LIMIT).await;
    assert_eq!(rig.try_begin(None).await.unwrap_err(), CreateError::TooMany);
    assert_eq!((rig.sessions.live(), rig.provider.counts().device_requests), (LIMIT, LIMIT as u64), "the provider was not asked");
    rig.sessions.cancel(sign_ins[0].id).await.unwrap();
    rig.begin().await;
    assert_eq!(rig.try_begin(None).await.unwrap_err(), CreateError::TooMany);
}

#[tokio::test]
async fn a_caller_has_a_limit_of_its_own() {
    let rig = Rig::start().await;
    let mine = [rig.try_begin(Some("limited")).await.unwrap(), rig.try_begin(Some("limited")).await.unwrap()];
    assert_eq!(rig.try_begin(Some("limited")).await.unwrap_err(), CreateError::TooMany);
    rig.try_begin(Some("another")).await.unwrap();
    rig.provider.deny(&mine[0].user_code);
    rig.poll(&mine[0]).await;
    assert_eq!(rig.status(&mine[0]), Status::Denied);
    rig.try_begin(Some("limited")).await.unwrap();
}

#[tokio::test]
async fn sessions_are_found_by_id_and_by_nothing_else() {
    let rig = Rig::start().await;
    let sign_in = rig.begin().await;
    assert_eq!(rig.sessions.get(sign_in.id).map(|session| session.id()), Some(sign_in.id));
    assert!(rig.sessions.get(SessionId::from_u128(1)).is_none());
}
