//! What the operator says: a TOML file, and over it the environment.
//!
//! Every key `a.b` can come from the environment as `ANTEROOM_A__B`, which wins over the file. Keys are known by being read
//! ([`section`]); what is left over is an error. Everything that is wrong is reported at once, and no report repeats a value:
//! it may be a secret in the wrong place.

mod addresses;
mod caller;
mod http;
mod provider;
mod section;
mod source;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;

use crate::kernel::session::Terms;
use crate::provider::settings::Settings;

pub use self::caller::{Caller, name as caller_name};
pub use self::http::HttpSettings;
use self::section::{Errors, Section};
pub use self::source::environment;

#[derive(Clone, Debug)]
pub struct Config {
    /// `listen`, `ANTEROOM_LISTEN`: the public API and page. Default `127.0.0.1:8080`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `admin_listen`, `ANTEROOM_ADMIN_LISTEN`: the metrics. Default `127.0.0.1:9090`; empty turns it off.
    pub admin_listen: Option<SocketAddr>,
    /// `public_url`, `ANTEROOM_PUBLIC_URL`: where people find the service, as `scheme://host[:port]`; says which host and origin are
    /// ours. Without it those of each request count.
    pub public_url: Option<Url>,
    /// `allow_anonymous`, `ANTEROOM_ALLOW_ANONYMOUS`: without callers, `POST /sessions` may be open to more than this machine.
    /// Where callers are configured a key is needed in any case.
    pub allow_anonymous: bool,
    /// `claim_ttl` (default `5m`) and `retention` (default `10m`), `ANTEROOM_CLAIM_TTL` and `ANTEROOM_RETENTION`: times such as
    /// `90s` or `1h 30m`, from a second to a year.
    pub terms: Terms,
    /// `max_sessions`, `ANTEROOM_MAX_SESSIONS`: sessions that are pending or hold unclaimed tokens. Default 1000000.
    pub max_sessions: usize,
    /// `max_settled_sessions`, `ANTEROOM_MAX_SETTLED_SESSIONS`: settled sessions that are kept for their retention; beyond that those
    /// that were settled first are forgotten early. Default 1000000.
    pub max_settled_sessions: usize,
    /// `[store]`, `ANTEROOM_STORE__…`
    pub store: StoreSettings,
    /// `[providers.NAME]`, `ANTEROOM_PROVIDERS__NAME__…`, where a `-` of the name is `_`. At least one; sorted by name.
    pub providers: Vec<Settings>,
    /// `[[callers]]`, `ANTEROOM_CALLERS` as a TOML array. None: `POST /sessions` needs no key.
    pub callers: Vec<Caller>,
    /// `[http]`, `ANTEROOM_HTTP__…`
    pub http: HttpSettings,
    /// What is no error, and should be otherwise all the same: one line each, which starts with the key.
    pub warnings: Vec<String>,
}

/// Where the durable copy of the sessions is: `store.url`, `ANTEROOM_STORE__URL`. Default `sqlite://anteroom.db`.
///
/// `store.key_file`, `ANTEROOM_STORE__KEY_FILE`: the keys that seal secrets in the store; made at the first start. Default: beside
/// the SQLite file, with `.key` for its extension. Needed with PostgreSQL.
#[derive(Clone, Debug)]
pub enum StoreSettings {
    /// `memory:`; nothing survives the process.
    Memory,
    /// `sqlite://PATH`; relative to the working directory unless it begins with `/`.
    Sqlite { path: PathBuf, key_file: PathBuf },
    /// `postgres://…`; it may hold a password.
    Postgres {
        url: SecretString,
        key_file: PathBuf,
        /// `store.allow_data_loss`, `ANTEROOM_STORE__ALLOW_DATA_LOSS`: accepts a server with `fsync` or `synchronous_commit` off.
        allow_data_loss: bool,
    },
}

enum StoreUrl {
    Memory,
    Sqlite(PathBuf),
    Postgres(SecretString),
}

/// Everything that is wrong with the configuration: one line each, which starts with the key or the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors(Vec<String>);

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
/// Where the metrics are unless the operator says otherwise.
pub const ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);
const DATABASE: &str = "anteroom.db";
const CLAIM_TTL: Duration = Duration::from_secs(5 * 60);
const RETENTION: Duration = Duration::from_secs(10 * 60);
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
const MAX_SESSIONS: usize = 1_000_000;
const MAX_SETTLED_SESSIONS: usize = 1_000_000;

