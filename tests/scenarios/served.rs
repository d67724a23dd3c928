//! The whole service on a port of its own, as a configuration makes it.

use std::sync::Arc;

use anteroom::app::service::Service;
use anteroom::config::Config;
use anteroom::demo::{Answer, DevProvider, Endpoint, Options};
use anteroom::kernel::session::SessionId;
use anteroom::sessions::Sessions;
use anteroom::shutdown::Shutdown;
use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::clock::ManualClock;
use crate::rig::eventually;

pub struct Served {
    pub sessions: Sessions,
    pub provider: DevProvider,
    pub clock: ManualClock,
    pub address: std::net::SocketAddr,
    pub http: Client,
    shutdown: Shutdown,
}

pub struct Owned {
    pub id: SessionId,
    pub secret: String,
    pub user_code: String,
}

impl Served {
    pub async fn start() -> Self {
        let clock = ManualClock::default();
        let provider = DevProvider::start(([127, 0, 0, 1], 0).into(), Options::default(), clock.as_clock()).await.unwrap();
        let environment = [
            ("ANTEROOM_LISTEN", "127.0.0.1:0"),
            ("ANTEROOM_ADMIN_LISTEN", ""),
            ("ANTEROOM_STORE__URL", "memory:"),
            ("ANTEROOM_PROVIDERS__DEV__ISSUER", provider.issuer()),
            ("ANTEROOM_PROVIDERS__DEV__CLIENT_ID", "demo-tv"),
            ("ANTEROOM_PROVIDERS__DEV__SCOPES", r#"["profile"]"#),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::load(None, environment.into_iter()).unwrap();
        let service = Service::start(config, Arc::new(clock.clone())).await.unwrap();
        let (sessions, address, shutdown) = (service.app().sessions.clone(), service.address().unwrap(), Shutdown::default());
        tokio::spawn(service.run(shutdown.clone()));
        let http = Client::builder().no_proxy().build().unwrap();
        Self { sessions, provider, clock, address, http, shutdown }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn post(&self, key: Option<&str>) -> Response {
        let request = self.http.post(self.url("/sessions"));
        let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
        request.send().await.unwrap()
    }

    pub async fn begin(&self) -> Owned {
        Owned::from(&body(self.post(None).await).await)
    }

    /// A session whose tokens wait for their owner.
    pub async fn authorized(&self) -> Owned {
        let owned = self.begin().await;
        self.provider.approve(&owned.user_code);
        self.clock.advance_to(self.sessions.peek(owned.id).unwrap().next_poll_at().unwrap());
        eventually("it is authorized", || self.status(owned.id) == "authorized").await;
        owned
    }

    pub fn status(&self, id: SessionId) -> &'static str {
        self.sessions.peek(id).map_or("gone", |session| session.status().as_str())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.abort();
    }
}

impl From<&Value> for Owned {
    fn from(body: &Value) -> Self {
        let text = |member: &str| body[member].as_str().unwrap_or_else(|| panic!("no {member} in {body}")).to_owned();
        Self { id: text("id").parse().unwrap(), secret: text("secret"), user_code: text("user_code") }
    }
}

pub async fn body(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_provider_that_limits_its_device_endpoint_makes_a_503_with_retry_after_and_no_session() {
    let served = Served::start().await;
    let too_many = Answer::Raw { status: 429, headers: vec![("retry-after".into(), "17".into())], body: Vec::new() };
    let google = Answer::Json(403, json!({ "error_code": "rate_limit_exceeded" }));
    served.provider.script(Endpoint::DeviceAuthorization, [too_many, google]);
    for retry_after in [Some("17"), None] {
        let refused = served.post(None).await;
        let said = refused.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(refused.status(), 503);
        assert!(said.is_some() && retry_after.is_none_or(|expected| said.as_deref() == Some(expected)), "{said:?}");
        assert_eq!(body(refused).await["code"], "provider_rate_limited");
    }
    assert_eq!((served.sessions.live(), served.sessions.all().len()), (0, 0));
}

#[tokio::test]
async fn a_repeated_post_with_the_same_key_costs_one_request_at_the_provider() {
    let served = Served::start().await;
    let answers = futures_util::future::join_all((0..16).map(|_| served.post(Some("key-1-0123456789")))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!((statuses[..15].to_vec(), statuses[15]), (vec![200; 15], 201));
    let mut owned = Vec::new();
    for answer in answers {
        owned.push(Owned::from(&body(answer).await));
    }
    assert!(owned.iter().all(|one| one.id == owned[0].id && one.secret == owned[0].secret));
    assert_eq!((served.provider.counts().device_requests, served.sessions.live()), (1, 1));
}
