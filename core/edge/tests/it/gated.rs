//! A disk whose fsync waits at a gate, or fails.

use signalbox_journal::storage::{
    Entry, FileStorage, Lock, OpenMode, SharedStorage, Space, Storage, StoredFile, Wait,
};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Default)]
struct Gate {
    closed: bool,
    failing: bool,
    waiting: usize,
}

/// Opened and closed by a test. Only the fsync of segments passes it.
#[derive(Default)]
pub(crate) struct Disk {
    gate: Mutex<Gate>,
    changed: Condvar,
}

impl Disk {
    /// The storage of a journal whose fsyncs pass this gate.
    pub(crate) fn storage(self: &Arc<Self>) -> SharedStorage {
        Arc::new(Gated(Arc::clone(self)))
    }

    pub(crate) fn close(&self) {
        self.change(|gate| gate.closed = true);
    }

    pub(crate) fn open(&self) {
        self.change(|gate| gate.closed = false);
    }

    /// From now on every fsync fails.
    pub(crate) fn fail(&self) {
        self.change(|gate| gate.failing = true);
    }

    /// Returns once an fsync stands at the closed gate.
    pub(crate) fn wait_until_one_waits(&self) {
        let gate = self.gate.lock().unwrap();
        let (gate, _) = self.changed.wait_timeout_while(gate, PATIENCE, |gate| gate.waiting == 0).unwrap();
        assert!(gate.waiting > 0, "no fsync came to the gate");
    }

    fn change(&self, change: impl FnOnce(&mut Gate)) {
        change(&mut self.gate.lock().unwrap());
        self.changed.notify_all();
    }

    fn pass(&self) -> io::Result<()> {
        let mut gate = self.gate.lock().unwrap();
        gate.waiting += 1;
        self.changed.notify_all();
        let mut gate = self.changed.wait_while(gate, |gate| gate.closed).unwrap();
        gate.waiting -= 1;
        if gate.failing { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
    }
}

struct Gated(Arc<Disk>);

impl Storage for Gated {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        FileStorage.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        FileStorage.create_dir(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StoredFile>> {
        let file = FileStorage.open(path, mode)?;
        let segment = path.extension().is_some_and(|extension| extension == "seg");
        let disk = Arc::clone(&self.0);
        Ok(if segment { Box::new(GatedFile { file, disk }) } else { file })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        FileStorage.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        FileStorage.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        FileStorage.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        FileStorage.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        FileStorage.space(dir)
    }

    fn lock(&self, path: &Path, wait: Wait) -> io::Result<Option<Box<dyn Lock>>> {
        FileStorage.lock(path, wait)
    }
}

struct GatedFile {
    file: Box<dyn StoredFile>,
    disk: Arc<Disk>,
}

impl StoredFile for GatedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.pass()?;
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.file.reserve(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
