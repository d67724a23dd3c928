//! Clients that go away in the middle: what they asked for is done, or is not, and never by half.

use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::demo::{Answer, Codes, Endpoint};
use anteroom::kernel::session::{Session, Status};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::rig::{TERMS, eventually, within};
use crate::served::{Owned, Served};

/// Sends the first `length` bytes of a request and resets the connection, as a client does that crashes.
async fn cut(served: &Served, request: &str, length: usize) {
    let mut socket = TcpStream::connect(served.address).await.unwrap();
    socket.write_all(&request.as_bytes()[..length]).await.unwrap();
    socket.set_zero_linger().unwrap();
}

fn request(method: &str, path: &str, bearer: &str, body: &str) -> String {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\n");
    format!("{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Somewhere in the header, at its end, in the body; never all of it.
fn cuts(request: &str) -> Vec<usize> {
    let head = request.find("\r\n\r\n").unwrap() + 4;
    [1, 20, head / 2, head - 1, head, (head + request.len()) / 2, request.len() - 1].into_iter().filter(|at| *at < request.len()).collect()
}

/// Waits until everything that was cut has been dealt with: a request on a new connection is answered after it.
async fn answered(served: &Served) {
    within(served.http.get(served.url("/readyz")).send()).await.unwrap();
}

#[tokio::test]
async fn half_a_post_begins_nothing() {
    let served = Served::start().await;
    let post = request("POST", "/sessions", "nobody", r#"{"provider":"dev","label":"TV"}"#);
    for length in cuts(&post) {
        cut(&served, &post, length).await;
        answered(&served).await;
    }
    assert_eq!((served.sessions.live(), served.provider.counts().device_requests), (0, 0));
}

#[tokio::test]
async fn a_whole_post_whose_client_is_gone_is_begun_and_ends_by_itself() {
    let served = Served::start().await;
    served.provider.script(Endpoint::DeviceAuthorization, [Answer::Delay(Duration::from_secs(2))]);
    let post = request("POST", "/sessions", "nobody", "{}").replace("\r\n\r\n", "\r\nidempotency-key: again-and-again-and-again\r\n\r\n");
    let mut socket = TcpStream::connect(served.address).await.unwrap();
    socket.write_all(post.as_bytes()).await.unwrap();
    within(served.provider.wait_for(|provider| provider.counts().device_requests == 1)).await;
    socket.set_zero_linger().unwrap();
    drop(socket);
    let reply = served.clock.now() + Duration::from_secs(2);
    within(served.clock.sleeper(|at| at == reply)).await;
    served.clock.advance_to(reply);
    eventually("it is pending", || served.sessions.all().iter().any(|session| session.status().as_str() == "pending")).await;

    // Who asks again with the same key gets the same session.
    let again = served.post(Some("again-and-again-and-again")).await;
    assert_eq!(again.status(), 200);
    let owned = Owned::from(&crate::served::body(again).await);
    assert_eq!((served.sessions.live(), served.provider.counts().device_requests), (1, 1));
    served.provider.expire_soon(&owned.user_code, Duration::ZERO);
    served.clock.advance_to(served.sessions.peek(owned.id).unwrap().next_poll_at().unwrap());
    eventually("nothing is live any more", || served.sessions.live() == 0).await;
    assert_eq!(served.status(owned.id), "expired");
    served.clock.advance(TERMS.retention);
    eventually("it is forgotten", || served.sessions.all().is_empty()).await;
}

#[tokio::test]
async fn a_post_that_gets_no_code_is_given_up_in_time_though_its_client_is_gone() {
    let served = Served::start().await;
    served.provider.script(Endpoint::DeviceAuthorization, [Answer::Delay(Duration::from_secs(60))]);
    let mut socket = TcpStream::connect(served.address).await.unwrap();
    socket.write_all(request("POST", "/sessions", "nobody", "{}").as_bytes()).await.unwrap();
    within(served.provider.wait_for(|provider| provider.counts().device_requests == 1)).await;
    socket.set_zero_linger().unwrap();
    drop(socket);
    answered(&served).await;
    assert_eq!(served.sessions.all().len(), 1);
    let out_of_patience = served.clock.now() + Duration::from_secs(20);
    within(served.clock.sleeper(|at| at == out_of_patience)).await;
    served.clock.advance_to(out_of_patience);
    eventually("it is gone", || served.sessions.all().is_empty()).await;
}

#[tokio::test]
async fn half_a_claim_or_delete_changes_nothing_and_a_whole_one_is_whole() {
    let served = Served::start().await;
    for (method, suffix, outcome) in [("POST", "/claim", "claimed"), ("DELETE", "", "cancelled")] {
        let owned = served.authorized().await;
        let asking = request(method, &format!("/sessions/{}{suffix}", owned.id), &owned.secret, "");
        for length in cuts(&asking) {
            cut(&served, &asking, length).await;
            answered(&served).await;
            assert_eq!(served.status(owned.id), "authorized", "{method} cut at {length}");
        }
        let mut socket = TcpStream::connect(served.address).await.unwrap();
        socket.write_all(asking.as_bytes()).await.unwrap();
        drop(socket);
        eventually("it is done", || served.status(owned.id) == outcome).await;
    }
    assert_eq!(served.sessions.live(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_vanishing_crowd_asked_for_nothing_leaks() {
    let served = Served::start().await;
    let mut owned = Vec::new();
    for _ in 0..20 {
        owned.push(served.authorized().await);
    }
    let crowd = owned.iter().enumerate().map(|(number, owned)| {
        let (method, suffix) = if number.is_multiple_of(2) { ("POST", "/claim") } else { ("DELETE", "") };
        let (asking, served) = (request(method, &format!("/sessions/{}{suffix}", owned.id), &owned.secret, ""), &served);
        async move {
            let post = request("POST", "/sessions", "nobody", "{}");
            tokio::join!(cut(served, &asking, asking.len()), cut(served, &post, post.len()));
        }
    });
    futures_util::future::join_all(crowd).await;
    answered(&served).await;
    // A reset may overtake its request, so each is done or not begun; all end by themselves in the end.
    for one in &owned {
        assert!(matches!(served.status(one.id), "authorized" | "claimed" | "cancelled"));
    }
    // One may also begin late, after the others; so they are all denied, again and again, and time goes on while nobody asks.
    eventually("nothing is left", || {
        served.provider.deny(Codes::All);
        let (sessions, now) = (served.sessions.all(), served.clock.now());
        let is_asking = |session: &Session| match session.status() {
            Status::Starting => true,
            Status::Pending => session.next_poll_at().is_none_or(|at| at <= now),
            _ => false,
        };
        if !sessions.iter().any(|session| is_asking(session)) {
            served.clock.advance(Duration::from_secs(5));
        }
        sessions.is_empty() && served.sessions.live() == 0
    })
    .await;
}
