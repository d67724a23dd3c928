//! The real [`Provider`]: one client of one authorization server.

use core::time::Duration;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use reqwest::{Client, Url};
use secrecy::{ExposeSecret, SecretString};

use super::client_auth::{Form, authenticate};
use super::discovery::{Discovery, Problem};
use super::exchange::{Answer, Exchange, NoAnswer};
use super::settings::Settings;
use super::{Provider, classify, device, pkce};
use crate::clock::Clock;
use crate::kernel::verdict::{Began, DeviceCode, Failure, Grant, Prompt, Verdict};

const DEVICE_CODE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// For both tokens together.
const REVOCATION_PATIENCE: Duration = Duration::from_secs(15);

/// An authorization server as [`Settings`] describe it.
pub struct OAuthProvider {
    settings: Settings,
    exchange: Exchange,
    discovery: Discovery,
    /// Nearly always the same for all sessions, so they share one.
    token_endpoint: Latest,
    verification_uri: Latest,
}

/// The two endpoints without which there is no sign-in.
struct Endpoints {
    device_authorization: Url,
    token: Url,
}

impl OAuthProvider {
    /// `http` comes from [`client`](super::exchange::client), with the proxy that `settings` name.
    pub fn new(settings: Settings, http: Client, clock: Arc<dyn Clock>) -> Self {
        let exchange = Exchange::new(http, clock);
        let discovery = Discovery::new(exchange.clone(), settings.issuer.clone(), settings.allow_http);
        Self { settings, exchange, discovery, token_endpoint: Latest::default(), verification_uri: Latest::default() }
    }

