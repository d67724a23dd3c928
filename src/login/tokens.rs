//! Where the tokens go: to stdout, or into a file for one pair of eyes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

pub enum Destination {
    Stdout,
    File(Reserved),
}

/// An empty file beside the wanted one, under a name of its own. It goes away unless it gets to take its place.
pub struct Reserved {
    file: File,
    path: PathBuf,
    wanted: PathBuf,
}

impl Destination {
    /// Finds out before the sign-in whether the file can be written.
    ///
    /// # Errors
    /// It cannot.
    pub fn reserve(output: Option<&Path>) -> Result<Self, String> {
        let Some(wanted) = output else { return Ok(Self::Stdout) };
        let refuse = |why: &str| format!("--output {}: {why}", wanted.display());
        // A rename would replace a device, a pipe or a link, not write to it.
        if fs::symlink_metadata(wanted).is_ok_and(|existing| !existing.is_file()) {
            return Err(refuse("is not a regular file"));
        }
        let name = wanted.file_name().ok_or_else(|| refuse("names no file"))?;
        let path = wanted.with_file_name(format!(".{}.{}", name.to_string_lossy(), Uuid::new_v4()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| refuse(&format!("cannot be written ({})", error.kind())))?;
        Ok(Self::File(Reserved { file, path, wanted: wanted.to_owned() }))
    }

    /// # Errors
    /// Why not; nothing is left behind then.
    pub fn write(self, tokens: &SecretString) -> Result<(), String> {
        match self {
            Self::Stdout => write_line(&mut io::stdout().lock(), tokens).map_err(|error| format!("stdout: {error}")),
            Self::File(mut reserved) => reserved.write(tokens).map_err(|error| format!("{}: {error}", reserved.wanted.display())),
        }
    }
}

impl Reserved {
    fn write(&mut self, tokens: &SecretString) -> io::Result<()> {
        write_line(&mut self.file, tokens)?;
        self.file.sync_all()?;
        fs::rename(&self.path, &self.wanted)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // After the rename there is nothing under this name.
        _ = fs::remove_file(&self.path);
    }
}

fn write_line(writer: &mut impl Write, tokens: &SecretString) -> io::Result<()> {
    writer.write_all(tokens.expose_secret().as_bytes())?;
    writer.write_all(b"\n")?;
    writer.flush()
}
