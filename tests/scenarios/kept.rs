//! What is kept for how long, and how every sign-in that was opened comes to an end that is counted.

use std::sync::Arc;
use std::time::Duration;

use anteroom::demo::{Answer, Endpoint};
use anteroom::kernel::session::{Session, Status, Terms};
use anteroom::kernel::verdict::Failure;
use anteroom::sessions::{Create, CreateError, Created, Idempotency, Quota};
use anteroom::store::Store;
use anteroom::store::memory::MemoryStore;

use crate::rig::{PROVIDER, Rig, Setup, TERMS, eventually, within};

fn create(key: u8) -> Create {
    let idempotency = Some(Idempotency { key: [key; 32], fingerprint: [key; 32] });
    Create { provider: PROVIDER.into(), scope: "profile".into(), label: None, caller: None, idempotency, refusal: None }
}

fn counted(rig: &Rig, line: &str) -> bool {
    rig.app.metrics.render(&rig.sessions.census()).lines().any(|counted| counted == line)
}

#[tokio::test]
async fn a_creation_that_ran_into_its_time_limit_is_counted_as_ended() {
    let rig = Rig::start().await;
    rig.provider.script(Endpoint::DeviceAuthorization, [Answer::Delay(Duration::from_secs(25))]);
    let sessions = rig.sessions.clone();
    let creating = tokio::spawn(async move { sessions.create(create(1)).await });
    eventually("the provider is asked", || rig.provider.counts().device_requests == 1).await;
    rig.clock.advance(Duration::from_secs(20));
    let ended = within(creating).await.unwrap();
    assert_eq!(ended.unwrap_err(), CreateError::Failed(Failure::ProviderTimeout));
    assert!(counted(&rig, r#"anteroom_sessions_settled_total{provider="dev",outcome="provider_timeout"} 1"#));
    assert_eq!((rig.sessions.live(), rig.sessions.all().len()), (0, 0));
}

#[tokio::test]
async fn a_request_may_be_repeated_for_ten_minutes_however_short_the_retention() {
    let terms = Terms { retention: Duration::from_secs(1), ..TERMS };
    let rig = Rig::with(Setup { terms, ..Setup::default() }).await;
    let Created { session, secret, .. } = rig.sessions.create(create(1)).await.unwrap();
    rig.sessions.cancel(session.id()).await.unwrap();
    for _ in 0..9 {
        rig.clock.advance(Duration::from_secs(60));
        // Whatever lapses has time to.
        eventually("nothing is due", || rig.sessions.deadlines().values().all(|at| *at > rig.clock.as_clock().now())).await;
        let again = rig.sessions.create(create(1)).await.unwrap();
        assert_eq!((again.session.id(), again.repeated), (session.id(), true));
        assert_eq!(secrecy::ExposeSecret::expose_secret(&again.secret), secrecy::ExposeSecret::expose_secret(&secret));
    }
    assert!(rig.sessions.get(session.id()).is_none(), "its retention is over");
    rig.clock.advance(Duration::from_secs(61));
    eventually("it is forgotten", || rig.sessions.peek(session.id()).is_none()).await;
}

#[tokio::test]
async fn beyond_their_number_settled_sessions_are_forgotten_the_oldest_first() {
    let quota = Quota::new(1_000, []).with_settled(3);
    let rig = Rig::with(Setup { quota: Some(quota), ..Setup::default() }).await;
    let mut cancelled = Vec::new();
    for _ in 0..10 {
        let sign_in = rig.begin().await;
        rig.sessions.cancel(sign_in.id).await.unwrap();
        cancelled.push(sign_in.id);
        rig.clock.advance(Duration::from_secs(1));
    }
    let waiting = rig.begin().await;
    let kept = |rig: &Rig| cancelled.iter().map(|id| rig.sessions.peek(*id).is_some()).collect::<Vec<_>>();
    rig.clock.advance(Duration::from_secs(20));
    eventually("three are left", || kept(&rig).iter().filter(|kept| **kept).count() == 3).await;
    assert_eq!(kept(&rig), [[false; 7].as_slice(), &[true; 3]].concat());
    assert_eq!(rig.status(&waiting), Status::Pending);
    eventually("they are counted", || counted(&rig, "anteroom_sessions_forgotten_early_total 7")).await;
}

#[tokio::test]
async fn a_change_that_the_store_contradicts_is_decided_anew_on_what_the_store_has() {
    let store = Arc::new(MemoryStore::default());
    let rig = Rig::with(Setup { store: store.clone(), ..Setup::default() }).await;
    let sign_in = rig.begin().await;
    let before = rig.session(&sign_in);
    // As after a failover, or by another process: the store has gone on without us.
    let denied = Session::clone(&before).fail(Failure::ProviderRejected, rig.clock.as_clock().now()).unwrap();
    store.save(before.version(), Arc::new(denied)).await.unwrap();

    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    eventually("the table has what the store has", || rig.status(&sign_in) == Status::Failed).await;
    assert!(rig.session(&sign_in).revision() > before.revision());
    eventually("the tokens are revoked", || rig.provider.counts().revocations > 0).await;
    assert_eq!(rig.sessions.live(), 0);
}

#[tokio::test]
async fn a_row_that_the_store_has_lost_is_put_back() {
    let store = Arc::new(MemoryStore::default());
    let rig = Rig::with(Setup { store: store.clone(), ..Setup::default() }).await;
    let sign_in = rig.begin().await;
    store.remove(sign_in.id).await.unwrap();
    rig.sessions.cancel(sign_in.id).await.unwrap();
    assert_eq!(rig.status(&sign_in), Status::Cancelled);
    assert_eq!(store.version(sign_in.id).await.unwrap(), Some(rig.session(&sign_in).version()));
    assert_eq!(rig.sessions.live(), 0);
}
