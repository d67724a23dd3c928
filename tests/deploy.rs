//! The files under `deploy/` speak of the service as it is.

#[path = "support/scratch.rs"]
mod scratch;
#[path = "support/service.rs"]
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anteroom::http::OPENAPI;
use anteroom::kernel::session::Status;
use anteroom::metrics::{Asked, Metrics};
use serde::Deserialize;
use serde_json::Value;
use toml::Table;

use self::scratch::Scratch;
use self::service::Program;

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

/// The manifest, its objects found by what they are called.
struct Manifest {
    text: String,
    objects: Vec<Value>,
}

impl Manifest {
    fn read() -> Self {
        let text = deploy("kubernetes.yaml");
        Self { objects: yaml(&text), text }
    }

    /// What its first lines explain.
    fn head(&self) -> String {
        self.text.lines().take_while(|line| line.starts_with('#')).collect::<Vec<_>>().join("\n")
    }

    fn named(&self, kind: &str, name: &Value) -> &Value {
        let object = self.objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == *name);
        object.unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    fn pod(&self) -> &Value {
        &self.named("StatefulSet", &"anteroom".into())["spec"]["template"]
    }

    fn container(&self) -> &Value {
        &self.pod()["spec"]["containers"][0]
    }

    fn configuration(&self) -> &str {
        self.named("ConfigMap", &"anteroom".into())["data"]["anteroom.toml"].as_str().expect("a configuration")
    }

    /// The volume that a path is on, and the path there.
    fn volume_at<'p>(&self, path: &'p str) -> (&Value, &'p str) {
        let below =
            |mount: &Value| path.strip_prefix(mount["mountPath"].as_str()?)?.strip_prefix('/').map(|name| (mount["name"].clone(), name));
        let (volume, name) = array(&self.container()["volumeMounts"]).find_map(below).unwrap_or_else(|| panic!("{path} is on no volume"));
        (array(&self.pod()["spec"]["volumes"]).find(|other| other["name"] == volume).expect("a volume"), name)
    }

    fn port(&self, name: &Value) -> u64 {
        let mut ports = array(&self.container()["ports"]);
        let port = ports.find(|port| port["name"] == *name).unwrap_or_else(|| panic!("no port is called {name}"));
        port["containerPort"].as_u64().expect("a number")
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

#[test]
fn every_name_in_the_manifest_is_defined_or_explained() {
    let manifest = Manifest::read();
    let (pod, head) = (manifest.pod(), manifest.head());
    let labels = &pod["metadata"]["labels"];
    let set = &manifest.named("StatefulSet", &"anteroom".into())["spec"];
    assert_eq!(&set["selector"]["matchLabels"], labels);
    assert_eq!(manifest.named("Service", &set["serviceName"])["spec"]["clusterIP"], "None", "a StatefulSet needs a headless Service");
    let services: Vec<_> = manifest.objects.iter().filter(|object| object["kind"] == "Service").collect();
    assert_eq!(services.len(), 2);
    for service in services {
        assert_eq!(&service["spec"]["selector"], labels);
        for port in array(&service["spec"]["ports"]) {
            manifest.port(&port["targetPort"]);
        }
    }
    for volume in array(&pod["spec"]["volumes"]) {
        match (&volume["configMap"], &volume["persistentVolumeClaim"], &volume["secret"]) {
            (Value::Object(map), _, _) => drop(manifest.named("ConfigMap", &map["name"])),
            (_, Value::Object(claim), _) => drop(manifest.named("PersistentVolumeClaim", &claim["claimName"])),
            (_, _, Value::Object(secret)) => {
                let name = secret["secretName"].as_str().expect("a name");
                assert!(head.contains(&format!("kubectl create secret generic {name} --namespace anteroom ")), "{name} is not explained");
            }
            _ => panic!("what is {volume}?"),
        }
    }
    let image = manifest.container()["image"].as_str().expect("an image");
    assert!(head.contains(&format!("docker build --tag {image} .")), "{image} is not explained");
    assert!(head.contains("kubectl create namespace anteroom") && head.contains("kubectl apply --namespace anteroom"));
}

#[test]
fn every_file_in_the_pods_configuration_is_mounted() {
    let manifest = Manifest::read();
    let head = manifest.head();
    let arguments: Vec<&str> = array(&manifest.container()["args"]).filter_map(Value::as_str).collect();
    let at = arguments.iter().position(|argument| *argument == "--config").expect("a configuration");
    let (volume, name) = manifest.volume_at(arguments[at + 1]);
    assert!(manifest.named("ConfigMap", &volume["configMap"]["name"])["data"][name].is_string());

    let config: Table = manifest.configuration().parse().expect("TOML");
    let text = |value: &toml::Value| value.as_str().expect("a string").to_owned();
    for file in [text(&config["store"]["key_file"]), text(&config["providers"]["acme"]["client_secret_file"])] {
        let (volume, name) = manifest.volume_at(&file);
        assert!(volume["secret"].is_object(), "{file} is in no Secret");
        assert!(head.contains(&format!("--from-file={name}")), "how {file} is made is not explained");
    }
    let database = text(&config["store"]["url"]);
    let (volume, _) = manifest.volume_at(database.strip_prefix("sqlite://").expect("SQLite"));
    assert!(volume["persistentVolumeClaim"].is_object(), "{database} is on no disk");
}

#[test]
fn the_pod_is_probed_where_the_admin_listener_is() {
    let manifest = Manifest::read();
    let config: Table = manifest.configuration().parse().expect("TOML");
    let listens_at = |key: &str, port: u64| config[key].as_str().is_some_and(|address| address == format!("0.0.0.0:{port}"));
    assert!(listens_at("listen", manifest.port(&"http".into())));
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert!(listens_at("admin_listen", manifest.port(&manifest.container()[probe]["httpGet"]["port"])), "{probe}");
    }
}

