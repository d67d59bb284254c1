//! A journal on disk with its writer, for tests of the bus and of what reads it.

use signalbox_base::{EdgeIdentity, Wall};
use signalbox_bus::{Bus, Delivered, Local};
use signalbox_journal::storage::{FileStorage, SharedStorage};
use signalbox_journal::{Config, Journal, Layout, Mark, NewRecord, Writer};
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) struct OnDisk {
    pub(crate) dir: TempDir,
    pub(crate) storage: SharedStorage,
    pub(crate) writer: Writer,
}

impl OnDisk {
    pub(crate) fn identity() -> EdgeIdentity {
        EdgeIdentity { cluster: "test".into(), edge: "edge-1".into() }
    }

    pub(crate) fn begin() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage: SharedStorage = Arc::new(FileStorage);
        let mut config = Config::new(dir.path());
        config.segment_size = 64 * 1024;
        let opened = Journal::open(Arc::clone(&storage), config, &Self::identity(), Wall(1), [7; 32]);
        Self { dir, storage, writer: opened.unwrap().0 }
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.dir.path())
    }

    /// As the writer's own process sees it.
    pub(crate) fn beside(&self) -> Arc<dyn Bus> {
        self.bus(self.writer.mark())
    }

    /// As another process sees it.
    pub(crate) fn apart(&self) -> Arc<dyn Bus> {
        self.bus(Mark::file(Arc::clone(&self.storage), self.layout().watermark()))
    }

    fn bus(&self, mark: Mark) -> Arc<dyn Bus> {
        Arc::new(Local::new(Self::identity(), Arc::clone(&self.storage), self.layout(), mark))
    }

    /// Each event with something private beside it.
    pub(crate) fn write(&mut self, events: &[Delivered]) {
        for event in events {
            let record = NewRecord {
                expect_seq: Some(event.seq),
                wall: event.time,
                recorded: event.recorded,
                kind: &event.kind,
                tenant: &event.tenant,
                subject: &event.subject,
                correlation: &event.correlation,
                traceparent: "",
                causation: event.causation,
                data: &event.data,
                private: b"secret",
            };
            self.writer.append(&record).unwrap();
        }
        self.writer.commit(Wall(1_000)).unwrap();
    }
}
