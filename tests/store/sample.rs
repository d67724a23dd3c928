//! Sessions in every state, made by the kernel itself.

use std::sync::Arc;
use std::time::Duration;

use anteroom::kernel::pace::Jitter;
use anteroom::kernel::session::record::Record;
use anteroom::kernel::session::{Attempt, Creation, Errand, Lapsed, Opening, Session, Terms};
use anteroom::kernel::time::Timestamp;
use anteroom::kernel::verdict::{Began, DeviceCode, Grant, Prompt, Verdict};
use secrecy::ExposeSecret;
use uuid::Uuid;

pub const START: Timestamp = Timestamp::from_millis(1_795_341_600_000);
pub const TERMS: Terms = Terms { claim_ttl: Duration::from_secs(300), retention: Duration::from_secs(600) };
pub const LIFETIME: Duration = Duration::from_secs(900);

/// What no file may contain in the clear.
pub const SECRETS: [&str; 6] =
    ["device-code-4711", "code-verifier-4711", "access-token-4711", "refresh-token-4711", "id-token-4711", "session-secret-4711"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Starting,
    Pending,
    Verifying,
    Authorized,
    Held,
    Claimed,
    Denied,
    Expired,
    Cancelled,
    Failed,
    Revoking,
}

impl Stage {
    pub const ALL: [Self; 11] = [
        Self::Starting,
        Self::Pending,
        Self::Verifying,
        Self::Authorized,
        Self::Held,
        Self::Claimed,
        Self::Denied,
        Self::Expired,
        Self::Cancelled,
        Self::Failed,
        Self::Revoking,
    ];
}

pub fn opened(id: Uuid) -> Session {
    let opening = Opening {
        id,
        provider: Arc::from("acme"),
        caller: Some(Arc::from("tv-backend")),
        scope: Arc::from("openid profile"),
        label: Some("Living-room TV".into()),
        secret: [7; 32],
    };
    let creation = Creation { key: [1; 32], fingerprint: [2; 32], secret: SECRETS[5].into(), until: START + Duration::from_secs(600) };
    Session::open(opening, Some(creation), START)
}

pub fn began() -> Began {
    let device_code = DeviceCode::new(SECRETS[0], Some(SECRETS[1]), Arc::from("https://id.acme.test/token"));
    let prompt = Prompt {
        user_code: "WDJB-MJHT".into(),
        verification_uri: Arc::from("https://id.acme.test/device"),
        verification_uri_complete: Some("https://id.acme.test/device?user_code=WDJB-MJHT".into()),
        expires_at: START + LIFETIME,
    };
    Began { device_code: Arc::new(device_code), prompt, interval: Some(Duration::from_secs(5)) }
}

pub fn grant() -> Arc<Grant> {
    Arc::new(Grant {
        access_token: SECRETS[2].into(),
        token_type: "Bearer".into(),
        expires_at: Some(START + Duration::from_secs(3600)),
        refresh_token: Some(SECRETS[3].into()),
        id_token: Some(SECRETS[4].into()),
        scope: Some("openid".into()),
        claims: Some(r#"{"sub":"subject-4711"}"#.into()),
    })
}

pub fn announced(session: Session, now: Timestamp) -> (Session, Attempt) {
    let (session, announced) = session.attempt(now).expect("an attempt is due");
    (session, announced.expect("no attempt was open").0)
}

pub fn pending(id: Uuid) -> Session {
    let (session, attempt) = announced(opened(id), START);
    session.began(attempt, began(), START, Jitter(0)).expect("it was starting")
}

/// Asks when it is due and reports `verdict` at once.
pub fn polled(session: Session, verdict: Verdict) -> Session {
    let now = session.next_poll_at().expect("it is pending");
    let (session, announced) = session.attempt(now).expect("an attempt is due");
    let (attempt, errand) = announced.expect("no attempt was open");
    let reported = match errand {
        Errand::Verify(_) => session.verified(attempt, verdict, now, &TERMS),
        _ => session.report(attempt, verdict, now, Jitter(0), &TERMS),
    };
    reported.expect("the attempt is open")
}

pub fn authorized(id: Uuid) -> Session {
    polled(pending(id), Verdict::Authorized(grant()))
}

pub fn claimed(session: Session, key: Option<[u8; 32]>) -> Session {
    let (_, next) = session.claim(key, START + Duration::from_secs(10)).expect("authorized");
    next.expect("the first claim")
}

pub fn in_stage(stage: Stage, id: Uuid) -> Session {
    let later = START + Duration::from_secs(20);
    match stage {
        Stage::Starting => opened(id),
        Stage::Pending => pending(id),
        Stage::Verifying => polled(pending(id), Verdict::Unverified(grant())),
        Stage::Authorized => authorized(id),
        Stage::Held => claimed(authorized(id), Some([9; 32])),
        Stage::Claimed => claimed(authorized(id), None),
        Stage::Denied => polled(pending(id), Verdict::Denied),
        Stage::Expired => polled(pending(id), Verdict::Expired),
        Stage::Cancelled => pending(id).cancel(later).expect("pending"),
        Stage::Failed => polled(pending(id), Verdict::Rejected),
        Stage::Revoking => authorized(id).cancel(later).expect("authorized"),
    }
}

/// What time makes of it until nothing is left of its secrets.
pub fn lapsed(mut session: Session, now: Timestamp) -> Session {
    while let Ok(Lapsed::Kept(next)) = session.clone().lapse(now, &TERMS) {
        session = next;
    }
    session
}

/// All of a record as text, secrets included.
pub fn told(record: &Record) -> String {
    let grant = |grant: Option<&Arc<Grant>>| {
        let secret = |secret: &secrecy::SecretString| secret.expose_secret().to_owned();
        grant.map(|grant| {
            let Grant { access_token, token_type, expires_at, refresh_token, id_token, scope, claims } = &**grant;
            let secrets = (secret(access_token), refresh_token.as_ref().map(secret), id_token.as_ref().map(secret));
            format!("{secrets:?} {token_type} {expires_at:?} {scope:?} {claims:?}")
        })
    };
    let secrets = &record.secrets;
    let device_code = secrets
        .device_code
        .as_deref()
        .map(|code| (code.expose_code().to_owned(), code.expose_code_verifier().map(str::to_owned), code.token_endpoint.to_string()));
    let creation = secrets.creation.as_ref().map(|secret| secret.expose_secret().to_owned());
    let revocations: Vec<_> = secrets.revocations.iter().map(|revoked| grant(Some(revoked))).collect();
    let secrets = (device_code, grant(secrets.grant.as_ref()), creation, revocations);
    let Record { id, version, revision, provider, caller, opened_at, facts, .. } = record;
    format!("{id} {version} {revision} {provider} {caller:?} {opened_at:?} {facts:?} {secrets:?}")
}
