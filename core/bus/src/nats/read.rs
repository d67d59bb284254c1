//! NATS as a bus.

use super::Config;
use crate::hints::Hints;
use crate::subscription::{BoxFuture, Bus, Error, Order, Request, Subscription};
use std::sync::Arc;

/// The streams of a NATS server as a bus. Each subscription has a thread, a runtime and a connection of its own, so that
/// it disturbs nobody and nothing of it lives on.
#[derive(Clone)]
pub struct NatsBus {
    config: Arc<Config>,
    hints: Arc<dyn Hints>,
}

impl NatsBus {
    /// `hints` keeps where named subscriptions resume; nothing is kept on the server.
    #[must_use]
    pub fn new(config: Config, hints: Arc<dyn Hints>) -> Self {
        Self { config: Arc::new(config), hints }
    }
}

impl Bus for NatsBus {
    fn subscribe(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn Subscription>, Error>> {
        let _ = (&self.config, &self.hints, request);
        Box::pin(async { Err(Error::Unavailable("not built yet".into())) })
    }

    fn order(&self) -> Order {
        Order::Key
    }
}
