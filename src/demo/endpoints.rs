//! What a client may ask: discovery (RFC 8414), device authorization and token (RFC 8628), revocation (RFC 7009), userinfo, keys.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Map, Value, json};

use super::clients::{self, Assertions, Here, Refused};
use super::codes::{Decision, Ruling};
use super::exchange::{Received, Shared, exchange};
use super::form::Form;
use super::keys::SigningKey;
use super::options::{Client, IdTokens, Options, Replay};
use super::record::Outcome;
use super::script::Endpoint;
use super::tokens::{ACCESS_TOKEN_LIFETIME, Issued};
use super::wire::Reply;
use crate::kernel::time::WallTime;

const AUTH_METHODS: [&str; 4] = ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"];
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

const PERSON: &str = "demo-person";
const PERSON_NAME: &str = "Demo Person";

pub fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/.well-known/oauth-authorization-server", get(discovery))
        .route("/device/code", post(device_authorization))
        .route("/token", post(token))
        .route("/revoke", post(revocation))
        .route("/userinfo", get(userinfo))
        .route("/jwks", get(keys))
}

async fn discovery(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    exchange(shared, Endpoint::Discovery, request, |shared, _| metadata(&shared.issuer)).await
}

async fn device_authorization(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    exchange(shared, Endpoint::DeviceAuthorization, request, |shared, received| {
        issue_code(shared, received).unwrap_or_else(OAuthError::into_reply)
    })
    .await
}

async fn token(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    exchange(shared, Endpoint::Token, request, |shared, received| issue_tokens(shared, received).unwrap_or_else(OAuthError::into_reply))
        .await
}

async fn revocation(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    exchange(shared, Endpoint::Revocation, request, |shared, received| revoke(shared, received).unwrap_or_else(OAuthError::into_reply))
        .await
}

async fn userinfo(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    exchange(shared, Endpoint::Userinfo, request, who_is).await
}

async fn keys(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    exchange(shared, Endpoint::Keys, request, |shared, _| Reply::json(StatusCode::OK, &shared.state.lock().key.set(), Outcome::Done)).await
}

/// Both documents are the same; the issuer has no path, so both are where a client looks for them.
fn metadata(issuer: &str) -> Reply {
    let body = json!({
        "issuer": issuer,
        "device_authorization_endpoint": format!("{issuer}/device/code"),
        "token_endpoint": format!("{issuer}/token"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/jwks"),
        "grant_types_supported": [DEVICE_GRANT, "refresh_token"],
        "response_types_supported": [],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "token_endpoint_auth_methods_supported": AUTH_METHODS,
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "ES256", "ES384", "EdDSA"],
        "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
        "code_challenge_methods_supported": ["S256"],
    });
    Reply::json(StatusCode::OK, &body, Outcome::Done)
}

/// RFC 8628 §3.1 and §3.2, with PKCE (RFC 7636 §4.3) for those who want it.
fn issue_code(shared: &Shared, received: &Received) -> Result<Reply, OAuthError> {
    let form = received.form()?;
    let state = &mut *shared.state.lock();
    let client = authenticate(&state.options, &mut state.assertions, shared, received, form)?;
    let challenge = challenge(form)?;
    let scope = form.get("scope").unwrap_or_default();
    if !scope.split(' ').all(is_scope_token) {
        return Err(OAuthError::new("invalid_scope", "the scope has characters that no scope has"));
    }
    let options = &state.options;
    let code = state.codes.issue(&client.id, scope, challenge, options, shared.clock.now());
    let mut body = json!({
        "device_code": &*code.device_code,
        "user_code": &*code.user_code,
        "verification_uri": format!("{}/device", shared.issuer),
        "verification_uri_complete": format!("{}/device?user_code={}", shared.issuer, code.user_code),
        "expires_in": options.expires_in,
    });
    if let (Some(interval), Some(members)) = (options.interval, body.as_object_mut()) {
        members.insert("interval".to_owned(), interval.into());
    }
    Ok(Reply { user_code: Some(code.user_code.clone()), ..Reply::json(StatusCode::OK, &body, Outcome::Done) })
}

