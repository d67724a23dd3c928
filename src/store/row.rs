//! A session as a row: plain columns, and sealed cells.
//!
//! Every row ends in a seal of its own over all the other columns. So a bit that was flipped, a cell that was put back from an
//! older row, a digest that was taken from another session: whatever was changed from outside, the row does not open.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::seal::{Broken, Key, Keyring, Place};
use crate::kernel::session::SessionId;
use crate::kernel::session::record::{Record, Secrets, revision_after};
use crate::kernel::time::{Timestamp, WallTime};
use crate::kernel::verdict::{DeviceCode, Grant};

/// One row of the table `sessions`; each field is the column of its name. Counters and times are the bits of a `u64`.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    pub id: Uuid,
    pub version: i64,
    pub revision: i64,
    pub provider: String,
    pub caller: Option<String>,
    pub status: String,
    pub opened_at: i64,
    pub facts: String,
    pub key_id: String,
    pub device_code: Option<Vec<u8>>,
    pub tokens: Option<Vec<u8>>,
    pub secret: Option<Vec<u8>>,
    pub revocation: Option<Vec<u8>>,
    pub seal: Vec<u8>,
    /// The number of the start that wrote it; 0 before starts were counted.
    pub epoch: i64,
}

/// Without what is sealed, and without the facts: the code that people type is among them.
impl fmt::Debug for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Row")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("revision", &self.revision)
            .field("provider", &self.provider)
            .field("caller", &self.caller)
            .field("status", &self.status)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceCodeCell<'a> {
    code: Cow<'a, str>,
    code_verifier: Option<Cow<'a, str>>,
    token_endpoint: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantCell<'a> {
    access_token: Cow<'a, str>,
    token_type: Cow<'a, str>,
    expires_at: Option<WallTime>,
    refresh_token: Option<Cow<'a, str>>,
    id_token: Option<Cow<'a, str>>,
    scope: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arrived_at: Option<WallTime>,
    claims: Option<Cow<'a, str>>,
}

/// The columns in the order of [`columns`].
pub type Columns = (
    Uuid,
    i64,
    i64,
    String,
    Option<String>,
    String,
    i64,
    String,
    String,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<u8>,
    i64,
);

macro_rules! columns {
    () => {
        "id, version, revision, provider, caller, status, opened_at, facts, key_id, device_code, tokens, secret, revocation, seal, epoch"
    };
}
pub(super) use columns;

impl From<Columns> for Row {
    fn from(columns: Columns) -> Self {
        let (
            id,
            version,
            revision,
            provider,
            caller,
            status,
            opened_at,
            facts,
            key_id,
            device_code,
            tokens,
            secret,
            revocation,
            seal,
            epoch,
        ) = columns;
        Self {
            id,
            version,
            revision,
            provider,
            caller,
            status,
            opened_at,
            facts,
            key_id,
            device_code,
            tokens,
            secret,
            revocation,
            seal,
            epoch,
        }
    }
}

