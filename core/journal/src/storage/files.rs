//! Real files: fdatasync, directory fsync, posix_fallocate, O_DIRECT for what is large, flock.

use super::{Entry, Lock, OpenMode, Space, Storage, StoredFile, Wait};
use crate::format::SECTOR;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Bytes of zeros written at once while preallocating.
const ZERO_CHUNK: usize = 1 << 20;

/// Writes of at least so many bytes go past the page cache, in pieces of at most `DIRECT_CHUNK` from memory aligned so.
const DIRECT_MIN: usize = 128 << 10;
const DIRECT_CHUNK: usize = 1 << 20;
const DIRECT_ALIGN: usize = 4096;

/// The file system of this machine. Files are created with mode 0600, directories with the process's umask.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileStorage;

impl Storage for FileStorage {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // A name may vanish between listing and stat when retention runs in another process.
            let Ok(meta) = entry.metadata() else { continue };
            let Ok(name) = entry.file_name().into_string() else { continue };
            let len = if meta.is_dir() { 0 } else { meta.len() };
            entries.push(Entry { name, len, is_dir: meta.is_dir() });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir(parent)?;
        }
        match fs::create_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        self.sync_dir(parent.unwrap_or_else(|| Path::new(".")))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StoredFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::Write => options.write(true),
            OpenMode::Create => options.write(true).create(true).truncate(true),
            OpenMode::Ensure => options.write(true).create(true),
        };
        let file = options.open(path)?;
        let direct = if mode == OpenMode::Write { Direct::open(path) } else { None };
        Ok(Box::new(RealFile { file, direct }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = nix::sys::statvfs::statvfs(dir)?;
        let unit = stat.fragment_size();
        Ok(Space { total: stat.blocks() * unit, free: stat.blocks_available() * unit })
    }

    fn lock(&self, path: &Path, wait: Wait) -> io::Result<Option<Box<dyn Lock>>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match wait {
            Wait::Yes => file.lock()?,
            Wait::No => match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            },
        }
        Ok(Some(Box::new(FileLock { _file: file })))
    }
}

struct RealFile {
    file: File,
    direct: Option<Direct>,
}

