//! What providers are asked and what they answer: a folder for each, with its cases as data, played to the real client over a
//! real socket.

mod cases;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anteroom::clock::SystemClock;
use anteroom::config::Config;
use anteroom::kernel::verdict::{Began, DeviceCode, Failure, Grant, Verdict};
use anteroom::provider::exchange::{Patience, client_with};
use anteroom::provider::oauth::OAuthProvider;
use anteroom::provider::settings::Settings;
use anteroom::provider::{Provider, SignIn, presets};
use reqwest::Url;
use secrecy::ExposeSecret;

use cases::{Asked, Case, Folder, Said, literal};
use server::Server;

const DEVICE_CODE: &str = "device-code-1";
const USER_CODE: &str = "USER-CODE";
const ACCESS_TOKEN: &str = "access-1";
const REFRESH_TOKEN: &str = "refresh-1";

#[derive(Clone, Copy, Debug)]
enum Errand {
    Begin,
    Poll,
    Revoke,
}

struct Player {
    folder: Folder,
    settings: Settings,
    provider: OAuthProvider,
    server: Server,
    mistakes: Vec<String>,
}

#[tokio::test]
async fn every_answer_of_every_provider_means_what_it_should() {
    let mut played = BTreeMap::new();
    let mut mistakes = Vec::new();
    for folder in cases::folders() {
        let name = folder.name.clone();
        let (count, wrong) = Player::start(folder).play().await;
        played.insert(name, count);
        mistakes.extend(wrong);
    }
    assert!(mistakes.is_empty(), "{} mistakes:\n{}", mistakes.len(), mistakes.join("\n"));
    let count: usize = played.values().sum();
    assert!(count >= 200, "{count} cases: {played:?}");
    assert!(played.values().all(|count| *count >= 5), "{played:?}");
}

#[test]
fn every_preset_has_a_folder() {
    let used: Vec<_> = cases::folders().into_iter().filter_map(|folder| folder.keys.get("preset")?.as_str().map(str::to_owned)).collect();
    for preset in presets::PRESETS {
        assert!(used.iter().any(|name| name == preset.name), "{}", preset.name);
    }
}

#[test]
fn every_folder_names_its_sources() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")).unwrap() {
        let path = entry.unwrap().path().join("cases.toml");
        if let Ok(text) = fs::read_to_string(&path) {
            assert!(text.starts_with("# Sources: "), "{}", path.display());
        }
    }
}

impl Player {
    /// The client as the configuration makes it, with all addresses moved to a server of ours.
    fn start(folder: Folder) -> Self {
        let server = Server::start();
        let keys = folder.keys.iter().map(|(key, value)| (format!("ANTEROOM_PROVIDERS__IT__{}", key.to_uppercase()), literal(value)));
        let config = Config::load(None, keys).unwrap_or_else(|errors| panic!("{}: {errors}", folder.name));
        let mut settings = config.providers.into_iter().next().unwrap();
        let moved = |url: &Url| {
            let mut at = server.url.join(url.path()).unwrap();
            at.set_query(url.query());
            at
        };
        let endpoints = &mut settings.endpoints;
        for endpoint in [&mut endpoints.device_authorization, &mut endpoints.token, &mut endpoints.revocation, &mut endpoints.jwks] {
            *endpoint = endpoint.as_ref().map(moved);
        }
        settings.issuer = settings.issuer.as_deref().filter(|issuer| !issuer.contains('{')).map(|issuer| {
            let at = moved(&Url::parse(issuer).unwrap());
            if issuer.ends_with('/') { at.to_string() } else { at.as_str().trim_end_matches('/').to_owned() }
        });
        if let (Some(issuer), Some(document)) = (&settings.issuer, &folder.discovery) {
            server.describe(document.replace("{issuer}", issuer.trim_end_matches('/')).replace("{exact_issuer}", issuer));
        }
        let patience = Patience { connect: Duration::from_secs(2), total: Duration::from_millis(500) };
        let http = client_with(patience, None).unwrap();
        let provider = OAuthProvider::new(settings.clone(), http, SystemClock::start());
        Self { folder, settings, provider, server, mistakes: Vec::new() }
    }

