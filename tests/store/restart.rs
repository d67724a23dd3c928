//! What a restart makes of the sessions.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anteroom::kernel::pace::Jitter;
use anteroom::kernel::session::record::Record;
use anteroom::kernel::session::{Due, Errand, Refused, Session, SessionId, State, Status};
use anteroom::kernel::time::Timestamp;
use anteroom::kernel::verdict::{Failure, Verdict};
use anteroom::sessions::{Create, CreateError, Idempotency, Observer, Quota, Restored, Sessions};
use anteroom::store::Store;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::ManualClock;
use crate::conformance::{contents, put};
use crate::database::{Database, on_every_database};
use crate::sample::{self, LIFETIME, START, Stage, TERMS};

const ID: Uuid = Uuid::from_u128(0x4711);
const INTERVAL: Duration = Duration::from_secs(5);
const GAP: Duration = Duration::from_secs(6);

fn restored(record: Record, now: Timestamp, jitter: u8) -> Option<Session> {
    Session::restored(record, now, Jitter(jitter)).expect("our own record")
}

/// A pending session that was loaded at `now` and asked about when it was due.
fn first_answer(now: Timestamp, verdict: Verdict) -> Session {
    sample::polled(restored(sample::pending(ID).record(), now, 0).expect("it goes on"), verdict)
}

fn failure(session: &Session) -> Option<Failure> {
    match session.state() {
        State::Failed { failure, .. } => Some(*failure),
        _ => None,
    }
}

// === one session ===

#[test]
fn first_polls_are_never_early_and_spread_over_one_interval() {
    let loaded = START + Duration::from_secs(60);
    let at = |jitter| restored(sample::pending(ID).record(), loaded, jitter).and_then(|session| session.next_poll_at()).expect("pending");
    assert_eq!(at(0), loaded + GAP);
    assert!((0..255).all(|jitter| at(jitter) < at(jitter + 1)));
    assert!(at(255) < loaded + GAP + INTERVAL && at(255) > loaded + GAP + INTERVAL - Duration::from_millis(50));
}

#[test]
fn a_slowed_pace_survives() {
    let slowed = sample::polled(sample::pending(ID), Verdict::SlowDown { interval: None, retry_after: None });
    let loaded = START + Duration::from_secs(60);
    let next = restored(slowed.record(), loaded, 0).and_then(|session| session.next_poll_at());
    assert_eq!(next, Some(loaded + Duration::from_secs(14)), "10 s × 1.4");
}

#[test]
fn a_code_that_died_before_its_time_lost_its_grant() {
    for verdict in [Verdict::DeadCode, Verdict::Expired] {
        assert_eq!(failure(&first_answer(START + GAP, verdict)), Some(Failure::GrantLost));
    }
    let unheard = first_answer(START + GAP, Verdict::Unreachable { ambiguous: false, retry_after: None });
    assert_eq!(failure(&sample::polled(unheard, Verdict::DeadCode)), Some(Failure::GrantLost), "still in doubt");
}

#[test]
fn a_code_that_died_in_its_time_has_expired() {
    let close = START + LIFETIME - Duration::from_secs(1);
    for verdict in [Verdict::DeadCode, Verdict::Expired] {
        assert_eq!(first_answer(close, verdict).status(), Status::Expired);
    }
}

#[test]
fn a_code_that_the_provider_still_knew_is_not_in_doubt() {
    let heard = first_answer(START + GAP, Verdict::Pending);
    assert_eq!(failure(&sample::polled(heard, Verdict::DeadCode)), Some(Failure::ProviderRejected));
}

#[test]
fn tokens_that_are_still_to_be_had_are_taken() {
    assert_eq!(first_answer(START + GAP, Verdict::Authorized(sample::grant())).status(), Status::Authorized);
}

#[test]
fn what_expired_meanwhile_lapses_at_once() {
    for (stage, becomes) in [(Stage::Pending, Status::Expired), (Stage::Authorized, Status::Expired), (Stage::Held, Status::Claimed)] {
        let loaded = START + LIFETIME;
        let session = restored(sample::in_stage(stage, ID).record(), loaded, 200).expect("it goes on");
        assert!(matches!(session.due(&TERMS), Some((at, Due::Lapse)) if at <= loaded), "{stage:?}");
        let lapsed = sample::lapsed(session, loaded);
        assert_eq!(lapsed.status(), becomes, "{stage:?}");
        assert!(lapsed.record().secrets.grant.is_none());
    }
}

#[test]
fn no_revision_repeats() {
    let pending = sample::pending(ID);
    assert_eq!(restored(pending.record(), START, 0).expect("it goes on").revision(), pending.revision() + 1_000);
    assert_eq!(restored(pending.record(), START, 0).expect("it goes on").version(), pending.version());
}

