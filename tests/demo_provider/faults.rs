//! Faults, seen on the wire.

use std::io::ErrorKind;

use anteroom::demo::{Answer, Endpoint, Outcome, Reach};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// What a bare socket gets for one poll: all bytes, and how the connection ended.
async fn raw_poll(f: &Fixture, sign_in: &SignIn) -> (String, Result<(), ErrorKind>) {
    let authority = f.provider.issuer().trim_start_matches("http://");
    let body = format!("grant_type={DEVICE_GRANT}&device_code={}&client_id=demo-tv", sign_in.device_code);
    let head = "content-type: application/x-www-form-urlencoded\r\nconnection: close";
    let request = format!("POST /token HTTP/1.1\r\nhost: {authority}\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut socket = TcpStream::connect(authority).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let end = within(socket.read_to_end(&mut received)).await.map(drop).map_err(|error| error.kind());
    (String::from_utf8(received).unwrap(), end)
}

/// A sign-in that is approved and due, with these answers ahead.
async fn approved_with(answers: impl IntoIterator<Item = Answer>) -> (Fixture, SignIn) {
    let f = start().await;
    let sign_in = f.sign_in().await;
    f.provider.approve(&sign_in.user_code);
    f.clock.advance(Duration::from_secs(5));
    assert!(f.provider.script_polls(&sign_in.user_code, answers));
    (f, sign_in)
}

fn outcomes(f: &Fixture, sign_in: &SignIn) -> Vec<Option<Outcome>> {
    f.provider.polls(&sign_in.user_code).into_iter().map(|poll| poll.outcome).collect()
}

#[tokio::test]
async fn a_request_that_is_closed_or_reset_spends_nothing() {
    let (f, sign_in) = approved_with([Answer::CloseWithoutAnswer, Answer::Reset]).await;
    assert_eq!(raw_poll(&f, &sign_in).await, (String::new(), Ok(())));
    assert_eq!(raw_poll(&f, &sign_in).await, (String::new(), Err(ErrorKind::ConnectionReset)));
    assert_eq!(f.provider.redemptions(&sign_in.user_code), 0);
    assert_eq!(f.poll(&sign_in).await.0, 200);
    assert_eq!(outcomes(&f, &sign_in), [Some(Outcome::NoAnswer), Some(Outcome::NoAnswer), Some(Outcome::Tokens)]);
}

#[tokio::test]
async fn a_dropped_reply_spends_the_code() {
    for (answer, end) in [(Answer::DropReply, Ok(())), (Answer::ResetReply, Err(ErrorKind::ConnectionReset))] {
        let (f, sign_in) = approved_with([answer]).await;
        assert_eq!(raw_poll(&f, &sign_in).await, (String::new(), end));
        assert_eq!(outcomes(&f, &sign_in), [Some(Outcome::TokensLost)]);
        assert_eq!(f.provider.counts().grants, 1);
        assert_eq!(error(&f.poll_after(5, &sign_in).await), (400, "invalid_grant"));
    }
}

#[tokio::test]
async fn half_a_body_promises_more_than_it_sends() {
    let (f, sign_in) = approved_with([Answer::HalfBody]).await;
    let (received, _) = raw_poll(&f, &sign_in).await;
    let (head, body) = received.split_once("\r\n\r\n").unwrap();
    let promised: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body.len(), promised / 2);
    assert_eq!(outcomes(&f, &sign_in), [Some(Outcome::TokensLost)]);
}

#[tokio::test]
async fn a_slow_body_arrives_whole_in_the_end() {
    let (f, sign_in) = approved_with([Answer::SlowBody(Duration::from_millis(1))]).await;
    let (status, tokens) = f.poll(&sign_in).await;
    assert_eq!((status, f.userinfo(&text(&tokens, "access_token")).await), (200, 200));
}

#[tokio::test]
async fn an_endless_body_has_the_size_that_was_asked_for() {
    let (f, sign_in) = approved_with([Answer::EndlessBody(300_000), Answer::EndlessBody(u64::MAX)]).await;
    let form = [("grant_type", DEVICE_GRANT), ("device_code", &sign_in.device_code), ("client_id", "demo-tv")];
    let poll = async || f.http.post(f.provider.url("/token")).form(&form).send().await.unwrap();
    assert_eq!(poll().await.bytes().await.unwrap().len(), 300_000);
    let mut never_ending = poll().await;
    let mut received = 0;
    while received < 5_000_000 {
        received += never_ending.chunk().await.unwrap().unwrap().len();
    }
}

