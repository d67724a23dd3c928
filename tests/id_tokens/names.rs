//! Who is asked for a provider's addresses, and what a name server can do to us.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::SystemClock;
use anteroom::provider::egress::Egress;
use anteroom::provider::exchange::{Answer, Exchange, NoAnswer, client_knowing};
use anteroom::provider::names::{Names, NotFound, Sources};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{settings, within};
use crate::name_server::{Says, Zone};
use crate::scratch::Scratch;

/// Serves one zone at each of 127.0.0.1, 127.0.0.2 and so on, at one port.
struct Servers {
    port: u16,
    zones: Vec<Zone>,
    scratch: Scratch,
    _serving: Vec<JoinSet<()>>,
}

impl Servers {
    async fn start(count: u8) -> Self {
        loop {
            let zones: Vec<Zone> = (0..count).map(|_| Zone::default()).collect();
            if let Ok((port, serving)) = Self::serve(&zones).await {
                return Self { port, zones, scratch: Scratch::default(), _serving: serving };
            }
        }
    }

    /// Fails where the port that is free for the first is not free for all of them.
    async fn serve(zones: &[Zone]) -> io::Result<(u16, Vec<JoinSet<()>>)> {
        let mut serving = Vec::new();
        let mut port = 0;
        for (zone, last) in zones.iter().zip(1..) {
            let (at, tasks) = zone.serve((Ipv4Addr::new(127, 0, 0, last), port).into()).await?;
            port = at.port();
            serving.push(tasks);
        }
        Ok((port, serving))
    }

    /// A resolver that knows these servers; `more` are further lines of resolv.conf.
    fn names(&self, more: &str, hosts: &str) -> Names {
        let servers: String = (1..=self.zones.len()).map(|last| format!("nameserver 127.0.0.{last}\n")).collect();
        Names::new(self.sources(&format!("{servers}{more}"), hosts))
    }

    fn sources(&self, resolv_conf: &str, hosts: &str) -> Sources {
        let write = |name: &str, text: &str| -> PathBuf {
            let path = self.scratch.join(&format!("{name}-{}", uuid::Uuid::new_v4()));
            fs::write(&path, text).unwrap();
            path
        };
        Sources { resolv_conf: write("resolv.conf", resolv_conf), hosts: write("hosts", hosts), port: self.port }
    }
}

fn v4(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn addresses(names: &Names, host: &str) -> Result<Vec<IpAddr>, NotFound> {
    within(20, names.addresses(host)).await
}

/// Somebody at `host` who answers every request.
async fn web(address: &str, port: u16) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind((address, port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}").await;
        }
    });
    (port, serving)
}

struct Client(Exchange, reqwest::Url);

impl Client {
    fn of(names: Names, host: &str, port: u16) -> Self {
        let url = format!("http://{host}:{port}/");
        let settings = settings(&url, &[("allow_http", "true")]);
        let http = client_knowing(names, &settings).unwrap();
        Self(Exchange::new(http, SystemClock::start()).within(Egress::of(&settings)), url.parse().unwrap())
    }

    async fn get(&self) -> Result<Answer, NoAnswer> {
        within(20, self.0.get(self.1.clone())).await
    }
}

/// One blocking thread is all that this test has, and the look-ups of the system would take one each.
#[test]
fn silent_names_delay_nobody_else() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let servers = Servers::start(1).await;
        let (port, _serving) = web("127.0.0.1", 0).await;
        servers.zones[0].say("fifth.test", Says::Is(Ipv4Addr::LOCALHOST, 0));
        let mut waiting = JoinSet::new();
        for nth in 0..4 {
            let host = format!("silent{nth}.test");
            servers.zones[0].say(&host, Says::Nothing);
            let client = Arc::new(Client::of(servers.names("", ""), &host, port));
            for _ in 0..150 {
                let client = Arc::clone(&client);
                waiting.spawn(async move { client.get().await.map(drop) });
            }
        }
        while (0..4).any(|nth| servers.zones[0].asked(&format!("silent{nth}.test")) == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let fifth = Client::of(servers.names("", ""), "fifth.test", port);
        for _ in 0..20 {
            assert_eq!(fifth.get().await.unwrap().status, 200);
        }
        assert!(waiting.try_join_next().is_none(), "it took as long as the silent ones");
        while let Some(answer) = waiting.join_next().await {
            assert!(matches!(answer.unwrap(), Err(NoAnswer::NotConnected("the name cannot be resolved" | "not in time"))));
        }
    });
}

