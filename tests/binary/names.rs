//! Name servers that say nothing, asked by the shipped binary.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use super::name_server::{Says, Zone};
use super::provider;
use super::service::{Program, Service, TempFile};

/// All that the runtime's pool of threads could look up at once is 512 names.
const EACH: usize = 150;

#[tokio::test(flavor = "multi_thread")]
async fn providers_that_cannot_be_resolved_do_not_delay_another() {
    let zone = Zone::default();
    // Port 53 is asked for, so this is an address that nobody else has.
    let at = Ipv4Addr::from_bits(0x7f50_0035 | (std::process::id() & 0xff) << 8);
    let Ok((_, _serving)) = zone.serve((at, 53).into()).await else {
        assert_ne!(std::env::var("ANTEROOM_TEST_REQUIRE").as_deref(), Ok("all"), "port 53 is not for us");
        return eprintln!("skipped: port 53 is not for us");
    };
    let provider = provider().await;
    let port = provider.issuer().rsplit_once(':').unwrap().1;
    let silent = ["one.test", "two.test", "three.test", "four.test"];
    silent.iter().for_each(|host| zone.say(host, Says::Nothing));
    zone.say("fifth.test", Says::Is(Ipv4Addr::LOCALHOST, 0));
    let section = |host: &str| {
        let name = host.trim_end_matches(".test");
        format!(
            "[providers.{name}]\ndevice_authorization_endpoint = \"http://{host}:{port}/device/code\"\ntoken_endpoint = \
             \"http://{host}:{port}/token\"\nclient_id = \"demo-tv\"\nscopes = [\"profile\"]\nallow_http = true\nmax_in_flight = {EACH}\nmax_polls_per_second = 200\n"
        )
    };
    let providers: String = silent.into_iter().chain(["fifth.test"]).map(section).collect();
    let file = TempFile::new(&format!("listen = \"127.0.0.1:0\"\nadmin_listen = \"\"\n{providers}"));
    let resolv_conf = TempFile::new(&format!("nameserver {at}\noptions of-another-resolver\n"));
    let Some(program) = Program::start_resolving(resolv_conf.path(), &["serve", "--config", file.path()]) else {
        assert_ne!(std::env::var("ANTEROOM_TEST_REQUIRE").as_deref(), Ok("all"), "no mounts here");
        return eprintln!("skipped: no mounts here");
    };
    let service = Arc::new(Service::of(program).await);
    let mut waiting = JoinSet::new();
    for _ in 0..EACH {
        for host in silent {
            let service = Arc::clone(&service);
            waiting.spawn(async move {
                loop {
                    let created = service.create(&json!({ "provider": host.trim_end_matches(".test") })).await;
                    assert_eq!(created.status, StatusCode::SERVICE_UNAVAILABLE);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
    }
    let all_are_asked = || silent.iter().all(|host| zone.asked(host) > 0);
    super::service::within(async {
        while !all_are_asked() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // Until as many as may wait do so. The system's own look-ups would go on even when nobody waits for them any more.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(zone.asked("fifth.test"), 0);
    let created = service.create(&json!({ "provider": "fifth" })).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.body);
    let log = service.program.stderr();
    assert!(!log.iter().any(|line| line.contains("hickory")), "{log:#?}");
    assert!(waiting.try_join_next().is_none(), "one got an answer from nowhere");
}
