//! `GET /sessions/{id}` as a page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anteroom::kernel::verdict::Verdict;

use crate::service::{Answer, Beginning, Service, Setup, caller};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

#[tokio::test]
async fn only_who_prefers_html_gets_the_page() {
    let service = Service::plain();
    let session = service.pending().await;
    for (accept, is_page) in [
        (BROWSER, true),
        ("text/html", true),
        ("TEXT/HTML;q=0.2", true),
        ("text/*, application/json;q=0.9", true),
        ("application/json;q=0, */*", true),
        ("*/*", false),
        ("application/json, text/html", false),
        ("text/html;q=0.5, application/json;q=0.6", false),
        ("text/html;q=0", false),
        ("image/png", false),
        ("garbage;;q=,", false),
    ] {
        let answer = service.get_with(&session.path(), &[("accept", accept)]).await;
        assert_eq!(answer.header("content-type").unwrap().starts_with("text/html"), is_page, "{accept}");
    }
    assert!(service.get(&session.path()).await.header("content-type").unwrap().starts_with("application/json"));
}

#[tokio::test]
async fn the_page_shows_the_code_and_nothing_that_could_run() {
    let service = Service::plain();
    service.provider.begins(Beginning::Prompt {
        user_code: "<b>&\"'",
        uri: "https://id.acme.test/'onclick='alert(1)",
        complete: Some("https://id.acme.test/device?a=1&lt=2&user_code='onclick='alert(1)"),
    });
    let created = service.post(r#"{"label": "<img src=x onerror=alert(1)>"}"#).await;
    let page = page(&service, created.header("location").unwrap(), &[]).await;
    let html = page.text();
    for shown in [
        "&#60;b&#62;&#38;&#34;&#39;",
        "&#60;img src=x onerror=alert(1)&#62;",
        "The &#60;acme&#62; ID",
        "id.acme.test/&#39;onclick=&#39;alert(1)<",
        "&#38;lt=2&#38;user_code=&#39;onclick",
    ] {
        assert!(html.contains(shown), "{shown} in {html}");
    }
    assert_eq!(html.matches("<script").count(), 1);
    assert!(html.contains("only if you started this sign-in yourself"));
    assert!(html.contains(">10:15 UTC</time>"));
    assert!(html.contains("<noscript><meta http-equiv=\"refresh\""));
    assert!(!html.contains("ars_"));
}

#[tokio::test]
async fn an_address_that_is_not_of_the_web_is_no_link() {
    let service = Service::plain();
    service.provider.begins(Beginning::Prompt { user_code: "A", uri: "javascript:alert(1)", complete: None });
    // The description of the JSON demands a URI, which this is; the page must still not link it.
    let created = service.post("{}").await;
    let page = page(&service, created.header("location").unwrap(), &[]).await;
    assert!(page.text().contains("javascript:alert(1)") && !page.text().contains("<a "));
}

#[tokio::test]
async fn the_policy_allows_just_the_script_and_the_style_of_the_page() {
    let service = Service::plain();
    let session = service.pending().await;
    let mut nonces = Vec::new();
    for path in [session.path(), service.pending().await.path(), "/".to_owned()] {
        let page = page(&service, &path, &[]).await;
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        let (_, rest) = policy.split_once("script-src 'nonce-").unwrap();
        let (nonce, _) = rest.split_once('\'').unwrap();
        assert!(policy.contains(&format!("style-src 'nonce-{nonce}'")));
        for element in ["<script", "<style"] {
            assert_eq!(page.text().matches(element).count(), 1);
            assert!(page.text().contains(&format!("{element} nonce=\"{nonce}\">")));
        }
        assert!(!page.text().contains(" style=") && !page.text().contains(" onclick="));
        nonces.push(nonce.to_owned());
    }
    nonces.dedup();
    assert_eq!(nonces.len(), 3, "each page has a nonce of its own");
}

#[tokio::test]
async fn the_page_has_tags_of_its_own() {
    let service = Service::plain();
    let session = service.pending().await;
    let first = page(&service, &session.path(), &[]).await;
    assert_eq!(first.header("etag"), Some("\"2-html-en\""));
    assert_eq!(page(&service, &session.path(), &[]).await.body, first.body);
    let german = page(&service, &session.path(), &[("accept-language", "de"), ("if-none-match", "\"2-html-en\"")]).await;
    assert_eq!((german.status.as_u16(), german.header("etag")), (200, Some("\"2-html-de\"")));
    let again = page(&service, &session.path(), &[("if-none-match", "\"2-html-en\"")]).await;
    assert_eq!((again.status.as_u16(), again.header("content-security-policy")), (304, None));
    assert_eq!(page(&service, &session.path(), &[("if-none-match", "\"2\"")]).await.status, 200);
}

#[tokio::test]
async fn the_page_tells_the_end_and_shows_no_code_then() {
    let service = Service::plain();
    for (verdict, says) in
        [(Verdict::Denied, "declined"), (Verdict::Expired, "code has expired"), (Verdict::Rejected, "refused the sign-in")]
    {
        let session = service.polled(verdict).await;
        let page = page(&service, &session.path(), &[]).await;
        assert!(page.text().contains(says) && page.text().contains("data-settled"), "{}", page.text());
        assert!(!page.text().contains("WDJB-MJHT") && !page.text().contains("http-equiv"));
    }
    let session = service.authorized().await;
    assert!(page(&service, &session.path(), &[]).await.text().contains("You are signed in"));
}

#[tokio::test]
async fn restarts_are_shown_where_they_are_counted() {
    let restarts = Arc::new(AtomicU32::new(3));
    let counted = Arc::clone(&restarts);
    let setup = Setup { restarts: Some(Arc::new(move |_| counted.load(Ordering::SeqCst))), ..Setup::default() };
    let service = Service::start(setup);
    let session = service.pending().await;
    let first = page(&service, &session.path(), &[]).await;
    assert!(first.text().contains("<strong class=\"restarts\">3</strong>"));
    let tag = first.header("etag").unwrap().to_owned();
    restarts.store(4, Ordering::SeqCst);
    let news = page(&service, &session.path(), &[("if-none-match", &tag)]).await;
    assert!(news.text().contains("<strong class=\"restarts\">4</strong>"));
}

#[tokio::test]
async fn the_page_speaks_the_language_that_weighs_most() {
    let service = Service::plain();
    let session = service.pending().await;
    for (accepted, spoken) in [
        ("", "en"),
        ("de", "de"),
        ("DE-at", "de"),
        ("es-419,es;q=0.9,en;q=0.8", "es"),
        ("fr, de;q=0.5, en;q=0.4", "de"),
        ("fr", "en"),
        ("en;q=0.5, es;q=0.7", "es"),
        ("de;q=0", "en"),
        ("*", "en"),
        ("ja, *;q=0.1", "en"),
        ("\"><script>alert(1)</script>", "en"),
        ("de;q=nan, es;q=0.1", "es"),
    ] {
        let page = page(&service, &session.path(), &[("accept-language", accepted)]).await;
        assert!(page.text().contains(&format!("<html lang=\"{spoken}\">")), "{accepted}");
        assert_eq!(page.header("etag").unwrap(), format!("\"2-html-{spoken}\""));
    }
}

#[tokio::test]
async fn the_page_says_when_the_provider_does_not_answer() {
    let service = Service::plain();
    let session = service.pending().await;
    for _ in 0..3 {
        service.provider.says(Verdict::Unreachable { ambiguous: false, retry_after: None });
    }
    let unreachable = || !service.app.sessions.get(session.id.parse().unwrap()).unwrap().provider_reachable();
    service.advance_until(unreachable).await;
    let page = page(&service, &session.path(), &[]).await;
    assert!(page.text().contains("is not answering at the moment") && page.text().contains("WDJB-MJHT"));
}

#[tokio::test]
async fn people_can_begin_where_no_key_is_needed() {
    let service = Service::start(Setup { providers: &["beta", "acme"], ..Setup::default() });
    let open = page(&service, "/", &[]).await;
    for shown in
        ["data-provider=\"acme\"", "data-provider=\"beta\"", "Sign in with The &#60;acme&#62; ID", "<noscript>", "data-do=\"renew\""]
    {
        assert!(open.text().contains(shown), "{shown} in {}", open.text());
    }
    service.get("/").await.is_problem(404, "not_found");
    service.get_with("/", &[("accept", "*/*")]).await.is_problem(404, "not_found");

    let closed = Service::start(Setup { callers: vec![caller(None)], ..Setup::default() });
    let closed = page(&closed, "/", &[]).await;
    assert!(closed.text().contains("begins on your device") && !closed.text().contains("<button"));
}

/// Only the page that began a sign-in, which is the start page, can hold its secret.
#[tokio::test]
async fn a_watchers_page_offers_nothing_that_only_the_owner_may_do() {
    let service = Service::plain();
    for verdict in [Verdict::Denied, Verdict::Expired] {
        let session = service.polled(verdict).await;
        let page = page(&service, &session.path(), &[]).await;
        assert!(!page.text().contains("Get a new code") && !page.text().contains("data-do=\"renew\""));
    }
}

async fn page(service: &Service, path: &str, headers: &[(&str, &str)]) -> Answer {
    service.get_with(path, &[&[("accept", BROWSER)], headers].concat()).await
}
