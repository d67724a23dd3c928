//! Makes real pollers really crash, so that the product needs no hook for it.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::switches::{Crash, Switches};
use crate::kernel::verdict::{Began, Failure, Grant, Revocation, Verdict};
use crate::provider::{Provider, SignIn};

/// Passes everything on to the provider it wraps, until a crash is armed for a device code: then it panics in the middle of that
/// code's poll, as a bug would.
pub struct Saboteur {
    inner: Arc<dyn Provider>,
    switches: Arc<Switches>,
}

impl Saboteur {
    pub fn new(inner: Arc<dyn Provider>, switches: Arc<Switches>) -> Self {
        Self { inner, switches }
    }
}

impl Provider for Saboteur {
    fn begin<'a>(&'a self, scope: &'a str) -> BoxFuture<'a, Result<Began, Failure>> {
        self.inner.begin(scope)
    }

    #[expect(clippy::panic, reason = "to crash is what it is for")]
    fn ask<'a>(&'a self, sign_in: SignIn<'a>) -> BoxFuture<'a, Verdict> {
        async move {
            match self.switches.take_crash(sign_in.device_code.expose_code()) {
                None => self.inner.ask(sign_in).await,
                Some(Crash::BeforeAsking) => panic!("the poller was crashed on purpose, before it asked"),
                Some(Crash::AfterTheAnswer) => {
                    self.inner.ask(sign_in).await;
                    panic!("the poller was crashed on purpose, with the answer in its hands")
                }
            }
        }
        .boxed()
    }

    fn verify<'a>(&'a self, grant: &'a Arc<Grant>) -> BoxFuture<'a, Verdict> {
        self.inner.verify(grant)
    }

    fn is_unknown(&self) -> bool {
        self.inner.is_unknown()
    }

    fn revoke<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Revocation> {
        self.inner.revoke(grant)
    }
}
