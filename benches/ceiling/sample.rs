//! Sessions as sign-ins make them, without a provider.

use std::sync::Arc;
use std::time::Duration;

use anteroom::kernel::pace::Jitter;
use anteroom::kernel::session::{Attempt, Errand, Opening, Session, Terms};
use anteroom::kernel::time::{Offset, Timestamp};
use anteroom::kernel::verdict::{Began, DeviceCode, Grant, Prompt, Verdict};
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub const TERMS: Terms = Terms { claim_ttl: Duration::from_secs(300), retention: Duration::from_secs(600) };
const LIFETIME: Duration = Duration::from_secs(86_400);

pub fn opened(now: Timestamp) -> Session {
    let id = Uuid::new_v4();
    let secret = Sha256::digest(id).into();
    let opening = Opening { id, provider: "demo".into(), caller: None, scope: "".into(), label: None, secret };
    Session::open(opening, None, now)
}

/// A device authorization response that arrived at `now`.
pub fn began(now: Timestamp, interval: Duration) -> Began {
    let random = Uuid::new_v4().simple().to_string();
    let user_code = random[..9].to_owned();
    let complete = format!("http://127.0.0.1:8090/device?user_code={user_code}");
    let device_code = DeviceCode::new(&format!("{random}-0123456789"), Some(&"v".repeat(43)), "http://127.0.0.1:8090/token".into());
    let prompt = Prompt {
        user_code: user_code.into(),
        verification_uri: "http://127.0.0.1:8090/device".into(),
        verification_uri_complete: Some(complete.into()),
        expires_at: now + LIFETIME,
    };
    Began { device_code: Arc::new(device_code), prompt, interval: Some(interval) }
}

pub fn grant(now: Timestamp) -> Arc<Grant> {
    Arc::new(Grant {
        access_token: "a".repeat(43).into(),
        token_type: "Bearer".into(),
        expires_at: Some(Offset::ZERO.wall(now + LIFETIME)),
        refresh_token: None,
        id_token: None,
        scope: None,
        arrived_at: None,
        claims: None,
    })
}

/// An attempt at `now`, and its number.
pub fn attempted(session: Session, now: Timestamp) -> (Session, Attempt, Errand) {
    let (session, announced) = session.attempt(now).expect("it is due");
    let (attempt, errand) = announced.expect("something to ask");
    (session, attempt, errand)
}

/// `pending`, with its first poll one interval away.
pub fn pending(now: Timestamp, interval: Duration) -> Session {
    begun(began(now, interval), now)
}

pub fn begun(began: Began, now: Timestamp) -> Session {
    let (session, attempt, _) = attempted(opened(now), now);
    session.began(attempt, began, now, Jitter::default()).expect("it was starting")
}

/// What was `pending` is `authorized`; and the moment at which it became that.
pub fn approved(pending: Session) -> (Session, Timestamp) {
    let later = pending.next_poll_at().expect("it is polled");
    let (session, attempt, _) = attempted(pending, later);
    let session = session.report(attempt, Verdict::Authorized(grant(later)), later, Jitter::default(), &TERMS).expect("it was pending");
    (session, later)
}
