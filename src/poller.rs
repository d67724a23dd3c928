//! One short task, one session: read the table, ask once, report.
//!
//! A poller takes only the id. What it is to ask, with which code, and whether it is time at all, it learns from the table; so
//! the one that replaces a dead one goes on exactly where that stopped.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use crate::kernel::session::{Errand, SessionId};
use crate::kernel::verdict::{Failure, Verdict};
use crate::metrics::Asked;
use crate::provider::gate::Pass;
use crate::provider::{Providers, Upstream};
use crate::sessions::{Answer, Sessions};
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
    let Some(_pass) = pass.or_else(|| upstream.gate.enter(sessions.clock().now())) else { return };
    let Some((attempt, errand)) = sessions.attempt(id) else { return };

    let asked_at = sessions.clock().now();
    let late = session.due(&sessions.terms()).map(|(due, _)| asked_at.since(due)).unwrap_or_default();
    let name = errand.name();
    let provider = &upstream.provider;
    let answer = match errand {
        Errand::Begin => Answer::Begun(provider.begin(&session.opening().scope).await),
        Errand::Poll(device_code) => Answer::Verdict(provider.ask(&device_code).await),
        Errand::Verify(grant) => Answer::Verdict(provider.verify(&grant).await),
        Errand::Revoke(grant) => Answer::Revoked(provider.revoke(&grant).await),
    };
    heed(upstream, &sessions, &answer);
    let took = sessions.clock().now().since(asked_at);
    observe(Asked { provider: &upstream.name, errand: name, answer: answer.name(), took, late });
    match sessions.report(id, attempt, answer) {
        Ok(()) => beat.accepted(),
        Err(refused) => debug!(?refused, "a report was refused"),
    }
}

/// What one answer says of the provider as such holds for all its sessions.
fn heed(upstream: &Upstream, sessions: &Sessions, answer: &Answer) {
    let now = sessions.clock().now();
    match answer {
        Answer::Begun(Err(Failure::ProviderUnreachable | Failure::ProviderTimeout))
        | Answer::Verdict(Verdict::Unreachable { .. } | Verdict::Gibberish { .. }) => upstream.gate.unheard(),
        Answer::Verdict(Verdict::Throttled { retry_after }) => {
            upstream.gate.heard();
            upstream.gate.pause(now + retry_after.unwrap_or(THROTTLED).min(LONGEST_PAUSE));
        }
        // Whether the keys can be had says nothing of the endpoints.
        Answer::Verdict(Verdict::Unverified(_)) | Answer::Revoked(_) => {}
        Answer::Begun(_) | Answer::Verdict(_) => upstream.gate.heard(),
    }
}

/// How long a provider is left alone that limits our rate without saying for how long.
const THROTTLED: Duration = Duration::from_secs(5);
/// The session that was told to wait longer does; the others ask again after this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
