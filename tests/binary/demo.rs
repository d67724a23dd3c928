//! `anteroom demo`, as the person in front of it uses it: two pages and their buttons.

use reqwest::header::{ACCEPT, CONTENT_TYPE, ORIGIN};
use reqwest::{Method, StatusCode, Url};
use serde_json::json;

use super::service::{Program, Service};

/// Both halves of the demo.
pub struct Demo {
    pub service: Service,
    /// The provider's page.
    page: Url,
    browser: reqwest::Client,
}

#[tokio::test]
async fn both_pages_are_where_the_demo_says() {
    let demo = Demo::start().await;
    let said = demo.service.program.stderr().join("\n");
    assert!(said.contains(&demo.service.url) && said.contains(demo.page.as_str()), "{said}");

    let front = demo.service.request(Method::GET, "/").header(ACCEPT, "text/html").send().await.unwrap();
    assert_eq!(front.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(front.text().await.unwrap().contains("Sign in with Demo provider"));
    for path in ["/readyz", "/providers"] {
        let status = demo.service.request(Method::GET, path).send().await.unwrap().status();
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    assert!(demo.look("").await.contains("The code that your device shows"));
}

#[tokio::test]
async fn a_sign_in_succeeds_although_its_poller_is_crashed_three_times() {
    let demo = Demo::start().await;
    let session = demo.service.begin(&json!({"label": "Demo TV"})).await;
    assert!(demo.look(session.user_code()).await.contains("Let Demo TV sign in?"));
    for _ in 0..3 {
        demo.press("crash", session.user_code()).await;
    }
    demo.press("approve", session.user_code()).await;

    assert_eq!(session.outcome().await["status"], "authorized");
    let page = demo.service.request(Method::GET, &format!("/sessions/{}", session.id)).header(ACCEPT, "text/html");
    assert!(page.send().await.unwrap().text().await.unwrap().contains("<strong class=\"restarts\">3</strong>"));
    let log = demo.service.program.stderr();
    let restarts = log.iter().filter(|line| line.contains("started again")).count();
    assert_eq!(restarts, 3, "{log:#?}");

    let claimed = session.claim().await;
    assert_eq!(claimed.status, StatusCode::OK, "{}", claimed.body);
    assert!(demo.look(session.user_code()).await.contains("You are signed in"));
}

impl Demo {
    pub async fn start() -> Self {
        let service = Service::of(Program::start(&["demo", "--port", "0", "--provider-port", "0"])).await;
        let line = service.program.stderr_after("the provider").await;
        let page = line.split_whitespace().next().unwrap().parse().unwrap();
        let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { service, page, browser }
    }

    async fn look(&self, user_code: &str) -> String {
        let mut page = self.page.clone();
        page.query_pairs_mut().append_pair("user_code", user_code);
        let answer = self.browser.get(page).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.text().await.unwrap()
    }

    /// Presses a button that is on the page of this code, in the way of a browser.
    pub async fn press(&self, action: &str, user_code: &str) {
        let shown = self.look(user_code).await;
        assert!(shown.contains(&format!(r#"name="action" value="{action}""#)), "there is no {action} on the page: {shown}");
        let form = [("user_code", user_code), ("action", action)];
        let request = self.browser.post(self.page.clone()).form(&form);
        let origin = self.page.origin().ascii_serialization();
        let answer = request.header(ORIGIN, origin).header("Sec-Fetch-Site", "same-origin").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    }
}
