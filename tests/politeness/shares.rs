//! What nobody waits for, and what one caller wants, keeps nobody else waiting.

use anteroom::demo::{Answer, Codes};
use anteroom::kernel::session::State;

use super::*;

const HANGS: Option<Answer> = Some(Answer::Stall);

impl Bench {
    /// Without waiting for what hangs.
    fn create(&self, caller: Option<&str>) -> tokio::task::JoinHandle<Result<SessionId, CreateError>> {
        let (provider, caller) = (Arc::clone(&self.upstreams["a"].name), caller.map(Arc::from));
        let create = Create { provider, scope: "".into(), label: None, caller, idempotency: None, refusal: None };
        let sessions = self.sessions.clone();
        tokio::spawn(async move { sessions.create(create).await.map(|created| created.session.id()) })
    }

    /// Whether this sign-in, whose interval is a second, is polled whenever it is due although other requests hang.
    async fn keeps_its_pace(&self, id: SessionId) {
        let code = self.session(id).prompt().unwrap().user_code.to_string();
        for _ in 0..5 {
            let polls = self.providers[0].poll_count(&code);
            soon(|| self.session(id).next_poll_at().is_some()).await;
            self.clock.advance(Duration::from_millis(1_500));
            soon(|| self.providers[0].poll_count(&code) > polls).await;
        }
    }

    /// So many sign-ins that the person has approved.
    async fn begin_approved(&self, count: usize, scope: &str) -> Vec<SessionId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let provider = Arc::clone(&self.upstreams["a"].name);
            let create = Create { provider, scope: scope.into(), label: None, caller: None, idempotency: None, refusal: None };
            ids.push(within(self.sessions.create(create)).await.unwrap().session.id());
        }
        assert_eq!(self.providers[0].approve(Codes::All), count, "nobody else waits");
        ids
    }

    fn in_flight(&self) -> usize {
        self.upstreams["a"].gate.in_flight()
    }
}

/// Sooner than a request that hangs is given up.
async fn soon(is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(secs(10), so).await.expect("it happens while other requests hang");
}

fn every_second() -> Options {
    Options { interval: Some(1), ..Options::default() }
}

#[tokio::test]
async fn revocations_that_hang_keep_no_sign_in_waiting() {
    let bench = start(&[(every_second(), &[("MAX_IN_FLIGHT", "16")])]).await;
    let approved = bench.begin_approved(64, "").await;
    bench.run_for(secs(5)).await;
    assert_eq!(bench.statuses(&approved), [Status::Authorized; 64]);
    let waiting = bench.begin("a").await;
    bench.providers[0].always(Endpoint::Revocation, HANGS);
    for id in approved {
        bench.sessions.cancel(id).await.unwrap();
    }
    soon(|| !bench.providers[0].exchanges(Endpoint::Revocation).is_empty()).await;
    bench.keeps_its_pace(waiting).await;
    tokio::time::timeout(secs(10), bench.create(None)).await.expect("it begins beside them").unwrap().unwrap();
    assert!(bench.in_flight() <= 3, "{} in flight", bench.in_flight());
}

#[tokio::test]
async fn of_many_that_wait_for_keys_one_holds_a_place() {
    let bench = start(&[(every_second(), &[("MAX_IN_FLIGHT", "16")])]).await;
    bench.providers[0].always(Endpoint::Keys, HANGS);
    let approved = bench.begin_approved(100, "openid").await;
    let verifying = || approved.iter().filter(|id| matches!(bench.session(**id).state(), State::Verifying(_))).count();
    bench.clock.advance(Duration::from_millis(1_500));
    soon(|| verifying() >= 16).await;
    let another = tokio::time::timeout(secs(10), bench.create(None)).await.expect("it begins beside them").unwrap().unwrap();
    bench.keeps_its_pace(another).await;
    soon(|| verifying() == 100 && bench.in_flight() == 1).await;
}

