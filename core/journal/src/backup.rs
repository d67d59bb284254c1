//! A journal, and files that belong to it, as one verified archive.
//!
//! A backup is a zstd-compressed tar: `journal/…` (segments up to the durable end, digests, cursors, snapshots),
//! `files/…` (what the caller adds: configuration, a consistent copy of an SQLite file), and last
//! `manifest.json` with every file's length and SHA-256. Segments in the archive directory are not copied: they
//! are a copy already. It is written to a temporary name, synced, read back and verified, then renamed.

use crate::archive::StoredRead;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::keeper::hex;
use crate::recovery;
use crate::segment::{self, Found, Segment};
use crate::storage::{OpenMode, SharedStorage, StoredFile, list_or_empty, read_small, write_full};
use crate::watermark::Mark;
use sha2::{Digest, Sha256};
use signalbox_base::{EventSeq, JournalId, Wall};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

/// Layout of the archive; raised when it changes.
pub(crate) const BACKUP_FORMAT: u32 = 1;
pub(crate) const MANIFEST: &str = "manifest.json";
/// Largest manifest that is read, in bytes.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
const LEVEL: i32 = 3;

/// A file that goes along with the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Where it is put on restore, relative to the target; not below `journal`.
    pub name: String,
    /// Where it is now. It must not change while the backup runs.
    pub path: PathBuf,
}

/// What a backup holds; the `manifest.json` in it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout of the archive, 1.
    pub format: u32,
    /// When it was made, RFC 3339.
    pub made_at: String,
    /// The journal; none when it was empty.
    pub journal: Option<JournalId>,
    /// Last sequence in it.
    pub last: EventSeq,
    /// Every file but the manifest, by its name in the archive.
    pub files: BTreeMap<String, Packed>,
}

/// One file in a backup.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packed {
    /// Length in bytes.
    pub bytes: u64,
    /// Lower-case hexadecimal SHA-256.
    pub sha256: String,
}

/// Writes a backup to `out`, of a journal that may be live (in this or another process) or at rest.
///
/// # Errors
/// [`Error::Damaged`] when the journal does not verify, [`Error::BadBackup`] for a bad extra name, an existing
/// `out`, or an archive that does not read back; [`Error::Io`].
pub fn backup(
    storage: &SharedStorage,
    layout: &Layout,
    extras: &[Extra],
    out: &Path,
    now: Wall,
) -> Result<Manifest> {
    if storage.open(out, OpenMode::Read).is_ok() {
        return Err(refused(out, "it exists; backups are never overwritten"));
    }
    if let Some(extra) = extras.iter().find(|e| !legal_name(&e.name) || e.name.starts_with("journal/")) {
        return Err(refused(Path::new(&extra.name), "not a relative name outside journal/"));
    }
    let temporary = PathBuf::from(format!("{}.tmp", out.display()));
    let file = storage.open(&temporary, OpenMode::Create).map_err(Error::io("create", &temporary))?;
    let manifest = pack(storage, layout, extras, now, &*file, &temporary)?;
    file.sync_data().map_err(Error::io("sync", &temporary))?;
    let read_back = unpack(storage, &temporary, |_, entry| io::copy(entry, &mut io::sink()).map(drop))?;
    if read_back != manifest {
        return Err(refused(&temporary, "it did not read back as it was written"));
    }
    storage.rename(&temporary, out).map_err(Error::io("rename", out))?;
    let dir = out.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    storage.sync_dir(dir).map_err(Error::io("sync", dir))?;
    Ok(manifest)
}

/// Reads a whole backup and checks every file against its manifest.
///
/// # Errors
/// [`Error::BadBackup`] with the first difference, [`Error::Io`].
pub fn verify(storage: &SharedStorage, path: &Path) -> Result<Manifest> {
    unpack(storage, path, |_, entry| io::copy(entry, &mut io::sink()).map(drop))
}

