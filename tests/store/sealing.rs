//! Whatever is changed from outside does not open.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::sync::Arc;

use anteroom::kernel::time::WallTime;
use anteroom::kernel::verdict::Grant;
use anteroom::store::row::Row;
use anteroom::store::seal::Keyring;
use rustix::process::{getegid, geteuid};
use uuid::Uuid;

use crate::sample::{self, SECRETS, Stage};
use crate::scratch::Scratch;

const ID: Uuid = Uuid::from_u128(0x2f6c_0000_0000_4000_8000_0000_0000_4711);
const EPOCH: i64 = 7;

fn keyring(scratch: &Scratch) -> Keyring {
    Keyring::create(&scratch.join("a.key")).expect("a new key file")
}

/// A row in which every column is filled.
fn full_row(keyring: &Keyring) -> Row {
    let mut record = sample::pending(ID).record();
    record.secrets.grant = Some(sample::grant());
    record.secrets.revocations.push(sample::grant());
    Row::seal(&record, keyring, EPOCH).expect("randomness")
}

/// Every cell of a row as bytes, and a way to put it back.
type Cell = (&'static str, fn(&Row) -> Vec<u8>, fn(&mut Row, Vec<u8>) -> bool);

fn number(cell: Vec<u8>) -> Option<i64> {
    Some(i64::from_be_bytes(cell.try_into().ok()?))
}

/// False: the database would not take it.
fn put<T>(column: &mut T, value: Option<T>) -> bool {
    value.map(|value| *column = value).is_some()
}

macro_rules! text {
    ($column:ident) => {
        (stringify!($column), |row| row.$column.clone().into_bytes(), |row, cell| put(&mut row.$column, String::from_utf8(cell).ok()))
    };
}

macro_rules! sealed {
    ($column:ident) => {
        (stringify!($column), |row| row.$column.clone().expect("it is filled"), |row, cell| put(&mut row.$column, Some(Some(cell))))
    };
}

macro_rules! integer {
    ($column:ident) => {
        (stringify!($column), |row| row.$column.to_be_bytes().to_vec(), |row, cell| put(&mut row.$column, number(cell)))
    };
}

const CELLS: &[Cell] = &[
    ("id", |row| row.id.as_bytes().to_vec(), |row, cell| put(&mut row.id, Uuid::from_slice(&cell).ok())),
    integer!(version),
    integer!(revision),
    text!(provider),
    (
        "caller",
        |row| row.caller.clone().expect("it is filled").into_bytes(),
        |row, cell| put(&mut row.caller, String::from_utf8(cell).ok().map(Some)),
    ),
    text!(status),
    integer!(opened_at),
    text!(facts),
    text!(key_id),
    sealed!(device_code),
    sealed!(tokens),
    sealed!(secret),
    sealed!(revocation),
    ("seal", |row| row.seal.clone(), |row, cell| put(&mut row.seal, Some(cell))),
    integer!(epoch),
];

#[test]
fn every_state_comes_back_as_it_was() {
    let scratch = Scratch::default();
    let keyring = keyring(&scratch);
    for stage in Stage::ALL {
        let record = sample::in_stage(stage, ID).record();
        let row = Row::seal(&record, &keyring, EPOCH).expect("randomness");
        assert_eq!(sample::told(&row.open(&keyring, EPOCH).expect("our own row")), sample::told(&record), "{stage:?}");
    }
}

#[test]
fn no_secret_stands_in_a_row() {
    let scratch = Scratch::default();
    let row = full_row(&keyring(&scratch));
    for (column, read, _) in CELLS {
        let cell = read(&row);
        for secret in SECRETS {
            assert!(!cell.windows(secret.len()).any(|window| window == secret.as_bytes()), "{column} shows {secret}");
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let scratch = Scratch::default();
    let keyring = keyring(&scratch);
    let row = full_row(&keyring);
    let mut flipped = 0;
    for (column, read, write) in CELLS {
        let cell = read(&row);
        for bit in 0..cell.len() * 8 {
            let mut cell = cell.clone();
            cell[bit / 8] ^= 1 << (bit % 8);
            let mut changed = row.clone();
            if write(&mut changed, cell) {
                assert!(changed.open(&keyring, EPOCH).is_err(), "bit {bit} of {column}");
                flipped += 1;
            }
        }
    }
    assert!(flipped > 10_000, "{flipped}");
}

#[test]
fn every_cell_that_was_cut_or_cleared_is_noticed() {
    let scratch = Scratch::default();
    let keyring = keyring(&scratch);
    let row = full_row(&keyring);
    for (column, read, write) in CELLS {
        let cell = read(&row);
        for shorter in [Vec::new(), cell[..cell.len() - 1].to_vec(), [&cell[..], b"0"].concat()] {
            let mut changed = row.clone();
            assert!(!write(&mut changed, shorter) || changed.open(&keyring, EPOCH).is_err(), "{column}");
        }
    }
    let clear: [fn(&mut Row); 5] = [
        |row| row.device_code = None,
        |row| row.tokens = None,
        |row| row.secret = None,
        |row| row.revocation = None,
        |row| row.caller = None,
    ];
    for clear in clear {
        let mut changed = row.clone();
        clear(&mut changed);
        assert!(changed.open(&keyring, EPOCH).is_err());
    }
}

/// Within the row, with the row of another session, and with an older row of the same one.
#[test]
fn every_swap_of_two_cells_is_noticed() {
    let scratch = Scratch::default();
    let keyring = keyring(&scratch);
    let row = full_row(&keyring);
    let other = {
        let mut record = row.open(&keyring, EPOCH).expect("our own row");
        record.id = Uuid::from_u128(5);
        record.caller = Some("somebody-else".into());
        Row::seal(&record, &keyring, EPOCH).expect("randomness")
    };
    let older = full_row(&keyring);
    for (source, name) in [(&row, "itself"), (&other, "another"), (&older, "older")] {
        for (from, read, _) in CELLS {
            for (to, current, write) in CELLS {
                let mut changed = row.clone();
                if read(source) == current(&row) || !write(&mut changed, read(source)) {
                    continue;
                }
                assert!(changed.open(&keyring, EPOCH).is_err(), "{from} of {name} in the place of {to}");
            }
        }
    }
}

/// The seal of the row is what notices the rest; each secret is bound to its place all the same.
#[test]
fn a_cell_opens_only_where_it_was_put() {
    use anteroom::store::seal::Place;
    let scratch = Scratch::default();
    let keyring = keyring(&scratch);
    let key = keyring.newest();
    let place = Place { caller: Some("tv"), session: &[1; 16], column: "tokens", bound: &[] };
    let cell = key.seal(b"secret", place).expect("randomness");
    assert_eq!(key.open(&cell, place).expect("its place").as_slice(), b"secret");
    let elsewhere = [
        Place { caller: None, ..place },
        Place { caller: Some("other"), ..place },
        Place { session: &[2; 16], ..place },
        Place { column: "revocation", ..place },
        Place { bound: b"x", ..place },
        Place { caller: Some("tvt"), column: "okens", ..place },
    ];
    for elsewhere in elsewhere {
        assert!(key.open(&cell, elsewhere).is_err(), "{elsewhere:?}");
    }
}

#[test]
fn keys_rotate_and_old_rows_still_open() {
    let scratch = Scratch::default();
    let path = scratch.join("a.key");
    let before = keyring(&scratch);
    let old = Row::seal(&sample::pending(ID).record(), &before, EPOCH).expect("randomness");
    let id = Keyring::rotate(&path).expect("a key file");
    let after = Keyring::read(&path).expect("a key file");
    let new = Row::seal(&sample::pending(ID).record(), &after, EPOCH).expect("randomness");
    assert_eq!(new.key_id, id);
    assert_ne!(new.key_id, old.key_id);
    assert!(old.open(&after, EPOCH).is_ok() && new.open(&after, EPOCH).is_ok());
    assert!(new.open(&before, EPOCH).is_err(), "the old keyring lacks the new key");
}

fn with_mode(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("our own file");
}

fn mode_of(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).expect("the key file").mode() & 0o777
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let scratch = Scratch::default();
    let path = scratch.join("a.key");
    keyring(&scratch);
    assert_eq!(mode_of(&path), 0o600);
    for mode in [0o604, 0o602, 0o601, 0o644, 0o664] {
        with_mode(&path, mode);
        let error = Keyring::read(&path).expect_err("too open").to_string();
        assert!(error.ends_with("may be read by others than its owner; run `chmod 600` on it"), "{error}");
    }
}

/// A Secret is 0440, and `fsGroup` makes 0600 to 0660 at each mount of the volume.
#[test]
fn a_key_file_may_be_open_to_a_group_that_is_ours_and_to_no_other() {
    let scratch = Scratch::default();
    let path = scratch.join("a.key");
    keyring(&scratch);
    chown(&path, None, Some(getegid().as_raw())).expect("our own file");
    for mode in [0o440, 0o640, 0o660] {
        with_mode(&path, mode);
        Keyring::read(&path).expect("our own group");
    }
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can give a file to a group that is not its own");
    }
    chown(&path, None, Some(54_321)).expect("root");
    for mode in [0o440, 0o640, 0o660] {
        with_mode(&path, mode);
        let error = Keyring::read(&path).expect_err("nobody we know").to_string();
        assert!(error.ends_with("may be read by a group that is not this process's; run `chmod 600` on it"), "{error}");
    }
    with_mode(&path, 0o600);
    Keyring::read(&path).expect("its owner alone");
}

/// As Kubernetes mounts a Secret: what is read is a link into a folder that is itself a link.
#[test]
fn keys_rotate_behind_links_and_stay_whose_they_were() {
    let scratch = Scratch::default();
    std::fs::create_dir(scratch.join("..1")).expect("a folder");
    symlink("..1", scratch.join("..data")).expect("a link");
    let link = scratch.join("a.key");
    symlink("..data/a.key", &link).expect("a link");
    let file = scratch.join("..1/a.key");
    Keyring::create(&file).expect("a new key file");
    with_mode(&file, 0o640);
    if geteuid().is_root() {
        chown(&file, Some(54_321), None).expect("root");
    }
    let before = std::fs::metadata(&file).expect("the key file");
    Keyring::rotate(&link).expect("a key file");
    let after = std::fs::metadata(&file).expect("the key file");
    assert_ne!(after.ino(), before.ino(), "replaced as a whole");
    assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
    assert!(std::fs::symlink_metadata(&link).expect("the link").is_symlink());
    let text = std::fs::read_to_string(&link).expect("the key file");
    assert_eq!(text.matches("[[key]]").count(), 2);
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_key_file() {
    let scratch = Scratch::default();
    let path = scratch.join("a.key");
    keyring(&scratch);
    let text = std::fs::read_to_string(&path).expect("the key file");
    std::fs::write(&path, format!("\u{feff}{text}")).expect("our own file");
    Keyring::read(&path).expect("a key file");
    Keyring::rotate(&path).expect("a key file");
}

#[test]
fn a_file_that_is_no_keyring_is_refused_and_not_shown() {
    let scratch = Scratch::default();
    let path = scratch.join("a.key");
    for text in ["", "hunter2", "[[key]]\nid = 'a'\nkey = 'hunter2'", "[[key]]\nid = 'a'\nkey = 'aHVudGVyMg=='", "[[key]]\nid = 'a'"] {
        std::fs::write(&path, text).expect("a scratch file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("our own file");
        let error = Keyring::read(&path).expect_err("no keyring").to_string();
        assert!(error.contains("is no key file") && !error.contains("hunter2"), "{error}");
        assert!(Keyring::rotate(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), text, "left as it is");
    }
}

#[test]
fn nothing_that_can_be_printed_shows_more_than_it_may() {
    let scratch = Scratch::default();
    let keyring = keyring(&scratch);
    // The code that the person types, the claims, and what people wrote.
    let hidden = ["WDJB-MJHT", "subject-4711", "Living-room TV"];
    let hidden = || SECRETS.into_iter().chain(hidden);
    for stage in Stage::ALL {
        let session = sample::in_stage(stage, ID);
        let record = session.record();
        let row = Row::seal(&record, &keyring, EPOCH).expect("randomness");
        let shown = format!("{session:?} {record:?} {row:?} {:?} {:?}", session.prompt(), sample::grant());
        assert!(shown.contains("Timestamp(") && shown.contains("acme"), "{shown}");
        for text in hidden() {
            assert!(!shown.contains(text), "{stage:?} shows {text}: {shown}");
        }
    }
}

#[test]
fn when_tokens_arrived_is_kept_with_them() {
    let scratch = Scratch::default();
    let keyring = keyring(&scratch);
    let mut record = sample::in_stage(Stage::Verifying, ID).record();
    let arrived_at = Some(WallTime::from_millis(sample::START.as_millis()));
    record.secrets.grant = Some(Arc::new(Grant { arrived_at, ..Grant::clone(&sample::grant()) }));
    let opened = Row::seal(&record, &keyring, EPOCH).expect("randomness").open(&keyring, EPOCH).expect("our own row");
    assert_eq!(opened.secrets.grant.expect("its tokens").arrived_at, arrived_at);
}
