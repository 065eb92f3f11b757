//! The listeners: every connection is bounded in number, time and header bytes before a request is looked at.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warren_broker::tls::ServerTls;

use crate::answer;
use crate::error::ApiError;
use crate::path::Resource;
use crate::{Management, api, prometheus};

/// A TLS handshake must be over within this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A request's head must be here within this, also on a connection that is kept open between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's head has at most this many bytes.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// The longest that a read may take: a listing that waits for an unreachable leader has its own, shorter limit.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection is closed after this time, so that one that never reads its answer does not keep its place.
const CONNECTION_MAX: Duration = Duration::from_secs(300);
/// How long open requests may take to end when the listener stops.
const DRAIN: Duration = Duration::from_secs(3);
/// After an accept failed for want of files.
const PAUSE: Duration = Duration::from_millis(100);

/// What a listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// `/api/...` and `/health/...`.
    Api,
    /// `/metrics` and `/health/...`.
    Metrics,
}

/// Serves until `stop` is cancelled, with TLS if `tls` is given: `most` connections at a time; more wait in the backlog.
/// Then it lets open requests end, for a few seconds at most.
pub async fn serve(
    management: Management,
    listener: TcpListener,
    kind: ListenerKind,
    most: usize,
    tls: Option<ServerTls>,
    stop: CancellationToken,
) {
    let shared = Arc::new(Shared { management, kind, tls, started: Instant::now() });
    let places = Arc::new(Semaphore::new(most));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let connection = run(Arc::clone(&shared), stream, peer, stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::debug!("HTTP connections were cut at the stop");
    }
}

/// Cancel safe: a place that was taken for a connection that did not come is given back.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, address.ip(), place))
}

struct Shared {
    management: Management,
    kind: ListenerKind,
    tls: Option<ServerTls>,
    started: Instant,
}

async fn run(shared: Arc<Shared>, stream: TcpStream, peer: IpAddr, stop: CancellationToken) {
    let Some(tls) = shared.tls.clone() else { return converse(shared, stream, peer, stop).await };
    let shaken = tokio::select! {
        shaken = tls.accept(stream, HANDSHAKE_TIMEOUT) => shaken,
        () = stop.cancelled() => return,
    };
    match shaken {
        Ok(stream) => converse(shared, stream, peer, stop).await,
        Err(error) => tracing::debug!(%peer, %error, "no TLS handshake with an HTTP client"),
    }
}

async fn converse<S>(shared: Arc<Shared>, stream: S, peer: IpAddr, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.answer(peer, request.map(Body::new)).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => finish(connection).await,
        () = tokio::time::sleep(CONNECTION_MAX) => finish(connection).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "an HTTP connection ended early");
    }
}

/// Lets the open request end, then closes.
async fn finish<I, S>(
    mut connection: std::pin::Pin<&mut http1::Connection<TokioIo<I>, S>>,
) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    connection.as_mut().graceful_shutdown();
    tokio::time::timeout(DRAIN, connection).await.unwrap_or(Ok(()))
}

impl Shared {
    async fn answer(&self, peer: IpAddr, request: Request<Body>) -> Response {
        if self.kind == ListenerKind::Api
            && matches!(*request.method(), Method::PUT | Method::POST | Method::DELETE)
        {
            return self.change(peer, request).await;
        }
        let answer = async {
            match self.kind {
                ListenerKind::Api => api::respond(&self.management, peer, self.started, request).await,
                ListenerKind::Metrics => self.metrics(peer, request).await,
            }
        };
        let too_slow = || answer::refusal(&ApiError::Unavailable("the answer took too long".to_owned()));
        tokio::time::timeout(READ_TIMEOUT, answer).await.unwrap_or_else(|_| too_slow())
    }

    /// A task of its own: a change must not stop half way because its asker hung up. The broker's deadlines end it.
    async fn change(&self, peer: IpAddr, request: Request<Body>) -> Response {
        let (management, started) = (self.management.clone(), self.started);
        let change = tokio::spawn(async move { api::respond(&management, peer, started, request).await });
        let failed =
            || answer::refusal(&ApiError::Unavailable("the request failed; the log says why".to_owned()));
        change.await.unwrap_or_else(|_| failed())
    }

    async fn metrics(&self, peer: IpAddr, request: Request<Body>) -> Response {
        match request.uri().path().trim_end_matches('/') {
            "/metrics" if !matches!(*request.method(), Method::GET | Method::HEAD) => {
                answer::refusal(&ApiError::MethodNotAllowed("HEAD, GET"))
            }
            "/metrics" => match self.management.admin() {
                Some(admin) => answer::text(
                    prometheus::CONTENT_TYPE,
                    prometheus::page(admin.as_ref(), self.started).await,
                ),
                None => answer::refusal(&ApiError::Unavailable("the node is starting".to_owned())),
            },
            path => match Resource::named(path) {
                Ok(Some(Resource::Live | Resource::Ready)) => {
                    api::respond(&self.management, peer, self.started, request).await
                }
                Ok(_) => answer::refusal(&ApiError::ObjectNotFound),
                Err(error) => answer::refusal(&error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fake;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Sends raw bytes to a listener of this kind and reads until it closes.
    async fn talk(kind: ListenerKind, bytes: &[u8]) -> String {
        let management = Management::new();
        management.attach(Arc::new(Fake::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(management, listener, kind, 9, None, stop.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let mut read = Vec::new();
        // A reset after bytes that were not read is as good as a close.
        let _closed = client.read_to_end(&mut read).await;
        stop.cancel();
        server.await.unwrap();
        String::from_utf8_lossy(&read).into_owned()
    }

    #[tokio::test]
    async fn both_listeners_answer_probes_and_only_one_the_api() {
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        for (kind, path, status) in [
            (ListenerKind::Api, "/health/live", "200"),
            (ListenerKind::Metrics, "/health/ready", "200"),
            (ListenerKind::Metrics, "/metrics", "200"),
            (ListenerKind::Metrics, "/api/overview", "404"),
            (ListenerKind::Metrics, "/nothing", "404"),
            (ListenerKind::Api, "/metrics", "404"),
            (ListenerKind::Api, "/api/overview", "401"),
        ] {
            let reply = talk(kind, get(path).as_bytes()).await;
            assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{kind:?} {path}: {reply}");
        }
    }

    #[tokio::test]
    async fn a_hostile_request_gets_a_status_and_the_connection_is_closed() {
        let header = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(2 * HEAD_MAX_BYTES));
        for (bytes, status) in [
            ("AMQP\0\0\x09\x01".to_owned() + &"\0".repeat(64) + "\r\n\r\n", "400"),
            ("\u{16}\u{3}\u{1}\u{2}\u{0}\r\n\r\n".to_owned(), "400"),
            (header, "431"),
            ("GET /api/queues/%00%ff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), "400"),
        ] {
            let reply = talk(ListenerKind::Api, bytes.as_bytes()).await;
            assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {reply}");
        }
    }

    #[tokio::test]
    async fn an_open_connection_does_not_delay_the_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server =
            tokio::spawn(serve(Management::new(), listener, ListenerKind::Api, 9, None, stop.clone()));
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut reply = [0; 12];
        idle.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"HTTP/1.1 200");
        stop.cancel();
        server.await.unwrap();
    }
}
