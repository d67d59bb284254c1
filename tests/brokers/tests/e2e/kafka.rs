//! Kafka as a bus: the whole suite against a real broker.

use signalbox_brokers::conformance::on_kafka::{OnKafka, Open};
use signalbox_brokers::{Kafka, promises, promises_of_brokers};
use signalbox_bus::kafka::KafkaBus;
use signalbox_bus::{Bus, FileHints};
use std::path::Path;
use std::sync::Arc;

struct Product;

impl Open for Product {
    fn open(kafka: &Kafka, dir: &Path) -> Arc<dyn Bus> {
        Arc::new(KafkaBus::new(kafka.config(), Arc::new(FileHints::new(dir))))
    }
}

promises!(OnKafka<Product>);
promises_of_brokers!(OnKafka<Product>);