/// RFC 8628 §3.4 and §3.5; RFC 6749 §6 for refresh tokens.
fn issue_tokens(shared: &Shared, received: &Received) -> Result<Reply, OAuthError> {
    let form = received.form()?;
    let state = &mut *shared.state.lock();
    let client = authenticate(&state.options, &mut state.assertions, shared, received, form)?;
    let now = shared.clock.now();
    match form.get("grant_type") {
        Some(DEVICE_GRANT) => {}
        Some("refresh_token") => {
            let token = form.get("refresh_token").ok_or(OAuthError::invalid_request("refresh_token is missing"))?;
            let issued = state.tokens.refresh(token, &client.id, now);
            return issued
                .map(|issued| token_response(issued, None))
                .ok_or(OAuthError::new("invalid_grant", "the refresh token is not in force"));
        }
        Some(_) => return Err(OAuthError::new("unsupported_grant_type", "only device codes and refresh tokens are taken here")),
        None => return Err(OAuthError::invalid_request("grant_type is missing")),
    }
    let device_code = form.get("device_code").ok_or(OAuthError::invalid_request("device_code is missing"))?;
    let code = state.codes.by_device_code(device_code).ok_or(OAuthError::new("invalid_grant", "the device code is not known"))?;
    let options = &state.options;
    match code.rule(&client.id, form.get("code_verifier"), options, received.at) {
        Ruling::Tokens => {
            let issued = state.tokens.issue(&code.client, &code.scope, now);
            code.decision = Decision::Redeemed(issued.grant);
            let id_token = id_token(&shared.issuer, &state.key, options.id_tokens, &client.id, &issued, shared.clock.wall());
            Ok(token_response(issued, id_token))
        }
        Ruling::Replayed(grant) => {
            if options.replay == Replay::Revoke {
                state.tokens.revoke_grant(grant);
            }
            Err(OAuthError::new("invalid_grant", "the device code has been used"))
        }
        Ruling::Pending => {
            Err(OAuthError::new("authorization_pending", "the person has not decided yet").with_status(options.pending_status))
        }
        Ruling::SlowDown => Err(OAuthError::new("slow_down", "this poll came too early").with_status(options.slow_down_status)),
        Ruling::Denied => Err(OAuthError::new("access_denied", "the person said no")),
        Ruling::Expired => Err(OAuthError::new("expired_token", "the device code has expired")),
        Ruling::Invalid(why) => Err(OAuthError::new("invalid_grant", why)),
    }
}

/// OpenID Connect Core §2, for the scope `openid`.
fn id_token(issuer: &str, key: &SigningKey, kind: IdTokens, client: &str, issued: &Issued, now: WallTime) -> Option<String> {
    let has = |wanted| issued.scope.split(' ').any(|scope| scope == wanted);
    let key = match kind {
        _ if !has("openid") => return None,
        IdTokens::Sound => key.clone(),
        IdTokens::Forged => SigningKey::generate().named(key.kid()),
        IdTokens::None => return None,
    };
    let seconds = now.as_millis() / 1000;
    let mut claims = Map::new();
    let mut claim = |name: &str, value: Value| _ = claims.insert(name.to_owned(), value);
    claim("iss", issuer.into());
    claim("sub", PERSON.into());
    claim("aud", client.into());
    claim("iat", seconds.into());
    claim("exp", (seconds + ACCESS_TOKEN_LIFETIME.as_secs()).into());
    if has("profile") {
        claim("name", PERSON_NAME.into());
    }
    Some(key.sign(&claims))
}

