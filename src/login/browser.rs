//! Opens an address in the browser of this machine.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use url::Url;

#[cfg(target_os = "macos")]
const OPENER: &str = "open";
#[cfg(not(target_os = "macos"))]
const OPENER: &str = "xdg-open";

/// Starts the opener and does not wait for it. No shell reads the address, and it begins with its scheme, so it is no option either.
///
/// # Errors
/// There is no opener.
pub fn open(link: &Url) -> io::Result<()> {
    // In a process group of its own, so that Ctrl-C here does not close the browser.
    Command::new(OPENER)
        .arg(link.as_str())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}
