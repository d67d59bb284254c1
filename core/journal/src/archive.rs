//! Sealed segments, compressed, in another directory that readers go on reading from.

use crate::error::{Error, Result};
use crate::storage::{OpenMode, Storage, StoredFile, read_small};
use std::io::{self, Read};
use std::path::Path;

/// zstd level: history is written once and read seldom.
const LEVEL: i32 = 3;
/// An archived segment larger than this when expanded is refused (the largest `segment_size`).
const EXPANDED_BYTES_MAX: u64 = 1 << 30;

/// Writes `bytes` compressed to `path`, durable, and verifies what it wrote.
pub(crate) fn store(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().expect("archived segments lie in a directory");
    storage.create_dir(dir).map_err(Error::io("create", dir))?;
    let packed = zstd::bulk::compress(bytes, LEVEL).map_err(Error::io("compress", path))?;
    crate::storage::replace(storage, path, &packed)?;
    match expand(storage, path)? {
        Some(read) if read == bytes => Ok(()),
        _ => Err(Error::damaged(path, 0, "the archive did not keep what was written to it")),
    }
}

/// The segment in the archive file `path`; `None` when there is no such file.
pub(crate) fn expand(storage: &dyn Storage, path: &Path) -> Result<Option<Vec<u8>>> {
    let Some(packed) = read_small(storage, path)? else { return Ok(None) };
    let broken = |e: io::Error| Error::damaged(path, 0, format!("the archived segment does not expand: {e}"));
    let decoder = zstd::stream::read::Decoder::new(packed.as_slice()).map_err(broken)?;
    let mut bytes = Vec::new();
    decoder.take(EXPANDED_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 > EXPANDED_BYTES_MAX {
        return Err(Error::damaged(path, 0, "the archived segment is larger than 1 GiB"));
    }
    Ok(Some(bytes))
}

/// The first `len` bytes of the segment in the archive file `path`, without expanding the rest; `None` when there
/// is no such file.
pub(crate) fn peek(storage: &dyn Storage, path: &Path, len: usize) -> Result<Option<Vec<u8>>> {
    let file = match storage.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path)(e)),
    };
    let broken = |e: io::Error| Error::damaged(path, 0, format!("the archived segment does not expand: {e}"));
    let decoder = zstd::stream::read::Decoder::new(StoredRead::new(&*file)).map_err(broken)?;
    let mut bytes = Vec::with_capacity(len);
    decoder.take(len as u64).read_to_end(&mut bytes).map_err(broken)?;
    Ok(Some(bytes))
}

/// A stored file read from its start.
pub(crate) struct StoredRead<'a> {
    file: &'a dyn StoredFile,
    at: u64,
}

impl<'a> StoredRead<'a> {
    pub(crate) fn new(file: &'a dyn StoredFile) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for StoredRead<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buf, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}
