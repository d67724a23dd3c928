//! The saboteur around a real client of the provider.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use anteroom::demo::{Crash, Saboteur};
use anteroom::kernel::verdict::{Began, DeviceCode, Failure, Grant, Revocation, Verdict};
use anteroom::provider::{self, Provider};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::*;

/// The least that polls: one request, and its status for a verdict.
struct PlainClient {
    http: reqwest::Client,
    token_endpoint: String,
}

impl Provider for PlainClient {
    fn begin<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Began, Failure>> {
        async { Err(Failure::ProviderRejected) }.boxed()
    }

    fn ask<'a>(&'a self, sign_in: provider::SignIn<'a>) -> BoxFuture<'a, Verdict> {
        async move {
            let form = [("grant_type", DEVICE_GRANT), ("device_code", sign_in.device_code.expose_code()), ("client_id", "demo-tv")];
            let response = self.http.post(&self.token_endpoint).form(&form).send().await.unwrap();
            if response.status() == 400 { Verdict::Pending } else { Verdict::Rejected }
        }
        .boxed()
    }

    fn verify<'a>(&'a self, grant: &'a Arc<Grant>) -> BoxFuture<'a, Verdict> {
        async { Verdict::Authorized(Arc::clone(grant)) }.boxed()
    }

    fn revoke<'a>(&'a self, _: &'a Grant) -> BoxFuture<'a, Revocation> {
        async { Revocation::Revoked }.boxed()
    }
}

fn code_of(f: &Fixture, sign_in: &SignIn) -> DeviceCode {
    DeviceCode::new(&sign_in.device_code, None, f.provider.url("/token").into())
}

#[tokio::test]
async fn every_press_crashes_one_poll_of_that_code_alone() {
    let f = start().await;
    let (one, two) = (f.sign_in().await, f.sign_in().await);
    let client = PlainClient { http: f.http.clone(), token_endpoint: f.provider.url("/token") };
    let saboteur = Saboteur::new(Arc::new(client), f.provider.switches());
    let (first, second) = (code_of(&f, &one), code_of(&f, &two));
    assert!(f.provider.crash_poller(&one.user_code, Crash::BeforeAsking));
    assert!(f.provider.crash_poller(&one.user_code, Crash::AfterTheAnswer));
    assert!(!f.provider.crash_poller("ZZZZ-ZZZZ", Crash::BeforeAsking));

    let ask = |device_code| saboteur.ask(provider::SignIn { device_code, user_code: "", scope: "" });
    let crashes = async |code| AssertUnwindSafe(ask(code)).catch_unwind().await.is_err();
    assert!(!crashes(&second).await);
    assert!(crashes(&first).await);
    assert_eq!(f.provider.poll_count(&one.user_code), 0, "it never asked");
    assert!(crashes(&first).await);
    assert_eq!(f.provider.poll_count(&one.user_code), 1, "it asked, and died with the answer");
    assert!(!crashes(&first).await);
}