/// As the pod's user, with the Secret and the disk as Kubernetes mounts them: at each mount `fsGroup` opens all on the disk to the group.
#[tokio::test]
async fn the_pods_configuration_serves_as_its_user_again_and_again() {
    let manifest = Manifest::read();
    let user = manifest.pod()["spec"]["securityContext"]["runAsUser"].as_u64().and_then(|user| u32::try_from(user).ok()).expect("a user");
    assert_eq!(manifest.pod()["spec"]["securityContext"]["fsGroup"], user);
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can become the pod's user");
    }
    let scratch = Scratch::default();
    let open_to_group = |path: &Path, mode| {
        chown(path, None, Some(user)).expect("root");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("root");
    };
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).expect("our own");
    // The build directory may be closed to others.
    let binary = scratch.join("anteroom");
    fs::copy(env!("CARGO_BIN_EXE_anteroom"), &binary).expect("a copy");

    let (secrets, disk) = (scratch.join("secrets"), scratch.join("disk"));
    fs::create_dir_all(secrets.join("..1")).expect("a folder");
    symlink("..1", secrets.join("..data")).expect("a link");
    let key = Command::new(&binary).args(["keys", "new"]).output().expect("a key").stdout;
    for (name, content) in [("anteroom.key", &*key), ("acme-client-secret", b"s3cret")] {
        let file = secrets.join("..1").join(name);
        fs::write(&file, content).expect("a file");
        open_to_group(&file, 0o440);
        symlink(Path::new("..data").join(name), secrets.join(name)).expect("a link");
    }
    fs::create_dir(&disk).expect("a folder");
    open_to_group(&disk, 0o2775);
    let config = manifest.configuration().replace("/run/secrets/anteroom", &secrets.to_string_lossy());
    let config = config.replace("/var/lib/anteroom", &disk.to_string_lossy());
    let config = config.replace("0.0.0.0:8080", "127.0.0.1:0").replace("0.0.0.0:9090", "127.0.0.1:0");
    fs::write(scratch.join("anteroom.toml"), config).expect("a file");

    for _ in 0..2 {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).args(["--clear-groups", "--no-new-privs"]).arg(&binary);
        command.args(["serve", "--config"]).arg(scratch.join("anteroom.toml"));
        command.args(["--log-format", "json"]).env_clear().current_dir(&disk).stdin(Stdio::null());
        let mut program = Program::start_command(command);
        let metrics = program.stderr_after("metrics on ").await;
        let ready = metrics.replace("/metrics", "/readyz");
        service::within(async { while reqwest::get(&ready).await.is_ok_and(|answer| answer.status() != 200) {} }).await;
        assert_eq!(reqwest::get(&ready).await.expect("an answer").status(), 200);
        program.signal("TERM");
        assert_eq!(program.exit().await.code(), Some(0), "{:?}", program.stderr());
        let warned = program.stderr().into_iter().filter(|line| line.contains("WARN") || line.starts_with("warning")).collect::<Vec<_>>();
        assert_eq!(warned, Vec::<String>::new());
        for entry in fs::read_dir(&disk).expect("the disk") {
            open_to_group(&entry.expect("an entry").path(), 0o660);
        }
    }
    assert!(disk.join("anteroom.db").exists() && !disk.join("anteroom.key").exists(), "the keys are those of the Secret");
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
