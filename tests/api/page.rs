//! `GET /sessions/{id}` as a page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anteroom::kernel::verdict::Verdict;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::service::{Answer, Beginning, Service, Setup};

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
        "/&#39;onclick=&#39;alert(1)<",
        "&#38;lt=2&#38;user_code=&#39;onclick",
    ] {
        assert!(html.contains(shown), "{shown} in {html}");
    }
    assert_eq!(html.matches("<script").count(), 1);
    assert!(html.contains("only if you asked for it yourself"));
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
    let page = page(&service, &session.path(), &[]).await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
    for element in ["script", "style"] {
        let (_, rest) = page.text().split_once(&format!("<{element}>")).unwrap();
        let (inner, _) = rest.split_once(&format!("</{element}>")).unwrap();
        let hash = STANDARD.encode(Sha256::digest(inner));
        assert!(policy.contains(&format!("{element}-src 'sha256-{hash}'")), "{element}: {policy}");
    }
}

#[tokio::test]
async fn the_page_has_tags_of_its_own() {
    let service = Service::plain();
    let session = service.pending().await;
    let first = page(&service, &session.path(), &[]).await;
    assert_eq!(first.header("etag"), Some("\"2-html-en\""));
    assert_eq!(page(&service, &session.path(), &[]).await.body, first.body);
    let again = page(&service, &session.path(), &[("if-none-match", "\"2-html-en\"")]).await;
    assert_eq!((again.status.as_u16(), again.header("content-security-policy")), (304, None));
    assert_eq!(page(&service, &session.path(), &[("if-none-match", "\"2\"")]).await.status, 200);
}

#[tokio::test]
async fn the_page_tells_the_end_and_shows_no_code_then() {
    let service = Service::plain();
    for (verdict, says) in
        [(Verdict::Denied, "declined"), (Verdict::Expired, "time for this sign-in is over"), (Verdict::Rejected, "refused the sign-in")]
    {
        let session = service.polled(verdict).await;
        let page = page(&service, &session.path(), &[]).await;
        assert!(page.text().contains(says) && page.text().contains("data-settled"), "{}", page.text());
        assert!(!page.text().contains("WDJB-MJHT") && !page.text().contains("http-equiv"));
    }
    let session = service.authorized().await;
    assert!(page(&service, &session.path(), &[]).await.text().contains("You have signed in"));
}

#[tokio::test]
async fn restarts_are_shown_where_they_are_counted() {
    let restarts = Arc::new(AtomicU32::new(3));
    let counted = Arc::clone(&restarts);
    let setup = Setup { restarts: Some(Arc::new(move |_| counted.load(Ordering::SeqCst))), ..Setup::default() };
    let service = Service::start(setup);
    let session = service.pending().await;
    let first = page(&service, &session.path(), &[]).await;
    assert!(first.text().contains("<span class=\"restarts\">3</span>"));
    let tag = first.header("etag").unwrap().to_owned();
    restarts.store(4, Ordering::SeqCst);
    let news = page(&service, &session.path(), &[("if-none-match", &tag)]).await;
    assert!(news.text().contains("<span class=\"restarts\">4</span>"));
}

async fn page(service: &Service, path: &str, headers: &[(&str, &str)]) -> Answer {
    service.get_with(path, &[&[("accept", BROWSER)], headers].concat()).await
}
