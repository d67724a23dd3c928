//! A service that is restarted, away for a while, or away for good; and answers that get lost.

use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;

use crate::process::{Demo, Program};
use crate::proxy::{Mode, Proxy};
use crate::scripted::{ID, Scripted, session};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_forgot_the_sign_in_is_said_to_have() {
    let demo = Demo::start();
    let mut login = Program::login(&demo.url(), "");
    login.stderr.wait_for("enter the code ");
    let _another = demo.kill_and_start_again();
    assert_eq!(login.exit(), Some(1));
    let stderr = login.stderr.complete();
    assert!(stderr.ends_with("The service has forgotten this sign-in, probably because it was restarted. Run this again.\n"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_for_a_while_is_waited_for() {
    let demo = Demo::start();
    let mut proxy = Proxy::start(&demo.address).await;
    let mut login = Program::login(&proxy.url(), "");
    let code = login.stderr.after("enter the code ");

    proxy.go_away().await;
    login.stderr.wait_for("Still trying");
    demo.press("approve", &code).await;
    for mode in [Mode::BadGateway, Mode::ComeBackIn1Second] {
        proxy.come_back(mode).await;
        proxy.go_away().await;
    }
    proxy.come_back(Mode::Forward).await;

    assert_eq!(login.exit(), Some(0));
    let stderr = login.stderr.complete();
    assert_eq!(stderr.matches("Still trying").count(), 1, "{stderr}");
    assert!(stderr.ends_with("The service answers again.\nSigned in.\n"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_complains_is_waited_for() {
    let demo = Demo::start();
    for (mode, status) in [(Mode::BadGateway, "502"), (Mode::ComeBackIn1Second, "503")] {
        let mut proxy = Proxy::start(&demo.address).await;
        let mut login = Program::login(&proxy.url(), "");
        let code = login.stderr.after("enter the code ");
        proxy.go_away().await;
        proxy.come_back(mode).await;
        login.stderr.wait_for("No luck at the moment");
        proxy.go_away().await;
        proxy.come_back(Mode::Forward).await;
        demo.press("approve", &code).await;
        assert_eq!(login.exit(), Some(0), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_complains_at_first_is_asked_again() {
    let demo = Demo::start();
    let mut proxy = Proxy::start(&demo.address).await;
    proxy.go_away().await;
    proxy.come_back(Mode::ComeBackIn1Second).await;
    let mut login = Program::login(&proxy.url(), "");
    login.stderr.wait_for("the service answers 503. Still trying");
    proxy.go_away().await;
    proxy.come_back(Mode::Forward).await;
    demo.press("approve", &login.stderr.after("enter the code ")).await;
    assert_eq!(login.exit(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_first_request_begins_no_second_sign_in() {
    let demo = Demo::start();
    let proxy = Proxy::start(&demo.address).await;
    proxy.lose_answer_to("POST /sessions HTTP");
    let mut login = Program::login(&proxy.url(), "");
    let code = login.stderr.after("enter the code ");
    assert_eq!(proxy.answers_to("POST /sessions HTTP"), ["HTTP/1.1 201 Created", "HTTP/1.1 200 OK"]);
    demo.press("approve", &code).await;
    assert_eq!(login.exit(), Some(0));
    assert_eq!(login.stderr.complete().matches("enter the code").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_claim_loses_no_tokens() {
    let demo = Demo::start();
    let proxy = Proxy::start(&demo.address).await;
    let mut login = Program::login(&proxy.url(), "--json");
    let code = login.stderr.event("code");
    let claim: &'static str = format!("POST /sessions/{}/claim", code["id"].as_str().unwrap()).leak();
    proxy.lose_answer_to(claim);
    demo.press("approve", code["user_code"].as_str().unwrap()).await;
    assert_eq!(login.exit(), Some(0));
    assert_eq!(proxy.answers_to(claim), ["HTTP/1.1 200 OK", "HTTP/1.1 200 OK"]);
    assert_eq!(proxy.answers_to("DELETE /sessions/"), ["HTTP/1.1 204 No Content"]);
    assert!(serde_json::from_str::<Value>(&login.stdout.complete()).unwrap()["access_token"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_service_that_is_not_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut login = Program::login(&url, "");
    assert_eq!(login.exit(), Some(1));
    let stderr = login.stderr.complete();
    assert!(stderr.contains("Not signed in: the service cannot be reached (Connection refused"), "{stderr}");

    let mut login = Program::login(&url, "");
    login.stderr.wait_for("Still trying");
    login.send("-INT");
    login.send("-INT");
    assert_eq!(login.exit(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_expires_even_if_the_service_no_longer_says_so() {
    let once = Router::new().route("/sessions", post(async || Json(session("pending", 1))));
    let service = Scripted::start(once.route(&format!("/sessions/{ID}"), get(async || axum::http::StatusCode::BAD_GATEWAY))).await;
    let mut login = Program::login(&service.url, "");
    assert_eq!(login.exit(), Some(1));
    let stderr = login.stderr.complete();
    assert!(stderr.ends_with("The code has expired without a word from the service: the service answers 502.\n"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_this_machine_need_not_be_right() {
    let ago = session("pending", -86_400);
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400 + 300);
    let begin = post(async move || ([("date", httpdate::fmt_http_date(yesterday))], Json(ago)));
    let service = Scripted::start(Router::new().route("/sessions", begin)).await;
    let login = Program::login(&service.url, "");
    let left = login.stderr.after("The code expires in ");
    assert!(left.starts_with("5:0") || left.starts_with("4:5"), "{left}");
}
