//! Secrets that can be recognised, through everything that a sign-in can meet, and then a look at all that we wrote.

use std::path::PathBuf;
use std::time::Duration;

use anteroom::clock::SystemClock;
use anteroom::demo::{Answer as Reply, Client, DevProvider, Endpoint, Options, Reach};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::service::{Program, Service, TempFile, answer, text, within};

const CLIENT_SECRET: &str = "canary-client-secret";
const CALLER_KEY: &str = "ark_canary-caller-key";
const CLAIM_KEY: &str = "canary-claim-key";
const CREATE_KEY: &str = "canary-create-key";
/// What a client sends and never should have.
const STRAY: &str = "canary-stray";
/// What a provider says where nobody should repeat it.
const GOSSIP: &str = "canary-gossip";
const DEVICE_CODE: &str = "canary-device-code";
const USER_CODE: &str = "CNRY-CODE";
const TOKENS: [&str; 3] = ["canary-access-token", "canary-refresh-token", "canary-id-token"];
const LABEL: &str = "canary-label";

/// The service at the loudest, its provider, and every problem that it answered.
struct Cage {
    provider: DevProvider,
    service: Service,
    metrics: String,
    problems: Vec<String>,
    /// Session secrets and ids.
    issued: Vec<String>,
    #[expect(dead_code, reason = "is there as long as the service")]
    configuration: TempFile,
    /// The path of the database, and the beginning of the names of all files about it.
    database: PathBuf,
}

#[tokio::test]
async fn no_secret_is_ever_written_where_it_does_not_belong() {
    let mut cage = Cage::open().await;
    cage.meet_strangers().await;
    cage.settle_in_every_way().await;
    cage.hand_over().await;
    cage.leave_unclaimed().await;

    let metrics = reqwest::get(&cage.metrics).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("anteroom_sessions_settled_total{"), "{metrics}");
    assert!(metrics.contains("anteroom_log_lines_dropped_total 0\n"), "not all of the log can be looked at");
    cage.database_is_sealed();
    // The log is whole once the process is gone.
    cage.service.program.signal("TERM");
    cage.service.program.exit().await;
    let log = cage.service.program.stderr().join("\n");
    for target in ["audit", "hyper_util", "reqwest", "TRACE"] {
        assert!(log.contains(target), "the log is not as loud as this test needs: no {target} in it");
    }
    assert!(cage.problems.len() > 10);
    let basic = BASE64_STANDARD.encode(format!("tv:{CLIENT_SECRET}"));
    let known = [CLIENT_SECRET, &basic, CALLER_KEY, CLAIM_KEY, CREATE_KEY, STRAY, GOSSIP, DEVICE_CODE, USER_CODE, LABEL];
    let known = known.into_iter().chain(TOKENS).map(str::to_owned).chain(cage.issued.clone());
    let written = [("log", log), ("metrics", metrics), ("problems", cage.problems.join("\n"))];
    for canary in known {
        for (place, text) in &written {
            let hit = text.lines().find(|line| line.contains(&canary));
            assert_eq!(hit, None, "{canary} is in the {place}");
        }
    }
}

/// Session secrets begin like this; ids are in the database as they are.
const SESSION_SECRET: &str = "ars_";

