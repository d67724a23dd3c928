use std::io::Write;
use std::net::TcpListener;
use std::process::Command;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::header::HeaderName;

use super::*;
use crate::clock::SystemClock;
use crate::kernel::time::Offset;
use crate::provider::script::{Server, keep_silent, reply};

/// Long enough for loopback, short enough to wait for.
const SHORT: Duration = Duration::from_millis(300);
/// Never reached in a test that passes.
const LONG: Duration = Duration::from_secs(60);

fn exchange(patience: Patience) -> Exchange {
    Exchange::new(client_with(patience, None).unwrap(), SystemClock::start())
}

fn patient() -> Exchange {
    exchange(Patience { connect: LONG, total: LONG })
}

/// A port where nobody listens.
fn dead_end() -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap()
}

#[tokio::test]
async fn an_answer_arrives_with_all_that_counts() {
    let server = Server::start(|_, stream| reply(stream, 503, "Retry-After: 7\r\n", "body"));
    let answer = patient().post(server.at("token?tenant=1"), Encoding::Form, &[("a", "b c&d"), ("a", "e")], None).await.unwrap();
    assert_eq!((answer.status, answer.retry_after, answer.body.as_slice()), (503, Some(Duration::from_secs(7)), b"body".as_slice()));
    let request = server.requests().remove(0);
    assert_eq!(request.line, "POST /token?tenant=1");
    assert!(request.headers.contains("content-type: application/x-www-form-urlencoded\r\n"));
    assert!(request.headers.contains("accept: application/json\r\n"));
    assert!(request.headers.contains("user-agent: anteroom/"));
    assert_eq!(request.form, [("a".into(), "b c&d".into()), ("a".into(), "e".into())]);
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let server = Server::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"access_token\":\"");
        while stream.write_all(&[b'a'; 4096]).is_ok() {}
    });
    let answer = patient().get(server.at("/")).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[tokio::test]