#[tokio::test]
async fn an_answer_is_kept_for_its_ttl_and_no_longer() {
    let servers = Servers::start(1).await;
    let (names, zone) = (servers.names("", ""), &servers.zones[0]);
    zone.say("kept.test", Says::Is(Ipv4Addr::new(192, 0, 2, 1), 3600));
    zone.say("moves.test", Says::Is(Ipv4Addr::new(192, 0, 2, 1), 1));
    for _ in 0..5 {
        assert_eq!(addresses(&names, "kept.test").await, Ok(vec![v4("192.0.2.1")]));
    }
    assert_eq!(zone.asked("kept.test"), 1);
    assert_eq!(addresses(&names, "moves.test").await, Ok(vec![v4("192.0.2.1")]));
    assert_eq!(addresses(&names, "comes.test").await, Err(NotFound));
    zone.say("moves.test", Says::Is(Ipv4Addr::new(192, 0, 2, 2), 1));
    zone.say("comes.test", Says::Is(Ipv4Addr::new(192, 0, 2, 3), 1));
    within(20, async {
        while addresses(&names, "moves.test").await != Ok(vec![v4("192.0.2.2")])
            || addresses(&names, "comes.test").await != Ok(vec![v4("192.0.2.3")])
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// However long its old address was to be kept, the first connection that fails there ends it.
#[tokio::test]
async fn a_provider_that_moved_is_found_again() {
    let servers = Servers::start(1).await;
    let (port, mut serving) = web("127.0.0.1", 0).await;
    servers.zones[0].say("moves.test", Says::Is(Ipv4Addr::LOCALHOST, 3600));
    let client = Client::of(servers.names("", ""), "moves.test", port);
    assert_eq!(client.get().await.unwrap().status, 200);
    assert_eq!(client.get().await.unwrap().status, 200);
    assert_eq!(servers.zones[0].asked("moves.test"), 1);
    serving.shutdown().await;
    let (_, _serving) = web("127.0.0.2", port).await;
    servers.zones[0].say("moves.test", Says::Is(Ipv4Addr::new(127, 0, 0, 2), 3600));
    assert_eq!(client.get().await.map(drop), Err(NoAnswer::NotConnected("refused")));
    assert_eq!(client.get().await.unwrap().status, 200);
}

#[tokio::test]
async fn the_hosts_file_goes_before_every_server() {
    let servers = Servers::start(1).await;
    let zone = &servers.zones[0];
    zone.say("written.test", Says::Nothing);
    let names =
        servers.names("", "192.0.2.7 Written.test my_idp\n\u{fffd} what\n2001:db8::7\tsix.test # seven.test\n192.0.2.8 idp.localhost\n");
    assert_eq!(addresses(&names, "written.test").await, Ok(vec![v4("192.0.2.7")]));
    assert_eq!(addresses(&names, "written.test.").await, Ok(vec![v4("192.0.2.7")]));
    assert_eq!(addresses(&names, "my_idp").await, Ok(vec![v4("192.0.2.7")]));
    assert_eq!(addresses(&names, "six.test").await, Ok(vec![v4("2001:db8::7")]));
    assert_eq!(addresses(&names, "idp.localhost").await, Ok(vec![v4("192.0.2.8")]));
    assert!(zone.asked.lock().is_empty(), "{:?}", zone.asked.lock());
    assert_eq!(addresses(&names, "seven.test").await, Err(NotFound));
}

#[tokio::test]
async fn this_machine_is_found_without_any_server() {
    let servers = Servers::start(1).await;
    let missing = || Sources { resolv_conf: "/nowhere/resolv.conf".into(), hosts: "/nowhere/hosts".into(), port: servers.port };
    for names in [servers.names("options ndots:5\nsearch corp.test", ""), Names::new(missing())] {
        for host in ["localhost", "LOCALHOST", "localhost.", "idp.localhost", "a.b.localhost."] {
            assert_eq!(addresses(&names, host).await, Ok(vec![v4("127.0.0.1"), v4("::1")]), "{host}");
        }
    }
    assert!(servers.zones[0].asked.lock().is_empty());
    // Whoever names no server has one on this machine.
    servers.zones[0].say("idp.test", Says::Is(Ipv4Addr::new(192, 0, 2, 1), 60));
    assert_eq!(addresses(&Names::new(missing()), "idp.test").await, Ok(vec![v4("192.0.2.1")]));
    let only_comments = Names::new(servers.sources("# nothing\noptions edns0\n", ""));
    assert_eq!(addresses(&only_comments, "idp.test").await, Ok(vec![v4("192.0.2.1")]));
}

#[tokio::test]
async fn names_are_searched_for_as_the_file_says() {
    let servers = Servers::start(1).await;
    let zone = &servers.zones[0];
    zone.say("idp.corp.test", Says::Is(Ipv4Addr::new(192, 0, 2, 1), 60));
    zone.say("my_idp.corp.test", Says::Is(Ipv4Addr::new(192, 0, 2, 2), 60));
    zone.say("api.idp.svc.test", Says::Is(Ipv4Addr::new(192, 0, 2, 3), 60));
    zone.say("api.idp", Says::Is(Ipv4Addr::new(192, 0, 2, 4), 60));
    let (near, far) = (servers.names("search corp.test svc.test\n", ""), servers.names("search corp.test svc.test\noptions ndots:5\n", ""));
    assert_eq!(addresses(&near, "idp").await, Ok(vec![v4("192.0.2.1")]));
    assert_eq!(addresses(&near, "my_idp").await, Ok(vec![v4("192.0.2.2")]));
    assert_eq!(addresses(&near, "api.idp").await, Ok(vec![v4("192.0.2.4")]));
    assert_eq!(addresses(&far, "api.idp").await, Ok(vec![v4("192.0.2.3")]));
    assert_eq!(addresses(&far, "api.idp.").await, Ok(vec![v4("192.0.2.4")]));
    assert_eq!(addresses(&near, "elsewhere").await, Err(NotFound));
    let odd = servers.names(&format!("search {}.test\n", "x".repeat(70)), "");
    assert_eq!(addresses(&odd, "api.idp").await, Ok(vec![v4("192.0.2.4")]));
}

/// The first server knows names of the house that the second denies.
#[tokio::test]
async fn servers_are_asked_in_their_order() {
    let servers = Servers::start(3).await;
    let [first, second, third] = &servers.zones[..] else { unreachable!() };
    first.say("house.test", Says::Is(Ipv4Addr::new(10, 0, 0, 1), 0));
    for zone in [second, third] {
        zone.say("absent.test", Says::Is(Ipv4Addr::new(192, 0, 2, 1), 60));
        zone.say("silent.test", Says::Is(Ipv4Addr::new(192, 0, 2, 2), 60));
    }
    first.say("silent.test", Says::Nothing);
    first.say("fails.test", Says::Fails);
    second.say("fails.test", Says::Nothing);
    third.say("fails.test", Says::Is(Ipv4Addr::new(192, 0, 2, 3), 60));
    let names = servers.names("", "");
    for _ in 0..20 {
        assert_eq!(addresses(&names, "house.test").await, Ok(vec![v4("10.0.0.1")]));
    }
    assert_eq!(addresses(&names, "absent.test").await, Err(NotFound));
    assert_eq!(addresses(&names, "silent.test").await, Ok(vec![v4("192.0.2.2")]));
    assert_eq!(addresses(&names, "fails.test").await, Ok(vec![v4("192.0.2.3")]));
}

#[tokio::test]
async fn what_a_server_says_only_in_part_is_enough() {
    let servers = Servers::start(1).await;
    servers.zones[0].say("four.test", Says::NothingOfV6(Ipv4Addr::new(192, 0, 2, 1)));
    servers.zones[0].say("long.test", Says::IsLong(Ipv4Addr::new(192, 0, 2, 2)));
    let names = servers.names("", "");
    assert_eq!(addresses(&names, "four.test").await, Ok(vec![v4("192.0.2.1")]));
    assert_eq!(addresses(&names, "long.test").await, Ok(vec![v4("192.0.2.2")]), "{:?}", servers.zones[0].asked.lock());
}
