//! Whether memory grows while sign-ins come and go and their number stays the same.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::child::{Beside, Folder, Service};
use super::client::{BEGIN, Begun, Client, begin, cancellation};
use super::rate::{Meter, rate};
use super::table::Table;
use super::{Options, runtime};

const CLIENTS: usize = 64;
const POPULATION: usize = 20_000;

pub fn measure(options: &Options, table: &mut Table) {
    let Some(minutes) = options.churn else { return };
    let folder = Folder::new();
    let beside = Beside::start(3_600);
    let service = Service::start(&folder, &beside.issuer, &[]);
    runtime().block_on(async {
        let time = Duration::from_secs_f64(minutes * 60.0);
        let sessions = begin(service.address, POPULATION).await;
        let mut shares = sessions.chunks(POPULATION.div_ceil(CLIENTS)).map(<[Begun]>::to_vec).collect::<Vec<_>>().into_iter();
        let shares = std::cell::RefCell::new(&mut shares);
        let churning = rate(CLIENTS, time, |meter| churn(service.address, shares.borrow_mut().next().unwrap_or_default().into(), meter));
        let watching = async {
            tokio::time::sleep(time / 10).await;
            let early = service.resident();
            tokio::time::sleep(time).await;
            service.resident() / early
        };
        let (per_second, growth) = tokio::join!(churning, watching);
        let what =
            format!("resident memory after {minutes} min of churn, {per_second:.0} begun a second, {POPULATION} live, beside a tenth");
        table.at_most(what, growth, "x", 1.1);
    });
}

/// Begins one and cancels its oldest, again and again.
async fn churn(address: SocketAddr, mut sessions: VecDeque<Begun>, meter: Arc<Meter>) {
    let mut client = Client::connect(address).await;
    loop {
        assert_eq!(client.ask(BEGIN.as_bytes()).await, 201);
        sessions.push_back(serde_json::from_slice(client.body()).expect("a session"));
        if let Some(oldest) = sessions.pop_front() {
            assert_eq!(client.ask(cancellation(&oldest).as_bytes()).await, 204);
        }
        if !meter.count() {
            return;
        }
    }
}