impl Drop for Cage {
    fn drop(&mut self) {
        for path in self.stored().into_iter().chain([self.database.with_extension("key")]) {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Cage {
    /// The files of the store, but for the one with the keys: it is all secret.
    fn stored(&self) -> Vec<PathBuf> {
        let name = self.database.file_name().unwrap().to_str().unwrap();
        let files = std::fs::read_dir(self.database.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(name)).collect()
    }

    fn database_is_sealed(&self) {
        let stored = self.stored().iter().flat_map(|path| std::fs::read(path).unwrap()).collect::<Vec<u8>>();
        assert!(stored.windows(6).any(|bytes| bytes == b"SQLite"), "nothing is stored");
        let known = [CLIENT_SECRET, CALLER_KEY, CLAIM_KEY, CREATE_KEY, DEVICE_CODE, STRAY, GOSSIP, SESSION_SECRET];
        for canary in known.iter().chain(&TOKENS) {
            assert!(!stored.windows(canary.len()).any(|bytes| bytes == canary.as_bytes()), "{canary} is in the database");
        }
    }

    async fn open() -> Self {
        let clients = vec![Client::with_basic("tv", "TV", CLIENT_SECRET)];
        let options = Options { clients, interval: Some(1), ..Options::default() };
        let provider = DevProvider::start(([127, 0, 0, 1], 0).into(), options, SystemClock::start()).await.unwrap();
        let begun = json!({
            "device_code": DEVICE_CODE, "user_code": USER_CODE, "verification_uri": "https://id.acme.test/device",
            "expires_in": 600, "interval": 1,
        });
        provider.always(Endpoint::DeviceAuthorization, Some(Reply::Json(200, begun)));
        let key = Sha256::digest(CALLER_KEY).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let database = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("canary-{}.db", Uuid::new_v4()));
        let configuration = TempFile::new(&format!(
            "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nclaim_ttl = \"2s\"\n\
             [providers.acme]\nissuer = \"{}\"\nclient_id = \"tv\"\nclient_secret = \"{CLIENT_SECRET}\"\nscopes = [\"profile\"]\n\
             [[callers]]\nname = \"tv\"\nkey_sha256 = \"{key}\"\n",
            provider.issuer(),
        ));
        let store = format!("sqlite://{}", database.display());
        let program = Program::start_in(&[("ANTEROOM_STORE__URL", &store)], &["serve", "--log", "trace", "--config", configuration.path()]);
        let metrics = program.stderr_after("metrics on ").await;
        let service = Service::of(program).await;
        Self { provider, service, metrics, problems: Vec::new(), issued: Vec::new(), configuration, database }
    }

    /// Requests that are wrong in some way.
    async fn meet_strangers(&mut self) {
        let unknown = format!("/sessions/{}/claim", Uuid::new_v4());
        for body in
            [format!("{{\"{STRAY}\": 1}}"), format!("{{\"scope\": \"{STRAY}\"}}"), format!("{{\"provider\": {STRAY}"), STRAY.repeat(9000)]
        {
            self.send(self.create().body(body)).await;
        }
        self.send(self.request(Method::POST, "/sessions").bearer_auth(STRAY)).await;
        self.send(self.request(Method::POST, "/sessions").basic_auth(STRAY, Some(STRAY))).await;
        self.send(self.request(Method::POST, &unknown).bearer_auth(STRAY).header("idempotency-key", STRAY)).await;
        self.send(self.request(Method::POST, &unknown).bearer_auth(STRAY).header("idempotency-key", format!("{STRAY} "))).await;
        self.send(self.request(Method::GET, &format!("/{STRAY}?secret={STRAY}"))).await;
        self.send(self.request(Method::DELETE, &format!("/sessions/{STRAY}?secret={STRAY}"))).await;
        self.send(
            self.request(Method::GET, &format!("/sessions/{}?x={STRAY}", Uuid::new_v4())).header("x-request-id", format!("{STRAY}!")),
        )
        .await;

        for reply in [gossip(400), gossip(500), Reply::text(200, GOSSIP), Reply::Json(200, json!({"device_code": {GOSSIP: 1}})), redirect()]
        {
            self.provider.script(Endpoint::DeviceAuthorization, [reply]);
            self.send(self.create().body("{}")).await;
        }
        self.provider.set_reach(Reach::BadGateway);
        self.send(self.create().body("{}")).await;
        self.provider.set_reach(Reach::Up);
    }

    /// Polls that are answered in every way, and sessions that end in every way but well.
    async fn settle_in_every_way(&mut self) {
        let pending = Reply::error(400, "authorization_pending");
        let odd = Reply::Json(200, json!({"access_token": {GOSSIP: 1}, "token_type": "Bearer"}));
        let detours = [Reply::text(502, GOSSIP), Reply::text(200, GOSSIP), Reply::Reset, Reply::error(400, "slow_down"), redirect(), odd];
        for (last, status) in
            [(Reply::error(400, "access_denied"), "denied"), (Reply::error(400, "expired_token"), "expired"), (gossip(400), "failed")]
        {
            self.provider.always(Endpoint::Token, Some(last));
            let session = self.begin().await;
            assert_eq!(self.settled(&session).await["status"], status);
            self.send(self.claim(&session)).await;
        }
        self.provider.always(Endpoint::Token, Some(pending));
        for detour in detours {
            let before = self.provider.exchanges(Endpoint::Token).len();
            self.provider.script(Endpoint::Token, [detour]);
            let session = self.begin().await;
            within(self.provider.wait_for(|provider| provider.exchanges(Endpoint::Token).len() > before)).await;
            self.send(self.claim(&session)).await;
            self.send(self.request(Method::DELETE, &path(&session)).bearer_auth(STRAY)).await;
            self.send(self.owned(Method::DELETE, &session, "")).await;
        }
    }

    async fn hand_over(&mut self) {
        self.provider.always(Endpoint::Token, Some(tokens()));
        let session = self.begin().await;
        assert_eq!(self.settled(&session).await["status"], "authorized");
        self.database_is_sealed();
        let claimed = self.send(self.claim(&session)).await;
        self.database_is_sealed();
        assert!(TOKENS[..2].iter().all(|token| claimed.contains(token)), "{claimed}");
        assert_eq!(self.send(self.claim(&session)).await, claimed);
        self.send(self.owned(Method::POST, &session, "/claim").header("idempotency-key", STRAY)).await;
        self.send(self.owned(Method::DELETE, &session, "")).await;
        self.send(self.claim(&session)).await;
    }

    /// Tokens that are revoked: because nobody came for them in time, or because their owner does not want them.
    async fn leave_unclaimed(&mut self) {
        let late = self.begin().await;
        assert_eq!(self.settled(&late).await["status"], "authorized");
        let unwanted = self.begin().await;
        assert_eq!(self.settled(&unwanted).await["status"], "authorized");
        self.send(self.owned(Method::DELETE, &unwanted, "")).await;
        within(self.provider.wait_for(|provider| provider.counts().revocations >= 2)).await;
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.service.request(method, path)
    }

    fn create(&self) -> RequestBuilder {
        self.request(Method::POST, "/sessions").bearer_auth(CALLER_KEY).header("content-type", "application/json")
    }

    fn owned(&self, method: Method, session: &Value, more: &str) -> RequestBuilder {
        self.request(method, &format!("{}{more}", path(session))).bearer_auth(text(session, "secret"))
    }

    fn claim(&self, session: &Value) -> RequestBuilder {
        self.owned(Method::POST, session, "/claim").header("idempotency-key", CLAIM_KEY)
    }

    async fn begin(&mut self) -> Value {
        let key = format!("{CREATE_KEY}-{}", Uuid::new_v4());
        let answer = self.send(self.create().header("idempotency-key", key).body(json!({"label": LABEL}).to_string())).await;
        let session: Value = serde_json::from_str(&answer).unwrap();
        self.issued.extend(["secret", "id"].map(|member| text(&session, member)));
        session
    }

    async fn read(&self, session: &Value) -> Value {
        answer(self.request(Method::GET, &path(session))).await.body
    }

    /// The session once it is no longer pending.
    async fn settled(&self, session: &Value) -> Value {
        within(async {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            loop {
                tick.tick().await;
                match self.read(session).await {
                    session if session["status"] == "pending" => {}
                    session => return session,
                }
            }
        })
        .await
    }

    /// The body of the answer; those of problems are kept.
    async fn send(&mut self, request: RequestBuilder) -> String {
        let response = request.send().await.unwrap();
        let is_problem = response.status().as_u16() >= 400;
        let head = format!("{:?}", response.headers());
        let body = response.text().await.unwrap();
        if is_problem {
            self.problems.extend([head, body.clone()]);
        }
        body
    }
}

fn path(session: &Value) -> String {
    format!("/sessions/{}", text(session, "id"))
}

fn gossip(status: u16) -> Reply {
    Reply::Json(status, json!({"error": GOSSIP, "error_description": GOSSIP}))
}

fn redirect() -> Reply {
    Reply::Raw { status: 307, headers: vec![("location".to_owned(), format!("http://127.0.0.1:1/{GOSSIP}"))], body: Vec::new() }
}

fn tokens() -> Reply {
    let [access, refresh, _] = TOKENS;
    Reply::Json(200, json!({"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600}))
}
