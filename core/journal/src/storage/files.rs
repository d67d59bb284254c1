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
        let mut at = self.len()?;
        self.allocate(len)?;
        // In an extent that is only allocated, the first fdatasync over each block must also commit the file
        // system's journal (ext4, measured on a busy disk: 187 commits/s against 300). So the zeros are really
        // written, here, off the hot path.
        let zeros = vec![0; ZERO_CHUNK];
        while at < len {
            let part = usize::try_from(len - at).map_or(ZERO_CHUNK, |left| left.min(ZERO_CHUNK));
            at += FileExt::write_at(&self.file, &zeros[..part], at)? as u64;
        }
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let length = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        match nix::fcntl::posix_fallocate(&self.file, 0, length) {
            Ok(()) => Ok(()),
            // A file system without preallocation still works; it only learns of a full disk later.
            Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => self.grow(len),
            Err(e) => Err(e.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

impl RealFile {
    fn grow(&self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.file.set_len(len) } else { Ok(()) }
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
