//! A database that an earlier version left behind, with a session in every state, opens and goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anteroom::clock::SystemClock;
use anteroom::kernel::session::record::Record;
use anteroom::store::{Store, sqlite};
use uuid::Uuid;

use crate::conformance::{contents, put};
use crate::sample::{self, Stage};
use crate::scratch::Scratch;

/// One folder for each release that changed what is stored; never rewritten.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store")
}

fn id(stage: Stage) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0001 + stage as u128)
}

async fn open(scratch: &Scratch) -> Arc<dyn Store> {
    Arc::new(sqlite::open(&scratch.join("store.sqlite"), &scratch.join("store.keys"), SystemClock::start()).await.expect("it opens"))
}

#[tokio::test]
async fn sessions_in_every_state_survive_an_upgrade() {
    let releases: Vec<_> = fs::read_dir(fixtures()).expect("fixtures").map(|entry| entry.expect("an entry").path()).collect();
    assert!(!releases.is_empty());
    for release in releases {
        let scratch = Scratch::default();
        for name in ["store.sqlite", "store.keys"] {
            fs::copy(release.join(name), scratch.join(name)).expect("a copy");
            fs::set_permissions(scratch.join(name), fs::Permissions::from_mode(0o600)).expect("our own file");
        }
        let recorded = |stage| {
            let record = sample::in_stage(stage, id(stage)).record();
            // At first it was stored once more, before it had its code.
            Record { version: record.version + u64::from(release.ends_with("0001")), ..record }
        };
        let mut expected: Vec<_> = Stage::ALL.map(|stage| (id(stage), sample::told(&recorded(stage)))).into();
        expected.sort();
        assert_eq!(contents(&open(&scratch).await).await, expected, "{}", release.display());
    }
}

/// Makes the fixture of the present version, in a folder that must not exist yet:
/// `ANTEROOM_TEST_FIXTURE=tests/fixtures/store/0002 cargo test --test store make_a_fixture -- --ignored`
#[tokio::test]
#[ignore = "writes into the repository"]
async fn make_a_fixture() {
    let target = PathBuf::from(std::env::var("ANTEROOM_TEST_FIXTURE").expect("ANTEROOM_TEST_FIXTURE names a new folder"));
    fs::create_dir(&target).expect("a new folder");
    let scratch = Scratch::default();
    let store = open(&scratch).await;
    for stage in Stage::ALL {
        put(&store, &sample::in_stage(stage, id(stage))).await;
    }
    store.close().await;
    for name in ["store.sqlite", "store.keys"] {
        fs::copy(scratch.join(name), target.join(name)).expect("a copy");
    }
}
