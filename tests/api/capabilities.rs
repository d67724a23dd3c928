//! Who may do what: every actor at every operation of `openapi.yaml`, in every state of the session.

use std::collections::BTreeSet;

use anteroom::http::callers::Caller;
use anteroom::kernel::session::Status;
use anteroom::kernel::verdict::Verdict;
use axum::body::{Body, to_bytes};
use axum::http::Method;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use crate::contract::Contract;
use crate::service::{Answer, Beginning, CALLER_KEY, Ours, Service, Setup, caller, grant, request};

/// What a request carries as its bearer token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Actor {
    /// A watcher: the id, and no token.
    Nobody,
    WrongToken,
    /// The caller that began the session.
    ItsCaller,
    AnotherCaller,
    Owner,
    OwnerOfAnother,
}

const ACTORS: [Actor; 6] = [Actor::Nobody, Actor::WrongToken, Actor::ItsCaller, Actor::AnotherCaller, Actor::Owner, Actor::OwnerOfAnother];
const OTHER_KEY: &str = "another-caller-key";

/// A session in some state, and one of the other caller.
struct Scene {
    service: Service,
    session: Ours,
    another: Ours,
}

#[tokio::test]
async fn everybody_may_do_what_is_theirs_and_nothing_else() {
    let mut unexpected = Vec::new();
    let mut refusals = BTreeSet::new();
    let mut cells = 0;
    for status in Status::ALL {
        for actor in ACTORS {
            let mut scene = Scene::set(status).await;
            for (method, path) in operations() {
                let answer = scene.act(actor, &method, &path).await;
                let expected = expected(&method, &path, actor, status);
                if !expected.contains(&answer.status.as_u16()) {
                    unexpected.push(format!("{actor:?} {method} {path} of a session that is {status:?}: {}", answer.status));
                }
                if answer.status == 404 && path.contains("{id}") {
                    refusals.insert(bytes(&answer));
                    assert_eq!(scene.status(), Some(status), "{actor:?} {method} {path} was refused and changed it");
                }
                if actor == Actor::Owner && method != Method::GET {
                    scene = Scene::set(status).await;
                }
                cells += 1;
            }
        }
    }
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert_eq!(cells, 8 * 6 * operations().len());

    for (id, secret) in [("2f6c1d2e-8f3b-4c55-9a0e-6d1f0c9b7a42", "ars_"), ("not-an-id", "ars_"), ("%00", "")] {
        let scene = Scene::set(Status::Authorized).await;
        let nobody = Ours { id: id.to_owned(), secret: secret.to_owned() };
        for (method, path) in operations().into_iter().filter(|(_, path)| path.contains("{id}")) {
            let answer = scene.ask(&method, &path.replace("{id}", &nobody.id), Some(&nobody.secret)).await;
            assert_eq!(answer.status, 404, "{method} {path} of {id}");
            refusals.insert(bytes(&answer));
        }
    }
    assert_eq!(refusals.len(), 1, "a refusal tells more than that there is nothing: {refusals:#?}");
}

fn operations() -> Vec<(Method, String)> {
    let methods = |path: &str| {
        let methods: Vec<_> = Contract::get().methods(path).iter().map(|method| method.parse().unwrap()).collect();
        methods.into_iter().map(|method| (method, path.to_owned())).collect::<Vec<(Method, String)>>()
    };
    Contract::get().paths().into_iter().flat_map(methods).collect()
}

/// The statuses of which the answer must have one.
fn expected(method: &Method, path: &str, actor: Actor, status: Status) -> Vec<u16> {
    let is_owner = actor == Actor::Owner;
    match (method.as_str(), path) {
        ("POST", "/sessions") if matches!(actor, Actor::ItsCaller | Actor::AnotherCaller) => vec![201],
        ("POST", "/sessions") => vec![401],
        // To look now changes nothing but when, so whoever may watch may ask for it.
        ("POST", "/sessions/{id}/check") => vec![202],
        ("POST" | "DELETE", path) if path.contains("{id}") && !is_owner => vec![404],
        ("POST", "/sessions/{id}/claim") => match status {
            Status::Starting | Status::Pending => vec![409],
            Status::Authorized => vec![200],
            Status::Claimed => vec![410],
            Status::Denied | Status::Expired | Status::Cancelled | Status::Failed => vec![409],
        },
        ("POST", "/sessions/{id}/renew") if matches!(status, Status::Denied | Status::Expired) => vec![200],
        ("POST", "/sessions/{id}/renew") => vec![409],
        ("DELETE", "/sessions/{id}") => vec![204],
        // A page for people, which nobody here asks for.
        ("GET", "/") => vec![404],
        // Whoever has the id may watch; there is nothing to draw before the provider has given a code.
        ("GET", path) if path.contains("{id}/qr") && status == Status::Starting => vec![200, 404],
        ("GET", _) => vec![200],
        _ => panic!("nobody knows who may {method} {path}"),
    }
}

