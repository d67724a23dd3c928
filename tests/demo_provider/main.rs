//! The development provider, seen by an ordinary HTTP client.
#![cfg(feature = "demo")]

#[path = "../support/clock.rs"]
mod clock;
mod codes;
mod crashes;
mod faults;
mod manners;
mod page;
mod tokens;
mod waiting;

use std::future::Future;
use std::time::Duration;

use anteroom::demo::{Client, DevProvider, Options};
use serde_json::Value;

use clock::ManualClock;

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

struct Fixture {
    provider: DevProvider,
    clock: ManualClock,
    http: reqwest::Client,
}

struct SignIn {
    device_code: String,
    user_code: String,
}

/// A status and a JSON body (null if there is none).
type Answered = (u16, Value);

fn clients() -> Vec<Client> {
    vec![
        Client::public("demo-tv", "Demo TV"),
        Client::public("other", "Another device"),
        Client::with_basic("basic", "Basic box", "s3cret+&/ü"),
        Client::with_post("post", "Post box", "s3cret"),
    ]
}

async fn start_with(options: Options) -> Fixture {
    let clock = ManualClock::default();
    let options = Options { clients: clients(), ..options };
    let provider = DevProvider::start(([127, 0, 0, 1], 0).into(), options, clock.as_clock()).await.unwrap();
    let redirect = reqwest::redirect::Policy::none();
    let http = reqwest::Client::builder().no_proxy().redirect(redirect).timeout(Duration::from_secs(10)).build().unwrap();
    Fixture { provider, clock, http }
}

async fn start() -> Fixture {
    start_with(Options::default()).await
}

impl Fixture {
    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answered {
        answered(self.http.post(self.provider.url(path)).form(form).send().await.unwrap()).await
    }

    async fn sign_in(&self) -> SignIn {
        self.sign_in_with(&[("client_id", "demo-tv"), ("scope", "openid profile")]).await
    }

    async fn sign_in_with(&self, form: &[(&str, &str)]) -> SignIn {
        let (status, body) = self.post("/device/code", form).await;
        assert_eq!(status, 200, "{body}");
        SignIn { device_code: text(&body, "device_code"), user_code: text(&body, "user_code") }
    }

    /// One poll, as the client `demo-tv`.
    async fn poll(&self, sign_in: &SignIn) -> Answered {
        self.try_poll(sign_in).await.unwrap()
    }

    async fn try_poll(&self, sign_in: &SignIn) -> reqwest::Result<Answered> {
        let form = [("grant_type", DEVICE_GRANT), ("device_code", &sign_in.device_code), ("client_id", "demo-tv")];
        let response = self.http.post(self.provider.url("/token")).form(&form).send().await?;
        let status = response.status().as_u16();
        Ok((status, serde_json::from_slice(&response.bytes().await?).unwrap_or_default()))
    }

    /// Waits `secs` on the provider's clock, then polls.
    async fn poll_after(&self, secs: u64, sign_in: &SignIn) -> Answered {
        self.clock.advance(Duration::from_secs(secs));
        self.poll(sign_in).await
    }

    /// The status of `/userinfo`: 200 while the token is in force.
    async fn userinfo(&self, access_token: &str) -> u16 {
        self.http.get(self.provider.url("/userinfo")).bearer_auth(access_token).send().await.unwrap().status().as_u16()
    }
}

async fn answered(response: reqwest::Response) -> Answered {
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

fn text(body: &Value, member: &str) -> String {
    body[member].as_str().unwrap_or_else(|| panic!("no {member} in {body}")).to_owned()
}

fn error((status, body): &Answered) -> (u16, &str) {
    (*status, body["error"].as_str().unwrap_or_default())
}

/// Fails a test that would hang.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it happens within 10 s")
}
