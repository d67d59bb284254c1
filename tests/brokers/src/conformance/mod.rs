//! The promises of a bus as stories, one suite for every provider.
//!
//! [`promises!`](crate::promises) makes the tests that every bus passes, [`promises_of_brokers!`](crate::promises_of_brokers)
//! those of buses that are a server: it dies, comes back, is rolled back, forgets, and others write to it too. A provider
//! brings an empty bus and the hands to do that. What is put on a bus goes there as a relay would have put it, but not by
//! the relay: this suite is about reading.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod everywhere;
pub mod on_brokers;
#[cfg(feature = "kafka")]
pub mod on_kafka;
pub mod on_nats;
mod pen;
mod reading;

pub use pen::{New, Pen};

use signalbox_base::EventSeq;
use signalbox_bus::{Bus, Delivered, Source};
use std::future::Future;
use std::sync::Arc;

/// A bus under test.
pub trait Provider: Sized {
    /// An empty one.
    fn start() -> impl Future<Output = Self>;

    /// Its bus, as one more process would open it.
    fn bus(&self) -> Arc<dyn Bus>;

    /// Who writes the events of the story.
    fn source(&self) -> Source;

    /// Stores events durably in this order. They are [`Pen`]'s, numbered gaplessly unless the story leaves some out.
    fn put(&mut self, events: &[Delivered]) -> impl Future<Output = ()>;
}

/// A bus that is a server.
pub trait Broker: Provider {
    /// Stores events that it holds already once more, as a relay does that could not know: its window has not seen them.
    fn put_again(&mut self, events: &[Delivered]) -> impl Future<Output = ()>;

    /// Stores things that are no live events of ours, where this event would go: no JSON, no CloudEvent, another
    /// product's event, a replay's copy, nothing at all. Returns how many.
    fn put_foreign(&mut self, beside: &Delivered) -> impl Future<Output = usize>;

    /// Retention: forgets everything that was put before this event.
    fn expire(&mut self, before: EventSeq) -> impl Future<Output = ()>;

    /// kill -9.
    fn kill(&mut self);

    /// Back, with what was stored.
    fn start_again(&mut self) -> impl Future<Output = ()>;

    /// Takes a copy of what is stored, as a backup does.
    fn copy(&mut self) -> impl Future<Output = ()>;

    /// Killed, and back with what the copy holds.
    fn roll_back(&mut self) -> impl Future<Output = ()>;
}

/// One test for each named story of a module of [`conformance`](crate::conformance).
#[macro_export]
macro_rules! stories {
    ($module:ident, $provider:ty: $($promise:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                $crate::conformance::$module::$promise::<$provider>().await;
            }
        )+
    };
}

/// What every bus promises, for one provider.
#[macro_export]
macro_rules! promises {
    ($provider:ty) => {
        $crate::stories! { everywhere, $provider:
            events_of_a_key_arrive_in_order_with_all_their_envelope
            keys_of_many_domains_stay_in_order_each
            a_named_subscription_goes_on_after_what_it_acknowledged
            what_a_crashed_reader_did_not_acknowledge_comes_again
            a_name_that_was_taken_over_can_acknowledge_nothing
            a_slow_reader_holds_up_nobody
            a_filter_passes_over_the_rest_and_progress_tells_so
            history_is_replayed_from_a_moment
            history_is_replayed_from_a_position_or_from_now_on
            a_reader_that_waits_hears_of_what_comes
            giving_up_a_wait_loses_nothing
        }
    };
}

/// What every bus that is a server promises beside that.
#[macro_export]
macro_rules! promises_of_brokers {
    ($provider:ty) => {
        $crate::stories! { on_brokers, $provider:
            a_hint_goes_on_right_behind_its_batch
            an_event_that_is_stored_twice_is_known_by_its_number
            a_hole_shows_in_the_domain_numbers_and_closes_when_the_missing_one_comes
            what_retention_took_is_told_by_a_floor
            what_retention_took_behind_a_hint_is_told_by_a_floor
            a_bus_that_lost_nothing_tells_no_floor
            what_is_no_event_of_ours_is_passed_over
            a_type_that_nobody_knows_yet_is_delivered
            two_sources_with_the_same_numbers_are_told_apart
            the_largest_event_arrives
            a_reader_is_told_that_the_broker_is_away_and_goes_on_when_it_is_back
            a_named_subscription_survives_the_broker_s_death
            a_hint_of_a_future_that_was_rolled_back_loses_nothing
            a_hint_beyond_the_end_of_a_rolled_back_broker_loses_nothing
        }
    };
}

/// The domain of an event and its number there, for comparing.
fn places(events: &[Delivered]) -> Vec<(String, u64)> {
    events.iter().map(|event| (event.domain().to_owned(), event.domain_seq)).collect()
}
