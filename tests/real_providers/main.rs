//! Sign-ins at providers that none of us wrote.

#[path = "../support/real_provider.rs"]
mod real_provider;
#[path = "../support/service.rs"]
mod service;
mod sign_in;
mod themselves;

use real_provider::{RealProvider, Software};

/// With the shortest interval there is: better-auth's default is 5 s, and oidc-provider names none, which means 5 s.
async fn start(software: Software) -> Option<RealProvider> {
    RealProvider::start(software, if software == Software::BetterAuth { &["--interval=1"] } else { &[] }).await
}
