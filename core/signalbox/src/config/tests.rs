//! Stories of configurations, good and bad.

use super::*;
use std::path::PathBuf;

pub(super) const GOOD: &str = r#"
[edge]
cluster = "prod"
[[listener]]
network = "outside"
address = "udp:0.0.0.0:5060"
advertise = "sbc.example.net"
serves = ["endpoints"]
[[listener]]
network = "inside"
address = "udp:10.0.0.5:5060"
serves = ["backends"]
[[tenant]]
name = "acme"
domains = ["acme.example.net", { name = "b.acme.example.net", aliases = ["old.acme.example"] }]
backends = [
  { name = "pbx-1", address = "udp:10.0.0.11:5060", weight = 2, domain = "acme.example.net" },
  { name = "pbx-2", address = "udp:10.0.0.12", priority = 2 },
]
"#;

pub(super) fn load_text(text: &str) -> Result<Loaded, Problems> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signalbox.toml");
    std::fs::write(&path, text).unwrap();
    load(&path, std::iter::empty())
}

pub(super) fn keys() -> Keys {
    Keys {
        edge_name: "edge-1".into(),
        journal: signalbox_base::JournalId(1),
        cluster_key: Default::default(),
    }
}

#[test]
fn a_good_file_becomes_settings() {
    let loaded = load_text(GOOD).unwrap();
    let settings = Effective::new(&loaded.file).settings(&keys()).unwrap();
    assert_eq!(settings.identity.to_string(), "prod/edge-1");
    assert_eq!(settings.listeners[0].advertise, "sbc.example.net:5060");
    assert!(settings.listeners[0].serves.endpoints && !settings.listeners[0].serves.backends);
    let acme = &settings.tenants[0];
    assert_eq!(acme.domains[1].aliases[0], "old.acme.example");
    assert_eq!(acme.backends[1].address.port, None);
    assert_eq!((acme.backends[0].weight, acme.backends[1].priority), (2, 2));
    assert_eq!(settings.networks[usize::from(acme.backends[0].network)], "inside");
}

const CLUSTER: &str = r#"
[bus]
kind = "nats"
url = "nats://10.0.0.9:4222"
[[listener]]
network = "edges"
address = "udp:10.0.9.1:5070"
serves = ["edges"]
[cluster]
edges = ["10.0.9.0/24"]
"#;

#[test]
fn given_other_edges_then_they_need_a_key_a_bus_a_listener_and_an_address_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    let with_key = format!("cluster = \"prod\"\ncluster_key_file = \"{}\"", key.display());
    let good = GOOD.replace("cluster = \"prod\"", &with_key) + CLUSTER;
    let settings = Effective::new(&load_text(&good).unwrap().file).settings(&keys()).unwrap();
    assert_eq!(settings.edges, ["10.0.9.0/24".parse().unwrap()]);
    for (from, to, path) in [
        (with_key.as_str(), "cluster = \"prod\"", "edge.cluster_key_file"),
        ("kind = \"nats\"\nurl = \"nats://10.0.0.9:4222\"", "kind = \"journal\"", "cluster.edges"),
        ("serves = [\"edges\"]", "serves = [\"trunks\"]", "cluster.edges"),
        (
            "serves = [\"edges\"]",
            "serves = [\"edges\"]\nadvertise = \"sbc.example.net\"",
            "listener[2].advertise",
        ),
        ("10.0.9.0/24", "10.0.9.0/99", "cluster.edges[0]"),
        ("10.0.9.0/24", "0.0.0.0/0", "cluster.edges[0]"),
        ("[cluster]", "[cluster]\nlease = \"3900ms\"", "cluster.lease"),
        ("[cluster]", "[cluster]\nheartbeat = \"0s\"", "cluster.heartbeat"),
        ("udp:10.0.9.1:5070", "tcp:10.0.9.1:5070", "listener[2].address"),
        ("udp:10.0.9.1:5070", "tls:10.0.9.1:5070", "cluster.ca_file"),
        (
            "udp:10.0.9.1:5070\"\nserves = [\"edges\"]",
            "tls:10.0.9.1:5070\"\nserves = [\"edges\", \"trunks\"]",
            "listener[2].serves",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let problems = load_text(&good.replace(from, to)).unwrap_err();
        assert!(problems.0.iter().any(|problem| problem.path == path), "{to}: {problems}");
    }
    let nobody = load_text(&good.replace("edges = [\"10.0.9.0/24\"]", "")).unwrap();
    assert!(nobody.warnings.iter().any(|warning| warning.to_string().contains("none is served here")));
}

