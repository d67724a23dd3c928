//! The files under `deploy/` speak of the service as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anteroom::config::Config;
use anteroom::http::OPENAPI;
use anteroom::kernel::session::Status;
use anteroom::metrics::{Asked, Metrics};
use serde::Deserialize;
use serde_json::Value;

fn deploy(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(text: &str) -> Vec<Value> {
    yaml_serde::Deserializer::from_str(text).map(|document| Value::deserialize(document).expect("YAML")).collect()
}

/// Every series that a service which has seen everything tells Prometheus.
fn series() -> BTreeSet<String> {
    let metrics = Metrics::default();
    metrics.created("acme");
    metrics.settled("acme", "grant_lost");
    metrics.asked(Asked { provider: "acme", errand: "poll", answer: "pending", took: Duration::ZERO, late: Duration::ZERO });
    metrics.crashed("poller", "panicked");
    metrics.stuck("poller");
    metrics.reachable("acme", true);
    metrics.answered("GET", "/livez", 200, Duration::ZERO);
    let text = metrics.render(&BTreeMap::from([(Status::Pending, 1)]));
    let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    text.lines().filter(|line| !line.starts_with('#')).map(name).collect()
}

fn named_series(expression: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    expression.split(|c| !word(c)).filter(|word| word.starts_with("anteroom_")).map(str::to_owned).collect()
}

fn assert_known(expression: &str, known: &BTreeSet<String>) {
    let named = named_series(expression);
    assert!(!named.is_empty(), "{expression} names no series");
    for name in named {
        assert!(known.contains(&name), "{name} is no series of ours: {expression}");
    }
}

#[test]
fn alerts_and_dashboard_ask_for_series_that_exist() {
    let known = series();
    assert!(known.contains("anteroom_poll_lateness_seconds_bucket"), "{known:?}");
    let alerts = yaml(&deploy("alerts.yaml"));
    let rules = alerts[0]["groups"][0]["rules"].as_array().expect("rules");
    assert!(rules.len() > 5);
    for rule in rules {
        assert_known(rule["expr"].as_str().expect("an expression"), &known);
    }
    let dashboard: Value = serde_json::from_str(&deploy("grafana.json")).expect("JSON");
    let targets = dashboard["panels"].as_array().expect("panels").iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    for target in targets {
        assert_known(target["expr"].as_str().expect("an expression"), &known);
    }
}

#[test]
fn the_readme_says_what_to_do_about_each_alert() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a README");
    for rule in yaml(&deploy("alerts.yaml"))[0]["groups"][0]["rules"].as_array().expect("rules") {
        let alert = rule["alert"].as_str().expect("a name");
        assert!(readme.contains(alert), "README.md does not say what to do about {alert}");
    }
}

#[test]
fn the_pod_is_probed_at_paths_that_exist_and_has_no_rights() {
    let paths = yaml(OPENAPI)[0]["paths"].as_object().expect("paths").clone();
    let documents = yaml(&deploy("kubernetes.yaml"));
    let pod = &documents.iter().find(|document| document["kind"] == "StatefulSet").expect("a StatefulSet")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().expect("a path");
        assert!(paths.contains_key(path), "{probe}: {path}");
    }
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert!(pod["terminationGracePeriodSeconds"].as_u64() > Some(10), "the service needs up to 10 s");
    let mounted: BTreeSet<_> =
        pod["volumes"].as_array().expect("volumes").iter().map(|volume| volume["name"].clone().to_string()).collect();
    for mount in container["volumeMounts"].as_array().expect("mounts") {
        assert!(mounted.contains(&mount["name"].to_string()), "{mount}");
    }
}

#[test]
fn the_pods_configuration_loads() {
    let documents = yaml(&deploy("kubernetes.yaml"));
    let config = documents.iter().find(|document| document["kind"] == "ConfigMap").expect("a ConfigMap");
    let text = config["data"]["anteroom.toml"].as_str().expect("a configuration");
    let folder = std::env::temp_dir().join(format!("anteroom-deploy-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let (file, secret) = (folder.join("anteroom.toml"), folder.join("secret"));
    fs::write(&secret, "s3cret\n").expect("a secret");
    let secret = secret.to_string_lossy();
    fs::write(&file, text.replace("/run/secrets/anteroom/acme-client-secret", &secret)).expect("a file");
    let loaded = Config::load(Some(&file), std::iter::empty()).map(|_| ());
    fs::remove_dir_all(&folder).expect("ours");
    assert_eq!(loaded, Ok(()));
}

#[test]
fn the_composed_service_has_no_rights_and_time_to_stop() {
    let service = &yaml(&deploy("compose.yaml"))[0]["services"]["anteroom"];
    assert_eq!(service["read_only"], true);
    assert_eq!(service["cap_drop"][0], "ALL");
    assert_eq!(service["stop_grace_period"], "20s");
    let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile");
    assert!(dockerfile.exists() && service["build"] == "..");
}
