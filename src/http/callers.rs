//! Who may begin sign-ins: the callers' keys. Only their digests are known here.

use std::sync::Arc;

use axum::http::HeaderMap;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::extract::bearer;
use super::limit::{Exhausted, Limiter};
use super::problem::{Code, Problem};
use crate::kernel::session::Digest;

/// One caller of the configuration.
pub struct Caller {
    pub name: Arc<str>,
    pub key_sha256: Digest,
    /// The providers it may use; absent: all.
    pub providers: Option<Vec<Arc<str>>>,
    /// The scope tokens it may ask for, of those that the provider allows; absent: all of them.
    pub scopes: Option<Vec<String>>,
    /// How often it may begin sign-ins; absent: no limit of its own.
    pub creates: Option<Limiter<()>>,
}

/// None: everybody may begin sign-ins, without a key.
#[derive(Default)]
pub struct Callers(Vec<Arc<Caller>>);

impl Callers {
    pub fn new(callers: impl IntoIterator<Item = Caller>) -> Self {
        Self(callers.into_iter().map(Arc::new).collect())
    }

    /// Whether everybody may begin sign-ins.
    pub fn are_anonymous(&self) -> bool {
        self.0.is_empty()
    }

    /// The caller of this name.
    pub fn named(&self, name: &str) -> Option<&Caller> {
        self.0.iter().find(|caller| *caller.name == *name).map(|caller| &**caller)
    }

    /// The caller whose key the request carries; `None` where callers are anonymous.
    ///
    /// # Errors
    /// `unauthorized` when a key is demanded and is missing or wrong.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Option<Arc<Caller>>, Problem> {
        if self.are_anonymous() {
            return Ok(None);
        }
        let digest: Digest = Sha256::digest(bearer(headers).unwrap_or_default()).into();
        // Every key is compared, so the time does not tell which one is near.
        let mut found = None;
        for caller in &self.0 {
            if bool::from(caller.key_sha256.ct_eq(&digest)) {
                found = Some(caller);
            }
        }
        found.map(|caller| Some(Arc::clone(caller))).ok_or(Code::Unauthorized.into())
    }
}

impl Caller {
    pub fn may_use(&self, provider: &str) -> bool {
        self.providers.as_ref().is_none_or(|providers| providers.iter().any(|allowed| **allowed == *provider))
    }

    pub fn may_ask(&self, scope: &str) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|allowed| allowed == scope))
    }

    /// Counts one beginning.
    ///
    /// # Errors
    /// It begins sign-ins too fast.
    pub fn admit(&self) -> Result<(), Exhausted> {
        self.creates.as_ref().map_or(Ok(()), |creates| creates.admit(&()))
    }
}