    /// What the provider says of itself.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    async fn request_code(&self, scope: &str) -> Result<Began, Failure> {
        let endpoints = self.endpoints().await.map_err(|problem| self.undiscovered(problem))?;
        let code_verifier = self.code_verifier()?;
        let challenge = code_verifier.as_ref().map(|verifier| pkce::challenge(verifier.expose_secret()));
        let mut form = Form::new();
        if !scope.is_empty() {
            form.push(("scope", scope));
        }
        if let Some(challenge) = &challenge {
            form.extend([("code_challenge", challenge.as_str()), ("code_challenge_method", "S256")]);
        }
        if let Some(audience) = &self.settings.audience {
            form.push(("audience", audience));
        }
        self.add_resources(&mut form);
        let sent_at = self.exchange.now();
        let answer = self.post(endpoints.device_authorization, form).await.map_err(|no_answer| self.unanswered(no_answer))?;
        if let Some(failure) = classify::refusal(&answer) {
            let reason = if failure == Failure::ProviderRejected { classify::complaint(&answer) } else { failure.code() };
            tracing::warn!(provider = %self.settings.name, status = answer.status, reason, "no device code");
            return Err(failure);
        }
        let device = device::parse(&answer.body, self.settings.allow_http).map_err(|invalid| {
            tracing::warn!(provider = %self.settings.name, reason = %invalid, "no device code");
            Failure::ProviderInvalidResponse
        })?;
        Ok(Began {
            device_code: Arc::new(DeviceCode {
                code: device.device_code,
                code_verifier,
                token_endpoint: self.token_endpoint.share(endpoints.token.as_str()),
            }),
            prompt: Arc::new(Prompt {
                user_code: device.user_code.into(),
                verification_uri: self.verification_uri.share(&device.verification_uri),
                verification_uri_complete: device.verification_uri_complete.map(String::into_boxed_str),
                expires_at: sent_at + device.expires_in,
            }),
            interval: device.interval,
        })
    }

    async fn request_tokens(&self, device_code: &DeviceCode) -> Verdict {
        let Ok(endpoint) = Url::parse(&device_code.token_endpoint) else {
            return Verdict::Rejected;
        };
        let mut form: Form<'_> = vec![("grant_type", DEVICE_CODE_GRANT), ("device_code", device_code.code.expose_secret())];
        if let Some(verifier) = &device_code.code_verifier {
            form.push(("code_verifier", verifier.expose_secret()));
        }
        self.add_resources(&mut form);
        let answered = self.post(endpoint, form).await;
        let verdict = classify::verdict(&answered);
        match (&answered, &verdict) {
            (Err(no_answer), _) => tracing::debug!(provider = %self.settings.name, reason = %no_answer, "no token response"),
            (Ok(answer), Verdict::Rejected) => {
                tracing::warn!(provider = %self.settings.name, status = answer.status, reason = classify::complaint(answer), "rejected");
            }
            (Ok(answer), Verdict::Redirected | Verdict::Gibberish { .. } | Verdict::Unreachable { .. } | Verdict::Throttled { .. }) => {
                tracing::debug!(provider = %self.settings.name, status = answer.status, "no usable token response");
            }
            _ => {}
        }
        verdict
    }

    async fn revoke_tokens(&self, grant: &Grant) -> bool {
        let endpoint = match self.revocation_endpoint().await {
            Ok(Some(endpoint)) => endpoint,
            Ok(None) => {
                tracing::debug!(provider = %self.settings.name, "no revocation endpoint: tokens end when they expire");
                return true;
            }
            Err(problem) => {
                tracing::debug!(provider = %self.settings.name, reason = %problem, "no revocation yet");
                return false;
            }
        };
        let refresh = match &grant.refresh_token {
            Some(token) => self.revoke_token(endpoint.clone(), token, "refresh_token").await,
            None => true,
        };
        self.revoke_token(endpoint, &grant.access_token, "access_token").await && refresh
    }

    /// Only an outage is worth another try: whatever else is said, it will be said again.
    async fn revoke_token(&self, endpoint: Url, token: &SecretString, hint: &str) -> bool {
        let answered = self.post(endpoint, vec![("token", token.expose_secret()), ("token_type_hint", hint)]).await;
        answered.is_ok_and(|answer| matches!(answer.status, 200..=299 | 400..=499) && !matches!(answer.status, 408 | 425 | 429))
    }

    async fn post<'a>(&'a self, endpoint: Url, mut form: Form<'a>) -> Result<Answer, NoAnswer> {
        let authorization = authenticate(&self.settings, &mut form);
        self.exchange.post(endpoint, &form, authorization).await
    }

    /// What the configuration names counts; what it leaves open is discovered.
    async fn endpoints(&self) -> Result<Endpoints, Problem> {
        let named = &self.settings.endpoints;
        if let (Some(device_authorization), Some(token)) = (&named.device_authorization, &named.token) {
            return Ok(Endpoints { device_authorization: device_authorization.clone(), token: token.clone() });
        }
        let found = self.discovery.metadata().await?;
        let pick =
            |named: &Option<Url>, found: &Option<Url>, name| named.as_ref().or(found.as_ref()).cloned().ok_or(Problem::Missing(name));
        Ok(Endpoints {
            device_authorization: pick(&named.device_authorization, &found.device_authorization_endpoint, "device_authorization_endpoint")?,
            token: pick(&named.token, &found.token_endpoint, "token_endpoint")?,
        })
    }

    async fn revocation_endpoint(&self) -> Result<Option<Url>, Problem> {
        let named = &self.settings.endpoints;
        let needs_no_discovery = named.revocation.is_some() || (named.device_authorization.is_some() && named.token.is_some());
        if needs_no_discovery {
            return Ok(named.revocation.clone());
        }
        Ok(self.discovery.metadata().await?.revocation_endpoint.clone())
    }

    fn code_verifier(&self) -> Result<Option<SecretString>, Failure> {
        self.settings.pkce.then(pkce::verifier).transpose().map_err(|error| {
            tracing::error!(%error, "no randomness");
            Failure::InternalError
        })
    }

    /// RFC 8707 §2: one parameter for each.
    fn add_resources<'a>(&'a self, form: &mut Form<'a>) {
        form.extend(self.settings.resource.iter().map(|resource| ("resource", resource.as_str())));
    }

    fn undiscovered(&self, problem: Problem) -> Failure {
        tracing::warn!(provider = %self.settings.name, reason = %problem, "no discovery");
        problem.into()
    }

    fn unanswered(&self, no_answer: NoAnswer) -> Failure {
        tracing::warn!(provider = %self.settings.name, reason = %no_answer, "no device code");
        classify::failure(no_answer)
    }
}

impl Provider for OAuthProvider {
    fn begin<'a>(&'a self, scope: &'a str) -> BoxFuture<'a, Result<Began, Failure>> {
        self.request_code(scope).boxed()
    }

    fn ask<'a>(&'a self, device_code: &'a DeviceCode) -> BoxFuture<'a, Verdict> {
        self.request_tokens(device_code).boxed()
    }

    fn revoke<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, bool> {
        async move { tokio::time::timeout(REVOCATION_PATIENCE, self.revoke_tokens(grant)).await.unwrap_or(false) }.boxed()
    }
}

/// The latest of a kind of text that seldom changes, to be shared while it stays the same.
#[derive(Default)]
struct Latest(Mutex<Arc<str>>);

impl Latest {
    fn share(&self, text: &str) -> Arc<str> {
        let mut latest = self.0.lock();
        if **latest != *text {
            *latest = text.into();
        }
        Arc::clone(&latest)
    }
}

#[cfg(test)]
pub(super) mod tests;
