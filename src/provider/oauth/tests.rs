use super::*;
use crate::provider::gate::Limits;
use crate::provider::settings::{ClientAuth, Endpoints as Named};

pub fn settings() -> Settings {
    Settings {
        name: "acme".into(),
        display_name: "Acme".into(),
        issuer: None,
        endpoints: Named::default(),
        client_id: "tv-app".into(),
        client_secret: None,
        client_auth: ClientAuth::None,
        scopes: Vec::new(),
        allowed_scopes: Vec::new(),
        audience: None,
        resource: Vec::new(),
        pkce: false,
        allow_http: false,
        proxy: None,
        limits: Limits { max_in_flight: 10, max_per_second: None },
        allow_anonymous: false,
    }
}