impl Row {
    /// The row as the start with the number `epoch` writes it.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn seal(record: &Record, keyring: &Keyring, epoch: i64) -> Result<Self, Broken> {
        let key = keyring.newest();
        let Secrets { device_code, grant, creation, revocations } = &record.secrets;
        let seal = |column, plain: Option<Zeroizing<Vec<u8>>>| {
            let place = Place { caller: record.caller.as_deref(), session: record.id.as_bytes(), column, bound: &[] };
            plain.map(|plain| key.seal(&plain, place)).transpose()
        };
        let creation = creation.as_ref().map(|secret| Zeroizing::new(secret.expose_secret().as_bytes().to_vec()));
        let mut row = Self {
            id: record.id,
            version: record.version.cast_signed(),
            revision: record.revision.cast_signed(),
            provider: record.provider.to_string(),
            caller: record.caller.as_deref().map(str::to_owned),
            status: record.status().as_str().to_owned(),
            opened_at: record.opened_at.as_millis().cast_signed(),
            facts: serde_json::to_string(&record.facts).map_err(|_| Broken)?,
            key_id: key.id().to_owned(),
            device_code: seal("device_code", device_code.as_deref().map(|code| plain(&DeviceCodeCell::from(code))).transpose()?)?,
            tokens: seal("tokens", grant.as_deref().map(|grant| plain(&GrantCell::from(grant))).transpose()?)?,
            secret: seal("secret", creation)?,
            revocation: seal("revocation", (!revocations.is_empty()).then(|| plain(&grants(revocations))).transpose()?)?,
            seal: Vec::new(),
            epoch,
        };
        row.seal = key.seal(&[], row.whole(&row.bound()))?;
        Ok(row)
    }

    /// What the start with the number `epoch` makes of it.
    ///
    /// # Errors
    /// [`Broken`]: it is not what was sealed, or a newer version of Anteroom wrote it.
    pub fn open(&self, keyring: &Keyring, epoch: i64) -> Result<Record, Broken> {
        let key = keyring.get(&self.key_id).ok_or(Broken)?;
        key.open(&self.seal, self.whole(&self.bound()))?;
        let secret = match self.cell(key, "secret", self.secret.as_deref())? {
            Some(plain) => Some(SecretString::from(std::str::from_utf8(&plain).map_err(|_| Broken)?)),
            None => None,
        };
        let secrets = Secrets {
            device_code: self
                .read::<DeviceCodeCell<'_>>(key, "device_code", self.device_code.as_deref())?
                .map(|cell| Arc::new(cell.into())),
            grant: self.read::<GrantCell<'_>>(key, "tokens", self.tokens.as_deref())?.map(|cell| Arc::new(cell.into())),
            creation: secret,
            revocations: self.revocations(key)?,
        };
        Ok(Record {
            id: self.id,
            version: self.version.cast_unsigned(),
            revision: revision_after(self.revision.cast_unsigned(), epoch.abs_diff(self.epoch)),
            provider: Arc::from(self.provider.as_str()),
            caller: self.caller.as_deref().map(Arc::from),
            opened_at: Timestamp::from_millis(self.opened_at.cast_unsigned()),
            facts: serde_json::from_str(&self.facts).map_err(|_| Broken)?,
            secrets,
        })
    }

    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Up to schema 2 the cell is one grant, not a list.
    fn revocations(&self, key: &Key) -> Result<Vec<Arc<Grant>>, Broken> {
        let Some(plain) = self.cell(key, "revocation", self.revocation.as_deref())? else { return Ok(Vec::new()) };
        let is_list = plain.first() == Some(&b'[');
        let cells: Result<Vec<GrantCell<'_>>, _> =
            if is_list { serde_json::from_slice(&plain) } else { serde_json::from_slice(&plain).map(|cell| vec![cell]) };
        Ok(cells.map_err(|_| Broken)?.into_iter().map(|cell| Arc::new(cell.into())).collect())
    }

    fn read<T: DeserializeOwned>(&self, key: &Key, column: &str, cell: Option<&[u8]>) -> Result<Option<T>, Broken> {
        let plain = self.cell(key, column, cell)?;
        plain.map(|plain| serde_json::from_slice(&plain).map_err(|_| Broken)).transpose()
    }

    fn cell(&self, key: &Key, column: &str, cell: Option<&[u8]>) -> Result<Option<Zeroizing<Vec<u8>>>, Broken> {
        let place = Place { caller: self.caller.as_deref(), session: self.id.as_bytes(), column, bound: &[] };
        cell.map(|cell| key.open(cell, place)).transpose()
    }

    fn whole<'a>(&'a self, bound: &'a [u8]) -> Place<'a> {
        Place { caller: self.caller.as_deref(), session: self.id.as_bytes(), column: "seal", bound }
    }

    /// All columns that [`Place`] does not name, each with its length.
    fn bound(&self) -> Vec<u8> {
        let Self { id: _, version, revision, provider, caller: _, status, opened_at, facts, key_id, epoch, .. } = self;
        let mut numbers = [version.to_be_bytes(), revision.to_be_bytes(), opened_at.to_be_bytes()].concat();
        // Rows of before have none, and their seals know of none.
        if *epoch != 0 {
            numbers.extend(epoch.to_be_bytes());
        }
        let cells = [&self.device_code, &self.tokens, &self.secret, &self.revocation];
        let plain = [numbers.as_slice(), provider.as_bytes(), status.as_bytes(), facts.as_bytes(), key_id.as_bytes()];
        let size = |part: Option<&[u8]>| size_of::<u64>() + part.map_or(0, <[u8]>::len);
        let parts = || plain.into_iter().map(Some).chain(cells.map(|cell| cell.as_deref()));
        let mut bound = Vec::with_capacity(parts().map(size).sum());
        for part in parts() {
            bound.extend(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            bound.extend(part.unwrap_or_default());
        }
        bound
    }
}

fn grants(grants: &[Arc<Grant>]) -> Vec<GrantCell<'_>> {
    grants.iter().map(|grant| GrantCell::from(&**grant)).collect()
}

/// Written in one go, so that no copy is left behind by a buffer that grew.
fn plain(cell: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, Broken> {
    let mut size = Size(0);
    serde_json::to_writer(&mut size, cell).map_err(|_| Broken)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(size.0));
    serde_json::to_writer(&mut *plain, cell).map_err(|_| Broken)?;
    Ok(plain)
}

struct Size(usize);

impl std::io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> From<&'a DeviceCode> for DeviceCodeCell<'a> {
    fn from(code: &'a DeviceCode) -> Self {
        Self {
            code: Cow::Borrowed(code.expose_code()),
            code_verifier: code.expose_code_verifier().map(Cow::Borrowed),
            token_endpoint: Cow::Borrowed(&code.token_endpoint),
        }
    }
}

impl From<DeviceCodeCell<'_>> for DeviceCode {
    fn from(cell: DeviceCodeCell<'_>) -> Self {
        Self::new(&cell.code, cell.code_verifier.as_deref(), Arc::from(&*cell.token_endpoint))
    }
}

impl<'a> From<&'a Grant> for GrantCell<'a> {
    fn from(grant: &'a Grant) -> Self {
        Self {
            access_token: exposed(&grant.access_token),
            token_type: Cow::Borrowed(&grant.token_type),
            expires_at: grant.expires_at,
            refresh_token: grant.refresh_token.as_ref().map(exposed),
            id_token: grant.id_token.as_ref().map(exposed),
            scope: grant.scope.as_deref().map(Cow::Borrowed),
            arrived_at: grant.arrived_at,
            claims: grant.claims.as_ref().map(exposed),
        }
    }
}

impl From<GrantCell<'_>> for Grant {
    fn from(cell: GrantCell<'_>) -> Self {
        let secret = |text: Cow<'_, str>| SecretString::from(text.into_owned());
        Self {
            access_token: secret(cell.access_token),
            token_type: cell.token_type.into(),
            expires_at: cell.expires_at,
            refresh_token: cell.refresh_token.map(secret),
            id_token: cell.id_token.map(secret),
            scope: cell.scope.map(Into::into),
            arrived_at: cell.arrived_at,
            claims: cell.claims.map(secret),
        }
    }
}

fn exposed(secret: &SecretString) -> Cow<'_, str> {
    Cow::Borrowed(secret.expose_secret())
}
