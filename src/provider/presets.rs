//! Providers by name: their addresses, and how they differ from RFC 8628. A table; the code is below it.
//!
//! Whatever a row says, the configuration may say otherwise. In an address `{host}` and `{domain}` stand for an origin
//! (`https://` and what follows), the other names for a part of the path.
//! `{tenantid}` stays: it is Entra's own way to write an issuer, and the ID token says what belongs there.

use core::time::Duration;

use super::dialect::{Dialect, Encoding, Meaning, Part};
use super::settings::ClientAuth;

#[derive(PartialEq, Eq, Debug)]
pub struct Preset {
    pub name: &'static str,
    pub title: &'static str,
    pub parameters: &'static [Parameter],
    /// With an issuer alone the endpoints are discovered.
    pub issuer: Option<&'static str>,
    pub device_authorization_endpoint: Option<&'static str>,
    pub token_endpoint: Option<&'static str>,
    pub revocation_endpoint: Option<&'static str>,
    pub jwks_uri: Option<&'static str>,
    /// The method of a client that has a secret.
    pub client_auth: ClientAuth,
    /// No sign-in works without a client secret.
    pub needs_secret: bool,
    pub pkce: bool,
    pub dialect: Dialect,
    /// What the operator has to know, in a sentence.
    pub note: Option<&'static str>,
}

/// A key of the configuration that completes the addresses.
#[derive(PartialEq, Eq, Debug)]
pub struct Parameter {
    pub key: &'static str,
    pub default: Option<&'static str>,
}

const fn required(key: &'static str) -> Parameter {
    Parameter { key, default: None }
}

const fn or(key: &'static str, default: &'static str) -> Parameter {
    Parameter { key, default: Some(default) }
}

/// A server that does as RFC 8628 says and describes itself at its issuer.
const STANDARD: Preset = Preset {
    name: "",
    title: "",
    parameters: &[],
    issuer: None,
    device_authorization_endpoint: None,
    token_endpoint: None,
    revocation_endpoint: None,
    jwks_uri: None,
    client_auth: ClientAuth::ClientSecretBasic,
    needs_secret: false,
    pkce: true,
    dialect: Dialect::RFC8628,
    note: None,
};

