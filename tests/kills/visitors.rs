//! Others look at the database, copy it, or take it away, while the service runs.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output};

use anteroom::clock::SystemClock;
use anteroom::demo::{DevProvider, Options};
use tokio::task::block_in_place;

use crate::scratch::Scratch;
use crate::service::{Http, Service, configure};

async fn provider(scratch: &Scratch) -> DevProvider {
    let options = Options { interval: Some(600), ..Options::default() };
    let provider = DevProvider::start((Ipv4Addr::LOCALHOST, 0).into(), options, SystemClock::start()).await.expect("a free port");
    configure(scratch, provider.issuer());
    provider
}

/// The ids of so many new sign-ins.
async fn create(http: &Http, name: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        let (status, session) = http.create(&format!("a-key-of-{name}-{number}")).await.expect("it answers");
        assert_eq!(status, 201);
        ids.push(session["id"].as_str().expect("an id").to_owned());
    }
    ids
}

async fn all_there(http: &Http, ids: &[String]) {
    for id in ids {
        let (status, session) = http.get(&format!("/sessions/{id}")).await.expect("it answers");
        assert_eq!((status, session["status"].as_str()), (200, Some("pending")));
    }
}

/// What SQLite's own shell says; `None`: there is none here.
fn shell(scratch: &Scratch, command: &str) -> Option<Output> {
    match Command::new("sqlite3").arg(scratch.join("a.db")).arg(command).output() {
        Ok(output) => Some(output),
        Err(error) => {
            let why = format!("skipped: no sqlite3: {error}");
            assert!(std::env::var("ANTEROOM_TEST_REQUIRE").as_deref() != Ok("all"), "{why}");
            eprintln!("{why}");
            None
        }
    }
}

