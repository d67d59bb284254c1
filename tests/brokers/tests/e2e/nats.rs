//! NATS as a bus: the whole suite against a real server.

use signalbox_brokers::conformance::on_nats::{OnNats, Open};
use signalbox_brokers::{Nats, promises, promises_of_brokers};
use signalbox_bus::nats::NatsBus;
use signalbox_bus::{Bus, FileHints};
use std::path::Path;
use std::sync::Arc;

struct Product;

impl Open for Product {
    fn open(nats: &Nats, dir: &Path) -> Arc<dyn Bus> {
        Arc::new(NatsBus::new(nats.config(), Arc::new(FileHints::new(dir))))
    }
}

promises!(OnNats<Product>);
promises_of_brokers!(OnNats<Product>);