#[rustfmt::skip]
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "amazon", title: "Amazon",
        device_authorization_endpoint: Some("https://api.amazon.com/auth/o2/create/codepair"),
        token_endpoint: Some("https://api.amazon.com/auth/o2/token"),
        pkce: false,
        dialect: Dialect {
            begin: &[("response_type", Part::Text("device_code")), ("scope", Part::Scope)],
            poll: &[("grant_type", Part::Text("device_code")), ("device_code", Part::DeviceCode), ("user_code", Part::UserCode)],
            poll_names_client: false,
            words: &[("servererror", Meaning::Outage)],
            ..Dialect::RFC8628
        },
        ..STANDARD
    },
    Preset {
        name: "auth0", title: "Auth0", parameters: &[required("domain")],
        issuer: Some("{domain}/"),
        device_authorization_endpoint: Some("{domain}/oauth/device/code"),
        token_endpoint: Some("{domain}/oauth/token"),
        revocation_endpoint: Some("{domain}/oauth/revoke"),
        jwks_uri: Some("{domain}/.well-known/jwks.json"),
        client_auth: ClientAuth::ClientSecretPost,
        note: Some("without `audience` the access token is opaque; access_denied can also mean that the code has expired"),
        ..STANDARD
    },
    Preset {
        name: "authentik", title: "authentik", parameters: &[required("host"), required("application")],
        issuer: Some("{host}/application/o/{application}/"),
        note: Some("it gives 20 codes an hour to one address unless its limit is raised, and needs a device code flow on the brand"),
        ..STANDARD
    },
    Preset {
        name: "dex", title: "Dex", parameters: &[required("host")],
        issuer: Some("{host}"),
        client_auth: ClientAuth::ClientSecretPost,
        dialect: Dialect { words: &[("invalid_request", Meaning::DeadCode)], ..Dialect::RFC8628 },
        note: Some("it never says that a person refused: such a sign-in expires"),
        ..STANDARD
    },
    Preset {
        name: "duende", title: "Duende IdentityServer", parameters: &[required("host")],
        issuer: Some("{host}"),
        ..STANDARD
    },
    Preset {
        name: "github", title: "GitHub", parameters: &[or("host", "github.com")],
        device_authorization_endpoint: Some("{host}/login/device/code"),
        token_endpoint: Some("{host}/login/oauth/access_token"),
        client_auth: ClientAuth::ClientSecretPost,
        pkce: false,
        note: Some("enable the device flow in the settings of the app; tokens are not revoked, which takes GitHub's own API"),
        ..STANDARD
    },
    Preset {
        name: "gitlab", title: "GitLab", parameters: &[or("host", "gitlab.com")],
        issuer: Some("{host}"),
        device_authorization_endpoint: Some("{host}/oauth/authorize_device"),
        token_endpoint: Some("{host}/oauth/token"),
        revocation_endpoint: Some("{host}/oauth/revoke"),
        jwks_uri: Some("{host}/oauth/discovery/keys"),
        ..STANDARD
    },
    Preset {
        name: "glewlwyd", title: "Glewlwyd", parameters: &[required("host")],
        issuer: Some("{host}"),
        dialect: Dialect { words: &[("access_denied", Meaning::DeniedOrDead)], ..Dialect::RFC8628 },
        note: Some("host is the issuer of its OpenID Connect plugin, with the path, such as sso.example.com/api/oidc"),
        ..STANDARD
    },
    Preset {
        name: "google", title: "Google",
        issuer: Some("https://accounts.google.com"),
        device_authorization_endpoint: Some("https://oauth2.googleapis.com/device/code"),
        token_endpoint: Some("https://oauth2.googleapis.com/token"),
        revocation_endpoint: Some("https://oauth2.googleapis.com/revoke"),
        jwks_uri: Some("https://www.googleapis.com/oauth2/v3/certs"),
        client_auth: ClientAuth::ClientSecretPost, needs_secret: true,
        pkce: false,
        note: Some("the client's type must be \"TVs and Limited Input devices\", which allows few scopes"),
        ..STANDARD
    },
    Preset {
        name: "huggingface", title: "Hugging Face",
        issuer: Some("https://huggingface.co"),
        device_authorization_endpoint: Some("https://huggingface.co/oauth/device"),
        token_endpoint: Some("https://huggingface.co/oauth/token"),
        jwks_uri: Some("https://huggingface.co/oauth/jwks"),
        ..STANDARD
    },
    Preset {
        name: "hydra", title: "Ory Hydra", parameters: &[required("host")],
        issuer: Some("{host}"),
        note: Some("refresh tokens need the scope offline_access"),
        ..STANDARD
    },
    Preset {
        name: "keycloak", title: "Keycloak", parameters: &[required("host"), required("realm")],
        issuer: Some("{host}/realms/{realm}"),
        note: Some("enable \"OAuth 2.0 Device Authorization Grant\" on the client"),
        ..STANDARD
    },
    Preset {
        name: "microsoft", title: "Microsoft", parameters: &[or("host", "login.microsoftonline.com"), required("tenant")],
        issuer: Some("{host}/{tenantid}/v2.0"),
        device_authorization_endpoint: Some("{host}/{tenant}/oauth2/v2.0/devicecode"),
        token_endpoint: Some("{host}/{tenant}/oauth2/v2.0/token"),
        jwks_uri: Some("{host}/{tenant}/discovery/v2.0/keys"),
        client_auth: ClientAuth::ClientSecretPost,
        pkce: false,
        note: Some("set \"Allow public client flows\" on the app; it has no revocation; refresh tokens need the scope offline_access"),
        ..STANDARD
    },
    Preset {
        name: "okta", title: "Okta", parameters: &[required("domain"), or("authorization_server", "default")],
        issuer: Some("{domain}/oauth2/{authorization_server}"),
        note: Some("allow the device grant on the app and in a rule of the access policy; for the org's own server set `issuer`"),
        ..STANDARD
    },
    Preset {
        name: "pingfederate", title: "PingFederate", parameters: &[required("host")],
        issuer: Some("{host}"),
        device_authorization_endpoint: Some("{host}/as/device_authz.oauth2"),
        token_endpoint: Some("{host}/as/token.oauth2"),
        revocation_endpoint: Some("{host}/as/revoke_token.oauth2"),
        jwks_uri: Some("{host}/pf/JWKS"),
        ..STANDARD
    },
    Preset {
        name: "pingone", title: "PingOne", parameters: &[or("host", "auth.pingone.com"), required("environment")],
        issuer: Some("{host}/{environment}/as"),
        device_authorization_endpoint: Some("{host}/{environment}/as/device_authorization"),
        token_endpoint: Some("{host}/{environment}/as/token"),
        revocation_endpoint: Some("{host}/{environment}/as/revoke"),
        jwks_uri: Some("{host}/{environment}/as/jwks"),
        ..STANDARD
    },
    Preset {
        name: "salesforce", title: "Salesforce", parameters: &[or("host", "login.salesforce.com")],
        issuer: Some("{host}"),
        device_authorization_endpoint: Some("{host}/services/oauth2/token"),
        token_endpoint: Some("{host}/services/oauth2/token"),
        revocation_endpoint: Some("{host}/services/oauth2/revoke"),
        jwks_uri: Some("{host}/id/keys"),
        client_auth: ClientAuth::ClientSecretPost,
        pkce: false,
        dialect: Dialect {
            begin: &[("response_type", Part::Text("device_code")), ("scope", Part::Scope)],
            poll: &[("grant_type", Part::Text("device")), ("code", Part::DeviceCode)],
            words: &[("too_fast", Meaning::SlowDown)],
            assumed_lifetime: Duration::from_secs(600),
            ..Dialect::RFC8628
        },
        note: Some("enable the device flow on the connected app"),
        ..STANDARD
    },
    Preset {
        name: "spring", title: "Spring Authorization Server", parameters: &[required("host")],
        issuer: Some("{host}"),
        ..STANDARD
    },
    Preset {
        name: "trakt", title: "Trakt",
        device_authorization_endpoint: Some("https://api.trakt.tv/oauth/device/code"),
        token_endpoint: Some("https://api.trakt.tv/oauth/device/token"),
        revocation_endpoint: Some("https://api.trakt.tv/oauth/revoke"),
        client_auth: ClientAuth::ClientSecretPost, needs_secret: true,
        pkce: false,
        dialect: Dialect {
            encoding: Encoding::Json,
            begin: &[],
            poll: &[("code", Part::DeviceCode)],
            statuses: &[
                (400, Meaning::Pending), (404, Meaning::DeadCode), (409, Meaning::DeadCode),
                (410, Meaning::Expired), (418, Meaning::Denied), (429, Meaning::SlowDown),
            ],
            ..Dialect::RFC8628
        },
        note: Some("it knows no scopes"),
        ..STANDARD
    },
    Preset {
        name: "twitch", title: "Twitch",
        issuer: Some("https://id.twitch.tv/oauth2"),
        device_authorization_endpoint: Some("https://id.twitch.tv/oauth2/device"),
        token_endpoint: Some("https://id.twitch.tv/oauth2/token"),
        revocation_endpoint: Some("https://id.twitch.tv/oauth2/revoke"),
        jwks_uri: Some("https://id.twitch.tv/oauth2/keys"),
        client_auth: ClientAuth::ClientSecretPost,
        pkce: false,
        dialect: Dialect {
            begin: &[("scopes", Part::Scope)],
            poll: &[("grant_type", Part::Text("urn:ietf:params:oauth:grant-type:device_code")), ("device_code", Part::DeviceCode), ("scopes", Part::Scope)],
            error_members: &["message", "error"],
            words: &[("invalid device code", Meaning::DeadCode)],
            ..Dialect::RFC8628
        },
        ..STANDARD
    },
    Preset {
        name: "zitadel", title: "ZITADEL", parameters: &[required("host")],
        issuer: Some("{host}"),
        note: Some("access_denied can also mean that its database failed"),
        ..STANDARD
    },
];

