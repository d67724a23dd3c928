//! How much is taken from whom.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::http::callers::Caller;
use anteroom::http::client::{ForwardedBy, Proxies};
use anteroom::http::limit::{Exhausted, Limiter, Rates};
use anteroom::provider::egress::Network;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::request::Builder;
use axum::http::{HeaderMap, Method};
use sha2::{Digest, Sha256};

use crate::clock::ManualClock;
use crate::service::{Answer, RATES, Service, Setup, caller, claim, request};

const ALICE: &str = "192.0.2.1";
const BOB: &str = "192.0.2.2";

fn per_minute(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

fn limiter(count: u32, cells: usize) -> (Limiter<IpAddr>, ManualClock) {
    let clock = ManualClock::default();
    (Limiter::new("address", per_minute(count), cells, clock.as_clock()), clock)
}

fn from(address: &str, request: Builder) -> Builder {
    request.extension(ConnectInfo(SocketAddr::new(address.parse().unwrap(), 4711)))
}

async fn get(service: &Service, address: &str, path: &str) -> Answer {
    service.send(from(address, request(Method::GET, path)).body(Body::empty()).unwrap()).await
}

async fn begin(service: &Service, address: &str, key: Option<&str>) -> Answer {
    let request = from(address, request(Method::POST, "/sessions"));
    let request = key.into_iter().fold(request, |request, key| request.header("authorization", format!("Bearer {key}")));
    service.send(request.body(Body::empty()).unwrap()).await
}

// === counting ===

#[test]
fn a_minutes_worth_may_come_at_once_and_comes_back_bit_by_bit() {
    let (limiter, clock) = limiter(60, 64);
    let alice = ALICE.parse().unwrap();
    assert!((0..60).all(|_| limiter.admit(&alice).is_ok()));
    let exhausted = Exhausted { policy: "address", per_minute: per_minute(60), wait: 1 };
    assert_eq!(limiter.admit(&alice), Err(exhausted));
    clock.advance(Duration::from_secs(1));
    assert_eq!((limiter.admit(&alice), limiter.admit(&alice)), (Ok(()), Err(exhausted)));
    clock.advance(Duration::from_secs(3600));
    assert!((0..60).all(|_| limiter.admit(&alice).is_ok()));
    assert!(limiter.admit(&alice).is_err());
}

#[test]
fn coming_back_when_told_to_is_early_enough() {
    let (limiter, clock) = limiter(7, 64);
    let alice = ALICE.parse().unwrap();
    for _ in 0..100 {
        if let Err(exhausted) = limiter.admit(&alice) {
            clock.advance(Duration::from_secs(exhausted.wait));
            assert_eq!(limiter.admit(&alice), Ok(()));
        }
    }
}

/// What the limiter holds is made at start and never grows, see the module; so this is about whether it still works.
#[test]
fn ten_million_addresses_leave_an_honest_one_alone_and_a_flood_limited() {
    let (limiter, _) = limiter(6000, 1 << 18);
    for address in 0..10_000_000_u32 {
        let refused = limiter.admit(&IpAddr::V4(address.into())).is_err();
        assert!(!refused, "{address} asked once");
    }
    let alice = ALICE.parse().unwrap();
    assert!((0..100).all(|_| limiter.admit(&alice).is_ok()));
    assert!((0..6000).any(|_| limiter.admit(&alice).is_err()));
}

// === who it is ===

fn client(trusted: &[&str], peer: &str, headers: &[(&'static str, &str)]) -> Option<IpAddr> {
    client_by(ForwardedBy::XForwardedFor, trusted, peer, headers)
}

fn client_by(by: ForwardedBy, trusted: &[&str], peer: &str, headers: &[(&'static str, &str)]) -> Option<IpAddr> {
    let proxies = Proxies::new(trusted.iter().map(|network| network.parse::<Network>().unwrap()), by);
    let headers: HeaderMap = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    proxies.client(peer.parse().unwrap(), &headers)
}

fn is(address: &str) -> Option<IpAddr> {
    Some(address.parse().unwrap())
}

const XFF: &str = "x-forwarded-for";
const FORWARDED: &str = "forwarded";

#[test]
fn strangers_are_not_believed_about_themselves() {
    assert_eq!(client(&[], ALICE, &[(XFF, BOB), (FORWARDED, "for=192.0.2.2")]), is(ALICE));
    assert_eq!(client(&["10.0.0.0/8"], "11.0.0.1", &[(XFF, BOB)]), is("11.0.0.1"));
}

#[test]
fn proxies_are_believed_from_right_to_left() {
    let trusted = &["10.0.0.0/8", "fd00::/8"];
    let told = |value| client(trusted, "10.0.0.1", &[(XFF, value)]);
    assert_eq!(told("192.0.2.1"), is(ALICE));
    assert_eq!(told("6.6.6.6, 192.0.2.1"), is(ALICE), "what a client made up stands to the left");
    assert_eq!(told("6.6.6.6, 192.0.2.1, 10.9.9.9 ,fd00::1"), is(ALICE));
    assert_eq!(told("192.0.2.1:4711, [fd00::1]:443"), is(ALICE));
    assert_eq!(told("10.2.2.2"), is("10.2.2.2"), "a client inside");
    assert_eq!(told("::ffff:192.0.2.1"), is(ALICE));
    assert_eq!(client(trusted, "::ffff:10.0.0.1", &[(XFF, ALICE)]), is(ALICE));
    assert_eq!(client(trusted, "10.0.0.1", &[(XFF, "6.6.6.6"), (XFF, ALICE)]), is(ALICE), "one header in two lines");
    let told = |value| client_by(ForwardedBy::Forwarded, trusted, "10.0.0.1", &[(FORWARDED, value)]);
    assert_eq!(told("for=6.6.6.6, For=\"192.0.2.1:4711\";proto=https;by=10.0.0.1, for=\"[fd00::1]\""), is(ALICE));
}

#[test]
fn what_a_proxy_passes_on_unread_is_its_own_doing() {
    for value in ["unknown", "_hidden", "", "6.6.6.6, nonsense", "999.1.1.1"] {
        assert_eq!(client(&["10.0.0.1"], "10.0.0.1", &[(XFF, value)]), is("10.0.0.1"), "{value}");
    }
    assert_eq!(client_by(ForwardedBy::Forwarded, &["10.0.0.1"], "10.0.0.1", &[(FORWARDED, "proto=https")]), is("10.0.0.1"));
    assert_eq!(client(&["10.0.0.1"], "10.0.0.1", &[]), is("10.0.0.1"));
}

#[test]
fn only_the_header_that_the_proxies_write_is_believed() {
    for forwarded in ["for=192.0.2.2", "for=127.0.0.1", "for=unknown", "nonsense"] {
        let headers = [(XFF, ALICE), (FORWARDED, forwarded)];
        assert_eq!(client(&["127.0.0.1"], "127.0.0.1", &headers), is(ALICE), "{forwarded}");
    }
    let headers = [(XFF, ALICE), (FORWARDED, "for=192.0.2.2")];
    assert_eq!(client_by(ForwardedBy::Forwarded, &["127.0.0.1"], "127.0.0.1", &headers), is(BOB));
    assert_eq!(client(&["127.0.0.1"], "127.0.0.1", &[(FORWARDED, "for=192.0.2.2")]), is("127.0.0.1"), "the client's own");
}

#[test]
fn connections_are_counted_by_the_peer_but_for_proxies_and_this_machine() {
    let proxies = Proxies::new(["10.0.0.0/8".parse().unwrap()], ForwardedBy::XForwardedFor);
    let counted = |peer: &str| proxies.counted(peer.parse().unwrap());
    assert_eq!(counted(ALICE), is(ALICE));
    assert_eq!(counted("2001:db8::1"), is("2001:db8::"));
    assert_eq!((counted("10.0.0.1"), counted("127.0.0.1"), counted("::1")), (None, None, None));
}

#[test]
fn this_machine_is_not_limited_unless_it_speaks_for_others() {
    for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(client(&[], peer, &[(XFF, ALICE)]), None);
    }
    assert_eq!(client(&["127.0.0.1"], "127.0.0.1", &[(XFF, "127.0.0.1, 192.0.2.1")]), is(ALICE));
    assert_eq!(client(&["127.0.0.1"], "127.0.0.1", &[(XFF, "")]), is("127.0.0.1"));
}

#[test]
fn a_customer_of_ipv6_is_a_64() {
    let [one, same, other] = ["2001:db8::1", "2001:db8:0:0:ffff::9", "2001:db8:0:1::1"].map(|peer| client(&[], peer, &[]));
    assert!(one == same && one != other, "{one:?} {same:?} {other:?}");
}

#[test]
fn networks_are_read_as_people_write_them() {
    for (network, inside, outside) in [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
        ("fd00::/8", "fdff::1", "fc00::1"),
        ("0.0.0.0/0", "8.8.8.8", "::1"),
        ("::/0", "2001:db8::1", "8.8.8.8"),
    ] {
        let network: Network = network.parse().unwrap();
        assert!(network.contains(inside.parse().unwrap()) && !network.contains(outside.parse().unwrap()), "{network:?}");
    }
}

// === what is limited ===

#[tokio::test]
async fn one_address_that_asks_too_much_is_told_when_to_come_back() {
    let service = Service::start(Setup { rates: Rates { requests: per_minute(3), ..RATES }, ..Setup::default() });
    for _ in 0..3 {
        assert_eq!(get(&service, ALICE, "/providers").await.status, 200);
    }
    let refused = get(&service, ALICE, "/providers").await;
    refused.is_problem(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("20"));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"address\";q=3;w=60"));
    assert_eq!(refused.header("ratelimit"), Some("\"address\";r=0;t=20"));

    assert_eq!(get(&service, BOB, "/providers").await.status, 200);
    for probe in ["/livez", "/readyz"] {
        assert_eq!(get(&service, ALICE, probe).await.status, 200, "probes are never refused");
    }
    service.clock.advance(Duration::from_secs(20));
    assert_eq!(get(&service, ALICE, "/providers").await.status, 200);
}

#[tokio::test]
async fn this_machine_may_ask_as_much_as_it_likes() {
    let once = NonZeroU32::MIN;
    let service = Service::start(Setup { rates: Rates { requests: once, creates: once, ..RATES }, ..Setup::default() });
    for _ in 0..50 {
        assert_eq!(begin(&service, "127.0.0.1", None).await.status, 201);
    }
}

#[tokio::test]
async fn an_address_without_a_key_begins_so_many_and_the_provider_does_not_hear_of_more() {
    let service = Service::start(Setup { rates: Rates { creates: per_minute(2), ..RATES }, ..Setup::default() });
    for _ in 0..2 {
        assert_eq!(begin(&service, ALICE, None).await.status, 201);
    }
    let refused = begin(&service, ALICE, None).await;
    refused.is_problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"creates\";q=2;w=60"));
    assert_eq!(service.provider.begun(), 2);
    assert_eq!(begin(&service, BOB, None).await.status, 201);
}

