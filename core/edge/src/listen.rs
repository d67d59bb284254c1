//! The listeners: UDP sockets for the edge's own threads, the others for the stream thread.

use crate::commit::Progress;
use crate::config::StreamConfig;
use crate::error::{Fatal, StartError};
use crate::turn::Mailbox;
use crate::wire::Wires;
use signalbox_base::{ListenerId, Transport};
use signalbox_engine::Settings;
use signalbox_io::{Clock, StreamDriver, StreamListener, UdpSocket, Waker};
use std::net::SocketAddr;

/// What was opened.
pub(crate) struct Opened {
    pub(crate) wires: Wires,
    /// The stream thread's work, where a listener serves connections.
    pub(crate) driver: Option<StreamDriver>,
    /// Bound addresses, in the settings' order.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Opens all listeners.
///
/// # Errors
/// The first that cannot be opened; none is left open then.
pub(crate) fn open(
    settings: &Settings,
    config: &StreamConfig,
    clock: &Clock,
    taker: &Waker,
) -> Result<Opened, StartError> {
    let numbered = || settings.listeners.iter().zip(0..).map(|(about, at)| (ListenerId(at), about));
    let over_streams: Vec<StreamListener> = numbered()
        .filter(|(_, about)| about.transport != Transport::Udp)
        .map(|(id, about)| StreamListener {
            id,
            transport: about.transport,
            address: about.address,
            origins: config.origins.get(usize::from(id.0)).cloned().unwrap_or_default().into(),
        })
        .collect();
    let (driver, streams) = if over_streams.is_empty() {
        (None, None)
    } else {
        let (driver, streams) =
            StreamDriver::bind(&over_streams, config.limits, clock.clone(), taker.clone())?;
        (Some(driver), Some(streams))
    };
    let mut of_streams = driver.as_ref().map(StreamDriver::addresses).unwrap_or_default().into_iter();
    let mut wires = Wires::new(streams);
    let mut addresses = Vec::new();
    for (_, about) in numbered() {
        let socket = match about.transport {
            Transport::Udp => Some(UdpSocket::bind(about.address)?),
            _ => None,
        };
        let bound = match &socket {
            Some(socket) => Some(socket.local_addr()),
            None => of_streams.next(),
        };
        addresses.push(bound.unwrap_or(about.address));
        wires.push(socket);
    }
    Ok(Opened { wires, driver, addresses })
}

/// The stream thread. Its end before it was told to ends the edge.
///
/// # Errors
/// [`Fatal`] when the process must stop.
pub(crate) fn run(driver: StreamDriver, progress: &Progress, mailbox: &Mailbox) -> Result<(), Fatal> {
    let end = TellEnd { progress, mailbox };
    driver.run().map_err(Fatal::System)?;
    std::mem::forget(end);
    Ok(())
}

/// Dropped on every way out but the orderly one, a panic's included: the engine thread then stops too.
struct TellEnd<'a> {
    progress: &'a Progress,
    mailbox: &'a Mailbox,
}

impl Drop for TellEnd<'_> {
    fn drop(&mut self) {
        self.progress.fail();
        self.mailbox.wake();
    }
}
