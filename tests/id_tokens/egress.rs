//! Where discovery may lead us, and where it may not.

use std::net::{IpAddr, TcpListener};

use anteroom::clock::SystemClock;
use anteroom::provider::dialect::Encoding;
use anteroom::provider::egress::Egress;
use anteroom::provider::exchange::{Exchange, NoAnswer, client_for};
use anteroom::provider::settings::Settings;
use reqwest::Url;

use super::{settings, within};

struct Case {
    url: Url,
    is_forbidden: bool,
    network: String,
}

fn cases() -> Vec<Case> {
    let lines = include_str!("../fixtures/egress.tsv").lines().filter(|line| !line.starts_with('#'));
    let case = |line: &str| {
        let [url, verdict, network] = line.split('\t').collect::<Vec<_>>().try_into().expect("three columns");
        Case { url: url.parse().expect("a URL"), is_forbidden: verdict == "forbidden", network: network.to_owned() }
    };
    lines.map(case).collect()
}

fn exchange(settings: &Settings) -> Exchange {
    Exchange::new(client_for(settings).unwrap(), SystemClock::start()).within(Egress::of(settings))
}

const PUBLIC: &str = "https://id.example.com";

fn is_forbidden(answer: &Result<anteroom::provider::exchange::Answer, NoAnswer>) -> bool {
    matches!(answer, Err(no_answer) if no_answer.to_string().contains("allow_networks"))
}

#[tokio::test]
async fn a_public_provider_leads_nowhere_inside() {
    let settings = settings(PUBLIC, &[]);
    let (exchange, egress) = (exchange(&settings), Egress::of(&settings));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let cases = cases();
    assert!(cases.iter().filter(|case| case.is_forbidden).count() >= 60);
    for Case { mut url, is_forbidden: expected, .. } in cases {
        let _ = url.set_port(Some(port));
        if expected {
            assert!(is_forbidden(&within(10, exchange.get(url.clone())).await), "{url}");
            assert!(is_forbidden(&within(10, exchange.post(url.clone(), Encoding::Form, &[("secret", "s")], None)).await), "{url}");
        } else {
            // No test goes out into the world.
            assert!(egress.check(&url).is_ok(), "{url}");
        }
    }
    assert!(listener.accept().is_err(), "somebody connected");
}

#[tokio::test]
async fn an_allowed_network_may_be_led_to() {
    for Case { url, network, .. } in cases().into_iter().filter(|case| case.is_forbidden) {
        let allowing = |network: &str| Egress::of(&settings(PUBLIC, &[("allow_networks", &format!("['{network}']"))]));
        let Some(address) = address(&url) else { continue };
        let host = url.host_str().unwrap();
        assert!(allowing(&network).permits(host, address), "{url} in {network}");
        assert!(!allowing("203.0.113.7").permits(host, address), "{url}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url: Url = format!("http://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
    let allowing = exchange(&settings(PUBLIC, &[("allow_networks", "['127.0.0.0/8']")]));
    let connected = tokio::task::spawn_blocking(move || listener.accept().unwrap());
    let answer = within(10, allowing.get(url));
    let (_, answer) = within(10, async { tokio::join!(async { drop(connected.await.unwrap()) }, answer) }).await;
    assert!(!is_forbidden(&answer));
}

fn address(url: &Url) -> Option<IpAddr> {
    url.host_str().unwrap().trim_matches(['[', ']']).parse().ok()
}

#[test]
fn hosts_that_the_operator_names_may_be_private_but_not_metadata() {
    let named =
        settings("https://id.corp.example", &[("token_endpoint", "https://10.1.1.1/token"), ("proxy", "http://proxy.corp.example:3128")]);
    let egress = Egress::of(&named);
    for (host, address, permitted) in [
        ("id.corp.example", "10.0.0.1", true),
        ("ID.corp.example", "10.0.0.1", true),
        ("proxy.corp.example", "192.168.0.1", true),
        ("10.1.1.1", "10.1.1.1", true),
        ("10.1.1.2", "10.1.1.2", false),
        ("tokens.corp.example", "10.0.0.1", false),
        ("tokens.corp.example", "93.184.216.34", true),
        ("id.corp.example", "169.254.169.254", false),
        ("id.corp.example", "0.0.0.0", false),
        ("id.corp.example", "fe80::1", false),
        ("id.corp.example", "fd00:ec2::254", false),
        ("id.corp.example", "::ffff:169.254.169.254", false),
    ] {
        assert_eq!(egress.permits(host, address.parse().unwrap()), permitted, "{host} at {address}");
    }
}

#[test]
fn a_private_provider_may_lead_to_its_neighbours() {
    for issuer in ["http://127.0.0.1:9000", "http://localhost:9000", "https://10.0.0.1", "https://[fd00::1]"] {
        let egress = Egress::of(&settings(issuer, &[]));
        assert!(egress.permits("10.9.9.9", "10.9.9.9".parse().unwrap()), "{issuer}");
        assert!(egress.permits("elsewhere.example", "127.0.0.1".parse().unwrap()), "{issuer}");
        assert!(!egress.permits("169.254.169.254", "169.254.169.254".parse().unwrap()), "{issuer}");
    }
    let metadata = Egress::of(&settings("https://169.254.169.254", &[]));
    assert!(!metadata.permits("169.254.169.254", "169.254.169.254".parse().unwrap()));
    assert!(!metadata.permits("10.0.0.1", "10.0.0.1".parse().unwrap()));
}

/// A name that resolves to the inside is judged by what it resolves to, whenever that is.
#[tokio::test]
async fn a_name_is_judged_when_it_is_resolved() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url: Url = format!("http://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
    let settings = settings(PUBLIC, &[]);
    assert!(Egress::of(&settings).check(&url).is_ok(), "it is only a name");
    assert!(is_forbidden(&within(10, exchange(&settings).get(url)).await));
    assert!(listener.accept().is_err());
}