impl StoredFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.file, buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if let Some(direct) = &self.direct
            && let Some(written) = direct.write_at(bytes, offset)?
        {
            return Ok(written);
        }
        FileExt::write_at(&self.file, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let at = self.len()?;
        // A file system without preallocation takes the room as the zeros are written.
        preallocated(&self.file, len)?;
        // In an extent that is only allocated, the first fdatasync over each block must also commit the file
        // system's journal (ext4, measured on a busy disk: 187 commits/s against 300). So the zeros are really
        // written, here, off the hot path.
        self.write_zeros(at, len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.allocate_by(len, preallocated)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

impl RealFile {
    /// Where there is no preallocation the zeros are written: a file that only claims its length is full of holes, and a
    /// full disk would be found out at a commit, where it ends the writer, instead of here, where it is told as
    /// [`crate::Error::Full`].
    fn allocate_by(&self, len: u64, preallocated: fn(&File, u64) -> io::Result<bool>) -> io::Result<()> {
        let at = self.len()?;
        if preallocated(&self.file, len)? { Ok(()) } else { self.write_zeros(at, len) }
    }

    fn write_zeros(&self, mut at: u64, len: u64) -> io::Result<()> {
        let zeros = vec![0; ZERO_CHUNK];
        while at < len {
            let part = usize::try_from(len - at).map_or(ZERO_CHUNK, |left| left.min(ZERO_CHUNK));
            at += FileExt::write_at(&self.file, &zeros[..part], at)? as u64;
        }
        Ok(())
    }
}

/// Takes room for `len` bytes (posix_fallocate(3)); `false` where the file system cannot.
fn preallocated(file: &File, len: u64) -> io::Result<bool> {
    let length = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    match nix::fcntl::posix_fallocate(file, 0, length) {
        Ok(()) => Ok(true),
        Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// The same file once more, past the page cache (open(2), `O_DIRECT`), for large batches: those fill whole pages, so
/// that the cache would only cost a copy and, worse, fresh memory for every page of the journal.
struct Direct {
    file: File,
    /// Where bytes are put at addresses that the disk takes.
    aligned: Mutex<Vec<u8>>,
}

impl Direct {
    /// `None` where the file system has no such thing.
    fn open(path: &Path) -> Option<Self> {
        let flags = nix::fcntl::OFlag::O_DIRECT.bits();
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
        Some(Self { file, aligned: Mutex::default() })
    }

    /// Writes a prefix of `bytes`; `None` when it is not for this way.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<Option<usize>> {
        let sectors = offset.is_multiple_of(SECTOR as u64) && bytes.len().is_multiple_of(SECTOR);
        if bytes.len() < DIRECT_MIN || !sectors {
            return Ok(None);
        }
        let mut aligned = self.aligned.lock().unwrap_or_else(PoisonError::into_inner);
        aligned.resize(DIRECT_CHUNK + DIRECT_ALIGN, 0);
        let start = aligned.as_ptr().align_offset(DIRECT_ALIGN);
        let part = bytes.len().min(DIRECT_CHUNK);
        let chunk = &mut aligned[start..start + part];
        chunk.copy_from_slice(&bytes[..part]);
        match FileExt::write_at(&self.file, chunk, offset) {
            Ok(written) => Ok(Some(written)),
            // This disk wants larger sectors than ours.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// The open file is the lock: closing it, or dying, frees it (flock(2)).
struct FileLock {
    _file: File,
}

impl Lock for FileLock {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    /// On the disk that the tests are built on: what is for temporary files may be memory.
    fn on_disk() -> tempfile::TempDir {
        let beside = std::env::current_exe().expect("a running test has a path");
        tempfile::tempdir_in(beside.parent().expect("it lies in a directory")).expect("room for a directory")
    }

    fn new_file(dir: &tempfile::TempDir) -> (PathBuf, RealFile) {
        let path = dir.path().join("segment");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("a file");
        (path, RealFile { file, direct: None })
    }

    #[test]
    fn given_a_file_system_without_preallocation_then_room_is_taken_all_the_same() {
        let dir = on_disk();
        let (_, file) = new_file(&dir);
        let len = 3 * ZERO_CHUNK as u64 + 512;
        file.allocate_by(len, |_, _| Ok(false)).expect("there is room");
        file.sync_data().expect("it syncs");
        let meta = file.file.metadata().expect("it is open");
        assert_eq!(meta.len(), len);
        assert!(meta.blocks() * 512 >= len, "{} bytes taken of {len}", meta.blocks() * 512);
    }

    #[test]
    fn given_a_full_disk_then_taking_room_says_so() {
        let dir = on_disk();
        let (_, file) = new_file(&dir);
        let full = file.allocate_by(4096, |_, _| Err(io::ErrorKind::StorageFull.into()));
        assert!(full.is_err_and(|e| e.kind() == io::ErrorKind::StorageFull));
        assert_eq!(file.len().expect("it is open"), 0);
    }

    /// Whether a file system is one of those that large batches are known to go past the cache of.
    fn must_be_direct(path: &Path) -> bool {
        use nix::sys::statfs::{EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, statfs};
        let kind = statfs(path).expect("it is mounted").filesystem_type();
        kind == EXT4_SUPER_MAGIC || kind == XFS_SUPER_MAGIC
    }

    #[test]
    fn given_batches_around_the_edges_of_a_piece_then_large_ones_go_past_the_cache_and_all_read_back() {
        let dir = on_disk();
        let (path, file) = new_file(&dir);
        file.reserve(8 << 20).expect("there is room");
        let opened = Direct::open(&path);
        assert!(opened.is_some() || !must_be_direct(&path), "ext4 and xfs have O_DIRECT");
        let mut at = 512_u64;
        for len in [DIRECT_MIN - SECTOR, DIRECT_MIN, DIRECT_CHUNK, DIRECT_CHUNK + SECTOR] {
            let bytes: Vec<u8> = (0..len).map(|n| (n / 7 + len) as u8).collect();
            let large = len >= DIRECT_MIN;
            if let Some(direct) = &opened {
                let written = direct.write_at(&bytes, at).expect("the disk takes it");
                assert_eq!(written, large.then_some(len.min(DIRECT_CHUNK)), "{len} bytes at {at}");
            }
            let stored = FileStorage.open(&path, OpenMode::Write).expect("it is there");
            super::super::write_full(&*stored, &bytes, at).expect("there is room");
            let mut back = vec![0; len];
            assert_eq!(super::super::read_full(&*stored, &mut back, at).expect("it reads"), len);
            assert!(back == bytes, "{len} bytes at {at}");
            at += len as u64;
        }
    }

    #[test]
    fn given_bytes_that_are_no_whole_sectors_then_they_go_the_usual_way() {
        let dir = on_disk();
        let (path, _) = new_file(&dir);
        let Some(direct) = Direct::open(&path) else { return };
        let large = vec![7; 2 * DIRECT_MIN];
        assert_eq!(direct.write_at(&large[1..], 512).expect("not tried"), None);
        assert_eq!(direct.write_at(&large, 7).expect("not tried"), None);
    }
}
