//! A new code for a session that was denied or has expired: admitted like a creation, waited for like one.

use std::sync::Arc;

use super::create::PATIENCE;
use super::whole::Whole;
use super::{ChangeError, Sessions};
use crate::kernel::session::{Refused, Session, SessionId};
use crate::kernel::verdict::Failure;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenewError {
    /// No such session.
    Unknown,
    /// The session is not one that gets a new code; see [`Session::renew`].
    NotPossible,
    /// The limit of live sessions is reached.
    TooMany,
    /// The provider gave no code; the session is as it was.
    Failed(Failure),
}

impl Sessions {
    /// Gets the session a new code and waits for it at most 20 s. The work goes on if the caller goes away.
    ///
    /// # Errors
    /// See [`RenewError`].
    pub async fn renew(&self, id: SessionId) -> Result<Arc<Session>, RenewError> {
        let sessions = self.clone();
        let renewed = Whole::new(&self.shared.tasks, async move { sessions.renew_once(id).await });
        renewed.await.unwrap_or(Err(RenewError::Failed(Failure::InternalError)))
    }

    async fn renew_once(&self, id: SessionId) -> Result<Arc<Session>, RenewError> {
        let before = self.get(id).ok_or(RenewError::Unknown)?;
        Session::clone(&before).renew(self.now()).map_err(|_| RenewError::NotPossible)?;
        if !self.shared.quota.admit(before.opening().caller.as_ref()) {
            return Err(RenewError::TooMany);
        }
        // From here on the session itself holds the place, until it is live no more.
        if let Err(refused) = self.change(id, |session, now| Ok((Some(session.renew(now)?), ()))).await {
            self.shared.quota.release(before.opening());
            return Err(match refused {
                ChangeError::Refused(Refused::Unknown) => RenewError::Unknown,
                _ => RenewError::NotPossible,
            });
        }
        let has_ended = |session: &Session| !session.is_renewing();
        if self.wait_until(id, self.now() + PATIENCE, has_ended).await.is_some_and(|session| session.is_renewing()) {
            // Refused if the code has come after all.
            let _ = self.change(id, |session, _| Ok((Some(session.forgo_renewal()?), ()))).await;
        }
        let session = self.get(id).ok_or(RenewError::Unknown)?;
        if session.renewals() > before.renewals() {
            return Ok(session);
        }
        Err(RenewError::Failed(session.renewal_failure().unwrap_or(Failure::ProviderTimeout)))
    }
}