#[tokio::test]
async fn a_flood_of_creations_leaves_half_of_the_places_to_others() {
    let bench = start(&[(every_second(), &[("MAX_IN_FLIGHT", "4")])]).await;
    let waiting = bench.begin("a").await;
    bench.providers[0].always(Endpoint::DeviceAuthorization, HANGS);
    let _flood: Vec<_> = (0..40).map(|_| bench.create(Some("greedy"))).collect();
    soon(|| bench.in_flight() >= 2).await;
    bench.keeps_its_pace(waiting).await;
}

#[tokio::test]
async fn callers_take_turns_and_polls_have_theirs() {
    let bench = start(&[(every_second(), &[("MAX_POLLS_PER_SECOND", "1")])]).await;
    bench.begin("a").await;
    let begun = || bench.sessions.all().iter().filter(|session| session.status() == Status::Pending).count() - 1;
    let flood: Vec<_> = (0..30).map(|_| bench.create(Some("greedy"))).collect();
    soon(|| bench.sessions.all().len() == 31).await;
    bench.run_for(secs(4)).await;
    let modest = bench.create(Some("modest"));
    soon(|| bench.sessions.all().len() == 32).await;
    let (before, polls) = (begun(), bench.polls(0).len());
    bench.run_for(secs(6)).await;
    assert!(modest.is_finished(), "its turn has come");
    assert!((2..=4).contains(&(begun() - before)), "{} have begun in 6 s", begun() - before);
    assert!(bench.polls(0).len() >= polls + 2, "polls have every second turn: {}", bench.polls(0).len() - polls);
    drop(flood);
}

#[tokio::test]
async fn while_the_endpoints_are_unknown_one_asks_for_them_and_nobody_else_holds_a_place() {
    let bench = start(&[(Options::default(), &[])]).await;
    bench.providers[0].always(Endpoint::Discovery, HANGS);
    let _waiting: Vec<_> = (0..10).map(|_| bench.create(None)).collect();
    soon(|| bench.in_flight() > 0 && bench.sessions.all().len() == 10).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.in_flight(), 1);
    bench.providers[0].always(Endpoint::Discovery, None);
}

#[tokio::test]
async fn what_is_known_of_a_provider_serves_while_it_is_asked_for_news() {
    let bench = start(&[(Options::default(), &[])]).await;
    bench.begin("a").await;
    bench.run_for(secs(3_700)).await;
    bench.providers[0].always(Endpoint::Discovery, HANGS);
    let asked = bench.providers[0].exchanges(Endpoint::Discovery).len();
    let _asking = bench.create(None);
    soon(|| bench.providers[0].exchanges(Endpoint::Discovery).len() > asked).await;
    let created = tokio::time::timeout(secs(5), bench.create(None)).await.expect("it waits for no news");
    assert!(created.unwrap().is_ok());
}

#[tokio::test]
async fn of_a_single_place_a_revocation_has_nothing_while_a_poll_is_due() {
    let bench = start(&[(every_second(), &[("MAX_IN_FLIGHT", "1")])]).await;
    let approved = bench.begin_approved(3, "").await;
    bench.run_for(secs(5)).await;
    assert_eq!(bench.statuses(&approved), [Status::Authorized; 3]);
    let waiting = bench.begin("a").await;
    let code = bench.session(waiting).prompt().unwrap().user_code.to_string();
    let place = bench.upstreams["a"].gate.enter(bench.now(), Urgency::Ordinary).expect("it is free");
    bench.providers[0].always(Endpoint::Revocation, HANGS);
    for id in approved {
        bench.sessions.cancel(id).await.unwrap();
    }
    bench.clock.advance(Duration::from_millis(1_500));
    drop(place);
    soon(|| bench.providers[0].poll_count(&code) == 1).await;
    soon(|| bench.providers[0].exchanges(Endpoint::Revocation).len() == 1).await;
}