/// Each wrong file, with the place it must name and words that must stand in the answer.
#[test]
fn a_mistake_names_file_line_key_and_fix() {
    let cases: &[(&str, &str, &str, &str, &str)] = &[
        (
            "address = \"udp:10.0.0.12\"",
            "address = \"udp:10.0.0.5:5060\"",
            ":18:",
            "tenant[0].backends[1].address",
            "the edge itself",
        ),
        (
            "priority = 2 }",
            "priority = 2, source = [\"10.0.0.0/24\", \"0.0.0.0/0\"] }",
            ":18:",
            "tenant[0].backends[1].source[1]",
            "is everybody",
        ),
        (
            "address = \"udp:10.0.0.12\"",
            "address = \"udp:10.0.0.300\"",
            ":18:",
            "tenant[0].backends[1].address",
            "is not an IP address or host name",
        ),
        ("cluster = \"prod\"", "clutser = \"prod\"", ":3:", "edge.clutser", "did you mean `cluster`"),
        ("weight = 2", "weight = \"two\"", ":17:", "tenant[0].backends[0].weight", "invalid type"),
        ("name = \"acme\"", "name = \"Acme\"", ":14:", "tenant[0].name", "a-z"),
        (
            "domain = \"acme.example.net\"",
            "domain = \"evil.example\"",
            ":17:",
            "tenant[0].backends[0].domain",
            "is no domain of tenant acme",
        ),
        (
            "aliases = [\"old.acme.example\"]",
            "aliases = [\"old.acme.example.\"]",
            ":15:",
            "tenant[0].domains[1].aliases[0]",
            "ends with a dot",
        ),
        (
            "cluster = \"prod\"",
            "cluster = \"prod\"\n[journal]\nsegment_size = \"1B\"",
            ":5:",
            "journal.segment_size",
            "between 16 KiB and 1 GiB",
        ),
        (
            "cluster = \"prod\"",
            "cluster = \"prod\"\n[journal]\nmax_size = \"150MiB\"",
            ":5:",
            "journal.max_size",
            "at least \"256MiB\"",
        ),
        (
            "aliases = [\"old.acme.example\"]",
            "aliases = [\"acme.example.net\"]",
            ":15:",
            "tenant[0].domains[1].aliases[0]",
            "named twice",
        ),
        (
            "udp:10.0.0.12",
            "udp:10.0.0.11",
            ":18:",
            "tenant[0].backends[1].address",
            "could not be told apart",
        ),
        ("udp:10.0.0.5:5060", "tls:10.0.0.5:5061", ":11:", "listener[1].address", "tls needs a certificate"),
        (
            "udp:10.0.0.12",
            "tcp:10.0.0.12",
            ":18:",
            "tenant[0].backends[1].address",
            "no listener of its network speaks tcp",
        ),
        ("udp:10.0.0.12", "wss:10.0.0.12", ":18:", "tenant[0].backends[1].address", "only phones connect"),
        (
            "[edge]",
            "[connections]\nmessage_timeout = \"0s\"\n[edge]",
            ":3:",
            "connections.message_timeout",
            "too short",
        ),
        (
            "[edge]",
            "[connections]\nunread_max = \"1KiB\"\n[edge]",
            ":3:",
            "connections.unread_max",
            "too little",
        ),
        (
            "udp:10.0.0.5:5060\"",
            "udp:10.0.0.5:5060\"\nclient_certificate = \"require\"",
            ":12:",
            "listener[1].client_certificate",
            "nobody shows a certificate",
        ),
        (
            "udp:10.0.0.5:5060\"",
            "ws:10.0.0.5:5060\"\norigins = [\"phone.example.net\"]",
            ":12:",
            "listener[1].origins[0]",
            "is not an origin",
        ),
        (
            "[edge]",
            "[[tls.certificate]]\ncertificate_file = \"/nowhere.pem\"\nkey_file = \"/nowhere.key\"\n[edge]",
            ":2:",
            "tls.certificate[0]",
            "/nowhere.pem",
        ),
        (
            "serves = [\"backends\"]",
            "serves = [\"trunks\"]",
            ":17:",
            "tenant[0].backends[0].address",
            "no listener serves backends",
        ),
        ("[edge]", "[edge", ":2:", "", ""),
        ("[edge]", "[[alert]]\nname = \"t\"\n[edge]", ":2:", "alert[0]", "not part of this version"),
    ];
    for (from, to, place, path, words) in cases {
        assert!(GOOD.contains(from), "{from}");
        let problems = load_text(&GOOD.replacen(from, to, 1)).expect_err(to);
        let hit = problems.0.iter().find(|p| p.path == *path && p.to_string().contains(words));
        let hit = hit.unwrap_or_else(|| panic!("{to}: {problems}"));
        assert!(hit.place.contains(place), "{to}: {hit}");
        assert!(!hit.fix.is_empty(), "{to}: {hit}");
        assert!(hit.excerpt.as_ref().is_some_and(|e| e.contains('^')), "{to}: {hit}");
    }
}