impl Config {
    /// Reads the file, if there is one, and the environment ([`environment`]); in the latter only `ANTEROOM_…` counts.
    ///
    /// # Errors
    /// All that is wrong, unless the file cannot be read or is no TOML: then that alone.
    pub fn load(path: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigErrors> {
        let errors = Errors::default();
        let entries = match path.map(source::read_file).transpose() {
            Ok(entries) => source::overlay(entries.unwrap_or_default(), environment, &errors),
            Err(line) => return Err(ConfigErrors(vec![line])),
        };
        let config = Self::read(Section::root(entries, &errors));
        match errors.into_lines() {
            (lines, warnings) if lines.is_empty() => Ok(Self { warnings, ..config }),
            (lines, _) => Err(ConfigErrors(lines)),
        }
    }

    /// Nobody needs a key to begin a sign-in.
    pub fn is_open(&self) -> bool {
        self.callers.is_empty()
    }

    fn read(mut root: Section<'_>) -> Self {
        let listen = root.take("listen").and_then(|entry| entry.text(address)).unwrap_or(LISTEN);
        let admin_listen = root.take("admin_listen").and_then(|entry| entry.text(address_or_none)).unwrap_or(Some(ADMIN_LISTEN));
        let public_url = root.take("public_url").and_then(|entry| entry.text(public_url));
        let allow_anonymous = root.take("allow_anonymous").and_then(|entry| entry.boolean()).unwrap_or(false);
        let claim_ttl = root.take("claim_ttl").and_then(|entry| entry.text(duration)).unwrap_or(CLAIM_TTL);
        let retention = root.take("retention").and_then(|entry| entry.text(duration)).unwrap_or(RETENTION);
        let max_sessions = root.take("max_sessions").and_then(|entry| entry.whole()).unwrap_or(MAX_SESSIONS);
        let max_settled_sessions = root.take("max_settled_sessions").and_then(|entry| entry.whole()).unwrap_or(MAX_SETTLED_SESSIONS);
        let store = StoreSettings::read(root.section("store"));
        let provider_sections = root.sections("providers");
        let names: BTreeSet<Arc<str>> = provider_sections.iter().map(|(name, _)| Arc::from(name.as_str())).collect();
        let providers = provider_sections.into_iter().filter_map(|(name, section)| provider::read(&name, section?)).collect();
        let caller_sections = root.tables("callers");
        let is_open = caller_sections.is_empty();
        let callers = caller::read_all(caller_sections, &names);
        let http = HttpSettings::read(root.section("http"));
        let terms = Terms { claim_ttl, retention };
        let config = Self {
            listen,
            admin_listen,
            public_url,
            allow_anonymous,
            terms,
            max_sessions,
            max_settled_sessions,
            store,
            providers,
            callers,
            http,
            warnings: Vec::new(),
        };

        if names.is_empty() {
            root.report("providers", "none is configured; add [providers.NAME] with an issuer and a client_id");
        }
        config.check_listeners(&root);
        if is_open {
            config.check_anonymity(&root);
        }
        root.finish();
        config
    }

    fn check_listeners(&self, root: &Section<'_>) {
        if self.admin_listen == Some(self.listen) && self.listen.port() != 0 {
            root.report("admin_listen", "is the same address as listen; give it another port, or \"\" to turn it off");
        }
    }

    /// Without callers anybody who reaches the listener can begin sign-ins, and use the secret of a confidential client.
    fn check_anonymity(&self, root: &Section<'_>) {
        if self.listen.ip().to_canonical().is_loopback() {
            return;
        }
        if !self.allow_anonymous {
            root.report(
                "listen",
                "is open to other machines while no caller needs a key; add [[callers]], listen on 127.0.0.1, or set allow_anonymous = true",
            );
        }
        for provider in self.providers.iter().filter(|provider| provider.is_confidential() && !provider.allow_anonymous) {
            root.report(
                &format!("providers.{}.allow_anonymous", provider.name),
                "must be true to let callers without a key use this client's secret from other machines; better add [[callers]]",
            );
        }
    }
}

impl StoreSettings {
    /// The file with the sealing keys; none where nothing is stored.
    pub fn key_file(&self) -> Option<&Path> {
        match self {
            Self::Memory => None,
            Self::Sqlite { key_file, .. } | Self::Postgres { key_file, .. } => Some(key_file),
        }
    }

    fn read(mut section: Section<'_>) -> Self {
        let default = || StoreUrl::Sqlite(PathBuf::from(DATABASE));
        let url = section.take("url").and_then(|entry| entry.text(StoreUrl::read)).unwrap_or_else(default);
        let key_file = section.take("key_file").and_then(|entry| entry.text(path));
        let allow_data_loss = section.take("allow_data_loss").and_then(|entry| entry.boolean()).unwrap_or(false);
        let settings = match (url, key_file) {
            (StoreUrl::Memory, _) => Self::Memory,
            (StoreUrl::Sqlite(path), key_file) => Self::Sqlite { key_file: key_file.unwrap_or_else(|| path.with_extension("key")), path },
            (StoreUrl::Postgres(url), Some(key_file)) => Self::Postgres { url, key_file, allow_data_loss },
            (StoreUrl::Postgres(_), None) => {
                section.report("key_file", "is missing; with PostgreSQL, say where the file with the sealing keys is or may be made");
                Self::Memory
            }
        };
        section.finish();
        settings
    }
}

impl StoreUrl {
    fn read(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", rest)) => match rest.strip_prefix("//") {
                Some(path) if !path.is_empty() && !path.contains('?') => Ok(Self::Sqlite(PathBuf::from(path))),
                _ => Err("expected \"sqlite://\" and a path, without options".into()),
            },
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Ok(Self::Postgres(text.into())),
            _ => Err("expected \"sqlite://PATH\", \"postgres://…\" or \"memory:\"".into()),
        }
    }
}

impl ConfigErrors {
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected a path".into()) } else { Ok(PathBuf::from(text)) }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"".into())
}

fn public_url(text: &str) -> Result<Url, String> {
    let expected = || "expected where people find the service, such as \"https://signin.example\", without a path".to_owned();
    let url = Url::parse(text).map_err(|_| expected())?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if matches!(url.scheme(), "https" | "http") && is_bare { Ok(url) } else { Err(expected()) }
}

fn address_or_none(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() { Ok(None) } else { address(text).map(Some) }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if (Duration::from_secs(1)..=LONGEST).contains(&duration) => Ok(duration),
        Ok(_) => Err("expected a time from a second to a year".into()),
        Err(_) => Err("expected a time with its unit, such as \"90s\" or \"5m\"".into()),
    }
}
