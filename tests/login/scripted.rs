//! A service that says whatever a test wants it to.

use std::time::{Duration, SystemTime};

use axum::Router;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub const ID: &str = "0b0d5a0e-3b0c-4c57-9c3e-0a4f5d6e7f80";

pub struct Scripted {
    pub url: String,
}

impl Scripted {
    pub async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url }
    }
}

/// A session as its owner sees it, whose code expires in so many seconds.
pub fn session(status: &str, expires_in: i64) -> Value {
    let step = Duration::from_secs(expires_in.unsigned_abs());
    let now = SystemTime::now();
    let expires_at = if expires_in < 0 { now - step } else { now + step };
    json!({
        "id": ID,
        "secret": "ars_secret",
        "status": status,
        "provider": "acme",
        "label": null,
        "user_code": "WDJB-MJHT",
        "verification_uri": "https://id.acme.test/device",
        "verification_uri_complete": null,
        "expires_at": humantime::format_rfc3339_seconds(expires_at).to_string(),
        "provider_reachable": true,
        "revision": 2,
    })
}

/// The same session with another member.
pub fn with(mut session: Value, member: &str, value: Value) -> Value {
    session[member] = value;
    session
}
