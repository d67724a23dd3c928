//! Beginning sign-ins, beside a bare loop of device requests against the same provider.

use std::time::Instant;

use anteroom::provider::exchange::client;
use futures_util::{StreamExt, stream};

use super::table::Table;
use super::{Options, rig};

const CLIENTS: usize = 64;

pub fn measure(options: &Options, table: &mut Table) {
    let count = if options.full { 60_000 } else { 20_000 };
    rig::runtime().block_on(async {
        let beside = rig::Beside::start(3_600);
        let http = client(None).expect("a client");
        let url = format!("{}/device/code", beside.issuer);
        let challenge = "x".repeat(43);
        let form = [("client_id", "demo-tv"), ("code_challenge_method", "S256"), ("code_challenge", challenge.as_str())];
        let request = |_| async {
            http.post(&url).form(&form).send().await.expect("an answer").error_for_status().expect("a code").bytes().await.expect("a body")
        };
        let begun = Instant::now();
        stream::iter(0..count).map(request).buffer_unordered(CLIENTS).for_each(async |_| ()).await;
        let ceiling = count as f64 / begun.elapsed().as_secs_f64();

        let app = rig::app(&beside, CLIENTS).await;
        let begun = Instant::now();
        rig::begin(&app, count, CLIENTS).await;
        let mine = count as f64 / begun.elapsed().as_secs_f64();
        table.ratio("sign-ins begun, memory store, 64 at once", mine, ceiling, "/s", 0.60);
        app.stop().await;
    });
}
