//! Real providers: their ID tokens verify, and what is revoked there is over.

use std::sync::Arc;
use std::time::Duration;

use anteroom::app::{App, Parts};
use anteroom::clock::SystemClock;
use anteroom::kernel::session::{Status, Terms};
use anteroom::kernel::verdict::{Began, Failure, Grant, Revocation, Verdict};
use anteroom::provider::exchange::client_for;
use anteroom::provider::oauth::OAuthProvider;
use anteroom::provider::{Provider, SignIn};
use anteroom::sessions::Quota;
use anteroom::store::memory::MemoryStore;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::StatusCode;
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::watch;

use super::real_provider::{RealProvider, Software};
use super::sessions::{begin, reaches};
use super::{settings, within};

/// Passes everything on and keeps the tokens, so that the test can try what they are worth.
struct Onlooker {
    provider: OAuthProvider,
    seen: watch::Sender<Option<Arc<Grant>>>,
}

impl Onlooker {
    fn look(&self, verdict: Verdict) -> Verdict {
        if let Verdict::Authorized(grant) | Verdict::Unverified(grant) | Verdict::Untrusted(grant) = &verdict {
            self.seen.send_replace(Some(Arc::clone(grant)));
        }
        verdict
    }
}

impl Provider for Onlooker {
    fn begin<'a>(&'a self, scope: &'a str) -> BoxFuture<'a, Result<Began, Failure>> {
        self.provider.begin(scope)
    }

    fn ask<'a>(&'a self, sign_in: SignIn<'a>) -> BoxFuture<'a, Verdict> {
        self.provider.ask(sign_in).map(|verdict| self.look(verdict)).boxed()
    }

    fn verify<'a>(&'a self, grant: &'a Arc<Grant>) -> BoxFuture<'a, Verdict> {
        self.provider.verify(grant)
    }

    fn revoke<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Revocation> {
        self.provider.revoke(grant)
    }
}

async fn service(provider: &RealProvider) -> (App, Arc<Onlooker>) {
    let clock = SystemClock::start();
    let settings = settings(provider.issuer(), &[("client_id", &provider.client("public").id)]);
    let onlooker = Arc::new(Onlooker {
        provider: OAuthProvider::new(settings.clone(), client_for(&settings).unwrap(), clock.clone()),
        seen: watch::Sender::new(None),
    });
    let terms = Terms { claim_ttl: Duration::from_secs(60), retention: Duration::from_secs(60) };
    let (quota, store) = (Quota::new(10, []), Arc::new(MemoryStore::default()));
    let providers = vec![(settings, Arc::clone(&onlooker) as Arc<dyn Provider>)];
    (App::start(Parts { clock, store, terms, quota, providers }), onlooker)
}

#[tokio::test]
async fn id_tokens_of_real_providers_are_verified() {
    for (software, options, algorithm) in
        [(Software::OidcProvider, &[][..], "RS256"), (Software::BetterAuth, &["--interval=1"][..], "EdDSA")]
    {
        let Some(provider) = RealProvider::start(software, options).await else { return };
        let (app, _) = service(&provider).await;
        let session = begin(&app).await;
        let prompt = session.prompt().unwrap();
        provider.approve(&prompt.user_code, &prompt.verification_uri).await;
        reaches(&app, session.id(), Status::Authorized).await;
        let grant = app.sessions.claim(session.id(), None).await.unwrap();
        let claims: Value = serde_json::from_str(grant.claims.as_ref().expect("verified claims").expose_secret()).unwrap();
        assert_eq!(claims["iss"], provider.issuer());
        assert!(!claims["sub"].as_str().unwrap().is_empty());
        let header = grant.id_token.as_ref().unwrap().expose_secret().split('.').next().unwrap().to_owned();
        let header: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        assert_eq!(header["alg"], algorithm);
    }
}

#[tokio::test]
async fn a_cancelled_session_leaves_no_token_in_force() {
    for (software, options) in [(Software::OidcProvider, &[][..]), (Software::BetterAuth, &["--interval=1"][..])] {
        let Some(provider) = RealProvider::start(software, options).await else { return };
        let (app, onlooker) = service(&provider).await;
        let session = begin(&app).await;
        let prompt = session.prompt().unwrap();
        provider.approve(&prompt.user_code, &prompt.verification_uri).await;
        reaches(&app, session.id(), Status::Authorized).await;
        let grant = onlooker.seen.borrow().clone().expect("tokens");
        let access_token = grant.access_token.expose_secret();
        assert_eq!(provider.userinfo(access_token).await, StatusCode::OK);

        app.sessions.cancel(session.id()).await.unwrap();
        within(20, async {
            while provider.userinfo(access_token).await == StatusCode::OK {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let refresh_token = grant.refresh_token.as_ref().unwrap().expose_secret();
        assert_eq!(provider.refresh(provider.client("public"), refresh_token).await, StatusCode::BAD_REQUEST, "{software:?}");
    }
}
