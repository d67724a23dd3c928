//! The real [`Provider`]: one client of one authorization server.

use core::time::Duration;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::client_auth::{Form, NotAsserted, assertion, authenticate};
use super::dialect::{Known, fill};
use super::discovery::{Discovery, Metadata, Problem};
use super::egress::Egress;
use super::exchange::{Answer, Exchange, Http, NoAnswer, in_time};
use super::id_token::{Decoded, Expected, Flaw};
use super::jwks::{Finding, Jwks};
use super::settings::{AssertionAudience, ClientAuth, Settings, TENANT};
use super::{Provider, SignIn, classify, device, pkce};
use crate::clock::Clock;
use crate::kernel::verdict::{Began, DeviceCode, Failure, Grant, Prompt, Revocation, Verdict};

/// For both tokens together.
const REVOCATION_PATIENCE: Duration = Duration::from_secs(15);

/// An authorization server as [`Settings`] describe it.
pub struct OAuthProvider {
    settings: Settings,
    exchange: Exchange,
    discovery: Discovery,
    jwks: Jwks,
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
    /// `http` comes from [`client_for`](super::exchange::client_for) with the same settings.
    pub fn new(settings: Settings, http: Http, clock: Arc<dyn Clock>) -> Self {
        let exchange = Exchange::new(http, clock).within(Egress::of(&settings));
        let discovery = Discovery::new(exchange.clone(), settings.issuer.clone(), settings.allow_http);
        let jwks = Jwks::new(exchange.clone(), Arc::clone(&settings.name));
        Self { settings, exchange, discovery, jwks, token_endpoint: Latest::default(), verification_uri: Latest::default() }
    }

