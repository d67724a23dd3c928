//! `anteroom demo`: the service and the development provider; the service's own start page plays the TV.
//!
//! The service is the real one. Only the provider is wrapped, so that a switch on its page can crash a real poller.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::service::{Service, StartError, providers};
use crate::clock::Clock;
use crate::config::{Config, ConfigErrors};
use crate::demo::{DevProvider, Options, Recording, Saboteur};
use crate::provider::Provider;

pub struct Demo {
    pub service: Service,
    pub provider: DevProvider,
    address: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("provider-port: cannot listen on port {0} ({1}); choose another with --provider-port")]
    Provider(u16, io::ErrorKind),
    #[error("{0}")]
    Config(ConfigErrors),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the address is unknown: {0}")]
    Address(io::Error),
}

/// Seconds between polls: short enough to watch, long enough to break something in between.
const INTERVAL: u64 = 2;

/// Starts both on loopback; port 0 takes a free one.
///
/// # Errors
/// A port is taken.
pub async fn start(port: u16, provider_port: u16, clock: Arc<dyn Clock>) -> Result<Demo, DemoError> {
    let options = Options { interval: Some(INTERVAL), recording: Recording::Counts, ..Options::default() };
    let provider = DevProvider::start((Ipv4Addr::LOCALHOST, provider_port).into(), options, Arc::clone(&clock))
        .await
        .map_err(|error| DemoError::Provider(provider_port, error.kind()))?;
    let settings = [
        ("ANTEROOM_LISTEN", format!("127.0.0.1:{port}")),
        ("ANTEROOM_ADMIN_LISTEN", String::new()),
        ("ANTEROOM_STORE__URL", "memory:".to_owned()),
        ("ANTEROOM_PROVIDERS__DEMO__ISSUER", provider.issuer().to_owned()),
        ("ANTEROOM_PROVIDERS__DEMO__DISPLAY_NAME", "Demo provider".to_owned()),
        ("ANTEROOM_PROVIDERS__DEMO__CLIENT_ID", "demo-tv".to_owned()),
        ("ANTEROOM_PROVIDERS__DEMO__SCOPES", r#"["openid", "profile"]"#.to_owned()),
    ];
    let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
    let config = Config::load(None, settings).map_err(DemoError::Config)?;
    let sabotaged = providers(&config.providers, &clock).map_err(StartError::from)?.into_iter().map(|(settings, real)| {
        let sabotaged: Arc<dyn Provider> = Arc::new(Saboteur::new(real, provider.switches()));
        (settings, sabotaged)
    });
    let sabotaged = sabotaged.collect();
    let service = Service::assemble(config, clock, sabotaged, true).await?;
    let address = service.address().map_err(DemoError::Address)?;
    Ok(Demo { service, provider, address })
}

impl fmt::Display for Demo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, provider, .. } = self;
        writeln!(formatter, "Anteroom with a development provider, on this machine only. Open both pages side by side:")?;
        writeln!(formatter, "  the TV        http://{address}  (begin a sign-in there)")?;
        writeln!(formatter, "  the provider  {}  (approve the code there, or break something first)", provider.url("/device"))?;
        write!(formatter, "Ctrl+C stops it. Nothing is kept.")
    }
}