#[tokio::test]
async fn a_caller_has_a_rate_of_its_own_wherever_it_asks_from() {
    let clock: Arc<dyn Clock> = ManualClock::default().as_clock();
    let limited = Caller { creates: Some(Limiter::of_caller(per_minute(2), clock)), ..caller(None) };
    let other = Caller { name: "kiosk".into(), key_sha256: Sha256::digest("another").into(), ..caller(None) };
    let rates = Rates { creates: NonZeroU32::MIN, ..RATES };
    let service = Service::start(Setup { callers: vec![limited, other], rates, ..Setup::default() });
    let key = Some(crate::service::CALLER_KEY);
    assert_eq!(begin(&service, ALICE, key).await.status, 201);
    assert_eq!(begin(&service, BOB, key).await.status, 201);
    let refused = begin(&service, ALICE, key).await;
    refused.is_problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"caller\";q=2;w=60"));
    assert_eq!(service.provider.begun(), 2);
    for _ in 0..5 {
        assert_eq!(begin(&service, ALICE, Some("another")).await.status, 201, "one caller's flood is not the other's");
    }
}

#[tokio::test]
async fn a_session_is_read_so_often_and_its_owner_still_gets_the_tokens() {
    let service = Service::start(Setup { rates: Rates { reads: per_minute(50), ..RATES }, ..Setup::default() });
    let (flooded, other) = (service.authorized().await, service.pending().await);
    let mut answers = Vec::new();
    for _ in 0..50 {
        answers.push(service.get(&flooded.path()).await);
    }
    let refused = answers.iter().find(|answer| answer.status != 200).expect("too many at last");
    refused.is_problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"session\";q=50;w=60"));
    assert_eq!(service.get(&other.path()).await.status, 200);
    assert_eq!(service.send(claim(&flooded, None)).await.status, 200);
    assert_eq!(service.delete(&flooded).await.status, 204);
}
