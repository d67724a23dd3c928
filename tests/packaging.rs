//! What can be known of the image, the dependencies and their licences without building the one or fetching the others.

use std::path::Path;
use std::process::Command;

use toml::{Table, Value};

#[test]
fn the_image_copies_only_what_exists() {
    let manifest = manifest();
    let binary = manifest["package"]["name"].as_str().unwrap();
    let dockerfile = Dockerfile::read();
    let build = dockerfile.only("RUN");
    assert!(build.contains(&format!("target/release/{binary} ")), "the build makes no {binary}: {build}");

    let mut copies = dockerfile.all("COPY").peekable();
    assert!(copies.peek().is_some(), "the image is empty");
    for copy in copies {
        let (flags, paths): (Vec<&str>, Vec<&str>) = copy.split_whitespace().partition(|word| word.starts_with("--"));
        let (_destination, sources) = paths.split_last().unwrap();
        let from_build = flags.contains(&"--from=build");
        for source in sources {
            let exists = if from_build { build.split_whitespace().any(|word| word == *source) } else { root().join(source).exists() };
            assert!(exists, "COPY {copy}: there is no {source}");
        }
    }
}

#[test]
fn the_image_is_built_as_released_and_without_the_demo() {
    let build = Dockerfile::read().only("RUN");
    for flag in ["--release", "--locked", "--no-default-features"] {
        assert!(build.split_whitespace().any(|word| word == flag), "the image is built without {flag}");
    }
    let default = manifest()["features"]["default"].clone();
    assert!(default.as_array().unwrap().contains(&Value::from("demo")), "the demo is not what --no-default-features leaves out");
}

#[test]
fn the_image_is_built_with_the_rust_that_the_manifest_asks_for() {
    let wanted = manifest()["package"]["rust-version"].as_str().unwrap().to_owned();
    let base = Dockerfile::read().all("FROM").next().unwrap().to_owned();
    assert!(base.starts_with(&format!("rust:{wanted}-")), "{base} is not Rust {wanted}");
}

#[test]
fn the_image_runs_as_an_unprivileged_user() {
    let dockerfile = Dockerfile::read();
    let user = dockerfile.last_stage().filter(|(name, _)| name == "USER").last().expect("the image runs as root").1.clone();
    let id: u32 = user.split(':').next().unwrap().parse().expect("USER is not a number");
    assert_ne!(id, 0, "the image runs as root");
}

#[test]
fn the_image_calls_commands_that_exist() {
    let dockerfile = Dockerfile::read();
    let entrypoint = words(&dockerfile.only("ENTRYPOINT"));
    let health = words(dockerfile.only("HEALTHCHECK").strip_prefix("CMD ").unwrap());
    assert_eq!(entrypoint, health[..1], "the health check is not ours");
    assert!(help(&health[1]).contains(&health[1]));

    assert_eq!(words(&dockerfile.only("CMD")), ["serve"]);
    assert!(help("serve").contains("Run the service"));
}

#[test]
fn the_service_and_its_health_check_find_the_same_configuration_in_the_image() {
    let dockerfile = Dockerfile::read();
    let (variable, path) = dockerfile.last_stage().find_map(|(name, rest)| rest.split_once('=').filter(|_| name == "ENV")).unwrap();
    assert!(path.starts_with('/') && path.ends_with(".toml"), "{path} depends on the working directory");
    let health = words(dockerfile.only("HEALTHCHECK").strip_prefix("CMD ").unwrap());
    for command in [&words(&dockerfile.only("CMD"))[0], &health[1]] {
        assert!(help(command).contains(&format!("[env: {variable}=")), "{command} does not read {variable}");
    }
    assert!(!health.contains(&"--config".to_owned()), "there are two configurations");
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let text = read("Cargo.toml");
    let lines: Vec<&str> = text.lines().collect();
    for section in ["dependencies", "dev-dependencies"] {
        let start = lines.iter().position(|line| *line == format!("[{section}]")).unwrap();
        for name in manifest()[section].as_table().unwrap().keys() {
            let names_it = |line: &&str| line.strip_prefix(name.as_str()).is_some_and(|rest| rest.trim_start().starts_with(['=', '.']));
            let line = start + lines[start..].iter().position(names_it).unwrap();
            assert!(is_comment(lines[line - 1]) || ends_in_comment(lines[line]), "[{section}] does not say what {name} is for");
        }
    }
}

#[test]
fn no_banned_crate_is_in_the_tree_and_every_ban_has_a_reason() {
    let lock: Table = read("Cargo.lock").parse().unwrap();
    let packages: Vec<&str> = lock["package"].as_array().unwrap().iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert!(packages.contains(&"rustls"));

    let rules: Table = read("deny.toml").parse().unwrap();
    let bans = rules["bans"]["deny"].as_array().unwrap();
    assert!(!bans.is_empty());
    for ban in bans {
        let name = ban["crate"].as_str().unwrap();
        assert!(ban.get("reason").is_some_and(|reason| reason.is_str()), "the ban of {name} has no reason");
        assert!(!packages.contains(&name), "{name} is banned, but in Cargo.lock");
    }
}

#[test]
fn what_tests_take_from_npm_is_pinned_and_its_lock_names_no_registry() {
    for folder in ["tests/providers", "tests/browser"] {
        let package: serde_json::Value = serde_json::from_str(&read(&format!("{folder}/package.json"))).unwrap();
        for (name, version) in package["dependencies"].as_object().unwrap() {
            let exact = version.as_str().unwrap().split('.').all(|part| part.parse::<u32>().is_ok());
            assert!(exact, "{name} is not pinned: {version}");
        }
        let lock: serde_json::Value = serde_json::from_str(&read(&format!("{folder}/package-lock.json"))).unwrap();
        for (path, package) in lock["packages"].as_object().unwrap().iter().filter(|(path, _)| !path.is_empty()) {
            assert!(package["integrity"].is_string(), "{path} has no checksum");
            assert!(package.get("resolved").is_none(), "{path} names where it came from");
        }
    }
}

/// The instructions of the Dockerfile, in order.
struct Dockerfile(Vec<(String, String)>);

impl Dockerfile {
    fn read() -> Self {
        let text = read("Dockerfile");
        let code: Vec<&str> = text.lines().filter(|line| !is_comment(line)).collect();
        let joined = code.join("\n").replace("\\\n", " ");
        let instruction = |line: &str| line.trim().split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned()));
        Self(joined.lines().filter_map(instruction).collect())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, rest)| rest.as_str())
    }

    fn only(&self, name: &str) -> String {
        let found: Vec<&str> = self.all(name).collect();
        assert_eq!(found.len(), 1, "{name} should be there once");
        found[0].to_owned()
    }

    fn last_stage(&self) -> impl Iterator<Item = &(String, String)> {
        let start = self.0.iter().rposition(|(name, _)| name == "FROM").unwrap();
        self.0[start..].iter()
    }
}

/// The exec form, `["a", "b"]`.
fn words(instruction: &str) -> Vec<String> {
    serde_json::from_str(instruction).unwrap_or_else(|_| panic!("not in exec form, and there is no shell: {instruction}"))
}

fn help(subcommand: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_anteroom")).args([subcommand, "--help"]).output().unwrap();
    assert!(output.status.success(), "there is no subcommand {subcommand}");
    String::from_utf8(output.stdout).unwrap()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// Whether a line of TOML has a `#` outside of its strings.
fn ends_in_comment(line: &str) -> bool {
    line.split('"').step_by(2).any(|outside| outside.contains('#'))
}

fn manifest() -> Table {
    read("Cargo.toml").parse().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
