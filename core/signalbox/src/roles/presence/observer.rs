//! `edge.lost` and `edge.returned`, once each, whoever looks.
//!
//! Every process with a store looks. What was told last of each edge lies in one row of the store; whoever sees a change
//! replaces that row and appends the events in one transaction, on the condition that the row is still what was read. So of
//! several observers one tells, and one that restarts tells nothing twice.

use super::View;
use serde::{Deserialize, Serialize};
use signalbox_base::{Text, Wall};
use signalbox_bus::presence::{Seen, State};
use signalbox_io::Clock;
use signalbox_schemas::Event;
use signalbox_schemas::edge::{EdgeLost, EdgeReturned};
use signalbox_store::outbox::{self, Draft};
use signalbox_store::{Class, Error, Statement, Store};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

/// The row's name.
const PLACE: &str = "presence";
/// Between two looks when nothing changes: another observer may have told otherwise.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Before what could not be told is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

const REPLACE: &str = "UPDATE outbox_relay SET place = $1, saved_at = $2 WHERE relay = $3 AND place = $4";

/// What was told of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// Whether it is lost.
    lost: bool,
    /// When it was heard before that, microseconds since 1970.
    heard_at: i64,
    /// Whether it stopped in order.
    #[serde(default)]
    stopped: bool,
}

type Row = BTreeMap<Text, Told>;

/// Tells what changes as soon as it does, until it is dropped.
pub(super) async fn run(store: Store, by: String, mut view: watch::Receiver<View>) {
    let clock = Clock::start();
    let mut failing = false;
    loop {
        let seen = view.borrow().clone();
        match look(&store, &by, &seen, clock.now().wall).await {
            Ok(true) => failing = false,
            Ok(false) => continue,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "losses of edges are not told; it is tried again");
                }
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
        }
        let change = tokio::time::timeout(LOOK_EVERY, view.wait_for(|now| now.differs(&seen)));
        if matches!(change.await, Ok(Err(_))) {
            // Nobody speaks any more.
            return;
        }
    }
}

/// Whether all is told that there is; not when somebody else told something meanwhile.
async fn look(store: &Store, by: &str, view: &View, now: Wall) -> Result<bool, Error> {
    if !view.hears {
        return Ok(true);
    }
    let before = match outbox::load_place(store, PLACE).await? {
        Some(before) => before,
        None => {
            let empty = "{}".to_owned();
            store.transaction(vec![outbox::save_place(PLACE, &empty, now)]).await?;
            empty
        }
    };
    let row: Row = serde_json::from_str(&before).unwrap_or_default();
    let mut edges = view.edges.clone();
    if view.settled {
        // Told of before, by a process that is no more, and not heard since.
        let unheard =
            row.iter().filter(|(name, told)| !told.lost && !told.stopped && !edges.contains_key(*name));
        let lost =
            |told: &Told| Seen { state: State::Lost, heard_at: Some(Wall(told.heard_at)), ..Seen::default() };
        let unheard: Vec<_> = unheard.map(|(name, told)| (name.clone(), lost(told))).collect();
        edges.extend(unheard);
    }
    let (after, events) = changes(&row, &edges, by, now);
    if after == row {
        return Ok(true);
    }
    let text = serde_json::to_string(&after).unwrap_or_else(|_| "{}".to_owned());
    let condition = vec![text.into(), now.into(), PLACE.into(), before.into()];
    let mut statements = vec![Statement::guard(REPLACE, condition, 1)];
    for (edge, event) in events {
        statements.extend(Draft::of(&event, &edge, "", now).append(now));
    }
    match store.transaction(statements).await {
        Err(error) if error.class() == Class::Fenced => Ok(false),
        other => other.map(|_| true),
    }
}

