//! `anteroom check`: what each provider supports, as a table, and what to do about it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use reqwest::Url;

use crate::kernel::time::Offset;
use crate::provider::discovery::Metadata;
use crate::provider::settings::Settings;

/// One provider as it will be used: the configuration, completed by discovery.
#[derive(Clone, Debug)]
pub struct Row {
    pub provider: String,
    /// Whether discovery answered; `Ok(false)` where no issuer is configured and nobody was asked.
    pub discovery: Result<bool, String>,
    pub device_endpoint: Option<Url>,
    pub token_endpoint: Option<Url>,
    pub client_auth: &'static str,
    pub pkce: bool,
    pub revocation: bool,
    pub jwks: bool,
    pub remedies: Vec<Remedy>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remedy {
    pub severity: Severity,
    pub text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// No sign-in will succeed.
    Error,
    /// Sign-ins may fail.
    Warning,
    Info,
}

/// Tokens and assertions are good for a minute more or less.
const TOLERABLE: Duration = Duration::from_secs(30);

impl Row {
    /// `discovery` is `Ok(None)` where no issuer is configured, and otherwise our own words for what went wrong.
    pub fn new(settings: &Settings, discovery: Result<Option<Metadata>, String>) -> Self {
        let asked = discovery.as_ref().map(Option::is_some).map_err(Clone::clone);
        let found = discovery.ok().flatten();
        let discovered = found.clone().unwrap_or_default();
        let endpoints = settings.endpoints.clone();
        let mut row = Self {
            provider: settings.name.to_string(),
            discovery: asked,
            device_endpoint: endpoints.device_authorization.or(discovered.device_authorization_endpoint),
            token_endpoint: endpoints.token.or(discovered.token_endpoint),
            client_auth: settings.client_auth.name(),
            pkce: settings.pkce,
            revocation: endpoints.revocation.or(discovered.revocation_endpoint).is_some(),
            jwks: endpoints.jwks.or(discovered.jwks_uri).is_some(),
            remedies: Vec::new(),
        };
        row.advise(found.as_ref());
        row.explain_preset(settings);
        row
    }

    pub fn is_usable(&self) -> bool {
        self.remedies.iter().all(|remedy| remedy.severity != Severity::Error)
    }

    fn advise(&mut self, discovered: Option<&Metadata>) {
        if let Err(reason) = &self.discovery {
            let text = format!("discovery failed: {reason}; check the issuer and the network, or name the endpoints");
            self.remedy(if self.has_endpoints() { Severity::Warning } else { Severity::Error }, text);
        } else {
            self.advise_endpoints();
        }
        if let Some(discovered) = discovered {
            self.advise_methods(discovered);
            self.advise_clock(discovered.clock_ahead.unwrap_or_default());
        }
    }

    fn advise_endpoints(&mut self) {
        if self.device_endpoint.is_none() {
            let text = "it names no device authorization endpoint; allow the device grant for this client there, or set device_authorization_endpoint";
            self.remedy(Severity::Error, text.to_owned());
        }
        if self.token_endpoint.is_none() {
            self.remedy(Severity::Error, "it names no token endpoint; set token_endpoint".to_owned());
        }
        if !self.revocation {
            let text = "it names no revocation endpoint; tokens that nobody claims stay valid until they expire";
            self.remedy(Severity::Info, text.to_owned());
        }
    }

    fn advise_clock(&mut self, ahead: Offset) {
        if ahead.abs() > TOLERABLE {
            let (seconds, side) = (ahead.abs().as_secs_f64().round(), if ahead.is_ahead() { "behind" } else { "ahead of" });
            let text = format!(
                "the clock of this machine is {seconds} s {side} the provider's; set the one that is wrong (NTP), or ID tokens and client assertions are refused"
            );
            self.remedy(Severity::Warning, text);
        }
    }

