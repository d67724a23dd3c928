//! What becomes of a session, and of its tokens, seen by its owner and by the provider.

use std::sync::Arc;
use std::time::Duration;

use anteroom::app::{App, Parts};
use anteroom::clock::SystemClock;
use anteroom::demo::{Answer, DevProvider, Endpoint, IdTokens, Options};
use anteroom::kernel::session::{Session, SessionId, State, Status, Terms};
use anteroom::kernel::verdict::Failure;
use anteroom::provider::Provider;
use anteroom::provider::exchange::client_for;
use anteroom::provider::oauth::OAuthProvider;
use anteroom::sessions::{Create, Quota};
use anteroom::store::memory::MemoryStore;
use secrecy::ExposeSecret;

use super::{settings, within};

struct Service {
    idp: DevProvider,
    app: App,
}

impl Service {
    async fn start(options: Options, claim_ttl: u64) -> Self {
        let clock = SystemClock::start();
        let options = Options { interval: Some(1), ..options };
        let idp = DevProvider::start(([127, 0, 0, 1], 0).into(), options, clock.clone()).await.unwrap();
        let settings = settings(idp.issuer(), &[]);
        let provider = OAuthProvider::new(settings.clone(), client_for(&settings).unwrap(), clock.clone());
        let terms = Terms { claim_ttl: Duration::from_secs(claim_ttl), retention: Duration::from_secs(60) };
        let quota = Quota::new(10, []);
        let store = Arc::new(MemoryStore::default());
        let providers = vec![(settings, Arc::new(provider) as Arc<dyn Provider>)];
        Self { idp, app: App::start(Parts { clock, store, terms, quota, providers }) }
    }

    async fn begin(&self) -> Arc<Session> {
        begin(&self.app).await
    }

    async fn reaches(&self, id: SessionId, status: Status) -> Arc<Session> {
        reaches(&self.app, id, status).await
    }

    /// Which tokens the provider was asked to revoke, in order.
    fn revoked(&self) -> Vec<String> {
        let hint = |(name, value): (String, String)| (name == "token_type_hint").then_some(value);
        self.idp.exchanges(Endpoint::Revocation).into_iter().flat_map(|exchange| exchange.params.into_iter().find_map(hint)).collect()
    }

    async fn revokes_all(&self) {
        within(
            20,
            self.idp.wait_for(|idp| {
                idp.counts().revocations >= 2 && idp.exchanges(Endpoint::Revocation).iter().all(|one| one.outcome.is_some())
            }),
        )
        .await;
        assert_eq!(self.revoked(), ["refresh_token", "access_token"]);
    }
}

pub async fn begin(app: &App) -> Arc<Session> {
    let create = Create {
        provider: "acme".into(),
        scope: "openid profile offline_access".into(),
        label: None,
        caller: None,
        idempotency: None,
        refusal: None,
    };
    app.sessions.create(create).await.unwrap().session
}

pub async fn reaches(app: &App, id: SessionId, status: Status) -> Arc<Session> {
    let reached = async {
        let mut seen = u64::MAX;
        loop {
            let until = app.sessions.clock().now() + Duration::from_secs(60);
            let session = app.sessions.wait(id, seen, until).await.expect("the session");
            if session.status() == status {
                return session;
            }
            assert!(!session.is_settled(), "{:?}", session.state());
            seen = session.revision();
        }
    };
    within(40, reached).await
}

#[tokio::test]
async fn verified_claims_are_handed_over_with_the_tokens() {
    let service = Service::start(Options { approve_at_poll: Some(1), ..Options::default() }, 60).await;
    let session = service.begin().await;
    service.reaches(session.id(), Status::Authorized).await;
    let grant = service.app.sessions.claim(session.id(), None).await.unwrap();
    let claims: serde_json::Value = serde_json::from_str(grant.claims.as_ref().unwrap().expose_secret()).unwrap();
    assert_eq!(claims["sub"], "demo-person");
    assert!(service.revoked().is_empty());
}

#[tokio::test]
async fn a_forged_id_token_fails_the_session_and_its_tokens_are_revoked() {
    let service = Service::start(Options { approve_at_poll: Some(1), id_tokens: IdTokens::Forged, ..Options::default() }, 60).await;
    let session = service.begin().await;
    let session = service.reaches(session.id(), Status::Failed).await;
    assert!(matches!(session.state(), State::Failed { failure: Failure::IdTokenInvalid, .. }));
    assert!(service.app.sessions.claim(session.id(), None).await.is_err());
    service.revokes_all().await;
}

#[tokio::test]
async fn tokens_are_withheld_while_the_keys_are_out_of_reach() {
    let service = Service::start(Options { approve_at_poll: Some(1), ..Options::default() }, 60).await;
    service.idp.always(Endpoint::Keys, Some(Answer::text(503, "down")));
    let session = service.begin().await;
    within(20, service.idp.wait_for(|idp| idp.counts().key_requests >= 1)).await;
    let withheld = service.app.sessions.get(session.id()).unwrap();
    assert_eq!(withheld.status(), Status::Pending);
    assert!(service.app.sessions.claim(session.id(), None).await.is_err());
    service.idp.always(Endpoint::Keys, None);
    service.reaches(session.id(), Status::Authorized).await;
    assert!(service.app.sessions.claim(session.id(), None).await.unwrap().claims.is_some());
    assert_eq!(service.idp.counts().token_requests, 1);
}

#[tokio::test]
async fn cancelling_an_authorized_session_revokes_its_tokens() {
    let service = Service::start(Options { approve_at_poll: Some(1), ..Options::default() }, 60).await;
    let session = service.begin().await;
    service.reaches(session.id(), Status::Authorized).await;
    service.app.sessions.cancel(session.id()).await.unwrap();
    service.revokes_all().await;
}

#[tokio::test]
async fn cancelling_while_tokens_are_withheld_revokes_them() {
    let service = Service::start(Options { approve_at_poll: Some(1), ..Options::default() }, 60).await;
    service.idp.always(Endpoint::Keys, Some(Answer::text(503, "down")));
    let session = service.begin().await;
    within(20, service.idp.wait_for(|idp| idp.counts().key_requests >= 1)).await;
    service.app.sessions.cancel(session.id()).await.unwrap();
    service.revokes_all().await;
}

#[tokio::test]
async fn a_grant_that_comes_after_the_cancel_is_revoked() {
    let service = Service::start(Options { approve_at_poll: Some(1), ..Options::default() }, 60).await;
    service.idp.script(Endpoint::Token, [Answer::LateReply(Duration::from_secs(2))]);
    let session = service.begin().await;
    within(20, service.idp.wait_for(|idp| idp.counts().token_requests == 1)).await;
    service.app.sessions.cancel(session.id()).await.unwrap();
    assert_eq!(service.app.sessions.get(session.id()).unwrap().status(), Status::Cancelled);
    service.revokes_all().await;
}

#[tokio::test]
async fn tokens_that_nobody_claims_are_revoked() {
    let service = Service::start(Options { approve_at_poll: Some(1), ..Options::default() }, 1).await;
    let session = service.begin().await;
    service.reaches(session.id(), Status::Authorized).await;
    service.reaches(session.id(), Status::Expired).await;
    service.revokes_all().await;
}
