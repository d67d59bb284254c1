//! What stands in `compose/`, held against the compose specification and the programs that read it; no container runs.

use serde_json::Value;
use signalbox_e2e::edge::{said, signalbox};
use signalbox_e2e::process;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const VARIANTS: [&str; 4] = ["journal", "nats", "kafka", "edges"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn compose() -> PathBuf {
    root().join("compose")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A compose file with what it includes and extends: each file, its directory and what it says.
fn files(variant: &str) -> Vec<(PathBuf, Value)> {
    let own = compose().join(variant).join("compose.yaml");
    let said = yaml(&own);
    let dir = own.parent().unwrap();
    let included = said["include"].as_array().into_iter().flatten().map(|i| dir.join(i.as_str().unwrap()));
    let services = said["services"].as_object().unwrap().values();
    let extended = services.filter_map(|s| s["extends"]["file"].as_str()).map(|file| dir.join(file));
    let others: BTreeSet<PathBuf> = included.chain(extended).map(|p| p.canonicalize().unwrap()).collect();
    let others: Vec<_> = others.into_iter().map(|path| (path.clone(), yaml(&path))).collect();
    [(own.clone(), said)].into_iter().chain(others).collect()
}

/// Every service with the directory that its paths are relative to; one that extends another has the other's keys too.
fn services(variant: &str) -> Vec<(String, PathBuf, Value)> {
    let files = files(variant);
    let of = |(path, said): &(PathBuf, Value)| -> Vec<(String, PathBuf, Value)> {
        let dir = path.parent().unwrap().to_owned();
        let services = said["services"].as_object().unwrap().iter();
        services.map(|(name, service)| (name.clone(), dir.clone(), service.clone())).collect()
    };
    let all: Vec<_> = files.iter().flat_map(of).collect();
    let extending = |service: &Value| service["extends"]["service"].as_str().map(str::to_owned);
    let extended: BTreeSet<String> = all.iter().filter_map(|(_, _, s)| extending(s)).collect();
    let base = |name: &str| {
        all.iter().find(|(other, _, s)| other == name && extending(s).is_none()).map(|(_, _, s)| s.clone())
    };
    all.iter()
        .filter(|(name, _, service)| !extended.contains(name) || extending(service).is_some())
        .map(|(name, dir, service)| {
            let mut whole = extending(service).and_then(|name| base(&name)).unwrap_or(Value::Null);
            match whole.as_object_mut() {
                Some(keys) => keys.extend(service.as_object().unwrap().clone()),
                None => whole = service.clone(),
            }
            (name.clone(), dir.clone(), whole)
        })
        .collect()
}

/// `${NAME:-default}` in a text, as name and default.
fn variables(text: &str) -> Vec<(String, String)> {
    let parts = text.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    parts.map(|(inside, _)| inside.split_once(":-").map_or((inside, ""), |parts| parts)).map(both).collect()
}

fn both((name, default): (&str, &str)) -> (String, String) {
    (name.to_owned(), default.to_owned())
}

/// With the defaults in place of variables.
fn filled(text: &str) -> String {
    variables(text).iter().fold(text.to_owned(), |text, (name, default)| {
        text.replace(&format!("${{{name}:-{default}}}"), default)
    })
}

/// A copy of `compose/` with the secrets that its script makes.
fn copy_with_secrets() -> TempDir {
    let copy = TempDir::new().unwrap();
    let copied = said(Command::new("cp").arg("-a").arg(compose()).arg(copy.path()));
    assert_eq!(copied.code, 0, "{copied:?}");
    for variant in VARIANTS {
        let script = copy.path().join("compose/make-secrets.sh");
        let made = said(Command::new(&script).arg(variant));
        assert_eq!(made.code, 0, "{made:?}");
        let again = said(Command::new(&script).arg(variant));
        assert_eq!((again.code, &*again.stdout), (0, ""), "what is there stays");
    }
    copy
}

#[test]
fn the_files_are_what_the_compose_specification_allows() {
    let schema: Value =
        serde_json::from_str(&text(&root().join("tests/e2e/compose-spec/compose-spec.json"))).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for variant in VARIANTS {
        for (path, said) in files(variant) {
            let errors: Vec<String> =
                validator.iter_errors(&said).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        }
    }
    let wrong = serde_json::json!({ "services": { "a": { "image": "a:1", "volume": [] } } });
    assert!(!validator.is_valid(&wrong), "the schema refuses what is not in the specification");
}

#[test]
fn every_service_has_a_pinned_image_a_healthcheck_and_comes_back() {
    for variant in VARIANTS {
        let services = services(variant);
        assert!(services.iter().any(|(name, _, _)| name == "signalbox"), "{variant}");
        for (name, dir, service) in &services {
            let image = filled(service["image"].as_str().unwrap());
            let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{variant}/{name}: {image}"));
            assert!(tag != "latest" && !tag.is_empty(), "{variant}/{name}: {image}");
            let test = &service["healthcheck"]["test"];
            assert!(test.as_array().is_some_and(|t| t.len() > 1), "{variant}/{name} has no healthcheck");
            assert_eq!(service["restart"], "unless-stopped", "{variant}/{name}");
            if let Some(file) = service["build"]["dockerfile"].as_str() {
                let context = compose().join(service["build"]["context"].as_str().unwrap());
                assert!(context.join(file).is_file(), "{variant}/{name}: {}", dir.display());
            }
        }
        let signalbox = services.iter().find(|(name, _, _)| name == "signalbox").unwrap();
        assert_eq!(signalbox.2["network_mode"], "host", "SIP has no NAT between");
        assert_eq!(signalbox.2["user"], "10001:10001");
    }
}

#[test]
fn what_is_mounted_is_there_and_every_volume_and_secret_is_declared() {
    let copy = copy_with_secrets();
    for variant in VARIANTS {
        let files = files(variant);
        let declared = |what: &str| -> BTreeSet<String> {
            let all = files.iter().filter_map(|(_, said)| said[what].as_object());
            all.flat_map(|named| named.keys().cloned()).collect()
        };
        let (volumes, secrets) = (declared("volumes"), declared("secrets"));
        for (name, dir, service) in services(variant) {
            for mount in service["volumes"].as_array().into_iter().flatten() {
                let source = mount.as_str().unwrap().split(':').next().unwrap();
                let there = if source.starts_with('.') {
                    dir.join(source).exists()
                } else {
                    volumes.contains(source)
                };
                assert!(there, "{variant}/{name}: {source}");
            }
            for secret in service["secrets"].as_array().into_iter().flatten() {
                assert!(secrets.contains(secret.as_str().unwrap()), "{variant}/{name}: {secret}");
            }
        }
        for (path, said) in &files {
            for secret in said["secrets"].as_object().into_iter().flatten() {
                let below = path.parent().unwrap().strip_prefix(root()).unwrap();
                let file = copy.path().join(below).join(secret.1["file"].as_str().unwrap());
                assert!(file.is_file(), "make-secrets.sh does not make {}", file.display());
            }
        }
    }
}

#[test]
fn ports_are_published_on_loopback_only_and_none_twice() {
    for variant in VARIANTS {
        // Those of the programs that have the host's network: SIP, admin port, Prometheus, Grafana.
        let mut taken: BTreeSet<String> = ["5060", "8060", "9090", "3000"].map(str::to_owned).into();
        for (name, _, service) in services(variant) {
            for port in service["ports"].as_array().into_iter().flatten() {
                let parts: Vec<&str> = port.as_str().unwrap().split(':').collect();
                assert!(parts.len() == 3 && parts[0] == "127.0.0.1", "{variant}/{name}: {port}");
                assert!(taken.insert(parts[1].to_owned()), "{variant}/{name}: {port} is taken");
            }
        }
    }
}

#[test]
fn the_example_of_the_environment_has_every_variable_and_no_other() {
    for variant in VARIANTS {
        let used: BTreeMap<String, String> =
            files(variant).iter().flat_map(|(path, _)| variables(&text(path))).collect();
        let example = text(&compose().join(variant).join(".env.example"));
        let told: BTreeMap<String, String> = example
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(both)
            .collect();
        assert_eq!(told, used, "{variant}: names and defaults");
    }
}

#[test]
fn the_sample_configurations_are_good() {
    let copy = copy_with_secrets();
    for variant in VARIANTS {
        let dir = copy.path().join("compose").join(variant);
        let secrets = dir.join("secrets").display().to_string();
        // Each edge of the variant has its own.
        let edges = services(variant).into_iter().filter(|(name, _, _)| name.starts_with("signalbox"));
        for (name, _, service) in edges {
            let sample = text(&dir.join(format!("{name}.toml")));
            let given = service["secrets"].as_array().cloned().unwrap_or_default();
            for named in sample.split('"').filter_map(|word| word.strip_prefix("/run/secrets/")) {
                assert!(given.iter().any(|secret| secret == named), "{variant}: {named} is not mounted");
            }
            let local = sample
                .replace("/run/secrets", &secrets)
                .replace("/var/lib/signalbox", &dir.join("data").display().to_string());
            let file = dir.join("local.toml");
            fs::write(&file, local).unwrap();
            let checked = signalbox(&dir, &["check", "--config", file.to_str().unwrap()]);
            assert_eq!(checked.code, 0, "{variant}/{name}: {checked:?}");
            assert!(!checked.stderr.contains("warning"), "{variant}/{name}: {checked:?}");
        }
    }
}

#[test]
fn nats_server_takes_its_configuration_and_is_durable() {
    let copy = copy_with_secrets();
    let from = copy.path().join("compose/nats");
    // As in the container: the configuration includes the secret by its place.
    let (etc, run) = (copy.path().join("etc/nats"), copy.path().join("run/secrets"));
    fs::create_dir_all(&etc).unwrap();
    fs::create_dir_all(&run).unwrap();
    fs::copy(from.join("nats.conf"), etc.join("nats.conf")).unwrap();
    fs::copy(from.join("secrets/nats_users.conf"), run.join("nats_users.conf")).unwrap();
    let server = process::cache().join("python/bin/nats-server");
    let checked = said(Command::new(server).arg("-t").arg("-c").arg(etc.join("nats.conf")));
    assert_eq!(checked.code, 0, "{checked:?}");
    let sample = text(&from.join("nats.conf"));
    assert!(sample.contains("sync_interval: always") && sample.contains("max_payload: 2MB"));
    let kafka = text(&compose().join("kafka/server.properties"));
    for line in ["min.insync.replicas=1", "message.max.bytes=2097152", "unclean.leader.election.enable=false"]
    {
        assert!(kafka.lines().any(|l| l == line), "{line}");
    }
}

#[test]
fn prometheus_takes_its_rules_and_they_and_the_dashboard_name_metrics_that_there_are() {
    let monitoring = compose().join("monitoring");
    for (what, file) in [("config", "prometheus.yml"), ("rules", "rules.yml")] {
        let checked = said(Command::new("promtool").args(["check", what]).arg(monitoring.join(file)));
        assert_eq!(checked.code, 0, "{checked:?}");
    }
    let known = metrics();
    let dashboard = text(&monitoring.join("grafana/dashboards/signalbox.json"));
    let read: Value = serde_json::from_str(&dashboard).unwrap();
    assert!(read["panels"].as_array().unwrap().len() > 20);
    let provider = yaml(&monitoring.join("grafana/provisioning/datasources/prometheus.yaml"));
    assert_eq!(provider["datasources"][0]["uid"], read["panels"][1]["datasource"]["uid"]);
    for (place, text) in [("dashboard", dashboard), ("rules", text(&monitoring.join("rules.yml")))] {
        let named = names(&text);
        assert!(named.len() > 8, "{place}: {named:?}");
        for name in named {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let there = known.contains(&name) || base.is_some_and(|base| known.contains(base));
            assert!(there, "{place}: {name} is no metric");
        }
    }
}

/// Every metric that the program's sources name.
fn metrics() -> BTreeSet<String> {
    let dir = root().join("core/edge/src/metrics");
    let sources = fs::read_dir(dir).unwrap().map(|entry| text(&entry.unwrap().path()));
    let words = |source: String| source.split('"').map(str::to_owned).collect::<Vec<_>>();
    let metric = |word: &String| word.starts_with("signalbox_") || word.starts_with("process_");
    sources.flat_map(words).filter(metric).collect()
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c: char| !inside(c)).map(|word| word.trim_end_matches('_'));
    let metric = |word: &&str| word.starts_with("signalbox_") || word.starts_with("process_");
    words.filter(metric).map(str::to_owned).collect()
}

#[test]
fn the_image_is_built_with_our_toolchain_and_does_not_run_as_root() {
    let dockerfile = text(&compose().join("Dockerfile"));
    let toolchain = text(&root().join("rust-toolchain.toml"));
    let channel =
        toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(dockerfile.contains(&format!("FROM rust:{channel}-slim-bookworm AS build\n")));
    let last_stage = dockerfile.rsplit("\nFROM ").next().unwrap();
    assert!(last_stage.starts_with("debian:bookworm-slim\n"));
    for needed in ["libssl3", "zlib1g", "ca-certificates", "USER 10001:10001", "STOPSIGNAL SIGTERM"] {
        assert!(last_stage.contains(needed), "{needed}");
    }
    let installed = text(&root().join("tests/setup/install.sh"));
    for package in ["libssl-dev", "zlib1g-dev", "pkg-config", "build-essential"] {
        assert!(installed.contains(package) && dockerfile.contains(package), "{package}");
    }
    let shared = yaml(&compose().join("signalbox.yaml"));
    let run = &shared["services"]["signalbox"]["healthcheck"]["test"][1];
    assert!(last_stage.contains(&format!("COPY --from=build /out/signalbox {}\n", run.as_str().unwrap())));
    let ignored = text(&compose().join("Dockerfile.dockerignore"));
    assert!(["target", "**/secrets", "**/.env"].iter().all(|line| ignored.lines().any(|l| l == *line)));
}
