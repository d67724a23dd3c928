//! Clients of a service that is killed again and again, and all that they were told.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anteroom::demo::DevProvider;
use futures_util::future::join_all;
use serde_json::Value;
use uuid::Uuid;

use crate::service::{Answer, Http};

/// What the service has said, so what it must stand by.
#[derive(Default)]
pub struct World {
    sessions: Mutex<HashMap<String, Known>>,
    /// Keys of creations that were never answered.
    unanswered: Mutex<Vec<String>>,
}

#[derive(Clone, Default)]
struct Known {
    creation_key: String,
    secret: String,
    user_code: String,
    approved: bool,
    was_authorized: bool,
    settled: Option<String>,
    claim_tried: bool,
    cancel_tried: bool,
    /// The tokens that were handed over, to which key, and when.
    handed: Option<(Option<String>, Value, Instant)>,
}

const CLAIM_WINDOW: Duration = Duration::from_secs(60);

pub fn random(below: u32) -> u32 {
    u32::try_from(Uuid::new_v4().as_u128() % u128::from(below)).expect("it is below")
}

fn text(body: &Value, member: &str) -> String {
    body[member].as_str().unwrap_or_default().to_owned()
}

impl World {
    /// Uses the service until it does not answer any more.
    pub async fn use_service(&self, http: &Http, provider: &DevProvider) {
        while self.use_once(http, provider).await.is_some() {
            // Not as fast as can be: the machine is to have time for the polls.
            tokio::time::sleep(Duration::from_millis(u64::from(random(30)))).await;
        }
    }

    async fn use_once(&self, http: &Http, provider: &DevProvider) -> Option<()> {
        let dice = random(100);
        if dice < 40 {
            return self.create(http, provider, Uuid::new_v4().to_string()).await;
        }
        let Some((id, known)) = self.any() else { return Some(()) };
        if dice < 75 {
            self.look(http, provider, &id).await
        } else if dice < 92 {
            let key = (random(3) > 0).then(|| format!("key-{}", random(3)));
            self.claim(http, &id, &known, key).await
        } else if dice < 95 {
            self.cancel(http, &id, &known).await
        } else {
            self.create_again(http, &id, &known).await
        }
    }

    fn any(&self) -> Option<(String, Known)> {
        let sessions = self.sessions.lock().expect("no panic");
        let count = u32::try_from(sessions.len()).ok().filter(|count| *count > 0)?;
        sessions.iter().nth(random(count) as usize).map(|(id, known)| (id.clone(), known.clone()))
    }

    fn note(&self, id: &str, change: impl FnOnce(&mut Known)) {
        change(self.sessions.lock().expect("no panic").get_mut(id).expect("it is known"));
    }

    async fn create(&self, http: &Http, provider: &DevProvider, key: String) -> Option<()> {
        let Some((status, body)) = http.create(&key).await else {
            self.unanswered.lock().expect("no panic").push(key);
            return None;
        };
        assert!(status == 201 || status == 200, "{status} {body}");
        let user_code = text(&body, "user_code");
        let approved = random(10) < 8 && provider.approve(user_code.as_str()) == 1;
        let known = Known { creation_key: key, secret: text(&body, "secret"), user_code, approved, ..Known::default() };
        self.sessions.lock().expect("no panic").insert(text(&body, "id"), known);
        Some(())
    }

    async fn create_again(&self, http: &Http, id: &str, known: &Known) -> Option<()> {
        let (status, body) = http.create(&known.creation_key).await?;
        assert_eq!((status, text(&body, "id").as_str(), &text(&body, "secret")), (200, id, &known.secret), "{body}");
        Some(())
    }

    async fn look(&self, http: &Http, provider: &DevProvider, id: &str) -> Option<()> {
        let before = self.sessions.lock().expect("no panic")[id].clone();
        let (status, body) = http.get(&format!("/sessions/{id}")).await?;
        assert_eq!(status, 200, "an acknowledged session is lost: {id} {body}");
        let now = text(&body, "status");
        let after = self.sessions.lock().expect("no panic")[id].clone();
        if let Some(settled) = &before.settled {
            assert_eq!(&now, settled, "{id} was settled");
        }
        match now.as_str() {
            "pending" => assert!(!before.was_authorized, "{id} was authorized"),
            "authorized" => assert!(before.handed.is_none(), "{id} was handed over"),
            "claimed" => assert!(after.claim_tried, "{id}: nobody claimed it"),
            "cancelled" => assert!(after.cancel_tried && before.handed.is_none(), "{id}: nobody cancelled it"),
            "failed" => {
                assert!(!before.was_authorized, "{id} was authorized: {body}");
                assert_eq!(body["failure"]["code"], "grant_lost", "{body}");
                assert!(provider.redemptions(&before.user_code) > 0, "no grant was lost");
            }
            other => panic!("{id} is {other}"),
        }
        self.note(id, |known| match now.as_str() {
            "pending" => {}
            "authorized" => known.was_authorized = true,
            _ => known.settled = Some(now.clone()),
        });
        Some(())
    }

