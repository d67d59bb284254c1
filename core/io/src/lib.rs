//! Input and output for the edge: UDP in batches, connections on a thread of their own, waiting, waking, the clocks and
//! randomness.
//!
//! Everything here is a thin, safe layer over one system call each, without an async runtime: the engine thread and the
//! journal thread drive it directly. Nothing of UDP allocates after it was built, and nothing decides: what a failure means
//! is the caller's to say.

pub mod clock;
pub mod entropy;
mod error;
pub mod poll;
pub mod stream;
pub mod tls;
pub mod udp;
pub mod wake;

pub use clock::{Clock, Step};
pub use entropy::OsEntropy;
pub use error::{BindError, Fault, Place};
pub use poll::{Poller, Ready};
pub use stream::{
    Arrival, Arrivals, StreamDriver, StreamEnd, StreamFigures, StreamLimits, StreamListener, StreamOutgoing,
    Streams,
};
pub use tls::{CertificateFiles, CertificateInfo, ClientAuth, Tls, TlsError, TlsFiles};
pub use udp::{Datagram, Outgoing, Receiver, SendFailure, Sender, UdpSocket, Unreachable};
pub use wake::Waker;