#[test]
fn a_creation_that_was_cut_off_is_dropped() {
    assert!(restored(sample::opened(ID).record(), START, 0).is_none());
    let abandoned = sample::opened(ID).fail(Failure::ProviderTimeout, START).expect("it was starting");
    assert!(restored(abandoned.record(), START, 0).is_none(), "its creator heard of no session");
}

#[test]
fn a_pending_revocation_goes_on() {
    let session = restored(sample::in_stage(Stage::Revoking, ID).record(), START + Duration::from_secs(60), 0).expect("it goes on");
    let (_, announced) = session.attempt(START + Duration::from_secs(60)).expect("it is due");
    assert!(matches!(announced, Some((_, Errand::Revoke(_)))));
}

#[test]
fn a_revocation_whose_time_is_over_is_dropped() {
    let session = restored(sample::in_stage(Stage::Revoking, ID).record(), START + Duration::from_secs(2 * 3600), 0).expect("it goes on");
    assert!(session.record().secrets.revocations.is_empty());
    assert!(matches!(session.due(&TERMS), Some((_, Due::Lapse))));
}

#[test]
fn tokens_that_wait_for_their_verification_go_on_waiting() {
    let soon = START + Duration::from_secs(30);
    let session = restored(sample::in_stage(Stage::Verifying, ID).record(), soon, 0).expect("it goes on");
    let (session, announced) = session.attempt(soon).expect("it is due");
    let Some((attempt, Errand::Verify(grant))) = announced else { panic!("not to be verified") };
    let verified = session.verified(attempt, Verdict::Authorized(grant), soon, &TERMS).expect("the attempt is open");
    assert_eq!(verified.status(), Status::Authorized);
}

#[test]
fn the_first_claim_key_may_still_read_and_no_other() {
    let soon = START + Duration::from_secs(30);
    let session = restored(sample::in_stage(Stage::Held, ID).record(), soon, 0).expect("it goes on");
    assert!(session.clone().claim(Some([9; 32]), soon).is_ok());
    assert_eq!(session.clone().claim(Some([8; 32]), soon).expect_err("another key"), Refused::AlreadyClaimed);
    assert_eq!(session.claim(Some([9; 32]), START + Duration::from_secs(70)).expect_err("too late"), Refused::AlreadyClaimed);
}

#[test]
fn a_record_that_contradicts_itself_is_refused() {
    let without = |stage, remove: fn(&mut Record)| {
        let mut record = sample::in_stage(stage, ID).record();
        remove(&mut record);
        Session::restored(record, START, Jitter(0)).is_err()
    };
    assert!(without(Stage::Pending, |record| record.secrets.device_code = None));
    assert!(without(Stage::Pending, |record| record.secrets.creation = None));
    assert!(without(Stage::Pending, |record| record.secrets.grant = Some(sample::grant())));
    assert!(without(Stage::Authorized, |record| record.secrets.grant = None));
    assert!(without(Stage::Held, |record| record.secrets.grant = None));
    assert!(without(Stage::Denied, |record| record.secrets.grant = Some(sample::grant())));
    assert!(without(Stage::Revoking, |record| record.secrets.revocations.clear()));
}

// === all of them ===