fn pack(
    storage: &SharedStorage,
    layout: &Layout,
    extras: &[Extra],
    now: Wall,
    file: &dyn StoredFile,
    path: &Path,
) -> Result<Manifest> {
    let io = |e| Error::io("write", path)(e);
    let zstd = zstd::stream::write::Encoder::new(StoredWrite { file, at: 0 }, LEVEL).map_err(io)?;
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, zstd));
    let manifest = Manifest {
        format: BACKUP_FORMAT,
        made_at: now.to_string(),
        journal: None,
        last: EventSeq(0),
        files: BTreeMap::new(),
    };
    let mut packer = Packer { tar: &mut tar, manifest, path };
    packer.small_files(storage, layout)?;
    packer.segments(storage, layout)?;
    for extra in extras {
        packer.extra(storage, extra)?;
    }
    let manifest = packer.manifest;
    let json = serde_json::to_vec_pretty(&manifest).map_err(|e| io(e.into()))?;
    append(&mut tar, MANIFEST, json.len() as u64, &mut json.as_slice()).map_err(io)?;
    let buffered = tar.into_inner().map_err(io)?;
    let zstd = buffered.into_inner().map_err(|e| io(e.into_error()))?;
    zstd.finish().map_err(io)?;
    Ok(manifest)
}

struct Packer<'a, W: Write> {
    tar: &'a mut tar::Builder<W>,
    manifest: Manifest,
    path: &'a Path,
}

impl<W: Write> Packer<'_, W> {
    /// Cursors and snapshots are read before the journal's end is, so that none of them is ahead of it.
    fn small_files(&mut self, storage: &SharedStorage, layout: &Layout) -> Result<()> {
        let wanted =
            [(layout.cursors(), ".cur"), (layout.snapshots(), ".snap"), (layout.dir.clone(), ".sha256")];
        for (dir, suffix) in wanted {
            for entry in list_or_empty(&**storage, &dir)?.iter().filter(|e| e.name.ends_with(suffix)) {
                let file = dir.join(&entry.name);
                let below = file.strip_prefix(&layout.dir).expect("the directories lie below the journal's");
                let name = format!("journal/{}", below.display());
                if let Some(bytes) = read_small(&**storage, &file)? {
                    self.bytes(&name, &bytes)?;
                }
            }
        }
        Ok(())
    }

    fn segments(&mut self, storage: &SharedStorage, layout: &Layout) -> Result<()> {
        let durable = durable_end(storage, layout)?;
        for first in segment::list(&**storage, &layout.dir)? {
            // Retention may remove the oldest segments meanwhile; what is left is still one piece.
            let Some(segment) = Segment::open(&**storage, layout, first)? else { continue };
            if first > durable {
                break;
            }
            let bytes = self.durable_bytes(&segment, durable)?;
            self.manifest.journal = Some(segment.header.journal);
            self.bytes(&format!("journal/{:020}.seg", first.0), &bytes)?;
        }
        Ok(())
    }

    fn durable_bytes(&mut self, segment: &Segment, durable: EventSeq) -> Result<Vec<u8>> {
        let mut bytes = segment.header.encode();
        let mut scan = segment.scan();
        while scan.expected() <= durable {
            match scan.next()? {
                Found::Batch(header) if header.last() <= durable => bytes.extend_from_slice(scan.batch()),
                Found::Batch(_) | Found::End => break,
                Found::Bad(damage) => return Err(Error::Damaged(damage)),
            }
            self.manifest.last = EventSeq(scan.expected().0 - 1);
        }
        Ok(bytes)
    }

    fn extra(&mut self, storage: &SharedStorage, extra: &Extra) -> Result<()> {
        let file = storage.open(&extra.path, OpenMode::Read).map_err(Error::io("open", &extra.path))?;
        let len = file.len().map_err(Error::io("read", &extra.path))?;
        self.add(&format!("files/{}", extra.name), len, &mut StoredRead::new(&*file))
    }

    fn bytes(&mut self, name: &str, mut bytes: &[u8]) -> Result<()> {
        self.add(name, bytes.len() as u64, &mut bytes)
    }

    fn add(&mut self, name: &str, len: u64, from: &mut dyn Read) -> Result<()> {
        let mut hashing = Hashing::new(from.take(len));
        append(self.tar, name, len, &mut hashing).map_err(Error::io("write", self.path))?;
        if hashing.bytes != len {
            return Err(refused(Path::new(name), "it shrank while it was copied"));
        }
        let packed = Packed { bytes: len, sha256: hex(&hashing.hash.finalize()) };
        self.manifest.files.insert(name.to_owned(), packed);
        Ok(())
    }
}

