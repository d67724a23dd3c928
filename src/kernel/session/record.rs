//! A session as the store keeps it: plain facts, and apart from them the few secrets that the store must seal.
//!
//! Attempts and plain "still pending" are not kept. So a session that comes back counts as having been asked about just when it
//! was loaded, with an answer that nobody saw.

mod digest;

use std::collections::HashSet;
use std::sync::Arc;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Creation, Digest, Extras, Held, Kept, Opening, Pending, Polling, Renewal, Revocation, Session, SessionId, State, Status, Verifying,
};
use crate::kernel::pace::{Jitter, Pace};
use crate::kernel::time::Timestamp;
use crate::kernel::verdict::{DeviceCode, Failure, Grant, Prompt};

#[derive(Clone, Debug)]
pub struct Record {
    pub id: SessionId,
    pub version: u64,
    pub revision: u64,
    pub provider: Arc<str>,
    pub caller: Option<Arc<str>>,
    pub opened_at: Timestamp,
    pub facts: Facts,
    pub secrets: Secrets,
}

/// Nothing in here is secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    scope: Arc<str>,
    label: Option<Box<str>>,
    #[serde(with = "digest")]
    secret: Digest,
    prompt: Option<Prompt>,
    creation: Option<CreationFacts>,
    /// Until when each of the revocations is tried. Up to schema 2 there was one at most, under another name.
    #[serde(default, alias = "revoke_until", deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    revocations: Vec<Timestamp>,
    #[serde(default, skip_serializing_if = "is_none")]
    renewals: u8,
    state: StateFacts,
}

/// What can be used to get tokens, or is one.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    pub device_code: Option<Arc<DeviceCode>>,
    /// Tokens that wait for their owner, or that may be read again.
    pub grant: Option<Arc<Grant>>,
    /// The session secret, for a repeated `POST /sessions`.
    pub creation: Option<SecretString>,
    /// Tokens that are to be revoked.
    pub revocations: Vec<Arc<Grant>>,
}

