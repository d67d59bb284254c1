//! Finds, reads and merges the files: the main one, then `conf.d/*.toml` beside it in order of name.
//!
//! Arrays of tables (`[[listener]]`, `[[tenant]]`) are appended; single tables are merged key by key, the later file
//! winning. Every value's place is kept for errors and `check --explain`.

use super::span::{Origin, Problem, Problems, Sources};
use super::{check, env, model, registrar};
use std::path::{Path, PathBuf};
use toml_edit::{Document, Item, Value};

/// Largest configuration file read, bytes.
const FILE_SIZE_MAX: u64 = 16 << 20;

/// A configuration that passed every check.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values, defaults filled in.
    pub file: model::File,
    /// Where they came from.
    pub sources: Sources,
    /// The main file.
    pub path: PathBuf,
    /// Oddities that are not errors.
    pub warnings: Vec<Problem>,
}

/// The configuration file to use: `--config`, else `$SIGNALBOX_CONFIG`, else `./signalbox.toml`, else
/// `/etc/signalbox/signalbox.toml`, else the demo's in `./target/demo`.
///
/// # Errors
/// When none exists: says where it was looked for.
pub fn find(argument: Option<&Path>) -> Result<PathBuf, Problems> {
    let named =
        argument.map(Path::to_owned).or_else(|| std::env::var_os("SIGNALBOX_CONFIG").map(PathBuf::from));
    let candidates = match named {
        Some(path) => vec![path],
        // The last one is a running or past demo of this directory: its own hints then work as printed.
        None => vec![
            "signalbox.toml".into(),
            "/etc/signalbox/signalbox.toml".into(),
            "target/demo/demo.toml".into(),
        ],
    };
    match candidates.iter().find(|p| p.is_file()) {
        Some(path) => Ok(path.clone()),
        None => {
            let names: Vec<_> = candidates.iter().map(|p| p.display().to_string()).collect();
            Err(file_problem(
                &names.join(", "),
                "there is no configuration file here",
                "name one with --config FILE, write one with `signalbox init`, or look around with `signalbox demo`",
            )
            .into())
        }
    }
}

fn file_problem(place: &str, message: &str, fix: &str) -> Problem {
    Problem {
        place: place.into(),
        path: String::new(),
        message: message.into(),
        excerpt: None,
        fix: fix.into(),
    }
}

/// Reads, merges and checks the configuration at `path` with the given environment.
///
/// # Errors
/// Every problem found, each with its place and fix.
pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Loaded, Problems> {
    let mut sources = Sources::default();
    let mut merged = toml::Table::new();
    for file in files_of(path)? {
        let text = read(&file)?;
        merge_file(&mut merged, &mut sources, file.display().to_string(), text)?;
    }
    env::overlay(&mut merged, &mut sources, environment)?;
    let unprintable = unprintable(&merged, &sources);
    if !unprintable.is_empty() {
        return Err(Problems(unprintable));
    }
    check::unsupported(&merged, &sources)?;
    let mut file = deserialize(merged, &sources)?;
    registrar::anchor(&mut file, path);
    let warnings = check::check(&file, &sources)?;
    Ok(Loaded { file, sources, path: path.to_owned(), warnings })
}

