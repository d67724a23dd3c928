//! How the client names itself and proves it (RFC 6749 §2.3, RFC 7523).

use core::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::form_urlencoded;

use super::settings::{ClientAuth, Settings};
use crate::kernel::time::WallTime;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A form that is being filled in.
pub type Form<'a> = Vec<(&'static str, &'a str)>;

/// Adds what identifies the client to `form` and returns the `Authorization` header, if the method has one. The client id is
/// always in the form: some providers look for it only there. `assertion` is a fresh one, for the method that needs it.
pub fn authenticate<'a>(settings: &'a Settings, assertion: Option<&'a SecretString>, form: &mut Form<'a>) -> Option<HeaderValue> {
    form.push(("client_id", &settings.client_id));
    if let Some(assertion) = assertion {
        form.extend([("client_assertion_type", JWT_BEARER), ("client_assertion", assertion.expose_secret())]);
    }
    let secret = settings.client_secret.as_ref()?;
    // RFC 6749 §2.3.1: so that neither a colon nor a letter beyond ASCII can mislead.
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    match settings.client_auth {
        ClientAuth::ClientSecretBasic => basic(&encoded(&settings.client_id), &encoded(secret.expose_secret())),
        ClientAuth::ClientSecretBasicRaw => basic(&settings.client_id, secret.expose_secret()),
        ClientAuth::ClientSecretPost => {
            form.push(("client_secret", secret.expose_secret()));
            None
        }
        ClientAuth::None | ClientAuth::PrivateKeyJwt => None,
    }
}

/// A fresh assertion of who the client is (RFC 7523 §3), for the methods that need one. It is good for one request: none may be
/// used twice, and it is short-lived.
///
/// # Errors
/// The key or the randomness fails.
pub fn assertion(settings: &Settings, audience: &str, now: WallTime) -> Result<SecretString, NotAsserted> {
    let key = settings.private_key.as_ref().ok_or(NotAsserted)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| NotAsserted)?;
    let issued = now.as_millis() / 1000;
    let claims = json!({
        "iss": settings.client_id,
        "sub": settings.client_id,
        "aud": audience,
        "jti": BASE64_URL_SAFE_NO_PAD.encode(id),
        "iat": issued,
        "exp": issued + ASSERTION_LIFETIME.as_secs(),
    });
    key.sign(&claims).map(SecretString::from).ok_or(NotAsserted)
}

const ASSERTION_LIFETIME: Duration = Duration::from_secs(60);

/// The client could not prove who it is, so nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAsserted;

fn basic(client_id: &str, secret: &str) -> Option<HeaderValue> {
    let credentials = STANDARD.encode(format!("{client_id}:{secret}"));
    let mut header = HeaderValue::try_from(format!("Basic {credentials}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::oauth::tests::settings;

    fn with(client_auth: ClientAuth, secret: Option<&str>) -> Settings {
        Settings { client_auth, client_secret: secret.map(SecretString::from), client_id: "tv app".into(), ..settings() }
    }

    #[test]
    fn a_public_client_only_names_itself() {
        let settings = with(ClientAuth::None, Some("unused"));
        let mut form = Form::new();
        assert!(authenticate(&settings, None, &mut form).is_none());
        assert_eq!(form, [("client_id", "tv app")]);
    }

    #[test]
    fn basic_encodes_id_and_secret_before_they_are_joined() {
        let settings = with(ClientAuth::ClientSecretBasic, Some("a:b+c/\u{e9}"));
        let mut form = Form::new();
        let header = authenticate(&settings, None, &mut form).unwrap();
        let expected = format!("Basic {}", STANDARD.encode("tv+app:a%3Ab%2Bc%2F%C3%A9"));
        assert_eq!(header.to_str().unwrap(), expected);
        assert!(header.is_sensitive());
        assert_eq!(form, [("client_id", "tv app")]);
    }

    #[test]
    fn raw_basic_encodes_nothing() {
        let settings = with(ClientAuth::ClientSecretBasicRaw, Some("a+c/\u{e9}"));
        let header = authenticate(&settings, None, &mut Form::new()).unwrap();
        assert_eq!(header.to_str().unwrap(), format!("Basic {}", STANDARD.encode("tv app:a+c/\u{e9}")));
    }

    #[test]
    fn post_puts_the_secret_into_the_form_and_nowhere_else() {
        let settings = with(ClientAuth::ClientSecretPost, Some("s3cr3t"));
        let mut form = Form::new();
        assert!(authenticate(&settings, None, &mut form).is_none());
        assert_eq!(form, [("client_id", "tv app"), ("client_secret", "s3cr3t")]);
    }
}