/// Texts that many records have in common, each of them once.
#[derive(Default, Debug)]
pub struct Common(HashSet<Arc<str>>);

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreationFacts {
    #[serde(with = "digest")]
    key: Digest,
    #[serde(with = "digest")]
    fingerprint: Digest,
    until: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeldFacts {
    #[serde(with = "digest")]
    key: Digest,
    until: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StateFacts {
    Starting,
    Pending { began_at: Timestamp, pace: Pace },
    Verifying { until: Timestamp },
    Authorized { claim_by: Timestamp },
    Claimed { at: Timestamp, held: Option<HeldFacts> },
    Denied { at: Timestamp },
    Expired { at: Timestamp },
    Cancelled { at: Timestamp },
    Failed { at: Timestamp, failure: Failure },
}

fn is_none(renewals: &u8) -> bool {
    *renewals == 0
}

fn one_or_many<'de, D: Deserializer<'de>>(untils: D) -> Result<Vec<Timestamp>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Untils {
        Many(Vec<Timestamp>),
        One(Option<Timestamp>),
    }
    Ok(match Untils::deserialize(untils)? {
        Untils::Many(untils) => untils,
        Untils::One(until) => until.into_iter().collect(),
    })
}

/// The parts of a record contradict each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contradiction;

/// More than a reader can have seen change since the last save.
const UNSAVED_REVISIONS: u64 = 1_000;
/// No secret has this digest.
const NOBODY: Digest = [0; 32];

impl Session {
    pub fn record(&self) -> Record {
        self.kept.record()
    }

    /// The session of a record that was loaded at `now`. `None`: nobody ever heard of it, as its creation was never answered;
    /// it is to be removed.
    ///
    /// A pending session is asked about again after one interval with its margin at the earliest, spread over one more; one
    /// whose code has expired meanwhile is due to lapse at once.
    ///
    /// # Errors
    /// [`Contradiction`]; see [`Session::unreadable`].
    pub fn restored(record: Record, now: Timestamp, jitter: Jitter) -> Result<Option<Self>, Contradiction> {
        let Record { id, version, revision, provider, caller, opened_at, facts, secrets } = record;
        let Secrets { device_code, grant, creation, revocations } = secrets;
        let was_answered = facts.prompt.is_some() || facts.secret == NOBODY;
        if !was_answered && revocations.is_empty() {
            return Ok(None);
        }
        let state = facts.state.restored(device_code, grant, facts.prompt.as_ref(), now)?;
        let creation = match (facts.creation, creation) {
            (Some(CreationFacts { key, fingerprint, until }), Some(secret)) => Some(Creation { key, fingerprint, secret, until }),
            (None, None) => None,
            _ => return Err(Contradiction),
        };
        if facts.revocations.len() != revocations.len() {
            return Err(Contradiction);
        }
        let revocations = revocations.into_iter().zip(facts.revocations).map(|(grant, until)| Revocation { grant, next_at: now, until });
        let revocations = revocations.filter(|revocation| now < revocation.until).collect();
        let opening = Opening { id, provider, caller, scope: facts.scope, label: facts.label, secret: facts.secret };
        let polling = match &state {
            State::Pending(pending) => Polling::after_restart(pending, now, jitter),
            _ => Polling::default(),
        };
        let extras = Extras { creation, revocations, renewal: Renewal::restored(facts.renewals) };
        let kept = Kept {
            opening,
            opened_at,
            version,
            revision: revision.saturating_add(UNSAVED_REVISIONS),
            prompt: facts.prompt,
            extras: extras.shared(),
            state,
        };
        Ok(Some(Self { polling, ..Self::from(kept) }))
    }

    /// What takes the place of a stored session that cannot be read: `failed`, and nobody's. It is the next version after
    /// `version`, and still to be saved.
    pub fn unreadable(id: SessionId, version: u64, revision: u64, provider: Arc<str>, caller: Option<Arc<str>>, now: Timestamp) -> Self {
        let opening = Opening { id, provider, caller, scope: Arc::from(""), label: None, secret: NOBODY };
        let mut lost = Self::open(opening, None, now);
        let kept = lost.kept_mut();
        (kept.version, kept.revision) = (version, revision.saturating_add(UNSAVED_REVISIONS));
        lost.become_visibly(State::Failed { at: now, failure: Failure::InternalError })
    }
}

impl Kept {
    pub fn record(&self) -> Record {
        let opening = &self.opening;
        let extras = self.extras.as_deref();
        let creation = extras.and_then(|extras| extras.creation.as_ref());
        let revocations = extras.map_or(&[][..], |extras| &extras.revocations);
        let renewal = extras.and_then(|extras| extras.renewal);
        let (state, device_code, grant) = self.state.facts();
        Record {
            id: opening.id,
            version: self.version,
            revision: self.revision,
            provider: Arc::clone(&opening.provider),
            caller: opening.caller.clone(),
            opened_at: self.opened_at,
            facts: Facts {
                scope: Arc::clone(&opening.scope),
                label: opening.label.clone(),
                secret: opening.secret,
                prompt: self.prompt.clone(),
                creation: creation.map(|Creation { key, fingerprint, until, .. }| CreationFacts {
                    key: *key,
                    fingerprint: *fingerprint,
                    until: *until,
                }),
                revocations: revocations.iter().map(|revocation| revocation.until).collect(),
                renewals: renewal.map_or(0, |renewal| renewal.made),
                state,
            },
            secrets: Secrets {
                device_code,
                grant,
                creation: creation.map(|creation| creation.secret.clone()),
                revocations: revocations.iter().map(|revocation| Arc::clone(&revocation.grant)).collect(),
            },
        }
    }
}

impl Common {
    fn share(&mut self, text: &mut Arc<str>) {
        match self.0.get(text) {
            Some(known) => *text = Arc::clone(known),
            None => drop(self.0.insert(Arc::clone(text))),
        }
    }
}

impl Record {
    /// Has the record keep no copy of what `common` knows: a million sessions name few providers.
    pub fn share(&mut self, common: &mut Common) {
        let prompt = self.facts.prompt.as_mut().map(|prompt| &mut prompt.verification_uri);
        let device_code = self.secrets.device_code.as_mut().and_then(Arc::get_mut).map(|code| &mut code.token_endpoint);
        let texts = [&mut self.provider, &mut self.facts.scope].into_iter();
        texts.chain(&mut self.caller).chain(prompt).chain(device_code).for_each(|text| common.share(text));
    }

    pub fn status(&self) -> Status {
        match self.facts.state {
            StateFacts::Starting => Status::Starting,
            StateFacts::Pending { .. } | StateFacts::Verifying { .. } => Status::Pending,
            StateFacts::Authorized { .. } => Status::Authorized,
            StateFacts::Claimed { .. } => Status::Claimed,
            StateFacts::Denied { .. } => Status::Denied,
            StateFacts::Expired { .. } => Status::Expired,
            StateFacts::Cancelled { .. } => Status::Cancelled,
            StateFacts::Failed { .. } => Status::Failed,
        }
    }
}

impl State {
    fn facts(&self) -> (StateFacts, Option<Arc<DeviceCode>>, Option<Arc<Grant>>) {
        let plain = |facts| (facts, None, None);
        match self {
            Self::Starting => plain(StateFacts::Starting),
            Self::Pending(Pending { device_code, began_at, pace, .. }) => {
                (StateFacts::Pending { began_at: *began_at, pace: *pace }, Some(Arc::clone(device_code)), None)
            }
            Self::Verifying(Verifying { grant, until, .. }) => (StateFacts::Verifying { until: *until }, None, Some(Arc::clone(grant))),
            Self::Authorized { grant, claim_by } => (StateFacts::Authorized { claim_by: *claim_by }, None, Some(Arc::clone(grant))),
            Self::Claimed { at, held: Some(held) } => {
                let facts = HeldFacts { key: held.key, until: held.until };
                (StateFacts::Claimed { at: *at, held: Some(facts) }, None, Some(Arc::clone(&held.grant)))
            }
            Self::Claimed { at, held: None } => plain(StateFacts::Claimed { at: *at, held: None }),
            Self::Denied { at } => plain(StateFacts::Denied { at: *at }),
            Self::Expired { at } => plain(StateFacts::Expired { at: *at }),
            Self::Cancelled { at } => plain(StateFacts::Cancelled { at: *at }),
            Self::Failed { at, failure } => plain(StateFacts::Failed { at: *at, failure: *failure }),
        }
    }
}

impl StateFacts {
    fn restored(
        self,
        device_code: Option<Arc<DeviceCode>>,
        grant: Option<Arc<Grant>>,
        prompt: Option<&Prompt>,
        now: Timestamp,
    ) -> Result<State, Contradiction> {
        Ok(match (self, device_code, grant) {
            (Self::Pending { began_at, pace }, Some(device_code), None) => {
                let expires_at = prompt.ok_or(Contradiction)?.expires_at;
                State::Pending(Pending { device_code, began_at, expires_at, pace })
            }
            (Self::Verifying { until }, None, Some(grant)) => State::Verifying(Verifying { grant, next_at: now, until }),
            (Self::Authorized { claim_by }, None, Some(grant)) => State::Authorized { grant, claim_by },
            (Self::Claimed { at, held: Some(HeldFacts { key, until }) }, None, Some(grant)) => {
                State::Claimed { at, held: Some(Box::new(Held { key, grant, until })) }
            }
            (Self::Claimed { at, held: None }, None, None) => State::Claimed { at, held: None },
            (Self::Denied { at }, None, None) => State::Denied { at },
            (Self::Expired { at }, None, None) => State::Expired { at },
            (Self::Cancelled { at }, None, None) => State::Cancelled { at },
            (Self::Failed { at, failure }, None, None) => State::Failed { at, failure },
            _ => return Err(Contradiction),
        })
    }
}
