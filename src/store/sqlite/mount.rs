//! Whether what SQLite writes beside the file stays where the file is.

use std::fs;
use std::path::Path;

/// What is wrong with where the database is; there may be none yet.
pub fn warning(path: &Path) -> Option<String> {
    let real = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    is_mounted(&mounts, real.to_str()?).then(|| {
        format!(
            "store.url: only the file {} is mounted, not its folder; what SQLite keeps beside it, the last sign-ins, is lost with the \
             container: mount the folder",
            path.display()
        )
    })
}

/// See proc_pid_mountinfo(5): the fifth field is where it is mounted.
fn is_mounted(mounts: &str, path: &str) -> bool {
    // The file writes what would end a field in octal.
    let escaped = path.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012");
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(&escaped))
}

#[cfg(test)]
mod tests {
    use super::is_mounted;

    #[test]
    fn a_mount_of_the_file_is_told_from_one_of_its_folder() {
        const MOUNTS: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n36 22 8:1 /x /data/anteroom.db rw - ext4 /dev/sda1 rw\n37 22 0:5 / /my\\040data rw - tmpfs none rw\n";
        assert!(is_mounted(MOUNTS, "/data/anteroom.db"));
        assert!(is_mounted(MOUNTS, "/my data"));
        for folder_or_none in ["/data/other.db", "/my data/anteroom.db", "/data"] {
            assert!(!is_mounted(MOUNTS, folder_or_none), "{folder_or_none}");
        }
    }
}
