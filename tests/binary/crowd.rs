//! Many clients that behave badly, and what the others notice of them.

use std::time::{Duration, Instant};

use anteroom::demo::DevProvider;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::service::{Program, Service, TempFile};
use super::{client_of, provider};

#[derive(Clone, Copy, Debug)]
enum Manner {
    Silent,
    HalfHeader,
    Dribbling,
    Idle,
}

const MANNERS: [Manner; 4] = [Manner::Silent, Manner::HalfHeader, Manner::Dribbling, Manner::Idle];
const CROWD: usize = 500;
/// A timer of 30 s, on a machine that is busy with other tests.
const CLOSED_BY: Duration = Duration::from_secs(45);
const ANSWERED_IN: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_is_silent_slow_or_idle_disturbs_nobody() {
    let provider = provider().await;
    let service = Service::start(&client_of(&provider)).await;
    let watched = service.begin(&json!({})).await;
    let mut crowd = crowd(&service, CROWD).await;

    let mut slowest = Duration::ZERO;
    let mut lived = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while lived.len() < CROWD {
        tick.tick().await;
        while let Some(ended) = crowd.try_join_next() {
            lived.push(ended.unwrap());
        }
        let begin = Instant::now();
        // A new connection each time, as a client has that comes now.
        let honest = service.request(Method::GET, &format!("/sessions/{}", watched.id)).header("Connection", "close");
        assert_eq!(honest.send().await.unwrap().status(), StatusCode::OK);
        slowest = slowest.max(begin.elapsed());
    }
    let longest = lived.into_iter().max().unwrap();
    assert!(longest < CLOSED_BY, "one was open for {longest:?}");
    assert!(slowest < ANSWERED_IN, "an honest client waited for {slowest:?}");
    keeps_pace(&provider, watched.user_code());

    provider.approve(watched.user_code());
    assert_eq!(watched.outcome().await["status"], "authorized");
    assert_eq!(watched.claim().await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_few_files_the_sign_ins_under_way_go_on() {
    let provider = provider().await;
    let file = TempFile::new(&format!("listen = \"127.0.0.1:0\"\nadmin_listen = \"\"\n{}max_in_flight = 8\n", client_of(&provider)));
    let service = Service::of(Program::start_with_files(256, &["serve", "--config", file.path()])).await;
    let said = service.program.stderr();
    assert!(said.iter().any(|line| line.contains("limit of open files")), "{said:#?}");
    let watched = service.begin(&json!({})).await;
    // More than the service may open, and none of them says a word; those that it has no place for wait outside.
    let mut crowd = JoinSet::new();
    for _ in 0..300 {
        let address = service.url.strip_prefix("http://").unwrap().to_owned();
        crowd.spawn(async move { live(Manner::Silent, TcpStream::connect(address).await.unwrap()).await });
    }
    let before = provider.polls(watched.user_code()).len();
    super::service::within(provider.wait_for(|provider| provider.polls(watched.user_code()).len() >= before + 5)).await;
    keeps_pace(&provider, watched.user_code());
    let log = service.program.stderr();
    assert!(!log.iter().any(|line| line.contains("cannot accept")), "it ran out of files: {log:#?}");

    provider.approve(watched.user_code());
    assert_eq!(watched.outcome().await["status"], "authorized", "on the connection that it has");
    assert_eq!(watched.claim().await.status, StatusCode::OK);
}

/// The provider asks for a second between polls.
fn keeps_pace(provider: &DevProvider, user_code: &str) {
    let gaps = provider.gaps(user_code);
    assert!(gaps.len() >= 3, "only {} polls", gaps.len());
    let longest = gaps.into_iter().max().unwrap();
    assert!(longest < Duration::from_secs(6), "{longest:?} between polls");
    assert_eq!(provider.early_polls(), 0);
}

/// All are connected when this returns; each says in the end how long it lived.
async fn crowd(service: &Service, size: usize) -> JoinSet<Duration> {
    let address = service.url.strip_prefix("http://").unwrap();
    let mut crowd = JoinSet::new();
    for manner in MANNERS.into_iter().cycle().take(size) {
        let stream = TcpStream::connect(address).await.unwrap();
        crowd.spawn(live(manner, stream));
    }
    crowd
}

async fn live(manner: Manner, mut stream: TcpStream) -> Duration {
    let begin = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let misbehaving = async {
        match manner {
            Manner::Silent => {}
            Manner::HalfHeader => writer.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nx-").await.unwrap_or_default(),
            Manner::Idle => writer.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap_or_default(),
            Manner::Dribbling => {
                let mut sent = writer.write_all(b"GET /livez HTTP/1.1\r\nx: ").await;
                while sent.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    sent = writer.write_all(b"x").await;
                }
            }
        }
        // The end is for the reader to see.
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = misbehaving => {}
        // Closed or reset: both are ends.
        _ = reader.read_to_end(&mut answer) => {}
    }
    begin.elapsed()
}
