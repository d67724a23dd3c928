//! Beginning sign-ins, each durable before it is acknowledged: beside a bare loop of device authorization requests with the same
//! client, and beside a bare handler that has all of the work to do: HTTP, the provider, the commit, on the same cores.

use std::time::Duration;

use super::bare::Bare;
use super::child::{Beside, DISTANCE, Folder, Service};
use super::client::{BEGIN, recorded};
use super::fill::http;
use super::rate::{answers, rate};
use super::table::Table;
use super::{Options, runtime};

const CLIENTS: usize = 64;
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(600);

pub fn measure(_: &Options, table: &mut Table) {
    runtime().block_on(async {
        begins(Beside::start(3_600), "", table).await;
        let away = format!(", provider {} ms away", DISTANCE.as_millis());
        begins(Beside::distant(3_600), &away, table).await;
    });
}

async fn begins(beside: Beside, away: &str, table: &mut Table) {
    let folder = Folder::new();
    let service = Service::start(&folder, &beside.issuer, &[]);
    let bare = Bare::beginning(&folder, &beside.issuer, recorded(service.address, BEGIN).await);
    // Its connections stay from round to round, as those of the others do.
    let http = http(&beside.issuer);
    let (mut ours, mut ceiling, mut handler) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(answers(service.address, BEGIN, 201, CLIENTS, ROUND).await);
        ceiling.push(device_requests(&http, &beside.issuer).await);
        handler.push(answers(bare.address, BEGIN, 201, CLIENTS, ROUND).await);
    }
    let what = format!("POST /sessions, SQLite, {CLIENTS} clients{away}");
    table.ratio(&*what, &ours, &ceiling, "/s", 0.60);
    table.ratio(format!("{what}, beside a bare handler that asks and commits"), &ours, &handler, "/s", 0.60);
}

async fn device_requests(http: &reqwest::Client, issuer: &str) -> f64 {
    rate(CLIENTS, ROUND, |meter| {
        let (http, url) = (http.clone(), format!("{issuer}/device/code"));
        async move {
            let challenge = "c".repeat(43);
            let form = [("client_id", "demo-tv"), ("code_challenge", &challenge), ("code_challenge_method", "S256")];
            loop {
                let answer = http.post(&url).form(&form).header("accept", "application/json").send().await.expect("an answer");
                assert_eq!(answer.status(), 200);
                answer.bytes().await.expect("a body");
                if !meter.count() {
                    return;
                }
            }
        }
    })
    .await
}