    fn advise_methods(&mut self, discovered: &Metadata) {
        let is_listed = |methods: &[String], method: &str| methods.iter().any(|listed| listed == method);
        // Absent means client_secret_basic (RFC 8414 §2), but hardly anybody who omits it means that.
        if discovered.token_endpoint_auth_methods.as_ref().is_some_and(|methods| !is_listed(methods, self.client_auth)) {
            let text = format!("it does not list {} among its client authentication methods; try another client_auth", self.client_auth);
            self.remedy(Severity::Warning, text);
        }
        if self.pkce && !discovered.code_challenge_methods.as_ref().is_some_and(|methods| is_listed(methods, "S256")) {
            let text = "it does not list PKCE with S256; set pkce = false if it refuses the request";
            self.remedy(Severity::Info, text.to_owned());
        }
    }

    /// What the preset changes, what it cannot do without, and what it has to say.
    fn explain_preset(&mut self, settings: &Settings) {
        let Some(preset) = settings.preset else { return };
        if preset.needs_secret && settings.client_secret.is_none() {
            let text = "it gives tokens only to clients with a secret; set client_secret or client_secret_file";
            self.remedy(Severity::Error, text.to_owned());
        }
        let pkce = (!preset.pkce).then(|| "PKCE is off".to_owned());
        let differences: Vec<_> = pkce.into_iter().chain(settings.dialect.differences()).collect();
        if !differences.is_empty() {
            self.remedy(Severity::Info, format!("preset {}: {}", preset.name, differences.join("; ")));
        }
        if let Some(note) = preset.note {
            self.remedy(Severity::Info, format!("preset {}: {note}", preset.name));
        }
    }

    fn has_endpoints(&self) -> bool {
        self.device_endpoint.is_some() && self.token_endpoint.is_some()
    }

    fn remedy(&mut self, severity: Severity, text: String) {
        self.remedies.push(Remedy { severity, text });
    }

    fn cells(&self) -> [String; 8] {
        let discovery = match self.discovery {
            Ok(true) => "ok",
            Ok(false) => "-",
            Err(_) => "failed",
        };
        // What discovery would have told is not missing, but unknown.
        let or = |missing| if self.discovery.is_err() { "unknown" } else { missing };
        let url = |url: &Option<Url>| url.as_ref().map_or(or("missing").to_owned(), Url::to_string);
        let yes_no = |yes: bool, no: &str| if yes { "yes" } else { no }.to_owned();
        [
            self.provider.clone(),
            discovery.to_owned(),
            self.client_auth.to_owned(),
            yes_no(self.pkce, "no"),
            yes_no(self.revocation, or("no")),
            yes_no(self.jwks, or("no")),
            url(&self.device_endpoint),
            url(&self.token_endpoint),
        ]
    }
}

/// The table, below it the remedies, what is to be known of the store, and at the end whether people can sign in; every line ends with a line break.
pub fn render(rows: &[Row], store: Option<&str>) -> String {
    let header =
        ["PROVIDER", "DISCOVERY", "CLIENT AUTH", "PKCE", "REVOCATION", "JWKS", "DEVICE ENDPOINT", "TOKEN ENDPOINT"].map(str::to_owned);
    let lines: Vec<[String; 8]> = std::iter::once(header).chain(rows.iter().map(Row::cells)).collect();
    let mut widths = [0; 8];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    // Writing to a String cannot fail.
    for (row, remedy) in rows.iter().flat_map(|row| row.remedies.iter().map(move |remedy| (row, remedy))) {
        let _ = writeln!(text, "{}: {}: {}", row.provider, remedy.severity, remedy.text);
    }
    if let Some(warning) = store {
        let _ = writeln!(text, "{}: {warning}", Severity::Warning);
    }
    let usable = rows.iter().filter(|row| row.is_usable()).count();
    let _ = match rows.len() - usable {
        0 => writeln!(text, "people can sign in"),
        broken => writeln!(text, "people cannot sign in at {broken} of {} providers", rows.len()),
    };
    text
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}