/// Where the journal ends: beside a writer the watermark says it, at rest the batches themselves.
fn durable_end(storage: &SharedStorage, layout: &Layout) -> Result<EventSeq> {
    // The lock is held only for this look, so that an edge that starts meanwhile is hardly ever refused.
    match crate::lock(storage, layout) {
        Ok(_lock) => {
            let tail = recovery::examine(&**storage, layout, None)?;
            Ok(tail.map_or(EventSeq(0), |t| EventSeq(t.next.0 - 1)))
        }
        Err(Error::Locked { .. }) => Mark::file(SharedStorage::clone(storage), layout.watermark()).durable(),
        Err(error) => Err(error),
    }
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, len: u64, from: &mut dyn Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(len);
    header.set_mode(0o600);
    tar.append_data(&mut header, name, from)
}

/// Goes through a backup, hands every file to `take`, and checks all of them against the manifest.
pub(crate) fn unpack(
    storage: &SharedStorage,
    path: &Path,
    mut take: impl FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> Result<Manifest> {
    let broken = |e: io::Error| refused(path, &format!("it cannot be read to its end: {e}"));
    let file = storage.open(path, OpenMode::Read).map_err(Error::io("open", path))?;
    let zstd = zstd::stream::read::Decoder::new(StoredRead::new(&*file)).map_err(broken)?;
    let mut tar = tar::Archive::new(zstd);
    let (mut found, mut manifest) = (BTreeMap::new(), None);
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        if !legal_name(&name) || manifest.is_some() || !entry.header().entry_type().is_file() {
            return Err(refused(path, &format!("{name} does not belong in a backup")));
        }
        if name == MANIFEST {
            let mut json = Vec::new();
            entry.take(MANIFEST_BYTES_MAX).read_to_end(&mut json).map_err(broken)?;
            let read = serde_json::from_slice::<Manifest>(&json);
            manifest = Some(read.map_err(|e| refused(path, &format!("its manifest is broken: {e}")))?);
            continue;
        }
        let mut hashing = Hashing::new(&mut entry);
        take(&name, &mut hashing).map_err(broken)?;
        let packed = Packed { bytes: hashing.bytes, sha256: hex(&hashing.hash.finalize()) };
        found.insert(name, packed);
    }
    let manifest = manifest.ok_or_else(|| refused(path, "it has no manifest: it is not complete"))?;
    if manifest.format != BACKUP_FORMAT {
        return Err(refused(path, &format!("format {} is not known to this program", manifest.format)));
    }
    let differing = found.iter().find(|(name, packed)| manifest.files.get(*name) != Some(packed));
    if let Some((name, _)) = differing {
        return Err(refused(path, &format!("{name} is not what the manifest says")));
    }
    match manifest.files.keys().find(|name| !found.contains_key(*name)) {
        Some(name) => Err(refused(path, &format!("{name} is missing"))),
        None => Ok(manifest),
    }
}

pub(crate) fn refused(file: &Path, reason: &str) -> Error {
    Error::BadBackup { file: file.to_owned(), reason: reason.to_owned() }
}

/// A relative name that stays inside its directory.
fn legal_name(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)))
}

/// Counts and hashes what is read through it.
struct Hashing<R> {
    from: R,
    hash: Sha256,
    bytes: u64,
}

impl<R> Hashing<R> {
    fn new(from: R) -> Self {
        Self { from, hash: Sha256::new(), bytes: 0 }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.from.read(buf)?;
        self.hash.update(&buf[..got]);
        self.bytes += got as u64;
        Ok(got)
    }
}

/// A stored file written from its start.
pub(crate) struct StoredWrite<'a> {
    pub(crate) file: &'a dyn StoredFile,
    pub(crate) at: u64,
}

impl Write for StoredWrite<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_full(self.file, bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