/// RFC 6749 §5.1.
fn token_response(issued: Issued, id_token: Option<String>) -> Reply {
    let mut body = json!({
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": ACCESS_TOKEN_LIFETIME.as_secs(),
    });
    if let Some(members) = body.as_object_mut() {
        members.extend(issued.refresh_token.map(|token| ("refresh_token".to_owned(), token.into())));
        members.extend(id_token.map(|token| ("id_token".to_owned(), token.into())));
        members.extend((!issued.scope.is_empty()).then(|| ("scope".to_owned(), issued.scope.into())));
    }
    Reply::json(StatusCode::OK, &body, Outcome::Tokens)
}

/// RFC 7009 §2: 200 for every token, known or not.
fn revoke(shared: &Shared, received: &Received) -> Result<Reply, OAuthError> {
    let form = received.form()?;
    let state = &mut *shared.state.lock();
    let client = authenticate(&state.options, &mut state.assertions, shared, received, form)?;
    let token = form.get("token").ok_or(OAuthError::invalid_request("token is missing"))?;
    state.tokens.revoke(token, &client.id);
    Ok(Reply { body: Default::default(), ..Reply::json(StatusCode::OK, &json!({}), Outcome::Done) })
}

/// Whether a token is in force (RFC 6750 §3).
fn who_is(shared: &Shared, received: &Received) -> Reply {
    let presented = received.parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
    let token = presented.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token);
    let state = shared.state.lock();
    match token.and_then(|token| state.tokens.scope_of(token, shared.clock.now())) {
        Some(scope) => Reply::json(StatusCode::OK, &json!({ "sub": PERSON, "name": PERSON_NAME, "scope": scope }), Outcome::Done),
        None => Reply {
            challenge: Some("Bearer error=\"invalid_token\""),
            ..OAuthError::new("invalid_token", "the access token is not in force").with_status(401).into_reply()
        },
    }
}

fn authenticate<'a>(
    options: &'a Options,
    assertions: &mut Assertions,
    shared: &Shared,
    received: &Received,
    form: &Form,
) -> Result<&'a Client, OAuthError> {
    let token_endpoint = format!("{}/token", shared.issuer);
    let here = Here { audiences: [&shared.issuer, &token_endpoint], now: shared.clock.wall() };
    clients::authenticate(&options.clients, assertions, &received.parts.headers, form, &here).map_err(|refused| match refused {
        Refused::Malformed(why) => OAuthError::invalid_request(why),
        Refused::Unknown { challenge } => {
            OAuthError { challenge, ..OAuthError::new("invalid_client", "the client is not known").with_status(401) }
        }
    })
}

/// A method that is left out would mean `plain` (RFC 7636 §4.3), which protects nothing and is not taken.
fn challenge(form: &Form) -> Result<Option<&str>, OAuthError> {
    let Some(challenge) = form.get("code_challenge") else { return Ok(None) };
    if form.get("code_challenge_method") != Some("S256") {
        return Err(OAuthError::invalid_request("code_challenge_method must be S256"));
    }
    if challenge.len() != 43 {
        return Err(OAuthError::invalid_request("code_challenge must be the base64url SHA-256 of the verifier"));
    }
    Ok(Some(challenge))
}

/// RFC 6749 §3.3. Empty tokens are let through: two blanks in a row harm nobody.
fn is_scope_token(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

/// RFC 6749 §5.2.
struct OAuthError {
    status: u16,
    code: &'static str,
    description: &'static str,
    challenge: bool,
}

impl OAuthError {
    const fn new(code: &'static str, description: &'static str) -> Self {
        Self { status: 400, code, description, challenge: false }
    }

    const fn invalid_request(description: &'static str) -> Self {
        Self::new("invalid_request", description)
    }

    const fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    fn into_reply(self) -> Reply {
        let body = json!({ "error": self.code, "error_description": self.description });
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let challenge = self.challenge.then_some("Basic realm=\"development provider\"");
        Reply { challenge, ..Reply::json(status, &body, Outcome::Error(self.code.into())) }
    }
}

impl Received {
    fn form(&self) -> Result<&Form, OAuthError> {
        self.form.as_ref().map_err(|why| OAuthError::invalid_request(why))
    }
}
