//! Whose the file is, by whatever name, and whether it is still there.
//!
//! Closing any descriptor of a file lets go of all locks that the process has on it, those of SQLite too, and then the next
//! visitor takes itself for the only one. So ours is opened before SQLite's first, and closed behind its last or never.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::mem::ManuallyDrop;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::super::OpenError;
use super::{beside, refusal};

pub struct Own {
    /// Without symbolic links, as SQLite names what it puts beside it.
    path: PathBuf,
    /// Locked; none as long as there is no database.
    file: Option<ManuallyDrop<File>>,
    /// The database, its WAL and its index of the WAL.
    parts: [Part; 3],
    /// `PATH.lock`, by which alone earlier versions know that it is ours.
    _named: Vec<File>,
}

struct Part {
    path: PathBuf,
    inode: Option<Inode>,
}

/// Which file, whatever it is called.
type Inode = (u64, u64);

/// What is not there any more, or is another file by now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// Only the WAL, and no other has taken its place.
    Wal,
    Other,
}

impl Own {
    /// # Errors
    /// Another process has it, or it cannot be opened.
    pub fn take(name: &Path) -> Result<Self, OpenError> {
        let first = locked(name, &beside(name, ".lock"), true)?;
        let path = resolved(name).map_err(|error| refusal(name, &format!("cannot be opened: {error}")))?;
        let (lock, mut named) = (beside(&path, ".lock"), vec![first]);
        if !named
            .iter()
            .any(|first| first.metadata().is_ok_and(|ours| fs::metadata(&lock).is_ok_and(|other| inode(&ours) == inode(&other))))
        {
            named.push(locked(name, &lock, true)?);
        }
        let file = if path.exists() { Some(ManuallyDrop::new(locked(name, &path, false)?)) } else { None };
        let parts = ["", "-wal", "-shm"].map(|suffix| Part { path: beside(&path, suffix), inode: None });
        Ok(Self { path, file, parts, _named: named })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file where there is none, readable by its owner alone; what SQLite puts beside it takes that over.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(&mut self) -> Result<(), OpenError> {
        if self.file.is_none() {
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
            let made = made.map_err(|error| refusal(&self.path, &format!("cannot be made: {error}")))?;
            self.file = Some(ManuallyDrop::new(lock(&self.path, &self.path, made)?));
        }
        Ok(())
    }

    /// From here on these files are the ones that must be there.
    ///
    /// # Errors
    /// One of them is not.
    pub fn remember(&mut self) -> io::Result<()> {
        for part in &mut self.parts {
            part.inode = Some(inode(&fs::metadata(&part.path)?));
        }
        Ok(())
    }

    /// Three questions to the kernel, a microsecond each.
    pub fn missing(&self) -> Option<Missing> {
        let [database, wal, index] = &self.parts;
        match (database.state(), wal.state(), index.state()) {
            (State::There, State::There, State::There) => None,
            (State::There, State::Gone, State::There) => Some(Missing::Wal),
            _ => Some(Missing::Other),
        }
    }

    /// Only when no connection is left.
    pub fn close(mut self) {
        self.file.take().map(ManuallyDrop::into_inner);
    }
}

/// Without having been closed: perhaps a connection is left, so our lock is let go of and the descriptor is not.
impl Drop for Own {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = file.unlock();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    There,
    Gone,
    Another,
}

impl Part {
    fn state(&self) -> State {
        match fs::metadata(&self.path) {
            Ok(found) if self.inode.is_some_and(|ours| ours != inode(&found)) => State::Another,
            Err(error) if error.kind() == ErrorKind::NotFound => State::Gone,
            // Who cannot be asked now has not said that it is gone.
            Ok(_) | Err(_) => State::There,
        }
    }
}

fn inode(file: &fs::Metadata) -> Inode {
    (file.dev(), file.ino())
}

/// Its name without symbolic links; its folder's, where there is no file yet.
fn resolved(name: &Path) -> io::Result<PathBuf> {
    match name.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Ok(folder.canonicalize()?.join(name.file_name().ok_or(error)?))
        }
        resolved => resolved,
    }
}

fn locked(database: &Path, path: &Path, may_create: bool) -> Result<File, OpenError> {
    let file = OpenOptions::new().write(true).create(may_create).truncate(false).mode(0o600).open(path);
    lock(database, path, file.map_err(|error| OpenError::new(format!("store.url: {}: cannot be opened: {error}", path.display())))?)
}

/// A lock of another kind than SQLite's, which does not see it.
fn lock(database: &Path, path: &Path, file: File) -> Result<File, OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(refusal(database, "is in use by another process; stop that one, or give this one a file of its own"))
        }
        Err(TryLockError::Error(error)) => Err(refusal(path, &format!("cannot be locked: {error}"))),
    }
}
