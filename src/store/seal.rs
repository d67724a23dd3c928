//! Sealing: what the database keeps of secrets is of no use without the key file, and nowhere but where it was put.
//!
//! XChaCha20-Poly1305 with a random nonce for each cell. A cell opens only for the caller, the session and the column that it
//! was sealed for, and with the key that it names.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead, Generate, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use rustix::process::{getegid, getgroups};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::OpenError;

/// The sealing keys, oldest first. The newest seals, all of them open.
#[derive(Debug)]
pub struct Keyring(Vec<Key>);

pub struct Key {
    id: Box<str>,
    cipher: XChaCha20Poly1305,
}

/// What a sealed cell belongs to; it opens for nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub caller: Option<&'a str>,
    pub session: &'a [u8; 16],
    pub column: &'a str,
    /// What else must not change as long as the cell is valid.
    pub bound: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the system gives no randomness")]
pub struct NoRandomness;

/// The cell was changed, belongs elsewhere, or the key is another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    key: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    id: Box<str>,
    key: SecretString,
}

const NONCE: usize = 24;
/// Bits of a file's mode.
const EVERYBODY: u32 = 0o007;
const GROUP: u32 = 0o070;
/// How seals are made.
const VERSION: &[u8] = b"anteroom 1";
const HEADER: &str = "\
# The sealing keys of Anteroom. This file and the database together are the tokens: keep them apart, and both private.
# The last key seals, all of them open what they sealed. `anteroom keys rotate` adds one.
";

impl Keyring {
    /// # Errors
    /// The file cannot be read, others than its owner and our group may read it, or it is no key file.
    pub fn read(path: &Path) -> Result<Self, OpenError> {
        Self::parse(path, &read_private(path)?)
    }

    /// The keyring for a database. The file is made where nothing is sealed yet.
    ///
    /// # Errors
    /// As for [`Keyring::read`], or the file is missing and `is_used`.
    pub fn open(path: &Path, is_used: bool) -> Result<Self, OpenError> {
        match (path.exists(), is_used) {
            (true, _) => Self::read(path),
            (false, true) => Err(refusal(path, "is missing, and the store holds sessions that only it can open; put it back")),
            (false, false) => Self::create(path),
        }
    }

    /// Makes the file with one new key, readable by its owner alone.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn create(path: &Path) -> Result<Self, OpenError> {
        if path.exists() {
            return Err(refusal(path, "exists already; it is not overwritten"));
        }
        let text = new_file().map_err(|NoRandomness| no_key(path))?;
        write_private(path, &text)?;
        Self::parse(path, &text)
    }

    /// Adds a newest key to the file and tells its id. Processes that run go on with the keys they have.
    ///
    /// # Errors
    /// As for [`Keyring::read`] and [`Keyring::create`].
    pub fn rotate(path: &Path) -> Result<String, OpenError> {
        let before = read_private(path)?;
        Self::parse(path, &before)?;
        let text = Zeroizing::new(format!("{}\n{}", before.trim_end(), new_entry().map_err(|NoRandomness| no_key(path))?.as_str()));
        let rotated = Self::parse(path, &text)?;
        write_private(path, &text)?;
        Ok(rotated.newest().id.to_string())
    }

    pub fn get(&self, id: &str) -> Option<&Key> {
        self.0.iter().find(|key| &*key.id == id)
    }

    #[expect(clippy::expect_used, reason = "`parse` lets no empty keyring through")]
    pub fn newest(&self) -> &Key {
        self.0.last().expect("at least one key")
    }

    fn parse(path: &Path, text: &str) -> Result<Self, OpenError> {
        let not_one = || refusal(path, "is no key file; put back the right one, or a copy of it");
        let file: KeyFile = toml::from_str(text).map_err(|_| not_one())?;
        let mut keys = Vec::with_capacity(file.key.len());
        for KeyEntry { id, key } in file.key {
            let bytes = Zeroizing::new(BASE64_STANDARD.decode(key.expose_secret()).map_err(|_| not_one())?);
            let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| not_one())?;
            keys.push(Key { id, cipher });
        }
        if keys.is_empty() { Err(not_one()) } else { Ok(Self(keys)) }
    }
}

