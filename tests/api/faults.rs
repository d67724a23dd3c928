//! Twenty-seven things that can go wrong between a client and us, what is to happen then, and the test that shows it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anteroom::http::serve::Limits;
use anteroom::kernel::verdict::Verdict;
use axum::body::Body;
use axum::http::Method;
use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;

use crate::connections::{Server, rest};
use crate::service::{Ours, Service, claim, grant, owned, request};

#[rustfmt::skip]
const FAULTS: [(&str, &str, &str); 27] = [
    ("a connection that says nothing", "closed in 30 s", "the_silent_the_slow_and_the_idle_are_closed"),
    ("half a header, or one that dribbles", "closed in 30 s", "the_silent_the_slow_and_the_idle_are_closed"),
    ("a body that dribbles", "408 in 15 s", "a_body_that_dribbles_is_given_15_s"),
    ("a connection that idles after its answer", "closed in 30 s", "the_silent_the_slow_and_the_idle_are_closed"),
    ("500 of these at once", "honest clients and polls do not notice", "a_crowd_that_is_silent_slow_or_idle_disturbs_nobody"),
    ("a header of 100 KiB, 200 headers", "431, closed", "headers_have_their_limits"),
    ("a body of 64 KiB and a byte, announced or not", "413", "a_body_that_is_too_large_still_gets_its_answer"),
    ("two lengths, a length and chunks, folded headers", "400, closed; nothing is smuggled", "what_two_servers_could_read_differently_is_refused"),
    ("JSON that is deep, doubled, endless or no Unicode", "400 without a word of it", "a_malformed_body_is_refused_without_a_word_of_it"),
    ("a wrong Content-Type, or none", "415", "a_body_must_be_json_in_name_too"),
    ("a member that nobody knows", "400", "a_malformed_body_is_refused_without_a_word_of_it"),
    ("TRACE, CONNECT, PUT", "405 with Allow", "a_path_takes_the_methods_that_are_described_and_no_other"),
    ("paths that climb, encoded or overlong", "404", "an_id_has_one_spelling"),
    ("a secret in the query", "no better than none", "a_secret_counts_only_where_it_belongs"),
    ("a secret that is empty, huge or not ASCII", "the same 404, or 431", "a_secret_counts_only_where_it_belongs"),
    ("the secret of another session", "the same 404", "everybody_may_do_what_is_theirs_and_nothing_else"),
    ("64 claims at once with 64 keys", "one 200, 63 times 410", "of_64_keys_at_once_one_gets_the_tokens"),
    ("64 claims at once with one key", "the same bytes 64 times", "of_64_claims_with_one_key_all_get_the_same_bytes"),
    ("a client that is gone before it has read the tokens", "its key reads them again, no other does", "tokens_lost_on_the_way_are_there_for_the_same_key"),
    ("a client that hangs up while it begins a sign-in", "its Idempotency-Key finds the session", "a_sign_in_whose_client_hung_up_is_found_again"),
    ("a cancellation while the tokens arrive", "one outcome", "a_cancellation_that_races_the_tokens_has_one_outcome"),
    ("a claim before the person is done", "409, nothing changed", "a_claim_that_comes_too_early_or_after_a_bad_end_changes_nothing"),
    ("a flood of reads of one session", "429 for it alone", "a_session_is_read_so_often_and_its_owner_still_gets_the_tokens"),
    ("a flood of sign-ins from one caller", "429 for it alone; the provider does not hear of it", "a_caller_has_a_rate_of_its_own_wherever_it_asks_from"),
    ("a panic in a handler", "500, and the service goes on", "every_answer_that_is_described_can_be_had"),
    ("HTTP/2, with all its floods", "not spoken", "http_2_is_not_spoken"),
    ("no more than 256 open files", "what is under way goes on", "with_few_files_the_sign_ins_under_way_go_on"),
];

#[test]
fn every_fault_has_its_test() {
    let tests = |folder: &str| {
        let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder)).unwrap();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect::<String>()
    };
    let sources = tests("api") + &tests("binary");
    let missing: Vec<_> = FAULTS.iter().filter(|(_, _, test)| !sources.contains(&format!("fn {test}()"))).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[tokio::test]
