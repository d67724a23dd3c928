//! `anteroom backup`: a copy of the database while the service goes on.
//!
//! Made by SQLite itself, in a process of its own: a copy of the file alone lacks what is in the WAL. It gets its name only when
//! it is whole, checked and on the disk.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sqlx::{ConnectOptions, Connection};
use uuid::Uuid;

use super::super::OpenError;
use super::{APPLICATION_ID, bear_limits, beside, options, refusal};

/// Copies the database to `copy`, which must not exist. Returns how many sign-ins are in it.
///
/// # Errors
/// There is no database of ours, or the copy cannot be made; then nothing is left of it.
pub async fn backup(path: &Path, copy: &Path) -> Result<u64, OpenError> {
    let cannot = |error: io::Error| OpenError::new(format!("{}: cannot be written: {error}", copy.display()));
    bear_limits().map_err(cannot)?;
    if !path.exists() {
        return Err(refusal(path, "does not exist; start the service once, or correct store.url"));
    }
    if fs::symlink_metadata(copy).is_ok() {
        return Err(OpenError::new(format!("{}: exists already; it is not overwritten", copy.display())));
    }
    let folder = copy.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let partial = folder.canonicalize().map_err(cannot)?.join(partial_name(copy.file_name().unwrap_or_default()));
    let made = async {
        let sessions = copy_to(path, &partial).await?;
        publish(&partial, copy, folder).map_err(cannot)?;
        Ok(sessions)
    };
    let made = made.await;
    // Under its own name it stays.
    let _ = fs::remove_file(&partial);
    made
}

async fn copy_to(path: &Path, partial: &Path) -> Result<u64, OpenError> {
    let target = partial.to_str().ok_or_else(|| OpenError::new("the name of the copy must be UTF-8"))?;
    let failed = |error: sqlx::Error| refusal(path, &format!("cannot be copied: {error}"));
    loop {
        // For its mode. SQLite takes over a file that is empty.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial);
        made.map_err(|error| OpenError::new(format!("{}: cannot be written: {error}", partial.display())))?;
        let at_rest = at_rest(path);
        // While nobody uses it not even the files are made that reading a WAL takes.
        let mut source = options(path).read_only(true).immutable(at_rest.is_some()).connect().await.map_err(failed)?;
        let id: i32 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut source).await.map_err(failed)?;
        if id != APPLICATION_ID {
            return Err(refusal(path, "is no database of Anteroom"));
        }
        sqlx::query("VACUUM INTO ?").bind(target).execute(&mut source).await.map_err(failed)?;
        source.close().await.map_err(failed)?;
        if at_rest.is_none() || at_rest == self::at_rest(path) {
            break;
        }
        // A service was started meanwhile.
        fs::remove_file(partial).map_err(|error| refusal(partial, &format!("cannot be removed: {error}")))?;
    }
    let damaged = |_| refusal(path, "is damaged: its copy did not pass the check, and was not kept");
    let mut copied = options(partial).read_only(true).immutable(true).connect().await.map_err(damaged)?;
    let checked: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut copied).await.map_err(damaged)?;
    if checked != "ok" {
        return Err(damaged(sqlx::Error::RowNotFound));
    }
    let sessions: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions").fetch_one(&mut copied).await.map_err(damaged)?;
    copied.close().await.map_err(damaged)?;
    Ok(sessions.unsigned_abs())
}

/// What the file is while nobody has it open: then there is no WAL.
fn at_rest(path: &Path) -> Option<(u64, SystemTime)> {
    if path.canonicalize().is_ok_and(|path| beside(&path, "-wal").exists()) {
        return None;
    }
    let file = fs::metadata(path).ok()?;
    Some((file.len(), file.modified().ok()?))
}

/// On the disk first, and over nothing that came meanwhile.
fn publish(partial: &Path, copy: &Path, folder: &Path) -> io::Result<()> {
    File::open(partial)?.sync_all()?;
    match fs::hard_link(partial, copy) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
        // Not every file system has links.
        Err(_) => fs::rename(partial, copy)?,
        Ok(()) => {}
    }
    File::open(folder)?.sync_all()
}

fn partial_name(name: &OsStr) -> PathBuf {
    let mut partial = name.to_owned();
    partial.push(format!(".{}.partial", Uuid::new_v4().simple()));
    partial.into()
}