#[tokio::test]
async fn a_stalled_request_is_over_when_the_client_hangs_up() {
    let (f, sign_in) = approved_with([Answer::Stall]).await;
    let impatient = tokio::select! {
        answer = f.try_poll(&sign_in) => Some(answer),
        () = f.provider.wait_for(|provider| provider.polls(&sign_in.user_code).len() == 1) => None,
    };
    assert!(impatient.is_none());
    within(f.provider.wait_for(|provider| provider.polls(&sign_in.user_code)[0].answered_at.is_some())).await;
    assert_eq!(outcomes(&f, &sign_in), [Some(Outcome::NoAnswer)]);
    assert_eq!(f.poll_after(5, &sign_in).await.0, 200);
    assert_eq!(f.provider.overlapping_polls(), 0, "the one that hung up is not open any more");
}

#[tokio::test]
async fn a_late_reply_to_a_client_that_left_is_lost() {
    let (f, sign_in) = approved_with([Answer::LateReply(Duration::from_secs(20))]).await;
    let issued = async { f.provider.wait_for(|provider| provider.redemptions(&sign_in.user_code) == 1).await };
    tokio::select! {
        _ = f.try_poll(&sign_in) => panic!("it was answered"),
        _ = f.clock.sleeper(|_| true) => {}
    }
    within(issued).await;
    within(f.provider.wait_for(|provider| provider.polls(&sign_in.user_code)[0].answered_at.is_some())).await;
    assert_eq!(outcomes(&f, &sign_in), [Some(Outcome::TokensLost)]);
}

#[tokio::test]
async fn a_delayed_request_is_carried_out_when_its_time_comes() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    f.provider.script_polls(&sign_in.user_code, [Answer::Delay(Duration::from_secs(7))]);
    let (answer, ()) = tokio::join!(f.poll(&sign_in), async {
        within(f.clock.sleeper(|_| true)).await;
        f.provider.approve(&sign_in.user_code);
        f.clock.tick();
    });
    assert_eq!(answer.0, 200);
    let poll = &f.provider.polls(&sign_in.user_code)[0];
    assert_eq!(poll.answered_at.unwrap().since(poll.at), Duration::from_secs(7));
}

#[tokio::test]
async fn canned_answers_come_in_order_and_those_of_the_code_first() {
    let f = start().await;
    let (one, two) = (f.sign_in().await, f.sign_in().await);
    f.clock.advance(Duration::from_secs(5));
    f.provider.always(Endpoint::Token, Some(Answer::text(503, "busy")));
    f.provider.script(Endpoint::Token, [Answer::error(400, "unauthorized_client")]);
    f.provider.script_polls(&one.user_code, [Answer::error(400, "expired_token")]);
    assert_eq!(error(&f.poll(&one).await), (400, "expired_token"));
    assert_eq!(error(&f.poll(&two).await), (400, "unauthorized_client"));
    assert_eq!(f.poll(&one).await, (503, Value::Null));
    f.provider.always(Endpoint::Token, None);
    assert_eq!(error(&f.poll_after(5, &one).await), (400, "authorization_pending"));
    assert!(!f.provider.script_polls("ZZZZ-ZZZZ", [Answer::Stall]));
}

#[tokio::test]
async fn headers_and_members_can_be_changed() {
    let f = start().await;
    let redirect = Answer::Raw { status: 307, headers: vec![("location".into(), "https://elsewhere.test/".into())], body: Vec::new() };
    let odd = Answer::edit(|body| {
        body.insert("interval".into(), "7".into());
        let uri = body.remove("verification_uri").unwrap();
        body.insert("verification_url".into(), uri);
    });
    f.provider.script(Endpoint::DeviceAuthorization, [redirect, odd]);
    let begin = async || f.http.post(f.provider.url("/device/code")).form(&[("client_id", "demo-tv")]).send().await.unwrap();
    assert_eq!(begin().await.headers()["location"], "https://elsewhere.test/");
    let (_, body) = answered(begin().await).await;
    assert_eq!((&body["interval"], &body["verification_url"]), (&"7".into(), &f.provider.url("/device").into()));
    let sign_in = SignIn { device_code: text(&body, "device_code"), user_code: text(&body, "user_code") };
    assert_eq!(error(&f.poll_after(7, &sign_in).await), (400, "authorization_pending"), "the edited code is a real one");
}

#[tokio::test]
async fn a_provider_that_is_down_answers_nobody_until_it_is_up() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    f.clock.advance(Duration::from_secs(5));
    f.provider.set_reach(Reach::BadGateway);
    assert_eq!(f.poll(&sign_in).await, (502, Value::Null));
    f.provider.set_reach(Reach::Reset);
    assert_eq!(raw_poll(&f, &sign_in).await, (String::new(), Err(ErrorKind::ConnectionReset)));
    assert!(f.http.get(f.provider.url("/.well-known/openid-configuration")).send().await.is_err());
    assert_eq!(f.http.get(f.provider.url("/device")).send().await.unwrap().status(), 200);
    f.provider.set_reach(Reach::Up);
    assert_eq!(error(&f.poll_after(5, &sign_in).await), (400, "authorization_pending"));
}
