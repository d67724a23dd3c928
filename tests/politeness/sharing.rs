//! Limits and pauses, shared by all sessions of a provider.

use anteroom::demo::Answer;

use super::*;

fn throttled(retry_after: u64) -> Answer {
    Answer::Raw { status: 429, headers: vec![("retry-after".to_owned(), retry_after.to_string())], body: Vec::new() }
}

#[tokio::test]
async fn a_rate_is_kept_and_every_session_gets_its_turn() {
    let bench = start(&[(Options::default(), &[("MAX_POLLS_PER_SECOND", "1")])]).await;
    let ids = bench.begin_many("a", 12, secs(1)).await;
    let since = bench.now();
    bench.run_for(secs(120)).await;

    let polls = bench.polls_since(0, since);
    assert_eq!(most_in_a_second(&polls), 1);
    assert!((110..=121).contains(&polls.len()), "the rate is used: {}", polls.len());
    let codes = bench.providers[0].user_codes();
    let counts: Vec<_> = codes.iter().map(|code| bench.providers[0].polls(code).iter().filter(|poll| poll.at >= since).count()).collect();
    assert_eq!(counts.len(), ids.len());
    assert!(counts.iter().all(|count| (9..=11).contains(count)), "each in its turn: {counts:?}");
}

#[tokio::test]
async fn a_429_slows_all_sessions_of_the_provider_and_nobody_elses() {
    let bench = start(&[(Options::default(), &[]), (Options::default(), &[])]).await;
    bench.begin_many("a", 60, Duration::from_millis(100)).await;
    bench.begin_many("b", 1, secs(0)).await;
    bench.run_for(secs(20)).await;
    bench.providers[0].script(Endpoint::Token, [throttled(30)]);
    let before = bench.polls(0).len();
    while bench.polls(0).len() == before {
        bench.run_for(Duration::from_millis(100)).await;
    }
    let paused = bench.polls(0)[before];
    bench.run_for(secs(60)).await;

    let after = bench.polls_since(0, paused + Duration::from_millis(1));
    assert!(after[0] >= paused + secs(30), "nobody asked in the pause");
    assert!(after[0] <= paused + secs(32), "and it ended: {paused:?} {after:?}");
    assert!(most_in_a_second(&after) <= 30, "no burst after it: {after:?}");
    assert!(after.len() > 200, "all went on: {}", after.len());
    let others = bench.polls_since(1, paused);
    assert!((8..=11).contains(&others.len()), "the other provider's session went on: {}", others.len());
    assert_eq!(bench.providers[0].early_polls(), 0);
}

#[tokio::test]
async fn the_last_poll_is_made_in_a_pause_too() {
    let options = Options { expires_in: 60, redeems_late: true, ..Options::default() };
    let bench = start(&[(options, &[])]).await;
    let id = bench.begin("a").await;
    bench.run_for(secs(40)).await;
    bench.providers[0].script(Endpoint::Token, [throttled(60)]);
    bench.run_for(secs(10)).await;
    let codes = bench.providers[0].user_codes();
    assert_eq!(bench.providers[0].approve(&codes[0]), 1);
    let polls = bench.polls(0).len();
    bench.run_for(secs(9)).await;
    assert_eq!(bench.polls(0).len(), polls, "it is a pause");
    bench.run_for(secs(3)).await;
    assert_eq!((bench.polls(0).len(), bench.session(id).status()), (polls + 1, Status::Authorized));
}

#[tokio::test]
async fn no_sign_in_begins_while_the_provider_wants_to_be_left_alone() {
    let bench = start(&[(Options::default(), &[]), (Options::default(), &[])]).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/sessions", bench.address);
    let post = async |provider: &str, key: &str| {
        let body = format!(r#"{{"provider":"{provider}"}}"#);
        let request = http
            .post(&url)
            .header("content-type", "application/json")
            .header("idempotency-key", format!("{key}-and-nobody-else-knows"))
            .body(body);
        let response = within(request.send()).await.unwrap();
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        (status, retry_after, response.text().await.unwrap())
    };
    assert_eq!(post("a", "first").await.0, 201);

    bench.providers[0].script(Endpoint::DeviceAuthorization, [throttled(40)]);
    let (status, retry_after, text) = post("a", "second").await;
    assert_eq!((status, retry_after.as_deref()), (503, Some("40")), "{text}");
    bench.clock.advance(Duration::from_millis(9_500));
    let (status, retry_after, text) = post("a", "third").await;
    assert_eq!((status, retry_after.as_deref()), (503, Some("31")), "{text}");
    assert!(text.contains("provider_rate_limited"), "{text}");
    assert_eq!(bench.providers[0].counts().device_requests, 2, "it was not asked again");
    assert_eq!(post("a", "first").await.0, 200, "what was begun is repeated");
    assert_eq!(post("b", "fourth").await.0, 201, "another provider is another matter");

    let polls = bench.polls(0).len();
    bench.run_for(secs(10)).await;
    assert!(bench.polls(0).len() > polls, "the sign-ins under way go on");
    bench.run_for(secs(21)).await;
    assert_eq!(post("a", "fifth").await.0, 201);
}
