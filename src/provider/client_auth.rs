//! How the client names itself and proves it (RFC 6749 §2.3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded;

use super::settings::{ClientAuth, Settings};

/// A form that is being filled in.
pub type Form<'a> = Vec<(&'static str, &'a str)>;

/// Adds what identifies the client to `form` and returns the `Authorization` header, if the method has one. The client id is
/// always in the form: some providers look for it only there.
pub fn authenticate<'a>(settings: &'a Settings, form: &mut Form<'a>) -> Option<HeaderValue> {
    form.push(("client_id", &settings.client_id));
    match (settings.client_auth, &settings.client_secret) {
        (ClientAuth::ClientSecretBasic, Some(secret)) => basic(&settings.client_id, secret),
        (ClientAuth::ClientSecretPost, Some(secret)) => {
            form.push(("client_secret", secret.expose_secret()));
            None
        }
        (ClientAuth::None, _) | (_, None) => None,
    }
}

/// RFC 6749 §2.3.1: id and secret are form-encoded first, so that neither a colon nor a letter beyond ASCII can mislead.
fn basic(client_id: &str, secret: &SecretString) -> Option<HeaderValue> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let credentials = STANDARD.encode(format!("{}:{}", encoded(client_id), encoded(secret.expose_secret())));
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
        assert!(authenticate(&settings, &mut form).is_none());
        assert_eq!(form, [("client_id", "tv app")]);
    }

    #[test]
    fn basic_encodes_id_and_secret_before_they_are_joined() {
        let settings = with(ClientAuth::ClientSecretBasic, Some("a:b+c/\u{e9}"));
        let mut form = Form::new();
        let header = authenticate(&settings, &mut form).unwrap();
        let expected = format!("Basic {}", STANDARD.encode("tv+app:a%3Ab%2Bc%2F%C3%A9"));
        assert_eq!(header.to_str().unwrap(), expected);
        assert!(header.is_sensitive());
        assert_eq!(form, [("client_id", "tv app")]);
    }

    #[test]
    fn post_puts_the_secret_into_the_form_and_nowhere_else() {
        let settings = with(ClientAuth::ClientSecretPost, Some("s3cr3t"));
        let mut form = Form::new();
        assert!(authenticate(&settings, &mut form).is_none());
        assert_eq!(form, [("client_id", "tv app"), ("client_secret", "s3cr3t")]);
    }
}
