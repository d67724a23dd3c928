//! `anteroom keys caller`: a new key for a caller, and what to tell the service of it.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// 256 random bits, `ark_` and base64url. Its `Display` shows the key: it is for the terminal of whoever asked for it.
pub struct CallerKey {
    name: String,
    key: SecretString,
}

impl CallerKey {
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn generate(name: String) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self { name, key: SecretString::from(format!("ark_{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))) })
    }
}

impl fmt::Display for CallerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.expose_secret();
        writeln!(formatter, "Give this key to the caller. It is not shown again:\n\n{key}\n")?;
        writeln!(formatter, "Put these lines into the configuration, and start the service again:\n")?;
        // A string of JSON without control characters is one of TOML.
        writeln!(formatter, "[[callers]]\nname = {}", serde_json::Value::from(self.name.as_str()))?;
        write!(formatter, "key_sha256 = \"")?;
        for byte in Sha256::digest(key) {
            write!(formatter, "{byte:02x}")?;
        }
        writeln!(formatter, "\"")
    }
}