async fn what_two_servers_could_read_differently_is_refused() {
    let server = Server::start(Service::plain().router, Limits::default()).await;
    let second = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    for headers in [
        "content-length: 2\r\ncontent-length: 3\r\n",
        "content-length: 0\r\ntransfer-encoding: gzip\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "content-length: +2\r\n",
        "content-length : 2\r\n",
        "x: a\r\n  folded\r\n",
        "x: a\rb\r\n",
    ] {
        let answer = server.exchange(format!("POST /sessions HTTP/1.1\r\nhost: a\r\n{headers}\r\n{{}}{second}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{headers:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers:?} smuggled a second request in: {answer}");
    }
    // Chunks win over a length (RFC 9112 §6.3), and what follows them is not taken for a request.
    let both = format!("POST /sessions HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{second}");
    let answer = server.exchange(both.as_bytes()).await;
    assert!(answer.matches("HTTP/1.1 ").count() <= 2, "{answer}");
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let server = Server::start(Service::plain().router, Limits::default()).await;
    let answer = server.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505"), "{answer}");
}

#[tokio::test]
async fn an_id_has_one_spelling() {
    let service = Service::plain();
    let session = service.pending().await;
    let id = &session.id;
    for path in [
        format!("/sessions/{}", id.to_uppercase()),
        format!("/sessions/{}", id.replace('-', "")),
        format!("/sessions/%7B{id}%7D"),
        format!("/sessions/{id}%00"),
        format!("/sessions/%C0%AF{id}"),
        format!("/sessions/%2e%2e/sessions%2f{id}"),
        format!("//sessions/{id}"),
        format!("/sessions/../sessions/{id}"),
        format!("/sessions/{id}/../{id}"),
    ] {
        let answer = service.get(&path).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_secret_counts_only_where_it_belongs() {
    let service = Service::plain();
    let session = service.authorized().await;
    let refused = service.claim(&Ours { id: session.id.clone(), secret: "ars_wrong".into() }, None).await;
    let path = format!("{}/claim", session.path());
    let query = format!("{path}?secret={0}&access_token={0}", session.secret);
    let mut answers = vec![service.send(request(Method::POST, &query).body(Body::empty()).unwrap()).await];
    let plain = &session.secret;
    for value in ["Bearer ".to_owned(), "Bearer".to_owned(), plain.clone(), format!("Basic {plain}"), format!("Bearer {plain}x")] {
        answers.push(service.send(request(Method::POST, &path).header("authorization", value).body(Body::empty()).unwrap()).await);
    }
    let odd = axum::http::HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap();
    answers.push(service.send(request(Method::POST, &path).header("authorization", odd).body(Body::empty()).unwrap()).await);
    let twice = owned(Method::POST, &path, &session).header("authorization", format!("Bearer {plain}"));
    answers.push(service.send(twice.body(Body::empty()).unwrap()).await);
    for answer in answers {
        assert_eq!((answer.status, &answer.body), (refused.status, &refused.body));
    }
    let server = Server::start(service.router.clone(), Limits::default()).await;
    let huge = format!("POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\r\n", "x".repeat(1024 * 1024));
    let answer = server.exchange(huge.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(service.claim(&session, None).await.status, 200, "none of it changed anything");
}

#[tokio::test]
async fn of_64_claims_with_one_key_all_get_the_same_bytes() {
    let service = Service::plain();
    let session = service.authorized().await;
    let answers = join_all((0..64).map(|_| service.send(claim(&session, Some("k"))))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(answers.iter().map(|answer| &answer.body).collect::<BTreeSet<_>>().len(), 1);
}

#[tokio::test]
async fn tokens_lost_on_the_way_are_there_for_the_same_key() {
    let service = Service::plain();
    let session = service.authorized().await;
    let server = Server::start(service.router.clone(), Limits::default()).await;
    let mut stream = server.connect().await;
    let head = format!("POST {}/claim HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n", session.path(), session.secret);
    stream.write_all(format!("{head}idempotency-key: 0123456789abcdef\r\n\r\n").as_bytes()).await.unwrap();
    service.until_status(&session, "claimed").await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    assert_eq!(service.claim(&session, Some("other")).await.status, 410);
    let answer = service.claim(&session, Some("0123456789abcdef")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["access_token"]), (200, &"an-access-token".into()));
}

#[tokio::test]
async fn a_sign_in_whose_client_hung_up_is_found_again() {
    let service = Service::plain();
    let server = Server::start(service.router.clone(), Limits::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"POST /sessions HTTP/1.1\r\nhost: a\r\nidempotency-key: 0123456789abcdef\r\n\r\n").await.unwrap();
    service.provider.was_asked().await;
    drop(stream);
    let again = request(Method::POST, "/sessions").header("idempotency-key", "0123456789abcdef").body(Body::empty()).unwrap();
    let answer = service.send(again).await;
    assert_eq!((answer.status.as_u16(), service.provider.begun()), (200, 1));
    assert!(answer.json()["secret"].as_str().unwrap().starts_with("ars_"));
}

#[tokio::test]
async fn a_cancellation_that_races_the_tokens_has_one_outcome() {
    let service = Service::plain();
    for _ in 0..20 {
        let session = service.pending().await;
        service.provider.says(Verdict::Authorized(grant()));
        let ((), deleted) = tokio::join!(async { service.clock.advance(Duration::from_secs(7)) }, service.delete(&session));
        assert_eq!(deleted.status, 204);
        assert_eq!(service.get(&session.path()).await.json()["status"], "cancelled");
        assert_eq!(service.claim(&session, None).await.status, 409);
    }
}

#[tokio::test]
async fn a_store_that_hangs_is_not_waited_for_for_ever() {
    let service = Service::plain();
    let (claimed, cancelled) = (service.authorized().await, service.pending().await);
    service.store.hang();
    let answers = async { tokio::join!(service.delete(&cancelled), service.claim(&claimed, None), service.post("{}")) };
    let passing = async {
        loop {
            service.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (cancelled, claimed, created) = tokio::select! { answers = answers => answers, () = passing => unreachable!() };
    for answer in [cancelled, claimed, created] {
        answer.is_problem(503, "store_unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(service.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_request_whose_client_is_gone_leaves_nothing_open() {
    let service = Service::plain();
    let session = service.pending().await;
    let server = Server::start(service.router.clone(), Limits { max_connections: 2, ..Limits::default() }).await;
    // Each holds a place until it is noticed that nobody is there any more.
    for _ in 0..10 {
        let mut stream = server.connect().await;
        let wait = format!("GET {} HTTP/1.1\r\nhost: a\r\nprefer: wait=60\r\n\r\n", session.path());
        stream.write_all(wait.as_bytes()).await.unwrap();
    }
    let mut last = server.connect().await;
    last.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut last).await.contains("200 OK"));
}