    async fn play(mut self) -> (usize, Vec<String>) {
        let mut count = 0;
        let Folder { device, poll, revoke, .. } = &self.folder;
        let conversation = [(Errand::Begin, Some(device.clone())), (Errand::Poll, Some(poll.clone())), (Errand::Revoke, revoke.clone())];
        for (errand, asked) in conversation {
            let Some(Asked { request, case: cases }) = asked else { continue };
            for Case { is, answer, gives } in cases {
                self.server.answer(answer);
                let said = self.converse(errand).await;
                let difference = match self.server.take_requests().last() {
                    Some(received) => request.difference(received),
                    None => Some("nothing was asked".to_owned()),
                };
                let misread = (!gives.is_met_by(&said)).then(|| format!("expected {gives:?}, got {said:?}"));
                for mistake in [difference, misread].into_iter().flatten() {
                    self.mistakes.push(format!("{} {errand:?} \"{is}\": {mistake}", self.folder.name));
                }
                count += 1;
            }
        }
        (count, self.mistakes)
    }

    async fn converse(&self, errand: Errand) -> Said {
        match errand {
            Errand::Begin => began(self.provider.begin(&self.folder.scope).await),
            Errand::Poll => self.ask().await,
            Errand::Revoke => Said::from(self.provider.revoke(&tokens()).await.name()),
        }
    }

    async fn ask(&self) -> Said {
        let token_endpoint =
            self.settings.endpoints.token.as_ref().map_or_else(|| self.server.url.join("discovered-token").unwrap(), Url::clone);
        let device_code = DeviceCode::new(DEVICE_CODE, self.settings.pkce.then_some("verifier-1"), token_endpoint.as_str().into());
        let sign_in = SignIn { device_code: &device_code, user_code: USER_CODE, scope: &self.folder.scope };
        verdict(self.provider.ask(sign_in).await)
    }
}

fn tokens() -> Grant {
    Grant {
        access_token: ACCESS_TOKEN.into(),
        token_type: "Bearer".into(),
        expires_at: None,
        refresh_token: Some(REFRESH_TOKEN.into()),
        id_token: None,
        scope: None,
        arrived_at: None,
        claims: None,
    }
}

fn began(outcome: Result<Began, Failure>) -> Said {
    let began = match outcome {
        Ok(began) => began,
        Err(Failure::ProviderRateLimited { retry_after_secs: Some(wait) }) => {
            return Said::from("provider_rate_limited").with("retry_after", wait);
        }
        Err(failure) => return Said::from(failure.code()),
    };
    let now = SystemClock::start().now();
    // The lifetime counts from the request, a moment ago.
    let lives = began.prompt.expires_at.since(now).as_millis().div_ceil(1000);
    let said = Said::from("began")
        .with("device_code", began.device_code.expose_code())
        .with("user_code", &*began.prompt.user_code)
        .with("verification_uri", &*began.prompt.verification_uri)
        .with("expires_in", lives);
    let said = match &began.prompt.verification_uri_complete {
        Some(uri) => said.with("verification_uri_complete", uri),
        None => said,
    };
    match began.interval {
        Some(interval) => said.with("interval", interval.as_secs()),
        None => said,
    }
}

fn verdict(verdict: Verdict) -> Said {
    let said = Said::from(verdict.name());
    let after = |said: Said, wait: Option<Duration>| wait.map_or(said.clone(), |wait| said.with("retry_after", wait.as_secs()));
    match verdict {
        Verdict::SlowDown { interval, retry_after } => {
            let said = after(said, retry_after);
            interval.map_or(said.clone(), |interval| said.with("interval", interval.as_secs()))
        }
        Verdict::Unreachable { ambiguous, retry_after } => after(said, retry_after).with("ambiguous", ambiguous),
        Verdict::Throttled { retry_after } => after(said, retry_after),
        Verdict::Gibberish { tolerated, .. } => said.with("tolerated", tolerated),
        // Whether the ID token is genuine is another matter.
        Verdict::Authorized(grant) | Verdict::Unverified(grant) => authorized(Said::from("authorized"), &grant),
        _ => said,
    }
}

fn authorized(said: Said, grant: &Grant) -> Said {
    let mut said = said.with("access_token", grant.access_token.expose_secret()).with("token_type", &grant.token_type);
    for (name, token) in [("refresh_token", &grant.refresh_token), ("id_token", &grant.id_token)] {
        if let Some(token) = token {
            said = said.with(name, token.expose_secret());
        }
    }
    if let Some(scope) = &grant.scope {
        said = said.with("scope", scope);
    }
    match grant.expires_at {
        Some(at) => said.with("expires_in", at.since(SystemClock::start().wall()).as_millis().div_ceil(1000)),
        None => said,
    }
}