#[test]
fn the_example_of_the_manual_prints_as_shown() {
    let text = "[[tenant]]\nname = \"acme\"\ndomains = [\"acme.test\"]\nbackends = [{ name = \"pbx-2\", address = \"udp:10.0.0.300\" }]\n";
    let shown = load_text(text).expect_err("300 is no octet").to_string();
    let rest = shown.split_once("signalbox.toml").unwrap().1;
    assert_eq!(
        rest,
        ":4:41  tenant[0].backends[0].address: \"udp:10.0.0.300\" is not an IP address or host name\n    \
         backends = [{ name = \"pbx-2\", address = \"udp:10.0.0.300\" }]\n    \
         \u{20}                                       ^^^^^^^^^^^^^^^^\n  \
         write transport:host[:port], for example \"udp:10.0.0.30:5060\"\n1 error. Nothing was changed."
    );
}

#[test]
fn conf_d_adds_tenants_and_overrides_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signalbox.toml");
    std::fs::write(&path, GOOD).unwrap();
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    let more = "[edge]\ncluster = \"lab\"\n[[tenant]]\nname = \"globex\"\ndomains = [\"globex.example\"]\nbackends = [{ name = \"p\", address = \"udp:10.0.0.13\", wieght = 3 }]\n";
    std::fs::write(dir.path().join("conf.d/10-globex.toml"), more).unwrap();
    let problems = load(&path, std::iter::empty()).expect_err("a misspelt key");
    assert!(problems.to_string().contains("10-globex.toml:6:"), "{problems}");
    std::fs::write(dir.path().join("conf.d/10-globex.toml"), more.replace("wieght", "weight")).unwrap();
    let loaded = load(&path, std::iter::empty()).unwrap();
    assert_eq!((loaded.file.edge.cluster.as_str(), loaded.file.tenant.len()), ("lab", 2));
}

#[test]
fn the_environment_overrides_single_tables_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signalbox.toml");
    std::fs::write(&path, GOOD).unwrap();
    let vars = |name: &str, value: &str| std::iter::once((name.to_owned(), value.to_owned()));
    let loaded = load(&path, vars("SIGNALBOX__LOG__LEVEL", "debug")).unwrap();
    let line = explain(&loaded).into_iter().find(|l| l.key == "log.level").unwrap();
    assert_eq!((line.value.as_str(), line.origin.as_str()), ("\"debug\"", "$SIGNALBOX__LOG__LEVEL"));
    let wrong = load(&path, vars("SIGNALBOX__LOG__LEVEL", "loud")).expect_err("no such level");
    assert!(wrong.to_string().contains("$SIGNALBOX__LOG__LEVEL"), "{wrong}");
    let wrong = load(&path, vars("SIGNALBOX__TENANT__NAME", "x")).expect_err("a list has no single key");
    assert!(wrong.to_string().contains("$SIGNALBOX__TENANT__NAME"), "{wrong}");
}

#[test]
fn a_password_in_the_url_is_refused_and_not_printed() {
    let text = format!("{GOOD}\n[store]\nurl = \"postgres://me:hunter2@db/x\"\n");
    let problems = load_text(&text).expect_err("a password in the file");
    assert!(problems.0[0].path == "store.url" && problems.0[0].fix.contains("password_file"), "{problems}");
    assert!(!problems.to_string().contains("hunter2"), "{problems}");
}

