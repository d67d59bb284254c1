//! Real brokers for tests, started on free ports of loopback and stopped with the test, and the suite that each bus passes.
