//! The page, used as a browser without scripts uses it.

use anteroom::demo::Crash;

use super::*;

impl Fixture {
    async fn press(&self, user_code: &str, action: &str) -> reqwest::Response {
        let form = [("user_code", user_code), ("action", action)];
        self.http.post(self.provider.url("/device")).header("origin", self.provider.issuer()).form(&form).send().await.unwrap()
    }

    /// The page for a code, as typed.
    async fn page(&self, user_code: &str) -> (u16, String) {
        let query: String = url::form_urlencoded::byte_serialize(user_code.as_bytes()).collect();
        let page = self.http.get(self.provider.url(&format!("/device?user_code={query}"))).send().await.unwrap();
        (page.status().as_u16(), page.text().await.unwrap())
    }
}

#[tokio::test]
async fn a_person_types_the_code_sees_who_asks_and_approves() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    assert!(f.page("").await.1.contains("The code that your device shows"));
    let (status, page) = f.page(&sign_in.user_code.to_lowercase().replace('-', " ")).await;
    assert_eq!(status, 200);
    for part in ["Let Demo TV sign in?", "<li>profile</li>", "only if you started this", &format!(">{}<", sign_in.user_code)] {
        assert!(page.contains(part), "{part} is missing");
    }
    let pressed = f.press(&sign_in.user_code, "approve").await;
    assert_eq!(pressed.status(), 303);
    assert_eq!(pressed.headers()["location"].to_str().unwrap(), format!("/device?user_code={}", sign_in.user_code));
    assert!(f.page(&sign_in.user_code).await.1.contains("Approved"));
    assert_eq!(f.poll_after(5, &sign_in).await.0, 200);
    assert!(f.page(&sign_in.user_code).await.1.contains("You are signed in"));
}

#[tokio::test]
async fn a_person_denies() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    f.press(&sign_in.user_code, "deny").await;
    assert_eq!(error(&f.poll_after(5, &sign_in).await), (400, "access_denied"));
    assert!(f.page(&sign_in.user_code).await.1.contains("<h1 id=\"title\">Denied</h1>"));
}

#[tokio::test]
async fn a_developer_slows_a_sign_in_down_or_lets_it_expire() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    f.press(&sign_in.user_code, "slow-down").await;
    assert_eq!(error(&f.poll_after(100, &sign_in).await), (400, "slow_down"));
    f.press(&sign_in.user_code, "expire-soon").await;
    assert!(f.page(&sign_in.user_code).await.1.contains("0:10"));
    assert_eq!(error(&f.poll_after(10, &sign_in).await), (400, "expired_token"));
    assert!(f.page(&sign_in.user_code).await.1.contains("This code has expired"));
}

#[tokio::test]
async fn a_developer_orders_crashes() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    f.press(&sign_in.user_code, "crash").await;
    f.press(&sign_in.user_code, "crash").await;
    assert_eq!(f.provider.switches().crashes_left(&sign_in.device_code), 2);
    f.provider.crash_poller(&sign_in.user_code, Crash::BeforeAsking);
    assert!(f.page(&sign_in.user_code).await.1.contains("<dt>Crashes to come</dt><dd>3</dd>"));
}

#[tokio::test]
async fn a_developer_takes_the_provider_down_and_up_again() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    f.press(&sign_in.user_code, "bad-gateway").await;
    assert_eq!(f.poll_after(5, &sign_in).await.0, 502);
    f.press(&sign_in.user_code, "reset").await;
    assert!(f.try_poll(&sign_in).await.is_err());
    assert!(f.page(&sign_in.user_code).await.1.contains("The provider is down"));
    f.press("", "up").await;
    assert_eq!(f.poll_after(5, &sign_in).await.0, 400);
}

#[tokio::test]
async fn what_is_typed_or_asked_for_is_shown_as_text() {
    let f = start().await;
    let (status, page) = f.page("\"><script>alert(1)</script>").await;
    assert_eq!(status, 404);
    assert!(page.contains("There is no such code") && !page.contains("<script"));
    let sign_in = f.sign_in_with(&[("client_id", "demo-tv"), ("scope", "<b>bold</b>")]).await;
    assert!(!f.page(&sign_in.user_code).await.1.contains("<b>"));
}

#[tokio::test]
async fn a_foreign_host_or_origin_is_refused_and_changes_nothing() {
    let f = start().await;
    let sign_in = f.sign_in().await;
    let port = f.provider.issuer().rsplit_once(':').unwrap().1.to_owned();
    let url = f.provider.url("/device");
    for host in ["evil.test", "evil.test:80", "127.0.0.1.evil.test", "10.0.0.1", "localhost.evil.test:8080"] {
        assert_eq!(f.http.get(&url).header("host", host).send().await.unwrap().status(), 403, "{host}");
    }
    for host in ["localhost".to_owned(), format!("localhost:{port}"), format!("[::1]:{port}"), "127.0.0.1".to_owned()] {
        assert_eq!(f.http.get(&url).header("host", &host).send().await.unwrap().status(), 200, "{host}");
    }
    let form = [("user_code", sign_in.user_code.as_str()), ("action", "approve")];
    for (header, value) in [
        ("origin", "https://evil.test"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:1"),
        ("origin", ""),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        assert_eq!(f.http.post(&url).header(header, value).form(&form).send().await.unwrap().status(), 403, "{header}: {value}");
    }
    assert_eq!(error(&f.poll_after(5, &sign_in).await), (400, "authorization_pending"));
}

#[tokio::test]
async fn nothing_may_run_in_the_page_or_frame_it() {
    let f = start().await;
    let page = f.http.get(f.provider.url("/device")).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert_eq!(page.headers()["referrer-policy"], "same-origin");
    let style = f.http.get(f.provider.url("/device/page.css")).send().await.unwrap();
    assert_eq!(style.headers()["content-type"], "text/css; charset=utf-8");
}
