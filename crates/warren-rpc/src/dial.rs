//! Opens connections to peers: over what `tls` gives, HTTP/2.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::generated::member_client::MemberClient;
use crate::tls::{self, OpenError, Security};
use crate::{HelloError, MAX_MESSAGE_BYTES};

/// How long a connection may take with all that belongs to it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
/// One stream may have this much on the way before its reader must take some.
pub(crate) const STREAM_WINDOW: u32 = 8 * 1024 * 1024;
/// All streams of a connection together: so much that a stream whose reader stalls does not stop the others.
pub(crate) const CONNECTION_WINDOW: u32 = 512 * 1024 * 1024;
/// Larger frames cost less for bodies; on the urgent connection there are none.
pub(crate) const MAX_FRAME: u32 = 256 * 1024;
/// A connection over which nothing comes back for interval + timeout is closed, and with it all its streams.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) type Client = MemberClient<Channel>;

/// A client over that connection.
pub(crate) fn client(channel: Channel) -> Client {
    MemberClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// Connects to `HOST:PORT`.
pub(crate) async fn dial(address: &str, security: &Security) -> Result<Channel, HelloError> {
    let unreachable = |reason: String| HelloError::Unreachable { address: address.to_owned(), reason };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| unreachable(error.to_string()))?
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    // Called again when the connection breaks: with the proof that holds then.
    let (to, security): (Arc<str>, Security) = (Arc::from(address), security.clone());
    let connector = service_fn(move |_| {
        let (to, security) = (Arc::clone(&to), security.clone());
        async move { tls::open(&to, &security).await.map(TokioIo::new) }
    });
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(connector)).await;
    match connecting {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => match tls::cause::<OpenError>(&error) {
            Some(OpenError::Io(io)) if io.kind() == io::ErrorKind::ConnectionRefused => {
                Err(HelloError::ConnectionRefused { address: address.to_owned() })
            }
            Some(OpenError::Unproven(reason)) => {
                Err(HelloError::Unproven { address: address.to_owned(), reason: reason.clone() })
            }
            Some(error @ (OpenError::Io(_) | OpenError::TooSlow)) => Err(unreachable(error.to_string())),
            None => Err(unreachable(describe(&error))),
        },
        Err(_) => Err(unreachable("no connection in time".to_owned())),
    }
}

/// The error and its causes in one line.
pub(crate) fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
