//! Which time an ID token is judged by.

use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::demo::{Answer, Endpoint};
use anteroom::kernel::time::WallTime;
use anteroom::kernel::verdict::{Grant, Verdict};
use anteroom::provider::Provider;
use jsonwebtoken::Algorithm;

use super::forge::{Forge, KID};
use super::{Fixture, authorized, sign_in, signing_key};

const MINUTE: Duration = Duration::from_secs(60);

impl Fixture {
    /// Tokens that the provider gave while its keys could not be had.
    async fn withheld(&self) -> Arc<Grant> {
        self.idp.always(Endpoint::Keys, Some(Answer::text(503, "down")));
        let began = self.begin().await;
        match self.provider.ask(sign_in(&began.device_code)).await {
            Verdict::Unverified(grant) => grant,
            verdict => panic!("{}", verdict.name()),
        }
    }

    /// The verdict once the keys are back.
    async fn judged(&self, grant: &Arc<Grant>) -> &'static str {
        self.idp.always(Endpoint::Keys, None);
        self.provider.verify(grant).await.name()
    }
}

#[tokio::test]
async fn what_was_valid_when_it_arrived_stays_so_until_the_keys_are_there() {
    let fixture = Fixture::start().await;
    fixture.idp.rotate(signing_key(Algorithm::RS256).named(KID));
    let now = fixture.clock.wall().as_millis() / 1000;
    // It ends a minute from now, and counts for one more.
    Forge::script(&fixture.idp, fixture.clock.now(), move |forge| forge.claiming("exp", (now + 60).into()));
    let grant = fixture.withheld().await;
    assert_eq!(grant.arrived_at, Some(fixture.clock.wall()));
    fixture.clock.advance(9 * MINUTE);
    assert_eq!(fixture.provider.verify(&grant).await.name(), "unverified");
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.judged(&grant).await, "authorized");
}

#[tokio::test]
async fn what_had_expired_when_it_arrived_is_not_trusted() {
    let fixture = Fixture::start().await;
    let grant = fixture.withheld().await;
    let late = Grant { arrived_at: Some(fixture.clock.wall() + 62 * MINUTE), ..Grant::clone(&grant) };
    fixture.clock.advance(62 * MINUTE);
    assert_eq!(fixture.judged(&Arc::new(late)).await, "untrusted");
    let unknown = Grant { arrived_at: None, ..Grant::clone(&grant) };
    assert_eq!(fixture.judged(&Arc::new(unknown)).await, "untrusted", "an older version did not keep when it arrived");
}

#[tokio::test]
async fn a_clock_that_was_set_right_meanwhile_harms_no_token() {
    for millis_off in [-120_000, 7_200_000] {
        let fixture = Fixture::start().await;
        let grant = fixture.withheld().await;
        let wrong = fixture.clock.wall().as_millis().saturating_add_signed(millis_off);
        let grant = Grant { arrived_at: Some(WallTime::from_millis(wrong)), ..Grant::clone(&grant) };
        assert_eq!(fixture.judged(&Arc::new(grant)).await, "authorized", "{millis_off}");
    }
}

#[tokio::test]
async fn a_step_of_the_wall_clock_is_followed_at_once() {
    let fixture = Fixture::start().await;
    for millis_ahead in [120_000, -86_400_000, 0, 3_600_000] {
        fixture.clock.set_wall_ahead(millis_ahead);
        let grant = authorized(fixture.sign_in().await);
        assert!(grant.claims.is_some(), "{millis_ahead}");
        assert_eq!(grant.expires_at, Some(fixture.clock.wall() + 60 * MINUTE));
    }
}