/// The preset of that name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// All names, for people.
pub fn names() -> String {
    PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ")
}

/// The parameters whose names stand in `template`, in braces.
pub fn parameters_of<'a>(parameters: &'a [Parameter], template: &str) -> impl Iterator<Item = &'a Parameter> {
    parameters.iter().filter(move |parameter| template.contains(&placeholder(parameter.key)))
}

/// The template with each parameter's value in its place.
pub fn complete<'a>(template: &str, values: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    values.into_iter().fold(template.to_owned(), |text, (key, value)| text.replace(&placeholder(key), value))
}

fn placeholder(key: &str) -> String {
    format!("{{{key}}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::uri;

    #[test]
    fn names_are_unique_and_in_order() {
        assert!(PRESETS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn every_preset_leads_to_a_device_and_a_token_endpoint() {
        for preset in PRESETS {
            let has_both = preset.device_authorization_endpoint.is_some() && preset.token_endpoint.is_some();
            assert!(has_both || preset.issuer.is_some(), "{}", preset.name);
        }
    }

    #[test]
    fn every_address_is_an_https_url_once_it_is_complete_and_uses_every_parameter() {
        for preset in PRESETS {
            let addresses =
                [preset.issuer, preset.device_authorization_endpoint, preset.token_endpoint, preset.revocation_endpoint, preset.jwks_uri];
            let addresses: Vec<&str> = addresses.into_iter().flatten().collect();
            for address in &addresses {
                let values = preset.parameters.iter().map(|parameter| match parameter.key {
                    "host" | "domain" => (parameter.key, "https://id.example.com"),
                    key => (key, "x"),
                });
                let address = complete(address, values).replace("{tenantid}", "x");
                assert!(!address.contains('{') && uri::endpoint(&address, false).is_some(), "{} {address}", preset.name);
            }
            for parameter in preset.parameters {
                let is_used = addresses.iter().any(|address| parameters_of(preset.parameters, address).any(|used| used == parameter));
                assert!(is_used, "{} {}", preset.name, parameter.key);
            }
        }
    }

    #[test]
    fn words_are_lower_case_as_they_are_compared() {
        for preset in PRESETS {
            assert!(preset.dialect.words.iter().all(|(word, _)| *word == word.to_lowercase()), "{}", preset.name);
        }
    }
}
