//! What connections brought: the batches of the stream thread, a turn for each piece.

use super::{Core, OUTBOX_BYTES_MAX};
use crate::wire::{cause, flow_end};
use signalbox_engine::{Input, Ticket};
use signalbox_io::Arrival;

impl Core {
    /// Whether connections have brought something.
    pub(super) fn has_arrivals(&self) -> bool {
        self.parts.wires.streams.as_ref().is_some_and(signalbox_io::Streams::has_arrivals)
    }

    /// Takes it, learns what became durable before it was sent, and handles it.
    pub(super) fn receive_from_streams(&mut self) {
        let Some(streams) = &self.parts.wires.streams else { return };
        if !streams.has_arrivals() || self.batch.outbox.arena.len() > OUTBOX_BYTES_MAX {
            return;
        }
        let mut arrivals = std::mem::take(&mut self.arrivals);
        streams.take(&mut arrivals);
        self.learn_durable();
        for arrival in arrivals.iter() {
            match arrival {
                Arrival::Message { flow, bytes } => {
                    self.turn(Input::Packet { flow, bytes });
                }
                Arrival::Unframed { flow, bytes, fault } => {
                    self.turn(Input::Unframed { flow, bytes, fault });
                }
                Arrival::Shown { flow, names } => {
                    self.turn(Input::Shown { flow, names });
                }
                Arrival::TlsFailed { flow, reason } => {
                    self.turn(Input::TlsFailed { flow, reason });
                }
                Arrival::Closed { flow, end } => {
                    self.turn(Input::FlowClosed { flow, cause: flow_end(end) });
                }
                Arrival::Unsent { flow, ticket, why } => {
                    let ticket = ticket.map(Ticket);
                    self.turn(Input::Unsent { ticket, remote: flow.remote, cause: cause(why) });
                }
            }
        }
        arrivals.clear();
        self.arrivals = arrivals;
        self.flush();
    }
}