impl Key {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// # Errors
    /// The system gives no randomness.
    pub fn seal(&self, plain: &[u8], place: Place<'_>) -> Result<Vec<u8>, Broken> {
        let nonce = XNonce::try_generate().map_err(|_| Broken)?;
        let aad = self.associated(place);
        let sealed = self.cipher.encrypt(&nonce, Payload { msg: plain, aad: &aad }).map_err(|_| Broken)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// # Errors
    /// [`Broken`].
    pub fn open(&self, cell: &[u8], place: Place<'_>) -> Result<Zeroizing<Vec<u8>>, Broken> {
        let (nonce, sealed) = cell.split_at_checked(NONCE).ok_or(Broken)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| Broken)?;
        let aad = self.associated(place);
        self.cipher.decrypt(&nonce, Payload { msg: sealed, aad: &aad }).map(Zeroizing::new).map_err(|_| Broken)
    }

    /// Each part with its length, so that no two places look alike.
    fn associated(&self, place: Place<'_>) -> Vec<u8> {
        let Place { caller, session, column, bound } = place;
        let caller_known: &[u8] = if caller.is_some() { b"caller" } else { b"" };
        let parts = [self.id.as_bytes(), caller_known, caller.unwrap_or_default().as_bytes(), session, column.as_bytes(), bound];
        let mut aad = Vec::with_capacity(VERSION.len() + parts.iter().map(|part| size_of::<u64>() + part.len()).sum::<usize>());
        aad.extend(VERSION);
        for part in parts {
            aad.extend((part.len() as u64).to_be_bytes());
            aad.extend(part);
        }
        aad
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.id).finish()
    }
}

/// The text of a key file with one new key.
///
/// # Errors
/// [`NoRandomness`].
pub fn new_file() -> Result<Zeroizing<String>, NoRandomness> {
    Ok(Zeroizing::new(format!("{HEADER}{}", new_entry()?.as_str())))
}

fn new_entry() -> Result<Zeroizing<String>, NoRandomness> {
    let (mut id, mut key) = ([0; 4], Zeroizing::new([0; 32]));
    getrandom::fill(&mut id).and_then(|()| getrandom::fill(&mut *key)).map_err(|_| NoRandomness)?;
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(key.as_slice()));
    Ok(Zeroizing::new(format!("\n[[key]]\nid = \"{:08x}\"\nkey = \"{}\"\n", u32::from_be_bytes(id), encoded.as_str())))
}

/// The group of a file is as good as its owner where it is ours: a Secret of Kubernetes is readable by root and `fsGroup` alone, and
/// `fsGroup` opens every file of a volume to the group, at each mount.
fn is_ours(group: u32) -> bool {
    getegid().as_raw() == group || getgroups().is_ok_and(|groups| groups.iter().any(|ours| ours.as_raw() == group))
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, OpenError> {
    let file = fs::metadata(path).map_err(|error| cannot(path, "be read", &error))?;
    if file.mode() & EVERYBODY != 0 {
        return Err(refusal(path, "may be read by others than its owner; run `chmod 600` on it"));
    }
    if file.mode() & GROUP != 0 && !is_ours(file.gid()) {
        return Err(refusal(path, "may be read by a group that is not this process's; run `chmod 600` on it"));
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(|error| cannot(path, "be read", &error))
}

/// All or nothing, also in a power failure. What is replaced keeps its owner and group, if we may give it to them; root may be at work
/// for a service that is not root.
fn write_private(path: &Path, text: &str) -> Result<(), OpenError> {
    // Not the link is replaced but what it leads to.
    let target = fs::canonicalize(path);
    let file = target.as_deref().unwrap_or(path);
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        if let Ok(old) = fs::metadata(file)
            && fchown(&new, Some(old.uid()), Some(old.gid())).is_ok()
        {
            new.set_permissions(Permissions::from_mode(0o600 | old.mode() & GROUP))?;
        }
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs::rename(&beside, file)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| match error.kind() {
        ErrorKind::ReadOnlyFilesystem => refusal(path, "is on a read-only volume; change it where it comes from, such as a Secret"),
        _ => cannot(path, "be written", &error),
    })
}

fn no_key(path: &Path) -> OpenError {
    refusal(path, &format!("cannot be made: {NoRandomness}"))
}

fn cannot(path: &Path, what: &str, error: &std::io::Error) -> OpenError {
    refusal(path, &format!("cannot {what}: {error}"))
}

fn refusal(path: &Path, what: &str) -> OpenError {
    OpenError::new(format!("key file {}: {what}", path.display()))
}
