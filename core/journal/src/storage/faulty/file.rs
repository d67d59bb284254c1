//! Handles and locks of the faulty disk.

use super::state::{State, died};
use super::{Disk, Operation};
use crate::storage::{Lock, StoredFile};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};

pub(super) struct FaultyFile {
    pub(super) disk: Arc<Disk>,
    pub(super) inode: u64,
    pub(super) generation: u64,
    pub(super) writes: bool,
}

impl FaultyFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.alive()?;
        if state.generation == self.generation { Ok(state) } else { Err(died()) }
    }
}

impl StoredFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        let bytes = &state.inode(self.inode)?.readable;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        if !self.writes {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let died = state.count(Operation::Write);
        if died.is_err() && !state.dead {
            return died.map(|()| 0);
        }
        state.writes += 1;
        let short = state.faults.short_write_every.is_some_and(|n| state.writes.is_multiple_of(n));
        let bytes = if short && bytes.len() > 1 { &bytes[..bytes.len() / 2] } else { bytes };
        let at = usize::try_from(offset).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        let grows = (at + bytes.len()).saturating_sub(state.inode(self.inode)?.readable.len());
        state.room(grows as u64)?;
        state.inode(self.inode)?.write(at, bytes);
        died.map(|()| bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let outcome = state.count(Operation::Sync);
        let died = state.dead;
        let inode = state.inode(self.inode)?;
        match outcome {
            Ok(()) => inode.bring_over(),
            // The kernel reports the error once and calls the pages clean: they lose their claim.
            Err(_) if !died => inode.dirty.clear(),
            Err(_) => {}
        }
        outcome
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.inode(self.inode)?.readable.len() as u64)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let have = self.len()?;
        if len > have { self.set_len(len) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.count(Operation::Change)?;
        let have = state.inode(self.inode)?.readable.len() as u64;
        state.room(len.saturating_sub(have))?;
        let len = usize::try_from(len).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        state.inode(self.inode)?.resize(len);
        Ok(())
    }
}

pub(super) struct FaultyLock {
    pub(super) disk: Arc<Disk>,
    pub(super) path: PathBuf,
    pub(super) generation: u64,
}

impl Lock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.generation == self.generation {
            state.locks.remove(&self.path);
            self.disk.unlocked.notify_all();
        }
    }
}
