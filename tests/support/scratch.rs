//! A folder of its own for a test.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::path::{Path, PathBuf};

/// Removed with all that is in it when it is dropped.
pub struct Scratch(PathBuf);

impl Default for Scratch {
    fn default() -> Self {
        let path = std::env::temp_dir().join(format!("anteroom-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).expect("a scratch folder");
        Self(path)
    }
}

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
