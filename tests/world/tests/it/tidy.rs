//! STYLE.md's rules that a test can hold.

use crate::architecture::root;
use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this wants a cut.
const FILE_LINES_MAX: usize = 520;
/// A function longer than this wants a cut.
const FUNCTION_LINES_MAX: usize = 75;

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in ["core", "projections", "consumers", "schemas", "tests"] {
        collect(&root().join(top), &mut found);
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.map(|e| e.unwrap().path()) {
        if entry.is_dir() && !entry.ends_with("target") {
            collect(&entry, found);
        } else if entry.extension().is_some_and(|x| x == "rs") {
            found.push(entry);
        }
    }
}

/// A file's lines up to its tests.
fn body(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    code.lines().map(str::to_owned).collect()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn is_test(path: &Path) -> bool {
    let shown = shown(path);
    shown.contains("/tests/") || shown.starts_with("tests/") || shown.ends_with("/tests.rs")
}

#[test]
fn every_file_opens_with_what_it_is() {
    let bare: Vec<_> =
        sources().into_iter().filter(|p| !fs::read_to_string(p).unwrap().starts_with("//! ")).collect();
    assert!(bare.is_empty(), "no //! in the first line: {bare:?}");
}

#[test]
fn files_stay_small() {
    let long: Vec<_> =
        sources().iter().map(|p| (body(p).len(), shown(p))).filter(|(n, _)| *n > FILE_LINES_MAX).collect();
    assert!(long.is_empty(), "cut along its ideas: {long:?}");
}

#[test]
fn functions_stay_small() {
    let mut long = Vec::new();
    for path in sources().iter().filter(|p| !is_test(p)) {
        let lines = body(path);
        for (start, line) in lines.iter().enumerate() {
            let head = line.trim_start();
            let is_fn = [
                "fn ",
                "pub fn ",
                "pub(crate) fn ",
                "pub(super) fn ",
                "async fn ",
                "pub async fn ",
                "pub const fn ",
                "const fn ",
            ];
            if !is_fn.iter().any(|f| head.starts_with(f)) || head.ends_with(';') {
                continue;
            }
            let indent = line.len() - head.len();
            let end = format!("{}}}", " ".repeat(indent));
            // A trait's method over several lines has no body.
            let declared = format!("{})", " ".repeat(indent));
            let closes = lines[start..].iter().find(|l| l.starts_with(&declared));
            if !head.ends_with('{') && closes.is_some_and(|l| l.ends_with(';')) {
                continue;
            }
            let length = lines[start..].iter().position(|l| *l == end).map_or(1, |n| n + 1);
            if length > FUNCTION_LINES_MAX {
                long.push((length, format!("{}:{}", shown(path), start + 1)));
            }
        }
    }
    assert!(long.is_empty(), "cut, branching in the parent: {long:?}");
}

#[test]
fn nothing_is_left_for_later() {
    // Written apart, so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
        concat!("unimplemented", "!("),
        concat!("todo", "!("),
    ];
    let mut found = Vec::new();
    for path in sources() {
        for (n, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if words.iter().any(|w| line.contains(w)) && !line.contains("XXXX") {
                found.push(format!("{}:{}: {}", shown(&path), n + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_code_is_unsafe() {
    let word = concat!("unsafe", " {");
    let found: Vec<_> =
        sources().into_iter().filter(|p| fs::read_to_string(p).unwrap().contains(word)).collect();
    assert!(found.is_empty(), "{found:?}");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""));
}

/// Names of tests, by the `fn` that begins a line of any source.
fn functions() -> std::collections::BTreeSet<String> {
    let mut names = std::collections::BTreeSet::new();
    for path in sources() {
        for line in fs::read_to_string(&path).unwrap().lines() {
            let head = line.trim_start().trim_start_matches("async ");
            let name = head.strip_prefix("fn ").and_then(|rest| rest.split(['(', '<']).next());
            names.extend(name.map(str::to_owned));
        }
    }
    names
}

#[test]
fn every_promise_has_the_tests_that_its_table_names() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## Promises\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let known = functions();
    let mut proven = Vec::new();
    for row in section.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let number: u32 = cells[0].split('.').next().unwrap().parse().unwrap();
        let named: Vec<&str> = cells[1].split('`').filter(|part| part.starts_with("promise_")).collect();
        assert!(!named.is_empty(), "promise {number} is proven by nothing");
        for test in named {
            assert!(test.starts_with(&format!("promise_{number}_")), "{test} proves another promise");
            assert!(known.contains(test), "promise {number}: there is no test {test}");
        }
        proven.push(number);
    }
    assert_eq!(proven, [1, 2, 3, 4, 5, 6, 8, 9]);
}
