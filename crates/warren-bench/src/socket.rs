//! Sockets while a connection is set up and ended: blocking, each read only for a little while.

use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::error::BenchError;
use crate::uri::BrokerUri;

/// How long any single answer may take, in seconds. A declaration that waits for an election is among them.
pub(crate) const ANSWER_WITHIN_S: u64 = 60;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long one read waits before deadlines are looked at again.
pub(crate) const READ_WAITS: Duration = Duration::from_millis(200);

/// Connects, to the first address of the host that answers.
///
/// # Errors
/// [`BenchError::Unreachable`].
pub(crate) fn connect(uri: &BrokerUri) -> Result<TcpStream, BenchError> {
    connect_any(uri).map_err(|source| BenchError::Unreachable { address: uri.address(), source })
}

fn connect_any(uri: &BrokerUri) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in (uri.host.as_str(), uri.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(READ_WAITS))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether an operation that failed like this is simply tried again.
pub(crate) fn is_retry(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
