//! Databases full of waiting sign-ins. A service that starts on one has them at once, and nothing has to be asked while they come.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anteroom::clock::SystemClock;
use anteroom::config::Config;
use anteroom::kernel::session::Session;
use anteroom::kernel::verdict::{Began, DeviceCode, Prompt};
use anteroom::provider::exchange::client_for;
use anteroom::store::{Store, sqlite};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::child::Folder;
use super::sample;

/// Requests, or changes, at once.
const AT_ONCE: usize = 64;

/// Of RFC 8628 §3.2.
#[derive(Deserialize)]
struct Device {
    device_code: String,
    user_code: Box<str>,
    verification_uri: Arc<str>,
    verification_uri_complete: Box<str>,
    expires_in: u64,
    interval: u64,
}

/// Keeps the sessions in the database that a service in `folder` uses.
pub async fn keep(folder: &Folder, sessions: Vec<Session>) {
    let file = sqlite::open(&folder.join("anteroom.db"), &folder.join("anteroom.key"), SystemClock::start()).await;
    let store = Arc::new(file.expect("a database"));
    save(&store, sessions.into_iter().map(|session| (0, session)).collect(), AT_ONCE).await;
    store.close().await;
}

/// Saves each with the version that it follows, so many at once.
pub async fn save(store: &Arc<impl Store + ?Sized>, changes: Vec<(u64, Session)>, at_once: usize) {
    let changes = Arc::new(Mutex::new(changes.into_iter()));
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let (store, changes) = (Arc::clone(store), Arc::clone(&changes));
        let next = move || changes.lock().expect("no panic under it").next();
        tasks.spawn(async move {
            while let Some((expected, session)) = next() {
                store.save(expected, Arc::new(session)).await.expect("it is the first");
            }
        });
    }
    tasks.join_all().await;
}

/// Keeps `count` sign-ins that wait, with codes that the provider knows; returns the device codes.
pub async fn waiting(folder: &Folder, issuer: &str, count: usize) -> Vec<String> {
    let http = http(issuer);
    let begun = stream::iter(0..count).map(|_| asked(&http, issuer)).buffer_unordered(AT_ONCE);
    let (sessions, codes) = begun.unzip::<_, _, Vec<_>, Vec<_>>().await;
    keep(folder, sessions).await;
    codes
}

/// Keeps `count` sign-ins as they come about: they wait, then they are authorized. Returns their claims, each with the version
/// that it follows, in the order of [`at_random`].
pub async fn claims(store: &Arc<impl Store + ?Sized>, count: usize) -> Vec<(u64, Session)> {
    let now = SystemClock::start().now();
    let pending: Vec<_> = (0..count).map(|_| sample::pending(now, Duration::from_secs(5))).collect();
    let authorized: Vec<_> = pending.iter().map(|session| (session.version(), sample::approved(session.clone()))).collect();
    save(store, pending.into_iter().map(|session| (0, session)).collect(), AT_ONCE).await;
    save(store, authorized.iter().map(|(before, (session, _))| (*before, session.clone())).collect(), AT_ONCE).await;
    let key = Some(Sha256::digest("k").into());
    let claimed = |(_, (session, at)): (_, (Session, _))| (session.version(), session.claim(key, at).expect("tokens").1.expect("a change"));
    let mut claims: Vec<_> = authorized.into_iter().map(claimed).collect();
    claims.sort_unstable_by_key(|(_, session)| at_random(session.id()));
    claims
}

/// People approve in no order: not in that of the rows, nor in that of the index.
pub fn at_random(id: Uuid) -> u128 {
    id.as_u128().swap_bytes()
}

/// A sign-in with a code that the provider has just given, and its device code.
pub async fn asked(http: &reqwest::Client, issuer: &str) -> (Session, String) {
    let verifier = verifier();
    let device = device(http, issuer, &verifier).await;
    let now = SystemClock::start().now();
    let device_code = DeviceCode::new(&device.device_code, Some(&verifier), format!("{issuer}/token").into());
    let prompt = Prompt {
        user_code: device.user_code,
        verification_uri: device.verification_uri,
        verification_uri_complete: Some(device.verification_uri_complete),
        expires_at: now + Duration::from_secs(device.expires_in),
    };
    let interval = Some(Duration::from_secs(device.interval));
    (sample::begun(Began { device_code: Arc::new(device_code), prompt, interval }, now), device.device_code)
}

/// The client that the service makes of these settings.
pub fn http(issuer: &str) -> reqwest::Client {
    let settings = [
        ("ANTEROOM_STORE__URL", "memory:"),
        ("ANTEROOM_PROVIDERS__DEMO__ISSUER", issuer),
        ("ANTEROOM_PROVIDERS__DEMO__CLIENT_ID", "demo-tv"),
        ("ANTEROOM_PROVIDERS__DEMO__MAX_IN_FLIGHT", "1000"),
    ];
    let config = Config::load(None, settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter());
    client_for(&config.expect("a configuration").providers[0]).expect("a client").into()
}

/// Behind the challenges of all codes that are had here.
pub fn verifier() -> String {
    "v".repeat(43)
}

/// A device authorization request.
async fn device(http: &reqwest::Client, issuer: &str, verifier: &str) -> Device {
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    let form = [("client_id", "demo-tv"), ("code_challenge", &challenge), ("code_challenge_method", "S256")];
    let answer = http.post(format!("{issuer}/device/code")).form(&form).send().await.expect("an answer");
    serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("a code")
}
