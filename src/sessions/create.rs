//! Beginning a session: admitted, opened, and waited for until the provider has given a code or a reason why not. The store hears
//! of it with its code, not before.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tracing::Instrument;
use uuid::Uuid;

use super::Sessions;
use super::whole::Whole;
use crate::kernel::session::{Creation, Digest, Opening, REPEATABLE, Session, SessionId, State, Status};
use crate::kernel::verdict::Failure;

#[derive(Clone)]
pub struct Create {
    pub provider: Arc<str>,
    /// Space separated; may be empty.
    pub scope: Arc<str>,
    pub label: Option<Box<str>>,
    pub caller: Option<Arc<str>>,
    pub idempotency: Option<Idempotency>,
    /// Why nothing new can begin at this provider now; an earlier request is repeated all the same.
    pub refusal: Option<Failure>,
}

/// Without the label, which people wrote.
impl fmt::Debug for Create {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Create")
            .field("provider", &self.provider)
            .field("scope", &self.scope)
            .field("caller", &self.caller)
            .field("idempotency", &self.idempotency)
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

/// Digests of the idempotency key and of the request it came with.
#[derive(Clone, Copy, Debug)]
pub struct Idempotency {
    pub key: Digest,
    pub fingerprint: Digest,
}

#[derive(Clone, Debug)]
pub struct Created {
    pub session: Arc<Session>,
    pub secret: SecretString,
    /// The answer to an earlier request with the same idempotency key.
    pub repeated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateError {
    /// The limit of live sessions is reached.
    TooMany,
    /// The idempotency key was used for another request.
    Mismatch,
    /// The provider gave no code; the session is gone.
    Failed(Failure),
    /// The store cannot keep the session.
    Store,
}

/// How long a creation waits for the provider and the store.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

type Outcome = Result<Created, CreateError>;
type Key = (Option<Arc<str>>, Digest);

/// The idempotency keys in use: who asks first creates, equal requests get the same session.
#[derive(Default)]
pub(super) struct Creations {
    taken: Mutex<BTreeMap<Key, Taken>>,
}

enum Taken {
    Running { fingerprint: Digest, outcome: Shared<BoxFuture<'static, Outcome>> },
    Done(SessionId),
}

enum Reservation {
    First(Shared<BoxFuture<'static, Outcome>>),
    Running(Shared<BoxFuture<'static, Outcome>>),
    Mismatch,
    Done(SessionId),
}

impl Sessions {
    /// Begins a session and waits at most 20 s for the provider's code. The work goes on if the caller goes away.
    ///
    /// # Errors
    /// See [`CreateError`]; no session remains.
    pub async fn create(&self, create: Create) -> Outcome {
        let Some(idempotency) = create.idempotency else {
            let sessions = self.clone();
            let created = Whole::new(&self.shared.tasks, async move { sessions.create_once(create).await });
            return created.await.unwrap_or(Err(CreateError::Failed(Failure::InternalError)));
        };
        // The earlier request may be among the sessions that have not been loaded yet.
        self.loaded().await;
        let key = (create.caller.clone(), idempotency.key);
        let (outcome, first) = loop {
            match self.shared.creations.reserve(&key, &idempotency.fingerprint, || self.creation(key.clone(), create.clone())) {
                Reservation::First(outcome) => break (outcome, true),
                Reservation::Running(outcome) => break (outcome, false),
                Reservation::Mismatch => return Err(CreateError::Mismatch),
                Reservation::Done(id) => match self.repeat(id, &idempotency) {
                    Some(answer) => return answer,
                    None => self.shared.creations.free(&key, id),
                },
            }
        };
        let created = outcome.await?;
        let session = self.get(created.session.id()).unwrap_or(created.session);
        Ok(Created { session, repeated: !first, ..created })
    }

    fn repeat(&self, id: SessionId, idempotency: &Idempotency) -> Option<Outcome> {
        let session = self.peek(id)?;
        let creation = session.creation()?;
        if creation.fingerprint != idempotency.fingerprint {
            return Some(Err(CreateError::Mismatch));
        }
        let secret = creation.secret.clone();
        Some(Ok(Created { session, secret, repeated: true }))
    }

    /// In a task from the start: several may wait for it, or nobody.
    fn creation(&self, key: Key, create: Create) -> BoxFuture<'static, Outcome> {
        let sessions = self.clone();
        let create = async move {
            let created = AssertUnwindSafe(sessions.create_once(create)).catch_unwind().await;
            let outcome = created.unwrap_or(Err(CreateError::Failed(Failure::InternalError)));
            sessions.shared.creations.settle(key, &outcome);
            outcome
        };
        let task = self.shared.tasks.spawn(create.in_current_span());
        task.map(|ended| ended.unwrap_or(Err(CreateError::Failed(Failure::InternalError)))).boxed()
    }

    async fn create_once(&self, create: Create) -> Outcome {
        let Create { provider, scope, label, caller, idempotency, refusal } = create;
        if let Some(failure) = refusal {
            return Err(CreateError::Failed(failure));
        }
        // A code that could not be kept would be for nothing.
        if self.shared.store.is_failing() && !self.shared.store.is_ready().await {
            return Err(CreateError::Store);
        }
        let now = self.now();
        let secret = new_secret()?;
        let digest = Sha256::digest(secret.expose_secret()).into();
        let opening = Opening { id: Uuid::new_v4(), provider, caller, scope, label, secret: digest };
        let creation = idempotency.map(|Idempotency { key, fingerprint }| Creation {
            key,
            fingerprint,
            secret: secret.clone(),
            until: now + REPEATABLE,
        });
        let session = Session::open(opening, creation, now);
        if !self.shared.quota.admit(session.opening().caller.as_ref()) {
            return Err(CreateError::TooMany);
        }
        let inserted = self.shard(session.id()).lock().table.insert(session.clone());
        let Ok(session) = inserted else {
            self.shared.quota.release(session.opening());
            return Err(CreateError::Failed(Failure::InternalError));
        };
        let mut unheard_of = UnheardOf { sessions: self, id: session.id(), is_told: false };
        self.shared.observer.opened(&session);
        self.ring(&session);

        let begun = self.wait(session.id(), session.revision(), now + PATIENCE).await;
        // Gone: given up, as the store would not have it.
        let Some(begun) = begun else { return Err(CreateError::Store) };
        let is_too_late = begun.prompt().is_none_or(|prompt| prompt.expires_at <= self.now());
        match begun.state() {
            State::Failed { failure, .. } => return Err(CreateError::Failed(*failure)),
            State::Starting if begun.is_answered() => return Err(CreateError::Store),
            State::Starting | State::Pending(_) if is_too_late => {
                self.time_out(session.id());
                return Err(CreateError::Failed(Failure::ProviderTimeout));
            }
            _ => {}
        }
        unheard_of.is_told = true;
        Ok(Created { session: begun, secret, repeated: false })
    }

    /// Nobody will ask for the codes any more that creations wait for.
    pub fn give_up_starting(&self) {
        let is_starting = |session: &Session| session.status() == Status::Starting && !session.is_answered();
        let starting = self.all().into_iter().filter(|session| is_starting(session));
        starting.for_each(|session| self.time_out(session.id()));
    }

    /// The code has not come, or so late that it can be shown to nobody.
    fn time_out(&self, id: SessionId) {
        let mut inner = self.shard(id).lock();
        // An answer that has come after all is on its way to the store, and may get there.
        let Some(current) = inner.table.get(id).filter(|session| !session.is_answered()).cloned() else { return };
        if let Ok(failed) = Session::clone(&current).fail(Failure::ProviderTimeout, self.now()) {
            // Not durable: nobody will ever hear of this session.
            let _ = self.publish(&mut inner, &current, failed);
        }
    }

    /// Nobody will ever hear of this session: it leaves the table at once, and the store as soon as that can be.
    fn abandon(&self, id: SessionId) {
        let Some(gone) = self.forget(id) else { return };
        if gone.version() == 0 && gone.is_settled() {
            // Nothing was written nor will be.
            return;
        }
        let sessions = self.clone();
        self.shared.tasks.spawn(async move {
            // A code that came late may be on its way to the store.
            drop(sessions.shard(id).turn(id).await);
            sessions.erase(id);
        });
    }
}

/// A session that is being created. Nobody has its secret, so it does not outlive a creation that fails, panics or is dropped.
struct UnheardOf<'a> {
    sessions: &'a Sessions,
    id: SessionId,
    is_told: bool,
}

impl Drop for UnheardOf<'_> {
    fn drop(&mut self) {
        // Without a runtime the process is at its end.
        if !self.is_told && Handle::try_current().is_ok() {
            self.sessions.abandon(self.id);
        }
    }
}

impl Creations {
    /// The first to come calls `begin`, under the lock: it must only set off.
    fn reserve(&self, key: &Key, fingerprint: &Digest, begin: impl FnOnce() -> BoxFuture<'static, Outcome>) -> Reservation {
        let mut taken = self.taken.lock();
        match taken.get(key) {
            Some(Taken::Running { fingerprint: other, .. }) if other != fingerprint => Reservation::Mismatch,
            Some(Taken::Running { outcome, .. }) => Reservation::Running(outcome.clone()),
            Some(Taken::Done(id)) => Reservation::Done(*id),
            None => {
                let outcome = begin().shared();
                taken.insert(key.clone(), Taken::Running { fingerprint: *fingerprint, outcome: outcome.clone() });
                Reservation::First(outcome)
            }
        }
    }

    fn settle(&self, key: Key, outcome: &Outcome) {
        let mut taken = self.taken.lock();
        match outcome {
            Ok(created) => taken.insert(key, Taken::Done(created.session.id())),
            Err(_) => taken.remove(&key),
        };
    }

    fn free(&self, key: &Key, id: SessionId) {
        let mut taken = self.taken.lock();
        if matches!(taken.get(key), Some(Taken::Done(known)) if *known == id) {
            taken.remove(key);
        }
    }

    /// The session's request may still be repeated, also after a restart.
    pub(super) fn restore(&self, session: &Session) {
        if let Some(creation) = session.creation() {
            let key = (session.opening().caller.clone(), creation.key);
            self.taken.lock().insert(key, Taken::Done(session.id()));
        }
    }

    /// The session's request can no longer be repeated.
    pub(super) fn forget(&self, session: &Session) {
        if let Some(creation) = session.creation() {
            self.free(&(session.opening().caller.clone(), creation.key), session.id());
        }
    }
}

/// 256 random bits, `ars_` and base64url.
fn new_secret() -> Result<SecretString, CreateError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| CreateError::Failed(Failure::InternalError))?;
    Ok(SecretString::from(format!("ars_{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))))
}
