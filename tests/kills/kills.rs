//! SIGKILL at any instant.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::SystemClock;
use anteroom::demo::{DevProvider, Options};
use futures_util::future::join_all;
use tokio::task::block_in_place;

use crate::scratch::Scratch;
use crate::service::{Service, configure, was_killed};
use crate::world::{World, random};

const WORLDS: usize = 8;
const CLIENTS: usize = 3;
const INTERVAL: Duration = Duration::from_secs(1);

/// `ANTEROOM_TEST_KILLS=10000` for the long version.
fn kills() -> usize {
    std::env::var("ANTEROOM_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(200)
}

/// When the service dies: at a point of its input and output, or at any time.
fn plan() -> (Vec<(&'static str, String)>, Duration) {
    let points = ["before:sync", "after:sync", "before:write", "after:write", "before:send", "after:send"];
    match random(3) {
        0 => (Vec::new(), Duration::from_millis(u64::from(random(400)))),
        // Long enough for polls.
        1 => (Vec::new(), Duration::from_millis(1_000 + u64::from(random(1_500)))),
        _ => (vec![("KILL_AT", format!("{}:{}", points[random(6) as usize], 1 + random(120)))], Duration::from_secs(2)),
    }
}

async fn live_and_die(world: &World, provider: &DevProvider, scratch: &Scratch) {
    let (faults, longest) = plan();
    // The provider is to have its worker while we wait for processes.
    let Some(mut service) = block_in_place(|| Service::start(scratch, &faults)) else { return };
    let http = service.http();
    let clients = async {
        world.check(&http, provider).await;
        join_all((0..CLIENTS).map(|_| world.use_service(&http, provider))).await;
    };
    tokio::select! {
        () = clients => assert!(!service.is_running() || was_killed(block_in_place(|| service.ended())), "it stopped answering"),
        () = tokio::time::sleep(longest) => block_in_place(|| service.kill()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_handed_over_twice() {
    let worlds = join_all((0..WORLDS).map(|_| {
        tokio::spawn(async {
            let scratch = Scratch::default();
            let options = Options { interval: Some(INTERVAL.as_secs()), ..Options::default() };
            let provider = DevProvider::start((Ipv4Addr::LOCALHOST, 0).into(), options, SystemClock::start()).await.expect("a free port");
            configure(&scratch, provider.issuer());
            let world = Arc::new(World::default());
            for _ in 0..kills().div_ceil(WORLDS) {
                live_and_die(&world, &provider, &scratch).await;
            }
            let service = block_in_place(|| Service::start(&scratch, &[])).expect("it starts");
            world.finish(&service.http(), &provider).await;
            let early = world.early(&provider, INTERVAL);
            assert_eq!((provider.early_polls(), provider.overlapping_polls()), (0, 0), "{:?} {early:#?}", provider.counts());
            (world.counts(), provider.counts())
        })
    }));
    for world in worlds.await {
        let ((sessions, handed_over, grants_lost), counts) = world.expect("no panic");
        eprintln!("{sessions} sessions, {handed_over} handed over, {grants_lost} grants lost, {counts:?}");
        assert!(handed_over > 0);
    }
}