#[test]
fn nobody_is_served_without_a_tenant() {
    let problems = load_text("[edge]\ncluster = \"x\"\n").expect_err("no tenant");
    assert!(problems.to_string().contains("there is no tenant"), "{problems}");
}

#[test]
fn a_missing_file_says_where_it_was_looked_for() {
    let problems = find(Some(&PathBuf::from("/nonexistent/x.toml"))).expect_err("no file");
    assert!(problems.to_string().contains("/nonexistent/x.toml"), "{problems}");
}

#[test]
fn the_difference_of_two_configurations_names_keys() {
    let old = effective_json(&load_text(GOOD).unwrap().file);
    let new = effective_json(&load_text(&GOOD.replace("weight = 2", "weight = 5")).unwrap().file);
    let changes: Vec<String> = diff(&old, &new).iter().map(show).collect();
    assert_eq!(changes, ["tenant.acme.backends.pbx-1.weight: 2 → 5"]);
    assert!(diff(&old, &old).is_empty());
}

fn with_bus(bus: &str) -> Result<Loaded, Problems> {
    load_text(&GOOD.replacen("[[listener]]", &format!("{bus}\n[[listener]]"), 1))
}

/// Each wrong `[bus]`, with the key it must name, words that must stand in the answer and its line in the file (the table
/// begins at the fourth).
#[test]
fn a_mistake_in_the_bus_names_line_key_and_fix() {
    let cases: &[(&str, &str, &str, u32)] = &[
        ("[bus]\nkind = \"rabbit\"", "bus.kind", "unknown variant", 5),
        ("[bus]\nkind = \"nats\"\nuri = \"nats://h\"", "bus.uri", "did you mean `url`", 6),
        ("[bus]\nkind = \"nats\"\nurl = \"h:4222\"", "bus.url", "nats://host:port", 6),
        ("[bus]\nkind = \"nats\"\ntls = \"on\"", "bus.tls", "tls://host:port", 6),
        ("[bus]\nkind = \"nats\"\nwindow = 0", "bus.window", "1 to 8192", 6),
        ("[bus]\nkind = \"nats\"\naudit_interval = \"5ms\"", "bus.audit_interval", "1s", 6),
        ("[bus]\nkind = \"nats\"\ncert_file = \"/dev/null\"", "bus.cert_file", "key_file is missing", 6),
        ("[bus]\nkind = \"nats\"\nca_file = \"/none/ca\"", "bus.ca_file", "No such file", 6),
        ("[bus]\nkind = \"nats\"\n[bus.nats]\nreplicas = 7", "bus.nats.replicas", "1 to 5", 7),
        ("[bus]\nkind = \"nats\"\n[bus.nats]\nmax_bytes = \"9%\"", "bus.nats.max_bytes", "20GiB", 7),
        ("[bus]\nkind = \"nats\"\n[bus.nats]\nuser = \"u\"", "bus.nats.user", "password_file", 7),
        (
            "[bus]\nkind = \"nats\"\n[bus.nats]\nnkey_file = \"/dev/null\"\ntoken_file = \"/dev/null\"",
            "bus.nats",
            "several logins",
            6,
        ),
        ("[bus]\nkind = \"kafka\"\nurl = \"kafka://h:9092\"", "bus.url", "host:port", 6),
        ("[bus]\nkind = \"kafka\"\nca_file = \"/dev/null\"", "bus.ca_file", "tls = \"on\"", 6),
        ("[bus]\nkind = \"kafka\"\n[bus.kafka]\npartitions = 0", "bus.kafka.partitions", "1 or more", 7),
        ("[bus]\nkind = \"kafka\"\n[bus.kafka]\nmin_insync = 2", "bus.kafka.min_insync", "there are 1", 7),
        (
            "[bus]\nkind = \"kafka\"\n[bus.kafka]\nmechanism = \"PLAIN\"\nuser = \"u\"\npassword_file = \"/dev/null\"",
            "bus.kafka.mechanism",
            "readable for everyone",
            7,
        ),
    ];
    for (bus, path, words, line) in cases {
        let problems = with_bus(bus).expect_err(bus);
        let hit = problems.0.iter().find(|p| p.path == *path && p.to_string().contains(words));
        let hit = hit.unwrap_or_else(|| panic!("{bus}: {problems}"));
        assert!(hit.place.contains(&format!(":{line}:")), "{bus}: {hit}");
        assert!(!hit.fix.is_empty() && hit.excerpt.is_some(), "{bus}: {hit}");
    }
}