/// The answer as it is on the wire, but for its own request id.
fn bytes(answer: &Answer) -> String {
    let mut headers: Vec<_> = answer.headers.iter().filter(|(name, _)| *name != "x-request-id").collect();
    headers.sort_by_key(|(name, _)| name.as_str());
    format!("{} {headers:?} {}", answer.status, answer.text())
}

impl Scene {
    async fn set(status: Status) -> Self {
        let other = Caller { name: "kiosk".into(), key_sha256: Sha256::digest(OTHER_KEY).into(), ..caller(None) };
        let service = Service::start(Setup { callers: vec![caller(None), other], ..Setup::default() });
        let session = reach(&service, status).await;
        let another = begun(&service, OTHER_KEY).await;
        let scene = Self { service, session, another };
        assert_eq!(scene.status(), Some(status));
        scene
    }

    fn status(&self) -> Option<Status> {
        self.service.app.sessions.get(self.session.id.parse().unwrap()).map(|session| session.status())
    }

    async fn act(&self, actor: Actor, method: &Method, path: &str) -> Answer {
        let token = match actor {
            Actor::Nobody => None,
            Actor::WrongToken => Some("ars_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            Actor::ItsCaller => Some(CALLER_KEY),
            Actor::AnotherCaller => Some(OTHER_KEY),
            Actor::Owner => Some(self.session.secret.as_str()),
            Actor::OwnerOfAnother => Some(self.another.secret.as_str()),
        };
        self.ask(method, &path.replace("{id}", &self.session.id), token).await
    }

    async fn ask(&self, method: &Method, path: &str, token: Option<&str>) -> Answer {
        let request = request(method.clone(), path);
        let request = token.into_iter().fold(request, |request, token| request.header("authorization", format!("Bearer {token}")));
        let request = request.body(Body::empty()).unwrap();
        if !path.ends_with("/events") {
            return self.service.send(request).await;
        }
        // What the stream says ends with the session; that it began is enough.
        let (parts, body) = self.service.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = if parts.status == 200 { Vec::new() } else { to_bytes(body, 10_000).await.unwrap().to_vec() };
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

async fn begun(service: &Service, key: &str) -> Ours {
    let request = request(Method::POST, "/sessions").header("authorization", format!("Bearer {key}"));
    let answer = service.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 201);
    let member = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    Ours { id: member("id"), secret: member("secret") }
}

async fn reach(service: &Service, status: Status) -> Ours {
    if status == Status::Starting {
        return starting(service).await;
    }
    let session = begun(service, CALLER_KEY).await;
    let answered = async |verdict| service.answered(&session, verdict).await;
    match status {
        Status::Starting | Status::Pending => {}
        Status::Authorized => answered(Verdict::Authorized(grant())).await,
        Status::Claimed => {
            answered(Verdict::Authorized(grant())).await;
            assert_eq!(service.claim(&session, None).await.status, 200);
        }
        Status::Denied => answered(Verdict::Denied).await,
        Status::Expired => answered(Verdict::Expired).await,
        Status::Cancelled => assert_eq!(service.delete(&session).await.status, 204),
        Status::Failed => answered(Verdict::Rejected).await,
    }
    session
}

/// Its secret is not out yet, so it is taken from where it is kept for a repetition of the request.
async fn starting(service: &Service) -> Ours {
    service.provider.begins(Beginning::Hang);
    let request = request(Method::POST, "/sessions").header("authorization", format!("Bearer {CALLER_KEY}"));
    tokio::spawn(service.send(request.header("idempotency-key", "0123456789abcdef").body(Body::empty()).unwrap()));
    service.provider.was_asked().await;
    service.provider.begins(Beginning::Prompt { user_code: "WDJB-MJHT", uri: "https://id.acme.test/device", complete: None });
    let all = service.app.sessions.all();
    let session = all.iter().find(|session| session.status() == Status::Starting).expect("it is starting");
    let secret = session.creation().expect("it can be repeated").secret.expose_secret().to_owned();
    Ours { id: session.id().to_string(), secret }
}