    async fn claim(&self, http: &Http, id: &str, known: &Known, key: Option<String>) -> Option<()> {
        self.note(id, |known| known.claim_tried = true);
        let begun = Instant::now();
        let (status, body) = http.claim(id, &known.secret, key.as_deref()).await?;
        match status {
            200 => self.handed_over(id, key, &body),
            409 | 410 => assert!(
                known.handed.as_ref().is_none_or(|(first, _, at)| {
                    first.is_none() || *first != key || known.cancel_tried || begun - *at > CLAIM_WINDOW - Duration::from_secs(1)
                }),
                "{id}: the first key could not read again"
            ),
            other => panic!("{other} {body}"),
        }
        Some(())
    }

    fn handed_over(&self, id: &str, key: Option<String>, body: &Value) {
        self.note(id, |known| {
            if let Some((first, tokens, _)) = &known.handed {
                assert!(first.is_some() && *first == key, "{id} was handed over twice: to {first:?} and {key:?}");
                assert_eq!(tokens, body, "{id}: other tokens at the second reading");
            } else {
                assert!(body["access_token"].is_string(), "{body}");
                known.handed = Some((key, body.clone(), Instant::now()));
            }
        });
    }

    async fn cancel(&self, http: &Http, id: &str, known: &Known) -> Option<()> {
        self.note(id, |known| known.cancel_tried = true);
        let (status, body) = http.cancel(id, &known.secret).await?;
        assert_eq!(status, 204, "{body}");
        Some(())
    }

    /// Everything that was ever acknowledged is there, and as it was told.
    pub async fn check(&self, http: &Http, provider: &DevProvider) {
        let ids: Vec<_> = self.sessions.lock().expect("no panic").keys().cloned().collect();
        for some in ids.chunks(32) {
            // It may be killed meanwhile; then the rest is for the next time.
            join_all(some.iter().map(|id| self.look(http, provider, id))).await;
        }
    }

    /// Nobody kills it any more: every approved sign-in ends with its tokens in one hand.
    pub async fn finish(&self, http: &Http, provider: &DevProvider) {
        let answered = |answer: Answer| answer.expect("nobody kills it");
        let unanswered = std::mem::take(&mut *self.unanswered.lock().expect("no panic"));
        for key in unanswered {
            self.create(http, provider, key).await.expect("nobody kills it");
        }
        let sessions: Vec<_> = self.sessions.lock().expect("no panic").iter().map(|(id, known)| (id.clone(), known.clone())).collect();
        let approved = sessions.iter().filter(|(_, known)| known.approved);
        let ends = approved.map(|(id, known)| async move {
            let begun = Instant::now();
            while answered(http.get(&format!("/sessions/{id}")).await).1["status"] == "pending" {
                assert!(begun.elapsed() < Duration::from_secs(30), "{id} was approved and stays pending");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            self.look(http, provider, id).await.expect("nobody kills it");
            let keys = [Some("last-0".to_owned()), Some("last-1".to_owned()), None];
            join_all(keys.map(|key| self.claim(http, id, known, key))).await;
        });
        join_all(ends).await;
        self.check(http, provider).await;
    }

    /// The exchanges about each code that was polled early.
    pub fn early(&self, provider: &DevProvider, interval: Duration) -> Vec<String> {
        let sessions = self.sessions.lock().expect("no panic");
        let hasty = sessions.values().filter(|known| provider.gaps(&known.user_code).iter().any(|gap| *gap < interval));
        hasty.map(|known| format!("{:?}", provider.polls(&known.user_code))).collect()
    }

    /// Sessions, hand-overs, lost grants.
    pub fn counts(&self) -> (usize, usize, usize) {
        let sessions = self.sessions.lock().expect("no panic");
        let failed = sessions.values().filter(|known| known.settled.as_deref() == Some("failed")).count();
        (sessions.len(), sessions.values().filter(|known| known.handed.is_some()).count(), failed)
    }
}
