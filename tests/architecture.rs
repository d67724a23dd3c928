//! The arrows of the map in `src/lib.rs`, held by reading the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Module → the modules of this crate that it may name. What is not listed may name nothing.
const ARROWS: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("shown", &[]),
    ("clock", &["kernel"]),
    ("store", &["kernel", "clock"]),
    ("provider", &["kernel", "shown", "clock"]),
    ("sessions", &["kernel", "clock", "store"]),
    ("watchdog", &["kernel", "clock"]),
    ("metrics", &["kernel"]),
    ("poller", &["kernel", "metrics", "provider", "sessions", "watchdog"]),
    ("scheduler", &["kernel", "provider", "sessions", "watchdog"]),
    ("http", &["kernel", "shown", "clock", "provider", "sessions"]),
    ("config", &["kernel", "http", "provider"]),
    ("check", &["kernel", "provider"]),
    ("healthcheck", &[]),
    ("telemetry", &["clock"]),
    ("shutdown", &[]),
    ("cli", &["config", "telemetry"]),
    ("keys", &[]),
    ("login", &["kernel", "clock", "cli"]),
    ("demo", &["kernel", "clock", "provider"]),
    (
        "app",
        &[
            "kernel",
            "clock",
            "config",
            "demo",
            "http",
            "metrics",
            "poller",
            "provider",
            "shutdown",
            "scheduler",
            "sessions",
            "store",
            "telemetry",
            "watchdog",
        ],
    ),
];

/// The watchdog supervises anything: of the kernel it may know only the bookkeeping of restarts and the type of a moment.
const WATCHDOG_KERNEL: &[&str] = &["kernel::restarts", "kernel::time"];

/// What the kernel may import from outside.
const KERNEL_CRATES: &[&str] =
    &["core", "std::collections", "std::sync::Arc", "serde", "uuid", "secrecy", "super", "self", "crate::kernel"];

/// Names that do I/O, read a clock, draw randomness, lock or panic.
const KERNEL_NEVER: &[&str] = &[
    "tokio",
    "Instant",
    "SystemTime",
    "std::net",
    "std::fs",
    "std::io",
    "std::thread",
    "std::env",
    "Mutex",
    "RwLock",
    "Atomic",
    ".await",
    "async ",
    "unwrap()",
    "expect(",
    "panic!",
    "unreachable!",
    "todo!",
    "println!",
    "eprintln!",
    "Uuid::new",
];

fn sources(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(under).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The code without comments and without what follows `#[cfg(test)]`.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn module(path: &Path) -> String {
    let relative = path.strip_prefix(src()).expect("below src");
    let first = relative.components().next().expect("a component").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Every `crate::name` in `code`.
fn named_modules(code: &str) -> BTreeSet<String> {
    let ident = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    code.match_indices("crate::").map(|(at, found)| ident(&code[at + found.len()..])).filter(|name| !name.is_empty()).collect()
}

#[test]
fn imports_point_one_way() {
    for path in sources(&src()) {
        let module = module(&path);
        if module == "main" || module == "lib" {
            continue;
        }
        let allowed = ARROWS.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
        let allowed = allowed.unwrap_or_else(|| panic!("{module} is not on the map: add it to ARROWS and to src/lib.rs"));
        for named in named_modules(&code(&path)) {
            assert!(named == module || allowed.contains(&named.as_str()), "{} must not import crate::{named}", path.display());
        }
    }
}

/// Each module stands below what it may import, so no circle can be drawn.
#[test]
fn the_map_has_no_circles() {
    for (at, (module, allowed)) in ARROWS.iter().enumerate() {
        for named in *allowed {
            assert!(ARROWS[..at].iter().any(|(name, _)| name == named), "{module} may import {named}, which is not above it");
        }
    }
}

#[test]
fn the_kernel_imports_only_what_is_pure() {
    let kernel = sources(&src()).into_iter().filter(|path| module(path) == "kernel").collect::<Vec<_>>();
    assert!(kernel.len() > 5);
    for path in kernel {
        let code = code(&path);
        for import in code.lines().filter_map(|line| line.trim().strip_prefix("use ")) {
            assert!(KERNEL_CRATES.iter().any(|allowed| import.starts_with(allowed)), "{}: use {import}", path.display());
        }
        for never in KERNEL_NEVER {
            assert!(!code.contains(never), "{} names {never}", path.display());
        }
    }
}

#[test]
fn the_watchdog_knows_no_session() {
    let code = code(&src().join("watchdog.rs"));
    let imports: Vec<_> = code.lines().filter_map(|line| line.strip_prefix("use crate::kernel::")).collect();
    assert!(!imports.is_empty());
    for import in imports {
        assert!(WATCHDOG_KERNEL.iter().any(|allowed| format!("kernel::{import}").starts_with(allowed)), "use crate::kernel::{import}");
    }
}

/// The terminal sign-in is a stranger to the service: it gets no further than the public API.
#[test]
fn the_terminal_sign_in_knows_nothing_of_the_service() {
    let login = sources(&src()).into_iter().filter(|path| module(path) == "login").collect::<Vec<_>>();
    assert!(login.len() > 5);
    for path in login {
        for import in code(&path).lines().filter_map(|line| line.strip_prefix("use crate::kernel::")) {
            assert!(import.starts_with("time::"), "{}: use crate::kernel::{import}", path.display());
        }
    }
}

#[test]
fn one_folder_holds_the_lock_of_the_sessions() {
    let locks: Vec<_> = sources(&src().join("sessions")).into_iter().filter(|path| code(path).contains("Mutex<Inner>")).collect();
    assert_eq!(locks, [src().join("sessions/shard.rs")]);
}

/// cargo ignores the setting for tests, so no test could notice that the shipped binary does not restart anything.
#[test]
fn panics_unwind_in_every_profile() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("a manifest");
    let manifest: toml::Table = manifest.parse().expect("a manifest");
    let profiles = manifest["profile"].as_table().expect("profiles");
    for (name, profile) in profiles {
        let panic = profile.get("panic").and_then(toml::Value::as_str).unwrap_or("unwind");
        assert_eq!(panic, "unwind", "profile.{name}");
    }
    assert!(fs::read_to_string(src().join("lib.rs")).expect("lib.rs").contains("#[cfg(panic = \"abort\")]\ncompile_error!"));
}