#[derive(Default)]
pub struct Heard(Mutex<Vec<(&'static str, SessionId)>>);

impl Heard {
    pub fn is_silent(&self) -> bool {
        self.0.lock().expect("no panic").is_empty()
    }

    pub fn lost(&self) -> Vec<SessionId> {
        self.0.lock().expect("no panic").iter().filter(|(what, _)| *what == "lost").map(|(_, id)| *id).collect()
    }
}

impl Observer for Heard {
    fn opened(&self, session: &Session) {
        self.0.lock().expect("no panic").push(("opened", session.id()));
    }
    fn moved(&self, _: &Session, after: &Session) {
        self.0.lock().expect("no panic").push(("moved", after.id()));
    }
    fn lost(&self, session: &Session) {
        self.0.lock().expect("no panic").push(("lost", session.id()));
    }
    fn gone(&self, session: &Session) {
        self.0.lock().expect("no panic").push(("gone", session.id()));
    }
    fn forgotten_early(&self, _: usize) {}
    fn stranded(&self, id: SessionId) {
        self.0.lock().expect("no panic").push(("stranded", id));
    }
}

struct Service {
    sessions: Sessions,
    heard: Arc<Heard>,
    restored: Restored,
}

/// Restores from `store` one minute after the sample sessions were opened.
async fn restart(store: &Arc<dyn Store>, most: usize) -> Service {
    let clock = ManualClock::starting_at(START + Duration::from_secs(60)).as_clock();
    let heard = Arc::<Heard>::default();
    let sessions = Sessions::new(
        TERMS,
        Quota::new(most, []),
        clock,
        Arc::clone(store),
        Arc::new(Notify::new()),
        Arc::clone(&heard) as Arc<dyn Observer>,
    );
    let restored = sessions.restore().await.expect("the store can be read");
    Service { sessions, heard, restored }
}

async fn open(database: &Database) -> Arc<dyn Store> {
    database.open(ManualClock::default().as_clock()).await.expect("it opens")
}

on_every_database!(every_acknowledged_session_goes_on, a_repeated_creation_gets_the_same_session);

async fn every_acknowledged_session_goes_on(database: Database) {
    let store = open(&database).await;
    let before: Vec<_> = Stage::ALL.into_iter().map(|stage| sample::in_stage(stage, Uuid::new_v4())).collect();
    for session in &before {
        put(&store, session).await;
    }
    let database = database.crash(store).await;
    let store = open(&database).await;
    let Service { sessions, heard, restored } = restart(&store, 3).await;
    assert_eq!(restored, Restored { sessions: 10, unreadable: 0, dropped: 1 });
    assert!(heard.lost().is_empty());
    for session in &before {
        let after = sessions.peek(session.id());
        match session.status() {
            Status::Starting => assert!(after.is_none()),
            status => assert_eq!(after.map(|after| after.status()), Some(status)),
        }
    }
    assert_eq!(sessions.live(), 3, "the pending, the verifying and the authorized one");
    let create = Create { provider: "acme".into(), scope: "".into(), label: None, caller: None, idempotency: None, refusal: None };
    assert_eq!(sessions.create(create).await.err(), Some(CreateError::TooMany), "they count against the limit");
    sessions.drain().await;
    assert_eq!(contents(&store).await.len(), 10, "the row of the cut off creation is gone");
}

async fn a_repeated_creation_gets_the_same_session(database: Database) {
    let store = open(&database).await;
    put(&store, &sample::pending(ID)).await;
    let Service { sessions, .. } = restart(&store, 10).await;
    let idempotency = Some(Idempotency { key: [1; 32], fingerprint: [2; 32] });
    let create =
        Create { provider: "acme".into(), scope: "".into(), label: None, caller: Some("tv-backend".into()), idempotency, refusal: None };
    let created = sessions.create(create.clone()).await.expect("it is there already");
    assert_eq!((created.session.id(), created.repeated), (ID, true));
    assert_eq!(secrecy::ExposeSecret::expose_secret(&created.secret), sample::SECRETS[5]);
    let mismatch = Create { idempotency: Some(Idempotency { key: [1; 32], fingerprint: [3; 32] }), ..create };
    assert_eq!(sessions.create(mismatch).await.err(), Some(CreateError::Mismatch));
}

/// As somebody does who has the file.
async fn tamper(path: &std::path::Path, sql: &'static str, id: SessionId) {
    let mut file = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.expect("the file");
    assert_eq!(sqlx::query(sql).bind(id).execute(&mut file).await.expect("the statement").rows_affected(), 1);
    file.close().await.expect("it closes");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_that_session_for_good_and_no_other() {
    const TAMPERINGS: [&str; 6] = [
        "UPDATE sessions SET device_code = zeroblob(80) WHERE id = ?",
        "UPDATE sessions SET facts = '{}' WHERE id = ?",
        "UPDATE sessions SET facts = CAST(x'ff' AS TEXT) WHERE id = ?",
        "UPDATE sessions SET provider = CAST(x'ff' AS TEXT) WHERE id = ?",
        "UPDATE sessions SET version = -5 WHERE id = ?",
        "UPDATE sessions SET status = 'paused', facts = replace(facts, 'pending', 'paused') WHERE id = ?",
    ];
    for tampering in TAMPERINGS {
        let database = Database::sqlite();
        let store = open(&database).await;
        let [healthy, broken] = [sample::pending(Uuid::new_v4()), sample::pending(Uuid::new_v4())];
        put(&store, &healthy).await;
        put(&store, &broken).await;
        store.close().await;
        let Database::Sqlite(scratch) = &database else { unreachable!() };
        tamper(&scratch.join("a.db"), tampering, broken.id()).await;

        let store = open(&database).await;
        let Service { sessions, heard, restored } = restart(&store, 10).await;
        assert_eq!(restored, Restored { sessions: 1, unreadable: 1, dropped: 0 }, "{tampering}");
        assert_eq!(heard.lost(), [broken.id()]);
        let failed = sessions.get(broken.id()).expect("it can be seen");
        assert_eq!(failure(&failed), Some(Failure::InternalError));
        assert_eq!(sessions.get(healthy.id()).map(|session| session.status()), Some(Status::Pending));
        store.close().await;

        let store = open(&database).await;
        let Service { sessions, restored, .. } = restart(&store, 10).await;
        assert_eq!(restored, Restored { sessions: 2, unreadable: 0, dropped: 0 }, "it is durable: {tampering}");
        assert_eq!(sessions.get(broken.id()).as_deref().and_then(failure), Some(Failure::InternalError));
    }
}
