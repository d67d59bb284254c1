//! Asking a running edge, from another process.

use super::protocol::{Answer, Request};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No edge listens there.
    #[error("no edge is running here ({} does not answer)", .0.display())]
    NotRunning(PathBuf),
    /// The socket belongs to another user.
    #[error("no right to open {}; run it as the user that runs Signalbox, or as root", .0.display())]
    Forbidden(PathBuf),
    /// The edge refused; why and what to do.
    #[error("{0}")]
    Refused(String),
    /// The connection broke.
    #[error("the edge went away: {0}")]
    Broken(#[source] io::Error),
}

/// Asks the edge whose socket is `path`, and waits for the answer.
///
/// # Errors
/// [`AskError`].
pub fn ask(path: &Path, request: &Request) -> Result<Value, AskError> {
    let mut stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::Forbidden(path.to_owned()),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NotRunning(path.to_owned()),
        _ => AskError::Broken(error),
    })?;
    let mut line = serde_json::to_vec(request).map_err(|error| AskError::Broken(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(AskError::Broken)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(AskError::Broken)?;
    match serde_json::from_str(&answer).map_err(|error| AskError::Broken(error.into()))? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(why) => Err(AskError::Refused(why)),
    }
}
