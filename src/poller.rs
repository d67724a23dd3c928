//! One short task, one session: read the table, ask once, report.
//!
//! A poller takes only the id. What it is to ask, with which code, and whether it is time at all, it learns from the table; so
//! the one that replaces a dead one goes on exactly where that stopped.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use crate::kernel::session::{Due, Errand, SessionId, Urgency};
use crate::kernel::table::Lane;
use crate::kernel::time::Timestamp;
use crate::kernel::verdict::{Failure, Revocation, Verdict};
use crate::metrics::Asked;
use crate::provider::gate::{Backlog, Pass};
use crate::provider::{Providers, SignIn, Upstream};
use crate::sessions::{Answer, Sessions, random_jitter};
use crate::watchdog::Beat;

/// Makes the attempt that is due for session `id`, if there is one, and tells `observe` how it went. Without a `pass` it asks
/// the provider's gate for one.
pub async fn run(
    id: SessionId,
    sessions: Sessions,
    providers: Arc<Providers>,
    pass: Option<Pass>,
    beat: Beat,
    observe: impl Fn(Asked<'_>),
) {
    let Some(session) = sessions.peek(id) else { return };
    let Some(upstream) = providers.get(&session.opening().provider) else { return };
    if pass.is_none() {
        // First of all, for it needs no place at the gate: the clock of the next attempt starts here, however busy the provider is.
        sessions.close_abandoned(id);
    }
    let due = session.due(&sessions.terms());
    let urgency = if let Some((_, Due::Ask(urgency))) = due { urgency } else { Urgency::Ordinary };
    let pass = pass.filter(|pass| pass.is_for(urgency)).or_else(|| upstream.enter(sessions.clock().now(), urgency));
    let Some(pass) = pass else { return };
    let Some((attempt, errand)) = sessions.attempt(id) else { return };

    let asked_at = sessions.clock().now();
    let late = due.map(|(due, _)| asked_at.since(due)).unwrap_or_default();
    let name = errand.name();
    let provider = &upstream.provider;
    let answer = match errand {
        Errand::Begin => Answer::Begun(provider.begin(&session.opening().scope).await),
        Errand::Poll(device_code) => {
            let user_code = session.prompt().map_or("", |prompt| &prompt.user_code);
            Answer::Verdict(provider.ask(SignIn { device_code: &device_code, user_code, scope: &session.opening().scope }).await)
        }
        Errand::Verify(grant) => Answer::Verified(provider.verify(&grant).await),
        Errand::Revoke(grant) => Answer::Revoked(provider.revoke(&grant).await),
    };
    let answered_at = sessions.clock().now();
    heed(upstream, &sessions, &answer, answered_at);
    let took = answered_at.since(asked_at);
    if !matches!(answer, Answer::Revoked(Revocation::NoEndpoint)) {
        observe(Asked { provider: &upstream.name, errand: name, answer: answer.name(), took, late });
    }
    let grant = answer.grant().map(Arc::clone);
    match (sessions.report(id, attempt, answer), grant) {
        (Ok(()), _) => beat.accepted(),
        (Err(refused), None) => debug!(?refused, "a report was refused"),
        (Err(_), Some(grant)) => {
            drop(pass);
            let _place = upstream.enter(sessions.clock().now(), Urgency::Background);
            let revocation = provider.revoke(&grant).await;
            warn!(provider = &*upstream.name, revocation = revocation.name(), "tokens came for a sign-in that is gone");
            if revocation != Revocation::Revoked {
                sessions.stranded(id);
            }
        }
    }
}

/// What one answer says of the provider as such holds for all its sessions.
fn heed(upstream: &Upstream, sessions: &Sessions, answer: &Answer, now: Timestamp) {
    let gate = &upstream.gate;
    let backlog = match answer {
        // Whether the keys can be had says nothing of the endpoints.
        Answer::Verified(Verdict::Unverified(_)) | Answer::Revoked(_) => None,
        Answer::Begun(Err(Failure::ProviderRateLimited { retry_after_secs: Some(wait) })) => {
            gate.pause_beginnings(now, Duration::from_secs(*wait));
            gate.heard(now)
        }
        Answer::Verdict(Verdict::Throttled { retry_after }) => {
            let reopened = gate.heard(now);
            gate.pause(now, *retry_after).or(reopened)
        }
        Answer::Begun(Err(Failure::ProviderUnreachable | Failure::ProviderTimeout)) | Answer::Verdict(Verdict::Gibberish { .. }) => {
            gate.unheard(now, random_jitter());
            None
        }
        Answer::Verdict(Verdict::Unreachable { retry_after, .. }) => {
            gate.unheard(now, random_jitter());
            retry_after.and_then(|wait| gate.pause(now, Some(wait)))
        }
        Answer::Begun(_) | Answer::Verdict(_) | Answer::Verified(_) => gate.heard(now),
    };
    if let Some(Backlog { from, over }) = backlog {
        sessions.spread(&Lane::Provider(Arc::clone(&upstream.name)), from, over);
    }
}
