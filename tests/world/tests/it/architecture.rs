//! ARCHITECTURE.md's table of who may use whom, held against every Cargo.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

/// The table under "Who may use whom": crate to what it may use.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("## Who may use whom").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|l| l.starts_with("| ")).skip(1);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let uses = cells[1].split(',').map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned);
        (cells[0].to_owned(), uses.collect())
    })
    .collect()
}

/// Short name and internal dependencies (not those for tests) of each workspace member.
fn actual() -> BTreeMap<String, BTreeSet<String>> {
    let short = |name: &str| name.strip_prefix("signalbox-").unwrap_or(name).to_owned();
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    members
        .iter()
        .map(|member| {
            let path = root().join(member.as_str().unwrap()).join("Cargo.toml");
            let manifest: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
            let name = short(manifest["package"]["name"].as_str().unwrap());
            let uses = manifest.get("dependencies").and_then(|d| d.as_table()).into_iter().flatten();
            let ours = uses.map(|(n, _)| n).filter(|n| n.starts_with("signalbox-")).map(|n| short(n));
            (name, ours.collect())
        })
        .collect()
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let allowed = allowed();
    assert!(allowed.len() > 10, "the table was not read: {allowed:?}");
    for (name, uses) in actual() {
        let may = allowed.get(&name).unwrap_or_else(|| panic!("{name} is not in ARCHITECTURE.md's table"));
        let forbidden: Vec<_> = uses.difference(may).collect();
        assert!(forbidden.is_empty(), "{name} may not use {forbidden:?}: see ARCHITECTURE.md");
    }
}

#[test]
fn the_core_links_no_runtime_clock_or_socket() {
    for member in ["core/base", "core/sip", "core/engine", "schemas", "core/actors"] {
        let manifest: toml::Table =
            fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap().parse().unwrap();
        for banned in ["tokio", "nix", "socket2", "rand", "getrandom", "rustls", "rusqlite", "tokio-postgres"]
        {
            assert!(
                !manifest["dependencies"].as_table().unwrap().contains_key(banned),
                "{member} links {banned}"
            );
        }
    }
}

const WASM: &str = "wasm32-unknown-unknown";

/// What reads a clock, draws randomness, opens a socket or starts a thread by itself, or is no Rust: none of it builds for
/// [`WASM`], or none works there.
const IMPURE: [&str; 16] = [
    "aws-lc-rs",
    "chrono",
    "getrandom",
    "jiff",
    "libc",
    "mio",
    "nix",
    "openssl-sys",
    "rand",
    "ring",
    "rustix",
    "rustls",
    "socket2",
    "time",
    "tokio",
    "zstd-sys",
];

fn cargo(arguments: &[&str]) -> String {
    let out = Command::new(env!("CARGO")).current_dir(root()).args(arguments).output().unwrap();
    assert!(out.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Every package that a crate of ours is built from for [`WASM`], with the features it has there.
fn built_from(package: &str) -> BTreeSet<String> {
    let tree =
        cargo(&["tree", "--locked", "-p", package, "-e", "normal", "--prefix", "none", "--target", WASM]);
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn assert_built_from_nothing_impure() {
    for package in ["base", "sip", "schemas", "engine", "actors"] {
        let all = built_from(&format!("signalbox-{package}"));
        assert!(all.len() > 5, "{package}: the tree was not read: {all:?}");
        let impure: Vec<_> = IMPURE.iter().filter(|name| all.contains(**name)).collect();
        assert!(impure.is_empty(), "{package} is built from {impure:?}");
    }
    assert!(built_from("signalbox-io").contains("rustix"), "what touches it would be found");
}

#[test]
fn the_core_is_built_from_nothing_that_touches_the_outside() {
    assert_built_from_nothing_impure();
}

/// `tests/setup/install.sh peers` installs the target where there is rustup. Elsewhere what the core is built from has to do.
#[test]
fn the_core_builds_for_a_machine_without_an_outside() {
    let installed = Command::new("rustc")
        .current_dir(root())
        .args(["--print", "target-libdir", "--target", WASM])
        .output();
    let directory = String::from_utf8(installed.unwrap().stdout).unwrap();
    if !Path::new(directory.trim()).is_dir() {
        eprintln!(
            "{WASM} is not installed: the core was not built for it, only what it is built from was read"
        );
        return assert_built_from_nothing_impure();
    }
    let into =
        std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root().join("target"), PathBuf::from).join("wasm");
    let into = into.display().to_string();
    let packages = ["-p", "signalbox-sip", "-p", "signalbox-engine"];
    cargo(&[&["check", "--locked", "--target", WASM, "--target-dir", &into], &packages[..]].concat());
    eprintln!("the core was built for {WASM}");
}
