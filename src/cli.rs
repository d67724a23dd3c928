//! The subcommands and their options. What they do is elsewhere.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use reqwest::Url;
use secrecy::SecretString;

use crate::config;
use crate::telemetry::{self, Format};

/// Signs people in on devices that cannot show a login page.
#[derive(Clone, Debug, Parser)]
#[command(name = "anteroom", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub log: Log,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the service
    Serve(ConfigFile),
    /// Run the service and a built-in development provider, on this machine only
    #[cfg(feature = "demo")]
    Demo(Demo),
    /// Sign in at a running service, from this terminal
    Login(Box<Login>),
    /// Check the configuration, and what each provider supports
    Check(ConfigFile),
    /// Copy the SQLite database to a new file, while the service runs or not
    Backup(Backup),
    /// Make keys for callers, and look after those that seal secrets in the store
    #[command(subcommand)]
    Keys(Keys),
    /// Exit with 0 if the service is ready, else with 1
    Healthcheck(Healthcheck),
}

#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub struct ConfigFile {
    /// Configuration file; every key of it can also come from the environment
    ///
    /// Default: anteroom.toml if there is one, else the environment alone. A key a.b is ANTEROOM_A__B there, and wins over the file.
    #[arg(long = "config", value_name = "PATH", env = "ANTEROOM_CONFIG")]
    path: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub struct Backup {
    /// Where the copy goes; must not exist
    pub file: PathBuf,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Clone, PartialEq, Eq, Debug, Subcommand)]
pub enum Keys {
    /// Make a key for a caller, and the lines for the configuration that let it in
    Caller {
        /// What logs and metrics call it; unique in the configuration
        #[arg(value_parser = caller_name)]
        name: String,
    },
    /// Write a new key file to stdout, such as for a Secret of Kubernetes; elsewhere the first start makes it
    New,
    /// Add a new key to the key file; it seals from the next start on, the old ones still open
    Rotate(ConfigFile),
}

#[cfg(feature = "demo")]
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub struct Demo {
    /// Port of the service; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Port of the development provider; 0 takes a free one
    #[arg(long, default_value_t = 8090)]
    pub provider_port: u16,
}

/// Sign in at a running service, from this terminal
///
/// The tokens are one line of JSON on stdout or in --output; everything else goes to stderr. Ctrl-C cancels the sign-in.
/// Exit status: 0 signed in; 1 not signed in: denied, expired, cancelled or failed; 2 the options make no sense.
/// An https service is reached through the proxy that HTTPS_PROXY or ALL_PROXY names, unless NO_PROXY exempts it.
#[derive(Clone, Debug, Args)]
pub struct Login {
    /// Where the service is, such as https://signin.example
    #[arg(long, value_parser = service_url)]
    pub url: Url,
    /// Caller key. Others on this machine can see it here: prefer --key-file or the variable ANTEROOM_KEY
    #[arg(long, conflicts_with = "key_file")]
    pub key: Option<SecretString>,
    /// File with the caller key
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Provider to sign in with; may be left out where the service has only one
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// What to ask for, separated by spaces; default: what the service asks for
    #[arg(long)]
    pub scope: Option<String>,
    /// What the sign-in is for, such as "build server"
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Open the address in a browser on this machine
    #[arg(long)]
    pub open: bool,
    /// Draw no QR code
    #[arg(long)]
    pub no_qr: bool,
    /// Write what happens as one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Write the tokens to this file, readable by you alone, instead of stdout
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Allow http:// to another machine, where everyone on the way can read the key and the tokens
    #[arg(long)]
    pub insecure_http: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub struct Healthcheck {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Where the service is, such as http://127.0.0.1:8080; default: where the configuration has it listen
    #[arg(long, value_parser = service_url)]
    pub url: Option<Url>,
}

#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub struct Log {
    /// How the log is written, on stderr
    #[arg(long = "log-format", global = true, env = "ANTEROOM_LOG_FORMAT", default_value = "pretty")]
    pub format: Format,
    /// What is logged: a level, or levels by target such as info,anteroom=debug
    #[arg(long = "log", global = true, value_name = "FILTER", env = "ANTEROOM_LOG", default_value = "info", value_parser = filter)]
    pub filter: String,
}

const DEFAULT_FILE: &str = "anteroom.toml";

impl ConfigFile {
    /// The file to read; none where none was named and the default one does not exist.
    pub fn path(&self) -> Option<&Path> {
        let default = Path::new(DEFAULT_FILE);
        self.path.as_deref().or_else(|| default.exists().then_some(default))
    }
}

fn caller_name(text: &str) -> Result<String, String> {
    config::caller_name(text).map(|name| name.to_string())
}

fn service_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        _ => Err("expected a URL such as http://127.0.0.1:8080".to_owned()),
    }
}

fn filter(text: &str) -> Result<String, String> {
    match telemetry::filter(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("expected a filter such as info or info,anteroom=debug".to_owned()),
    }
}