/// The data directory that a configuration names which is valid TOML but has errors otherwise.
#[must_use]
pub fn data_dir_of_broken(argument: Option<&Path>) -> Option<PathBuf> {
    let text = std::fs::read_to_string(find(argument).ok()?).ok()?;
    let table: toml::Table = text.parse().ok()?;
    let named = table.get("edge").and_then(|edge| edge.get("data_dir")).and_then(toml::Value::as_str);
    Some(named.map_or_else(|| model::Edge::default().data_dir, PathBuf::from))
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, Problems> {
    let mut files = vec![path.to_owned()];
    let dir = path.parent().unwrap_or(Path::new(".")).join("conf.d");
    match std::fs::read_dir(&dir) {
        Ok(entries) => {
            let mut extra: Vec<_> = entries
                .filter_map(|e| e.ok().map(|e| e.path()))
                .filter(|p| p.extension().is_some_and(|x| x == "toml") && p.is_file())
                .collect();
            extra.sort();
            files.extend(extra);
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => {
            let fix = "give the user that runs signalbox the right to read it, or remove it";
            return Err(file_problem(&dir.display().to_string(), &e.to_string(), fix).into());
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String, Problems> {
    let place = path.display().to_string();
    let fail =
        |message: String| Problems::from(file_problem(&place, &message, "check the path and its rights"));
    let size = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
    if size > FILE_SIZE_MAX {
        return Err(fail(format!("{size} bytes are too large for a configuration")));
    }
    let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| fail(format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to())))
}

fn merge_file(
    into: &mut toml::Table,
    sources: &mut Sources,
    name: String,
    text: String,
) -> Result<(), Problems> {
    let index = sources.files.len();
    sources.files.push((name, text.clone()));
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(e) => {
            let origin = e.span().map(|span| Origin::File(index, span));
            let message = e.message().lines().collect::<Vec<_>>().join(", ");
            return Err(sources.problem_at(origin, "", message, "mend the TOML syntax there").into());
        }
    };
    for (key, item) in document.as_table() {
        merge_item(into, sources, index, key, key.to_owned(), item);
    }
    Ok(())
}

/// Merges one top-level or nested item below `path`.
fn merge_item(
    into: &mut toml::Table,
    sources: &mut Sources,
    file: usize,
    key: &str,
    path: String,
    item: &Item,
) {
    match item {
        Item::ArrayOfTables(tables) => {
            let list = into.entry(key).or_insert_with(|| toml::Value::Array(Vec::new()));
            let toml::Value::Array(list) = list else { return };
            for table in tables {
                let path = format!("{path}[{}]", list.len());
                note(sources, file, &path, table.span());
                list.push(table_value(sources, file, &path, table.iter()));
            }
        }
        Item::Table(table) => {
            note(sources, file, &path, table.span());
            let slot = into.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let toml::Value::Table(slot) = slot else { return };
            for (key, item) in table {
                merge_item(slot, sources, file, key, format!("{path}.{key}"), item);
            }
        }
        Item::Value(value) => {
            let value = plain(sources, file, &path, value);
            into.insert(key.to_owned(), value);
        }
        Item::None => {}
    }
}

fn note(sources: &mut Sources, file: usize, path: &str, span: Option<std::ops::Range<usize>>) {
    if let Some(span) = span {
        sources.origins.insert(path.to_owned(), Origin::File(file, span));
    }
}

fn table_value<'a>(
    sources: &mut Sources,
    file: usize,
    path: &str,
    items: impl Iterator<Item = (&'a str, &'a Item)>,
) -> toml::Value {
    let mut table = toml::Table::new();
    for (key, item) in items {
        merge_item(&mut table, sources, file, key, format!("{path}.{key}"), item);
    }
    toml::Value::Table(table)
}

/// A value without its decoration, its place noted.
fn plain(sources: &mut Sources, file: usize, path: &str, value: &Value) -> toml::Value {
    note(sources, file, path, value.span());
    match value {
        Value::String(s) => toml::Value::String(s.value().clone()),
        Value::Integer(i) => toml::Value::Integer(*i.value()),
        Value::Float(x) => toml::Value::Float(*x.value()),
        Value::Boolean(b) => toml::Value::Boolean(*b.value()),
        Value::Datetime(d) => toml::Value::String(d.value().to_string()),
        Value::Array(list) => {
            let items = list.iter().enumerate();
            toml::Value::Array(items.map(|(i, v)| plain(sources, file, &format!("{path}[{i}]"), v)).collect())
        }
        Value::InlineTable(table) => {
            let items =
                table.iter().map(|(k, v)| (k.to_owned(), plain(sources, file, &format!("{path}.{k}"), v)));
            toml::Value::Table(items.collect())
        }
    }
}

/// Texts with control characters: none is meant, and in a header one would be another line.
fn unprintable(merged: &toml::Table, sources: &Sources) -> Vec<Problem> {
    fn look(value: &toml::Value, path: &str, found: &mut Vec<String>) {
        match value {
            toml::Value::String(text) if text.chars().any(char::is_control) => found.push(path.to_owned()),
            toml::Value::Array(list) => {
                list.iter().enumerate().for_each(|(at, item)| look(item, &format!("{path}[{at}]"), found));
            }
            toml::Value::Table(table) => {
                let path = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                table.iter().for_each(|(key, item)| look(item, &path(key), found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    look(&toml::Value::Table(merged.clone()), "", &mut found);
    let problem = |path: &String| {
        sources.problem(
            path,
            "there is a control character in it",
            "write it on one line, without \\r, \\n or \\t",
        )
    };
    found.iter().map(problem).collect()
}

fn deserialize(merged: toml::Table, sources: &Sources) -> Result<model::File, Problems> {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(toml::Value::Table(merged), &mut track);
    <model::File as serde::Deserialize>::deserialize(deserializer).map_err(|e| {
        let path = track.path().to_string();
        let path = if path == "." { String::new() } else { path };
        describe(sources, path, e.message()).into()
    })
}

/// Turns serde's words into a problem with a fix.
fn describe(sources: &Sources, path: String, message: &str) -> Problem {
    let message = message.trim();
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (field, expected) = rest.split_once('`').unwrap_or((rest, ""));
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let parent = if path.rsplit(['.', ']']).next() == Some(field) {
            &path[..path.len() - field.len()]
        } else {
            &path
        };
        let parent = parent.trim_end_matches('.');
        let full = if parent.is_empty() { field.to_owned() } else { format!("{parent}.{field}") };
        return sources.problem(&full, format!("there is no key `{field}`"), suggest(field, &known));
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        let field = rest.trim_end_matches('`');
        let fix = format!("add `{field} = …`");
        return sources.problem(&path, format!("`{field}` is missing"), fix);
    }
    match message.split_once('|') {
        Some((what, fix)) => sources.problem(&path, what, fix),
        None => sources.problem(&path, message, "see `signalbox schema config` for what may stand here"),
    }
}

/// The likeliest meant key, or the list of keys.
fn suggest(field: &str, known: &[&str]) -> String {
    let best = known.iter().map(|k| (strsim::damerau_levenshtein(field, k), k)).min();
    match best {
        Some((distance, key)) if distance <= 1 + field.len() / 3 => format!("did you mean `{key}`?"),
        _ if known.is_empty() => "remove it".to_owned(),
        _ => format!("known here: {}", known.join(", ")),
    }
}