fn anteroom(scratch: &Scratch, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom"));
    command.args(arguments).arg("--config").arg(scratch.join("a.toml")).output().expect("the binary")
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_holds_the_locks_of_its_database() {
    let scratch = Scratch::default();
    let _provider = provider(&scratch).await;
    let service = Service::start(&scratch, &[]).expect("it starts");
    let inode = fs::metadata(scratch.join("a.db")).expect("it is there").ino().to_string();
    let locks = fs::read_to_string("/proc/locks").expect("Linux");
    let ours = locks.lines().filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1] == "POSIX" && fields[4] == service.pid().to_string() && fields[5].rsplit(':').next() == Some(&inode)
    });
    assert!(ours.count() > 0, "{locks}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_beside_the_service_costs_nothing() {
    for (command, is_refused) in [
        ("SELECT count(*) FROM sessions", false),
        (".backup copy.db", false),
        ("SELECT count(*) FROM sessions; VACUUM", false),
        ("PRAGMA journal_mode = DELETE", true),
    ] {
        let scratch = Scratch::default();
        let _provider = provider(&scratch).await;
        let command = command.replace("copy.db", &scratch.join("copy.db").display().to_string());
        let service = Service::start(&scratch, &[]).expect("it starts");
        let mut ids = create(&service.http(), "before", 10).await;
        let Some(output) = block_in_place(|| shell(&scratch, &command)) else { return };
        assert_eq!(told(&output).contains("locked"), is_refused, "{command}: {output:?}");
        ids.extend(create(&service.http(), "after", 10).await);
        block_in_place(|| service.kill());
        let service = block_in_place(|| Service::start(&scratch, &[])).expect("it starts");
        all_there(&service.http(), &ids).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_into_a_file_that_was_removed() {
    for name in ["a.db-wal", "a.db", "a.db-shm"] {
        let scratch = Scratch::default();
        let _provider = provider(&scratch).await;
        let service = Service::start(&scratch, &[]).expect("it starts");
        let http = service.http();
        let ids = create(&http, "before", 10).await;
        fs::remove_file(scratch.join(name)).expect("it is there");
        let answer = http.create("one-into-the-void").await;
        assert!(answer.as_ref().is_none_or(|(status, _)| *status >= 500), "{name}: {answer:?}");
        assert_eq!(block_in_place(|| service.ended()).code(), Some(1), "{name}");
        if name == "a.db-wal" {
            let service = block_in_place(|| Service::start(&scratch, &[])).expect("it starts");
            all_there(&service.http(), &ids).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_is_noticed_though_nobody_writes() {
    let scratch = Scratch::default();
    let _provider = provider(&scratch).await;
    let service = Service::start(&scratch, &[]).expect("it starts");
    fs::remove_file(scratch.join("a.db-wal")).expect("it is there");
    assert_eq!(block_in_place(|| service.ended()).code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_may_not_grow_is_a_503_and_nothing_is_lost() {
    let scratch = Scratch::default();
    let _provider = provider(&scratch).await;
    let mut service = Service::start_with_file_limit(&scratch, 400).expect("it starts");
    let http = service.http();
    let (mut ids, mut number) = (Vec::new(), 0);
    let refused = loop {
        let (status, session) = http.create(&format!("a-key-of-many-{number}")).await.expect("it lives");
        if status != 201 {
            break (status, session["code"].as_str().map(str::to_owned));
        }
        ids.push(session["id"].as_str().expect("an id").to_owned());
        number += 1;
        assert!(number < 2_000, "no limit");
    };
    assert_eq!(refused, (503, Some("store_unavailable".to_owned())));
    for _ in 0..20 {
        assert_eq!(http.get("/readyz").await.expect("it lives").0, 503, "not ready until there is room");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(service.is_running());
    block_in_place(|| service.kill());
    let service = block_in_place(|| Service::start(&scratch, &[])).expect("it starts");
    all_there(&service.http(), &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_service_can_be_put_in_its_place() {
    let scratch = Scratch::default();
    let _provider = provider(&scratch).await;
    let service = Service::start(&scratch, &[]).expect("it starts");
    let http = service.http();
    let ids = create(&http, "before", 40).await;
    let copy = scratch.join("copy.db");
    let name = copy.to_str().expect("a name").to_owned();
    let (made, _) =
        tokio::join!(async { block_in_place(|| anteroom(&scratch, &["backup", &name])) }, async { create(&http, "meanwhile", 20).await });
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    assert!(told(&made).contains("a.key"), "{made:?}");
    assert_eq!(fs::metadata(&copy).expect("the copy").permissions().mode() & 0o777, 0o600);
    let again = block_in_place(|| anteroom(&scratch, &["backup", &name]));
    assert_eq!(again.status.code(), Some(1));
    assert!(told(&again).contains("exists already"), "{again:?}");
    block_in_place(|| service.kill());
    let partial = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().to_string_lossy().contains("partial");
    assert!(!fs::read_dir(scratch.path()).expect("a folder").any(partial), "a part is left");

    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        fs::remove_file(scratch.join(name)).expect("it is there");
    }
    fs::rename(&copy, scratch.join("a.db")).expect("our own file");
    let at_rest = block_in_place(|| anteroom(&scratch, &["backup", scratch.join("second.db").to_str().expect("a name")]));
    assert_eq!(at_rest.status.code(), Some(0), "{at_rest:?}");
    assert!(!scratch.join("a.db-wal").exists(), "a look at rest leaves nothing beside it");
    let service = block_in_place(|| Service::start(&scratch, &[])).expect("it starts");
    all_there(&service.http(), &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_the_file_is_mounted_check_says_so() {
    let scratch = Scratch::default();
    let _provider = provider(&scratch).await;
    fs::write(scratch.join("a.db"), "").expect("our own file");
    // In a mount namespace of its own.
    let script = format!(
        "mount --bind {0} {0} && exec {1} check --config {2}",
        scratch.join("a.db").display(),
        env!("CARGO_BIN_EXE_anteroom"),
        scratch.join("a.toml").display()
    );
    let output = block_in_place(|| Command::new("unshare").args(["--mount", "sh", "-c", &script]).output());
    let Ok(output) = output else { return eprintln!("skipped: no unshare") };
    if told(&output).contains("ermission denied") || told(&output).contains("not permitted") {
        return eprintln!("skipped: no mounts here");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("warning: store.url: only the file ") && text.contains("mount the folder"), "{output:?}");
}