/// What is to be told of whom, and what has been told then. Pure.
fn changes(row: &Row, edges: &BTreeMap<Text, Seen>, by: &str, now: Wall) -> (Row, Vec<(Text, Event)>) {
    let (mut after, mut events) = (row.clone(), Vec::new());
    for (name, seen) in edges {
        let told = row.get(name);
        let heard_at = seen.heard_at.or(told.map(|told| Wall(told.heard_at))).unwrap_or(now);
        let calls = seen.beat.calls;
        match (seen.state, told.is_some_and(|told| told.lost)) {
            (State::Lost, false) => {
                let event = Event::from(EdgeLost {
                    edge: name.clone(),
                    last_heard_at: heard_at.into(),
                    detected_by: Text::new(by),
                    calls,
                });
                events.push((name.clone(), event));
                after.insert(name.clone(), Told { lost: true, stopped: false, heard_at: heard_at.0 });
            }
            (State::Alive, true) if seen.heard_at.is_some() => {
                let last_heard_at = told.map_or(heard_at, |told| Wall(told.heard_at));
                let event = Event::from(EdgeReturned {
                    edge: name.clone(),
                    last_heard_at: last_heard_at.into(),
                    detected_by: Text::new(by),
                    calls,
                });
                events.push((name.clone(), event));
                after.insert(name.clone(), Told { lost: false, stopped: false, heard_at: heard_at.0 });
            }
            // Lost and never heard since: nothing new.
            (State::Alive | State::Lost, true) => {}
            // It ended in order: there is nothing to return from.
            (State::Stopped, _) if told.is_some_and(|told| told.stopped) => {}
            (State::Alive, false) if told.is_some_and(|told| !told.stopped) => {}
            (state, _) => {
                let stopped = state == State::Stopped;
                after.insert(name.clone(), Told { lost: false, stopped, heard_at: heard_at.0 });
            }
        }
    }
    (after, events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_store::Config;

    fn view(state: State, heard_at: i64) -> View {
        let seen = Seen { state, heard_at: Some(Wall::from_secs(heard_at)), ..Seen::default() };
        View { edges: [(Text::new("edge-a"), seen)].into(), hears: true, settled: true, ..View::default() }
    }

    #[tokio::test]
    async fn given_an_edge_that_is_lost_and_back_when_two_look_then_each_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Config::parse("sqlite:outbox.db", None, dir.path()).unwrap()).await.unwrap();
        store.migrate().await.unwrap();
        let at = Wall::from_secs;
        let (first, second) = ("prod/edge-b", "prod/edge-c");
        for (nth, (state, heard)) in
            [(State::Alive, 10), (State::Lost, 10), (State::Lost, 10), (State::Alive, 30), (State::Alive, 31)]
                .into_iter()
                .enumerate()
        {
            let now = at(20 + nth as i64);
            look(&store, first, &view(state, heard), now).await.unwrap();
            look(&store, second, &view(state, heard), now).await.unwrap();
        }
        let told = outbox::read(&store, 1, 10).await.unwrap();
        let kinds: Vec<_> =
            told.iter().map(|row| (row.draft.kind.as_str(), row.draft.subject.as_str())).collect();
        assert_eq!(kinds, [("edge.lost.v1", "edge-a"), ("edge.returned.v1", "edge-a")]);
        let lost: EdgeLost = serde_json::from_str(&told[0].draft.data).unwrap();
        assert_eq!((Wall::from(lost.last_heard_at), &*lost.detected_by), (at(10), first));
        let returned: EdgeReturned = serde_json::from_str(&told[1].draft.data).unwrap();
        assert_eq!(Wall::from(returned.last_heard_at), at(10));
    }

    #[test]
    fn given_an_edge_that_stops_in_order_or_a_bus_that_is_away_then_nothing_is_told() {
        let row = Row::new();
        let (row, none) = changes(&row, &view(State::Alive, 1).edges, "x", Wall(0));
        assert!(none.is_empty() && row.len() == 1);
        let (row, none) = changes(&row, &view(State::Stopped, 2).edges, "x", Wall(0));
        assert!(none.is_empty());
        let (_, none) = changes(&row, &view(State::Alive, 3).edges, "x", Wall(0));
        assert!(none.is_empty(), "it was never lost");
    }
}
