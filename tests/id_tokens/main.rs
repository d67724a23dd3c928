//! What a provider must prove to us, we to it, and where it may lead us.
#![cfg(feature = "demo")]

mod accepted;
mod assertions;
#[path = "../support/clock.rs"]
mod clock;
mod clocks;
mod egress;
mod forge;
mod hostile;
mod keys;
#[path = "../support/name_server.rs"]
mod name_server;
mod names;
mod real;
#[path = "../support/real_provider.rs"]
#[allow(dead_code, reason = "every test binary uses its own part")]
mod real_provider;
#[path = "../support/scratch.rs"]
mod scratch;
mod sessions;
mod vectors;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anteroom::config::Config;
use anteroom::demo::{DevProvider, Options, SigningKey};
use anteroom::kernel::verdict::{Began, DeviceCode, Grant, Verdict};
use anteroom::provider::exchange::client_for;
use anteroom::provider::oauth::OAuthProvider;
use anteroom::provider::settings::Settings;
use anteroom::provider::{Provider, SignIn};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clock::ManualClock;
use jsonwebtoken::Algorithm;

/// The development provider, and a client of it, on a clock that stands still.
struct Fixture {
    idp: DevProvider,
    clock: ManualClock,
    provider: OAuthProvider,
}

impl Fixture {
    /// Every poll is approved.
    async fn start() -> Self {
        Self::start_with(Options { approve_at_poll: Some(1), ..Options::default() }, &[]).await
    }

    /// `keys` come on top of the issuer and the client's id.
    async fn start_with(options: Options, keys: &[(&str, &str)]) -> Self {
        let clock = ManualClock::default();
        let idp = DevProvider::start(([127, 0, 0, 1], 0).into(), options, clock.as_clock()).await.unwrap();
        let provider = client_of(&settings(idp.issuer(), keys), &clock);
        Self { idp, clock, provider }
    }

    async fn begin(&self) -> Began {
        self.provider.begin("openid profile offline_access").await.unwrap()
    }

    /// The verdict on a sign-in that somebody approved, once the keys were asked for.
    async fn sign_in(&self) -> Verdict {
        settled(&self.provider, self.provider.ask(sign_in(&self.begin().await.device_code)).await).await
    }
}

fn client_of(settings: &Settings, clock: &ManualClock) -> OAuthProvider {
    OAuthProvider::new(settings.clone(), client_for(settings).unwrap(), clock.as_clock())
}

/// The next verdict, if this one withholds the tokens.
async fn settled(provider: &impl Provider, verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Unverified(grant) => provider.verify(&grant).await,
        verdict => verdict,
    }
}

/// As the configuration reads them: `demo-tv` at `issuer`, unless `keys` say something else.
fn settings(issuer: &str, keys: &[(&str, &str)]) -> Settings {
    let mut all = BTreeMap::from([("issuer", issuer), ("client_id", "demo-tv")]);
    all.extend(keys.iter().copied());
    let environment = all.into_iter().map(|(key, value)| (format!("ANTEROOM_PROVIDERS__ACME__{}", key.to_uppercase()), value.to_owned()));
    Config::load(None, environment).unwrap().providers.remove(0)
}

/// A key that lies in the open: for tests alone.
fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys").join(file)
}

fn der(file: &str) -> Vec<u8> {
    let pem = fs::read_to_string(fixture(file)).unwrap();
    BASE64_STANDARD.decode(pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>()).unwrap()
}

fn signing_key(algorithm: Algorithm) -> SigningKey {
    let file = match algorithm {
        Algorithm::ES256 => "p256.pem",
        Algorithm::ES384 => "p384.pem",
        Algorithm::EdDSA => "ed25519.pem",
        _ => "rsa-pkcs1.pem",
    };
    SigningKey::from_der(algorithm, &der(file)).unwrap()
}

fn authorized(verdict: Verdict) -> Arc<Grant> {
    match verdict {
        Verdict::Authorized(grant) => grant,
        verdict => panic!("{verdict:?}"),
    }
}

/// Fails a test that would hang.
async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), future).await.expect("it happens in time")
}

/// As far as this provider needs to know it.
fn sign_in(device_code: &DeviceCode) -> SignIn<'_> {
    SignIn { device_code, user_code: "", scope: "" }
}
