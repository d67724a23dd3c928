//! A provider that is down.

use anteroom::demo::Answer;

use super::*;

#[tokio::test]
async fn a_provider_that_is_down_is_left_alone_and_comes_back_without_a_burst() {
    let bench = start(&[(Options::default(), &[]), (Options::default(), &[])]).await;
    let ids = bench.begin_many("a", 60, Duration::from_millis(100)).await;
    let others = bench.begin_many("b", 1, secs(0)).await;
    bench.run_for(secs(20)).await;
    let up = bench.now();
    for fault in [Answer::Reset, Answer::text(502, "<html>Bad Gateway</html>")] {
        bench.providers[0].always(Endpoint::Token, Some(fault));
        bench.run_for(secs(150)).await;
    }
    let before = bench.now();
    bench.run_for(secs(120)).await;
    let asked = bench.polls_since(0, before).len();
    assert!((1..=4).contains(&asked), "ever more seldom, but still: {asked}");
    assert!(!bench.upstreams["a"].gate.is_reachable());
    assert!(ids.iter().all(|id| !bench.session(*id).provider_reachable()));
    assert!(bench.upstreams["b"].gate.is_reachable() && bench.session(others[0]).provider_reachable());

    bench.providers[0].always(Endpoint::Token, None);
    let back = bench.now();
    bench.run_for(secs(80)).await;
    let polls = bench.polls_since(0, back);
    assert!(most_in_a_second(&polls) <= 30, "no burst: {polls:?}");
    assert!(ids.iter().all(|id| bench.session(*id).provider_reachable()), "all have noticed");
    assert!(bench.upstreams["a"].gate.is_reachable());
    let others = bench.polls_since(1, up);
    let expected = usize::try_from(bench.now().since(up).as_secs() / 6).unwrap();
    assert!((expected - expected / 10..=expected + 1).contains(&others.len()), "the other one was polled {} times", others.len());
    assert_eq!((bench.providers[0].early_polls(), bench.providers[0].overlapping_polls()), (0, 0));

    assert_eq!(bench.providers[0].approve(anteroom::demo::Codes::All), 60);
    bench.run_for(secs(20)).await;
    assert_eq!(bench.statuses(&ids), [Status::Authorized; 60]);
}

#[tokio::test]
async fn a_session_says_that_the_provider_is_unreachable_from_the_third_failure_to_the_first_good_answer() {
    let bench = start(&[(Options::default(), &[])]).await;
    let id = bench.begin("a").await;
    bench.providers[0].always(Endpoint::Token, Some(Answer::Reset));
    for failures in 1..=4 {
        while bench.polls(0).len() < failures {
            bench.run_for(secs(1)).await;
        }
        assert_eq!(bench.session(id).provider_reachable(), failures < 3, "after {failures}");
        assert_eq!(bench.upstreams["a"].gate.is_reachable(), failures < 3, "after {failures}");
    }
    bench.providers[0].always(Endpoint::Token, None);
    let polls = bench.polls(0).len();
    while bench.polls(0).len() == polls {
        bench.run_for(secs(1)).await;
    }
    assert!(bench.session(id).provider_reachable() && bench.upstreams["a"].gate.is_reachable());
}

#[tokio::test]
async fn a_sign_in_that_begins_while_the_provider_is_down_is_refused_at_once() {
    let bench = start(&[(Options::default(), &[])]).await;
    bench.begin_many("a", 3, secs(1)).await;
    for endpoint in [Endpoint::Token, Endpoint::DeviceAuthorization] {
        bench.providers[0].always(endpoint, Some(Answer::Reset));
    }
    bench.run_for(secs(120)).await;
    let failed = bench.try_begin("a").await;
    assert_eq!(failed, Err(CreateError::Failed(anteroom::kernel::verdict::Failure::ProviderUnreachable)));
    assert_eq!(bench.upstreams["a"].gate.paused_until(bench.now()), None, "nobody asked for a pause");
}