    /// What the provider says of itself.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    async fn request_code(&self, scope: &str) -> Result<Began, Failure> {
        let endpoints = self.endpoints().await.map_err(|problem| self.undiscovered(problem))?;
        let code_verifier = self.code_verifier()?;
        let challenge = code_verifier.as_ref().map(|verifier| pkce::challenge(verifier.expose_secret()));
        let dialect = &self.settings.dialect;
        let mut form = fill(dialect.begin, Known { scope, ..Known::default() });
        if let Some(challenge) = &challenge {
            form.extend([("code_challenge", challenge.as_str()), ("code_challenge_method", "S256")]);
        }
        if let Some(audience) = &self.settings.audience {
            form.push(("audience", audience));
        }
        self.add_resources(&mut form);
        let sent_at = self.exchange.now();
        let answer = self.post(endpoints.device_authorization, form).await.map_err(|no_answer| self.unanswered(no_answer))?;
        if let Some(failure) = classify::refusal(&answer, dialect) {
            let reason = if failure == Failure::ProviderRejected { classify::complaint(&answer, dialect) } else { failure.code() };
            tracing::warn!(provider = %self.settings.name, status = answer.status, reason, "no device code");
            return Err(failure);
        }
        let device = device::parse(&answer.body, self.settings.allow_http, dialect.assumed_lifetime).map_err(|invalid| {
            tracing::warn!(provider = %self.settings.name, reason = %invalid, "no device code");
            Failure::ProviderInvalidResponse
        })?;
        Ok(Began {
            device_code: Arc::new(DeviceCode::new(
                device.device_code.expose_secret(),
                code_verifier.as_ref().map(ExposeSecret::expose_secret),
                self.token_endpoint.share(endpoints.token.as_str()),
            )),
            prompt: Prompt {
                user_code: device.user_code.into(),
                verification_uri: self.verification_uri.share(&device.verification_uri),
                verification_uri_complete: device.verification_uri_complete.map(String::into_boxed_str),
                expires_at: sent_at + device.expires_in,
            },
            interval: device.interval,
        })
    }

    async fn request_tokens(&self, SignIn { device_code, user_code, scope }: SignIn<'_>) -> Verdict {
        let dialect = &self.settings.dialect;
        let Some(endpoint) = self.token_endpoint.url(&device_code.token_endpoint) else {
            return Verdict::Rejected;
        };
        let mut form = fill(dialect.poll, Known { scope, device_code: device_code.expose_code(), user_code });
        if let Some(verifier) = device_code.expose_code_verifier() {
            form.push(("code_verifier", verifier));
        }
        self.add_resources(&mut form);
        let answered = self.post_as(endpoint, form, dialect.poll_names_client).await;
        let verdict = classify::verdict(&answered, dialect);
        match (&answered, &verdict) {
            (Err(no_answer), _) => tracing::debug!(provider = %self.settings.name, reason = %no_answer, "no token response"),
            (Ok(answer), Verdict::Rejected) => {
                tracing::warn!(provider = %self.settings.name, status = answer.status, reason = classify::complaint(answer, dialect), "rejected");
            }
            (Ok(answer), Verdict::Redirected | Verdict::Gibberish { .. } | Verdict::Unreachable { .. } | Verdict::Throttled { .. }) => {
                tracing::debug!(provider = %self.settings.name, status = answer.status, "no usable token response");
            }
            _ => {}
        }
        match verdict {
            Verdict::Authorized(grant) if grant.id_token.is_some() => match self.verified_at_hand(&grant) {
                Some(claims) => Verdict::Authorized(with_claims(&grant, claims)),
                None => Verdict::Unverified(grant),
            },
            verdict => verdict,
        }
    }

    /// The claims, if all is well and the keys at hand say so. Never waits.
    fn verified_at_hand(&self, grant: &Grant) -> Option<SecretString> {
        let decoded = Decoded::read(grant.id_token.as_ref()?.expose_secret()).ok()?;
        let token = decoded.check(&self.expected(grant)).ok()?;
        (self.jwks.judge(&token.signed) == Finding::Genuine).then(|| token.claims.into())
    }

    async fn verify_tokens(&self, grant: &Arc<Grant>) -> Verdict {
        let Some(id_token) = &grant.id_token else { return Verdict::Authorized(Arc::clone(grant)) };
        let jwks_uri = match self.jwks_uri().await {
            Ok(Some(uri)) => uri,
            Ok(None) => {
                tracing::debug!(provider = %self.settings.name, "no `jwks_uri`: an ID token is passed on as it is, without claims");
                return Verdict::Authorized(Arc::clone(grant));
            }
            Err(problem) => {
                tracing::debug!(provider = %self.settings.name, reason = %problem, "an ID token cannot be verified yet");
                return Verdict::Unverified(Arc::clone(grant));
            }
        };
        match self.verified_claims(id_token, &jwks_uri, &self.expected(grant)).await {
            Ok(Some(claims)) => Verdict::Authorized(with_claims(grant, claims)),
            Ok(None) => Verdict::Unverified(Arc::clone(grant)),
            Err(flaw) => {
                tracing::warn!(provider = %self.settings.name, reason = %flaw, "an ID token is not valid");
                Verdict::Untrusted(Arc::clone(grant))
            }
        }
    }

    /// `None`: the keys cannot be had now.
    async fn verified_claims(
        &self,
        id_token: &SecretString,
        jwks_uri: &Url,
        expected: &Expected<'_>,
    ) -> Result<Option<SecretString>, Flaw> {
        let decoded = Decoded::read(id_token.expose_secret())?;
        let token = decoded.check(expected)?;
        match self.jwks.judge_with_newest(jwks_uri, &token.signed).await {
            Ok(Finding::Genuine) => Ok(Some(token.claims.into())),
            Ok(Finding::Forged | Finding::Unexplained) => Err(Flaw::Signature),
            Err(_) => Ok(None),
        }
    }

    fn expected<'a>(&'a self, grant: &'a Grant) -> Expected<'a> {
        let now = self.exchange.wall();
        Expected {
            issuer: self.settings.issuer.as_deref(),
            client_id: &self.settings.client_id,
            access_token: grant.access_token.expose_secret(),
            arrived_at: grant.arrived_at.unwrap_or(now),
            now,
        }
    }

    async fn revoke_tokens(&self, grant: &Grant) -> Revocation {
        let endpoint = match self.revocation_endpoint().await {
            Ok(Some(endpoint)) => endpoint,
            Ok(None) => {
                tracing::debug!(provider = %self.settings.name, "no revocation endpoint: tokens end when they expire");
                return Revocation::NoEndpoint;
            }
            Err(problem) => {
                tracing::debug!(provider = %self.settings.name, reason = %problem, "no revocation yet");
                return Revocation::Failed;
            }
        };
        let dialect = &self.settings.dialect;
        let refresh = match &grant.refresh_token {
            Some(token) => Some(classify::revocation(&self.revoke_token(endpoint.clone(), token, "refresh_token").await, dialect)),
            None => None,
        };
        let answered = self.revoke_token(endpoint, &grant.access_token, "access_token").await;
        let access = match &answered {
            // RFC 7009 §2.1: with the refresh token the access token has died, and some call that an error.
            Ok(Answer { status: 400, .. }) if refresh == Some(Revocation::Revoked) => Revocation::Revoked,
            answered => classify::revocation(answered, dialect),
        };
        let revocation = refresh.map_or(access, |refresh| refresh.max(access));
        match revocation {
            Revocation::Refused(remedy) => tracing::warn!(provider = %self.settings.name, remedy, "tokens are not revoked"),
            Revocation::Unsupported => {
                tracing::warn!(provider = %self.settings.name, remedy = classify::NOT_REVOKING, "tokens are not revoked");
            }
            Revocation::Revoked | Revocation::NoEndpoint | Revocation::Failed => {}
        }
        revocation
    }

    async fn revoke_token(&self, endpoint: Url, token: &SecretString, hint: &str) -> Result<Answer, NoAnswer> {
        self.post(endpoint, vec![("token", token.expose_secret()), ("token_type_hint", hint)]).await
    }

    async fn post<'a>(&'a self, endpoint: Url, form: Form<'a>) -> Result<Answer, NoAnswer> {
        self.post_as(endpoint, form, true).await
    }

    async fn post_as<'a>(&'a self, endpoint: Url, form: Form<'a>, names_client: bool) -> Result<Answer, NoAnswer> {
        // Boxed: few providers need one, and every poll under way would hold the room for it.
        let assertion = match self.settings.client_auth {
            ClientAuth::PrivateKeyJwt => Some(Box::pin(self.assertion()).await?),
            _ => None,
        };
        let mut form: Form<'_> = form;
        let authorization = authenticate(&self.settings, assertion.as_ref(), &mut form);
        form.retain(|(name, _)| names_client || *name != "client_id");
        self.exchange.post(endpoint, self.settings.dialect.encoding, &form, authorization).await
    }

    async fn assertion(&self) -> Result<SecretString, NoAnswer> {
        let audience = match (self.settings.assertion_audience, &self.settings.issuer) {
            (AssertionAudience::Issuer, Some(issuer)) if !issuer.contains(TENANT) => issuer.clone(),
            _ => self.endpoints().await.map_err(|_| NoAnswer::NotConnected("the token endpoint is not known"))?.token.into(),
        };
        let asserted = assertion(&self.settings, &audience, self.exchange.wall());
        asserted.map_err(|NotAsserted| NoAnswer::NotConnected("the private key cannot sign"))
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
        self.optional(&self.settings.endpoints.revocation, |found| &found.revocation_endpoint).await
    }

    async fn jwks_uri(&self) -> Result<Option<Url>, Problem> {
        self.optional(&self.settings.endpoints.jwks, |found| &found.jwks_uri).await
    }

    /// Where both endpoints of the grant are named, nothing is discovered.
    async fn optional(&self, named: &Option<Url>, found: impl Fn(&Metadata) -> &Option<Url>) -> Result<Option<Url>, Problem> {
        let endpoints = &self.settings.endpoints;
        let needs_no_discovery = named.is_some() || (endpoints.device_authorization.is_some() && endpoints.token.is_some());
        if needs_no_discovery {
            return Ok(named.clone());
        }
        Ok(found(&*self.discovery.metadata().await?).clone())
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

    fn ask<'a>(&'a self, sign_in: SignIn<'a>) -> BoxFuture<'a, Verdict> {
        self.request_tokens(sign_in).boxed()
    }

    fn verify<'a>(&'a self, grant: &'a Arc<Grant>) -> BoxFuture<'a, Verdict> {
        self.verify_tokens(grant).boxed()
    }

    fn is_unknown(&self) -> bool {
        let named = &self.settings.endpoints;
        (named.device_authorization.is_none() || named.token.is_none()) && !self.discovery.is_known()
    }

    fn revoke<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Revocation> {
        async move { in_time(REVOCATION_PATIENCE, self.revoke_tokens(grant)).await.unwrap_or(Revocation::Failed) }.boxed()
    }
}

fn with_claims(grant: &Arc<Grant>, claims: SecretString) -> Arc<Grant> {
    Arc::new(Grant { claims: Some(claims), ..Grant::clone(grant) })
}

/// The latest of a kind of text that seldom changes, to be shared while it stays the same.
#[derive(Default)]
struct Latest(Mutex<(Arc<str>, Option<Url>)>);

impl Latest {
    fn share(&self, text: &str) -> Arc<str> {
        let mut latest = self.0.lock();
        if *latest.0 != *text {
            *latest = (text.into(), None);
        }
        Arc::clone(&latest.0)
    }

    /// What `text` says as a URL, if it is one.
    fn url(&self, text: &Arc<str>) -> Option<Url> {
        let mut latest = self.0.lock();
        if latest.1.is_none() || latest.0 != *text {
            *latest = (Arc::clone(text), Some(Url::parse(text).ok()?));
        }
        latest.1.clone()
    }
}

#[cfg(test)]
pub(super) mod tests;
