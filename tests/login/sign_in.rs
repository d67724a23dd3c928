//! Signing in at a service that is well.

use serde_json::Value;

use crate::process::{Demo, Program, login};

#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_are_all_that_is_on_stdout_and_stderr_is_plain_text() {
    let demo = Demo::start();
    let mut login = Program::login(&demo.url(), "");
    let code = login.stderr.after("enter the code ");
    login.stderr.wait_for("/device");
    login.stderr.wait_for("The code expires in ");
    demo.press("approve", &code).await;

    assert_eq!(login.exit(), Some(0));
    let stdout = login.stdout.complete();
    let tokens: Value = serde_json::from_str(&stdout).unwrap();
    assert!(stdout.ends_with("}\n") && stdout.lines().count() == 1);
    assert_eq!(tokens["token_type"], "Bearer");
    let token = tokens["access_token"].as_str().unwrap();

    let stderr = login.stderr.complete();
    assert!(stderr.ends_with("\nSigned in.\n"), "{stderr}");
    assert!(!stderr.contains(|c: char| c.is_control() && c != '\n'), "{stderr:?}");
    assert!(!stderr.contains(token) && !stderr.contains("ars_"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_follows_in_json_and_the_tokens_are_acknowledged() {
    let demo = Demo::start();
    let mut login = Program::login(&demo.url(), "--json --label TV");
    let code = login.stderr.event("code");
    let (id, user_code) = (code["id"].as_str().unwrap(), code["user_code"].as_str().unwrap());
    let session = demo.session(id).await;
    for member in ["id", "provider", "user_code", "verification_uri", "verification_uri_complete", "expires_at"] {
        assert_eq!(code[member], session[member], "{member}");
    }
    assert_eq!(session["label"], "TV");
    demo.press("bad-gateway", user_code).await;
    login.stderr.wait_for(r#""provider_reachable":false"#);
    demo.press("up", user_code).await;
    demo.press("approve", user_code).await;

    assert_eq!(login.exit(), Some(0));
    let events: Vec<Value> = login.stderr.complete().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = events.last().unwrap();
    assert_eq!((&end["event"], &end["signed_in"], &end["reason"]), (&"end".into(), &true.into(), &"signed_in".into()));
    assert!(events.iter().any(|event| event["status"] == "authorized"));
    assert_eq!(demo.session(id).await["status"], "claimed");
    assert!(serde_json::from_str::<Value>(&login.stdout.complete()).unwrap()["access_token"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_denies_is_not_signed_in() {
    let demo = Demo::start();
    let mut login = Program::login(&demo.url(), "");
    demo.press("deny", &login.stderr.after("enter the code ")).await;
    assert_eq!(login.exit(), Some(1));
    assert!(login.stderr.complete().ends_with("\nThe sign-in was denied.\n"));
    assert_eq!(login.stdout.complete(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_cancels_the_session() {
    let demo = Demo::start();
    for signal in ["-INT", "-TERM", "-HUP"] {
        let mut login = Program::login(&demo.url(), "--json");
        let code = login.stderr.event("code");
        login.send(signal);
        assert_eq!(login.exit(), Some(1), "{signal}");
        assert_eq!(login.stderr.event("end")["reason"], "cancelled", "{signal}");
        assert_eq!(demo.session(code["id"].as_str().unwrap()).await["status"], "cancelled", "{signal}");
        assert_eq!(login.stdout.complete(), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_in_front_of_the_service_is_kept() {
    let demo = Demo::start();
    let mut login = Program::start(login(&format!("{}/nowhere", demo.url()), ""));
    assert_eq!(login.exit(), Some(1));
    assert_eq!(login.stderr.complete(), "Not signed in: There is nothing at this path.\n");
}
