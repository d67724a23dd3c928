//! Readers: what a watcher's question costs, beside a handler that only writes the same bytes.

use std::net::SocketAddr;
use std::time::Duration;

use super::bare::Bare;
use super::child::{Beside, Folder, Service};
use super::client::{Client, begin, recorded};
use super::rate::answers;
use super::table::Table;
use super::{Options, runtime};

const CLIENTS: usize = 64;
/// Many and short: the machine's moods last for seconds.
const ROUNDS: usize = 40;
const ROUND: Duration = Duration::from_millis(200);
const POLLED: usize = 10_000;

pub fn measure(_: &Options, table: &mut Table) {
    let folder = Folder::new();
    let beside = Beside::start(5);
    let service = Service::start(&folder, &beside.issuer, &[]);
    runtime().block_on(async {
        let id = begin(service.address, 1).await[0].id;
        let read = format!("GET /sessions/{id} HTTP/1.1\r\nHost: x\r\n\r\n");
        let found = recorded(service.address, &read).await;
        let tag = found.1.iter().find_map(|(name, value)| (name == "etag").then_some(value)).expect("an ETag");
        let conditional = read.replace("Host: x", &format!("Host: x\r\nIf-None-Match: {tag}"));
        let unchanged = recorded(service.address, &conditional).await;
        let bare = Bare::reading(found, unchanged);
        for request in [&read, &conditional] {
            assert_eq!(length(service.address, request).await, length(bare.address, request).await, "not the same bytes");
        }
        let requests = [(read.as_str(), 200), (conditional.as_str(), 304)];
        let [(plain, plain_ceiling), (unchanged, unchanged_ceiling)] = in_turns(service.address, bare.address, requests).await;
        table.ratio(format!("GET a session, {CLIENTS} connections"), &plain, &plain_ceiling, "/s", 0.90);
        let what = format!("GET with If-None-Match, 304, {CLIENTS} connections");
        table.ratio(what, &unchanged, &unchanged_ceiling, "/s", 0.95);
        begin(service.address, POLLED).await;
        let [(beside_polls, ceiling)] = in_turns(service.address, bare.address, [(&read, 200)]).await;
        table.ratio(format!("GET while {POLLED} sessions are polled every 5 s"), &beside_polls, &ceiling, "/s", 0.80);
    });
}

/// Answers per second to each request, of ours and of the ceiling, taken in turns so that all meet the same moods of the machine.
async fn in_turns<const N: usize>(ours: SocketAddr, bare: SocketAddr, requests: [(&str, u16); N]) -> [(Vec<f64>, Vec<f64>); N] {
    let mut rates = [const { (Vec::new(), Vec::new()) }; N];
    for _ in 0..ROUNDS {
        for ((request, status), (mine, ceiling)) in requests.iter().zip(&mut rates) {
            mine.push(answers(ours, request, *status, CLIENTS, ROUND).await);
            ceiling.push(answers(bare, request, *status, CLIENTS, ROUND).await);
        }
    }
    rates
}

async fn length(address: SocketAddr, request: &str) -> usize {
    let mut client = Client::connect(address).await;
    client.ask(request.as_bytes()).await;
    client.length()
}
