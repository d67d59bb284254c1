//! What a data directory remembers: the edge's name and the cluster's key.

use crate::config::{Effective, Keys, model};
use crate::errors::{Code, DATA_DIR, DISK_FULL, Failure, INTERNAL, NO_RIGHT};
use signalbox_base::{JournalId, Secret};
use signalbox_io::OsEntropy;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

const NAME_FILE: &str = "edge-name";
const KEY_FILE: &str = "cluster.key";
/// Length of a cluster key, bytes.
const KEY_LEN: usize = 32;

/// Makes the data directory (0700) if it is missing, and reads or makes what it remembers.
///
/// # Errors
/// The directory or a file in it cannot be made or read.
pub fn prepare(effective: &Effective, entropy: &mut OsEntropy) -> Result<Keys, Failure> {
    let dir = &effective.file.edge.data_dir;
    let failed = |e: std::io::Error| Failure::new(code(&e), format!("{}: {e}", dir.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let edge_name = edge_name(&effective.file, dir).map_err(failed)?;
    let cluster_key = cluster_key(&effective.file, dir, entropy)?;
    Ok(Keys { edge_name, journal: JournalId(0), cluster_key })
}

/// Which advice helps.
fn code(e: &std::io::Error) -> Code {
    match e.kind() {
        ErrorKind::PermissionDenied => NO_RIGHT,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DISK_FULL,
        _ => DATA_DIR,
    }
}

/// The edge's name as a reader knows it: configured, remembered, or the host's.
pub fn known_name(file: &model::File) -> String {
    let remembered =
        || fs::read_to_string(file.edge.data_dir.join(NAME_FILE)).ok().map(|t| t.trim().to_owned());
    file.edge.name.clone().or_else(remembered).filter(|n| !n.is_empty()).unwrap_or_else(host_name)
}

fn edge_name(file: &model::File, dir: &Path) -> std::io::Result<String> {
    let name = known_name(file);
    let path = dir.join(NAME_FILE);
    if fs::read_to_string(&path).is_ok_and(|kept| kept.trim() == name) {
        return Ok(name);
    }
    write_private(&path, format!("{name}\n").as_bytes())?;
    Ok(name)
}

/// Names under which the admin port answers, besides addresses and `localhost`.
pub fn admin_hosts(file: &model::File) -> Vec<String> {
    let machine = full_host_name();
    let label = machine.split('.').next().unwrap_or_default().to_owned();
    let own = [machine, label].into_iter().filter(|name| !name.is_empty());
    own.chain(file.admin.hosts.iter().cloned()).collect()
}

fn full_host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_default()
}

/// The host name's first label with letters, digits and `-` only.
fn host_name() -> String {
    let full = full_host_name();
    let label: String = full.split('.').next().unwrap_or_default().chars().take(63).collect();
    let clean: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if clean.is_empty() { "edge".to_owned() } else { clean }
}

fn cluster_key(file: &model::File, dir: &Path, entropy: &mut OsEntropy) -> Result<Secret, Failure> {
    let named = file.edge.cluster_key_file.as_ref();
    let path = named.cloned().unwrap_or_else(|| dir.join(KEY_FILE));
    let failed = |why: String| Failure::new(DATA_DIR, format!("cluster key {}: {why}", path.display()));
    match fs::read(&path) {
        Ok(bytes) if bytes.trim_ascii().len() >= KEY_LEN => Ok(Secret::new(bytes.trim_ascii().to_vec())),
        Ok(_) => Err(failed(format!("shorter than {KEY_LEN} bytes"))
            .fix("write 32 random bytes or more, for example with `openssl rand -hex 32`")),
        Err(e) if e.kind() == ErrorKind::NotFound && named.is_none() => {
            Ok(Secret::new(new_key(&path, entropy)?.into_bytes()))
        }
        Err(e) => Err(failed(e.to_string())),
    }
}

/// Makes a cluster's key in a file, where there is none. `true` when it did.
///
/// # Errors
/// The file cannot be written.
pub fn make_key(path: &Path) -> Result<bool, Failure> {
    if path.exists() {
        return Ok(false);
    }
    let mut entropy = OsEntropy::seeded().map_err(|e| Failure::new(INTERNAL, e.to_string()))?;
    new_key(path, &mut entropy).map(|_| true)
}

fn new_key(path: &Path, entropy: &mut OsEntropy) -> Result<String, Failure> {
    let mut bytes = [0u8; KEY_LEN];
    entropy.fill(&mut bytes);
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    write_private(path, text.as_bytes())
        .map_err(|e| Failure::new(code(&e), format!("cluster key {}: {e}", path.display())))?;
    Ok(text)
}

/// Writes a file that only its owner reads, through a temporary name, durably.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}