async fn a_body_at_the_limit_is_read_and_one_byte_more_is_not() {
    let server = Server::start(|request, stream| {
        let length = if request.line.ends_with("/more") { MAX_BODY + 1 } else { MAX_BODY };
        reply(stream, 200, "", &"a".repeat(length));
    });
    assert_eq!(patient().get(server.at("/")).await.unwrap().body.len(), MAX_BODY);
    assert_eq!(patient().get(server.at("/more")).await.unwrap().body.len(), 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_nobody_else_hears_of_it() {
    let other = Server::start(|_, stream| reply(stream, 200, "", "{}"));
    let location = format!("Location: {}\r\n", other.url);
    let server = Server::start(move |request, stream| {
        let status = request.line.rsplit('/').next().unwrap().parse().unwrap();
        reply(stream, status, &location, "");
    });
    for status in [301, 302, 303, 307, 308] {
        let answer = patient().post(server.at(&status.to_string()), Encoding::Form, &[("client_secret", "s")], None).await.unwrap();
        assert_eq!(answer.status, status);
    }
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test]
async fn silence_ends_at_the_total_deadline() {
    let server = Server::start(|request, stream| {
        if request.line.ends_with("/headers") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{").unwrap();
        }
        keep_silent(stream);
    });
    let exchange = exchange(Patience { connect: LONG, total: SHORT });
    for path in ["/", "/headers"] {
        assert_eq!(exchange.post(server.at(path), Encoding::Form, &[], None).await.err(), Some(NoAnswer::TimedOut));
    }
}

/// The thread of the runtime stands still, as the whole process does that is stopped.
#[tokio::test]
async fn an_answer_that_arrived_is_read_however_late_the_process_runs_again() {
    let (asked, is_asked) = std::sync::mpsc::channel();
    let server = Server::start(move |_, stream| {
        asked.send(()).unwrap();
        std::thread::sleep(SHORT / 3);
        reply(stream, 200, "", "{}");
    });
    let total = Duration::from_secs(2);
    let exchange = exchange(Patience { connect: LONG, total });
    let mut asking = tokio::task::JoinSet::new();
    asking.spawn(async move { exchange.get(server.at("/")).await });
    while is_asked.try_recv().is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    std::thread::sleep(total + 2 * SLICE);
    assert_eq!(asking.join_next().await.unwrap().unwrap().unwrap().body, b"{}");
}

#[tokio::test]
async fn many_headers_are_fine() {
    let server = Server::start(|_, stream| reply(stream, 200, &"X-Of-A-Proxy: 1\r\n".repeat(200), "{}"));
    assert_eq!(patient().get(server.at("/")).await.unwrap().body, b"{}");
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_answer_and_the_request_is_not_repeated() {
    let server = Server::start(|request, stream| {
        if request.line.ends_with("/half") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{").unwrap();
        }
    });
    for path in ["/", "/half"] {
        assert_eq!(patient().post(server.at(path), Encoding::Form, &[], None).await.err(), Some(NoAnswer::Broken));
    }
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn nothing_was_sent_where_nobody_listens() {
    assert_eq!(patient().get(dead_end()).await.err(), Some(NoAnswer::NotConnected("refused")));
}

#[tokio::test]
async fn nothing_was_sent_while_tls_is_being_made() {
    let url = |listener: &TcpListener| Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    // The system accepts for it, and nobody ever reads.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let babbling = TcpListener::bind("127.0.0.1:0").unwrap();
    let babbling_url = url(&babbling);
    std::thread::spawn(move || {
        let (mut stream, _) = babbling.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 This is no TLS\r\n\r\n");
        keep_silent(&mut stream);
    });
    let exchange = exchange(Patience { connect: SHORT, total: LONG });
    assert_eq!(exchange.get(url(&silent)).await.err(), Some(NoAnswer::NotConnected("not in time")));
    let tls = NoAnswer::NotConnected("TLS failed, or the certificate is not trusted");
    assert_eq!(exchange.get(babbling_url).await.err(), Some(tls));
}

#[tokio::test]
async fn a_dead_proxy_is_a_connection_that_could_not_be_made() {
    let server = Server::start(|_, stream| reply(stream, 200, "", "{}"));
    let http = client_with(Patience { connect: LONG, total: LONG }, Some(&dead_end())).unwrap();
    let exchange = Exchange::new(http, SystemClock::start());
    let secure = Url::parse(&server.url.as_str().replace("http:", "https:")).unwrap();
    for url in [server.url.clone(), secure] {
        assert_eq!(exchange.get(url).await.err(), Some(NoAnswer::NotConnected("refused")));
    }
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn a_proxy_that_lives_is_used() {
    let proxy = Server::start(|_, stream| reply(stream, 200, "", "{}"));
    let exchange = Exchange::new(client(Some(&proxy.url)).unwrap(), SystemClock::start());
    assert_eq!(exchange.get(Url::parse("http://id.example/token").unwrap()).await.unwrap().status, 200);
    assert_eq!(proxy.requests().remove(0).line, "GET http://id.example/token");
}

#[test]
fn a_proxy_of_another_kind_is_refused() {
    assert_eq!(client(Some(&Url::parse("socks5://127.0.0.1:1080").unwrap())).err(), Some(ClientError::Proxy));
}

#[test]
fn a_client_is_built() {
    assert!(client(None).is_ok());
    assert!(client(Some(&dead_end())).is_ok());
}

#[test]
fn a_machine_without_ca_certificates_will_do() {
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "provider::exchange::tests::a_client_is_built"])
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&again.stdout).contains("1 passed"));
}

#[test]
fn no_url_is_in_the_words_for_a_failure() {
    for no_answer in [NoAnswer::NotConnected("refused"), NoAnswer::TimedOut, NoAnswer::Broken] {
        assert!(!no_answer.to_string().contains("://"));
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_and_at_most_an_hour() {
    // Sun, 06 Nov 1994 08:49:37 GMT
    let now = WallTime::from_millis(784_111_777_000);
    let rows = [
        ("7", Some(7)),
        (" 120 ", Some(120)),
        ("0", None),
        ("", None),
        ("1000000000", Some(3600)),
        ("99999999999999999999999999", Some(3600)),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("Sun, 06 Nov 1994 08:49:57 GMT", Some(20)),
        ("Sunday, 06-Nov-94 08:49:57 GMT", Some(20)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1993 08:49:37 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", Some(3600)),
    ];
    for (text, seconds) in rows {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
        assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

/// Its wall clock is ahead.
struct SetAhead(Offset);

impl Clock for SetAhead {
    fn now(&self) -> Timestamp {
        // Sun, 06 Nov 1994 08:49:37 GMT
        Timestamp::from_millis(784_111_777_000)
    }

    fn offset(&self) -> Offset {
        self.0
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        core::future::pending().boxed()
    }
}

#[tokio::test]
async fn dates_are_compared_with_the_wall_clock_as_it_is_now() {
    let server = Server::start(|_, stream| {
        reply(stream, 503, "Retry-After: Sun, 06 Nov 1994 08:52:07 GMT\r\nDate: Sun, 06 Nov 1994 08:51:37 GMT\r\n", "");
    });
    for (ahead, wait) in [(0, 150), (120_000, 30), (-60_000, 210)] {
        let clock = Arc::new(SetAhead(Offset::from_millis(ahead)));
        let answer = Exchange::new(client(None).unwrap(), clock).get(server.at("token")).await.unwrap();
        assert_eq!(answer.retry_after, Some(Duration::from_secs(wait)));
        assert_eq!(Offset::ahead(answer.date.unwrap(), answer.received_at), Offset::from_millis(120_000 - ahead));
    }
}

#[test]
fn what_a_cache_kept_is_as_much_older_as_it_says() {
    let date = |headers: &[(HeaderName, &'static str)]| {
        let headers = headers.iter().map(|(name, text)| (name.clone(), HeaderValue::from_static(text)));
        date(&HeaderMap::from_iter(headers)).map(WallTime::as_millis)
    };
    let made = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(date(&[(DATE, made)]), Some(784_111_777_000));
    assert_eq!(date(&[(DATE, made), (AGE, "3600")]), Some(784_115_377_000));
    assert_eq!(date(&[(DATE, made), (AGE, "old")]), Some(784_111_777_000));
    assert_eq!(date(&[(DATE, "yesterday")]), None);
    assert_eq!(date(&[]), None);
}
