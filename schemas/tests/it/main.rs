//! The contract as others see it: generated files, golden samples, frozen releases.

#![allow(clippy::unwrap_used, reason = "a test tells of a fault by panicking")]

mod generated;
mod golden;
mod released;

use serde_json::Value;
use std::path::{Path, PathBuf};

/// A path inside this package.
fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every file below `dir`, as path relative to it (with `/`) and text, in order.
fn tree(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap_or_else(|e| panic!("{}: {e}", next.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let parts: Vec<&str> =
                    path.strip_prefix(dir).unwrap().iter().map(|part| part.to_str().unwrap()).collect();
                found.push((parts.join("/"), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
