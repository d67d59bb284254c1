//! Connections that are few and are cut when they get nowhere: a reader that stopped reading, or a client that never ends
//! its request, must not hold its place for ever, nor take file descriptors that the journal needs.

use axum::serve::Listener;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// How long nothing may be taken while something waits to be.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long nothing may be written: streams of events carry a sign of life more often. What the client sends does not count,
/// or one byte at a time would hold a connection for ever.
const QUIET: Duration = Duration::from_secs(20);
/// The same until the first answer: whoever holds places with requests that never end makes others wait so long at most.
const FIRST: Duration = Duration::from_secs(5);
/// Connections at a time; more wait unaccepted.
const CONNECTIONS_MAX: usize = 128;

/// Accepts [`Patient`] connections, so many at a time.
pub(super) struct Door {
    listener: TcpListener,
    free: Arc<Semaphore>,
}

impl Door {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Listener for Door {
    type Io = Patient<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        // Never closed, so there is always one in the end.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Patient::new(stream, PATIENCE, QUIET, permit), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection whose writes fail once none got anywhere for some time, and whose reads fail once nothing was written for
/// some time.
pub(super) struct Patient<S> {
    stream: S,
    patience: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
    quiet: Duration,
    /// Runs since something was written.
    silence: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Patient<S> {
    fn new(stream: S, patience: Duration, quiet: Duration, place: Option<OwnedSemaphorePermit>) -> Self {
        let silence = Box::pin(sleep(quiet.min(FIRST)));
        Self { stream, patience, waiting: None, quiet, silence, _place: place }
    }

    fn judge<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            let until = Instant::now() + self.quiet;
            self.silence.as_mut().reset(until);
            return written;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.silence.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Pin::new(&mut self.stream).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn given_a_reader_that_stops_then_the_write_fails_and_one_that_goes_on_gets_all() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut patient = Patient::new(near, Duration::from_millis(1), LONG, None);
        patient.write_all(&[0; 16]).await.unwrap();
        let stuck = patient.write_all(&[0; 16]).await.unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);

        let (near, mut reader) = tokio::io::duplex(16);
        let mut patient = Patient::new(near, LONG, LONG, None);
        let written = tokio::spawn(async move { patient.write_all(&[7; 4096]).await });
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [7; 4096]);
        written.await.unwrap().unwrap();
        let mut first = [1; 16];
        far.read_exact(&mut first).await.unwrap();
        assert_eq!(first, [0; 16], "what was written before the cut was not lost");
    }

    #[tokio::test]
    async fn given_a_request_that_never_ends_when_it_drips_on_then_the_connection_is_cut() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut patient = Patient::new(near, LONG, Duration::from_millis(20), None);
        let dripping = tokio::spawn(async move {
            while far.write_all(b"G").await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
        let mut read = Vec::new();
        let cut = patient.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::TimedOut);
        drop(patient);
        dripping.await.unwrap();
    }

    #[tokio::test]
    async fn given_as_many_connections_as_may_be_when_one_ends_then_the_next_is_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut door = Door::new(listener);
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS_MAX {
            theirs.push(TcpStream::connect(address).await.unwrap());
            ours.push(door.accept().await.0);
        }
        theirs.push(TcpStream::connect(address).await.unwrap());
        assert_eq!(door.free.available_permits(), 0);
        assert!(futures_util::FutureExt::now_or_never(door.accept()).is_none(), "one too many");
        drop(ours.pop());
        door.accept().await;
    }
}