#[test]
fn a_password_in_the_address_is_refused_without_being_printed() {
    let problems =
        with_bus("[bus]\nkind = \"nats\"\nurl = \"nats://me:secret@h:4222\"").expect_err("a password");
    let shown = problems.to_string();
    assert!(shown.contains("bus.url") && shown.contains("login") && !shown.contains("secret"), "{shown}");
}

#[test]
#[cfg(not(feature = "kafka"))]
fn kafka_is_refused_by_a_build_without_it() {
    let problems = with_bus("[bus]\nkind = \"kafka\"").expect_err("no Kafka in it");
    assert!(problems.to_string().contains("built without Kafka"), "{problems}");
}

#[test]
fn the_bus_explains_what_its_kind_looks_at_and_nothing_else() {
    let keys = |bus: &str| {
        let explained = explain(&with_bus(bus).unwrap());
        explained.into_iter().filter(|line| line.key.starts_with("bus.")).collect::<Vec<_>>()
    };
    let embedded = keys("");
    assert_eq!(embedded.len(), 1);
    assert_eq!((embedded[0].value.as_str(), embedded[0].origin.as_str()), ("\"journal\"", "default"));
    let nats = keys("[bus]\nkind = \"nats\"\nmax_age = { call = \"500d\" }\n[bus.nats]\nreplicas = 3");
    let of =
        |key: &str| nats.iter().find(|line| line.key == key).unwrap_or_else(|| panic!("{key}: {nats:?}"));
    assert_eq!(
        (of("bus.url").value.as_str(), of("bus.url").origin.as_str()),
        ("\"nats://127.0.0.1:4222\"", "default")
    );
    assert!(of("bus.nats.replicas").origin.contains(":8:"), "{:?}", of("bus.nats.replicas"));
    assert!(of("bus.max_age.call").origin.contains(":6:"), "{:?}", of("bus.max_age.call"));
    assert_eq!(of("bus.max_age.security").origin, "default");
    assert!(!nats.iter().any(|line| line.key.starts_with("bus.kafka")), "{nats:?}");
}

#[test]
fn the_environment_reaches_the_tables_in_the_bus() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signalbox.toml");
    std::fs::write(&path, GOOD).unwrap();
    let env = [
        ("SIGNALBOX__BUS__KIND", "nats"),
        ("SIGNALBOX__BUS__URL", "nats://a:4222, tls://b"),
        ("SIGNALBOX__BUS__NATS__REPLICAS", "3"),
        ("SIGNALBOX__BUS__MAX_AGE__CALL", "0s"),
    ];
    let loaded =
        load(&path, env.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter()).unwrap();
    let nats = loaded.file.bus.nats("test".to_owned());
    assert_eq!((nats.urls, nats.replicas), (vec!["nats://a:4222".to_owned(), "tls://b".to_owned()], 3));
    assert!(nats.max_age.call.is_zero());
    let origin = explain(&loaded).into_iter().find(|line| line.key == "bus.nats.replicas").unwrap().origin;
    assert_eq!(origin, "$SIGNALBOX__BUS__NATS__REPLICAS");
    for wrong in ["SIGNALBOX__BUS__NATS__", "SIGNALBOX__BUS__JETSTREAM__X", "SIGNALBOX__BUS__NATS__A__B"] {
        let refused = load(&path, std::iter::once((wrong.to_owned(), "1".to_owned())));
        assert!(refused.unwrap_err().to_string().contains(wrong), "{wrong}");
    }
}

#[test]
fn what_the_bus_forgets_before_the_journal_does_is_told() {
    let loaded =
        with_bus("[bus]\nkind = \"nats\"\nmax_age = { security = \"7d\" }\n[bus.kafka]\nreplicas = 3")
            .unwrap();
    let paths: Vec<&str> = loaded.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(paths, ["bus.kafka", "bus.max_age.security"]);
}
