//! One end of a connection, as a program has it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{End, Parcel, State, WINDOW_BYTES};

pub(super) struct Endpoint {
    state: Arc<Mutex<State>>,
    connection: u64,
    side: usize,
    shut: bool,
}

impl Endpoint {
    pub(super) fn new(state: Arc<Mutex<State>>, connection: u64, side: usize) -> Self {
        Self { state, connection, side, shut: false }
    }

    fn send(&self, parcel: Parcel) {
        let mut state = self.state.lock();
        let State { machines, connections, chance, slow, trace, .. } = &mut *state;
        let Some(connection) = connections.get_mut(&self.connection) else { return };
        let host = connection.hosts.get(self.side).copied().unwrap_or_default();
        let life = connection.lives.get(self.side).copied().unwrap_or_default();
        // What a dead process does while it is cleared away has no effect.
        if machines.get(&host).is_some_and(|machine| machine.life == life && machine.has_process) {
            connection.send(self.side, parcel, trace.now_ms(), chance, slow);
        }
    }
}

impl AsyncRead for Endpoint {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut woken: Option<Waker> = None;
        let read = {
            let mut state = self.state.lock();
            let connection = state.connections.get_mut(&self.connection);
            let Some(pipe) = connection.and_then(|connection| connection.pipes.get_mut(self.side)) else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            };
            if pipe.end == Some(End::Reset) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            match pipe.arrived.front_mut() {
                Some(octets) => {
                    let count = octets.len().min(buf.remaining());
                    buf.put_slice(octets.get(..count).unwrap_or_default());
                    octets.drain(..count);
                    if octets.is_empty() {
                        pipe.arrived.pop_front();
                    }
                    pipe.bytes = pipe.bytes.saturating_sub(count);
                    woken = pipe.writer.take();
                    Poll::Ready(Ok(()))
                }
                None if pipe.end.is_some() => Poll::Ready(Ok(())),
                None => {
                    pipe.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        };
        if let Some(waker) = woken {
            waker.wake();
        }
        read
    }
}

impl AsyncWrite for Endpoint {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let octets: Vec<u8> = bufs.iter().flat_map(|part| part.iter().copied()).collect();
        let count = octets.len();
        {
            let mut state = self.state.lock();
            let Some(connection) = state.connections.get_mut(&self.connection) else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            let end = connection.pipes.get(self.side).and_then(|own| own.end);
            let Some(pipe) = connection.pipes.get_mut(1 - self.side) else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            if self.shut || end == Some(End::Reset) {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if pipe.bytes >= WINDOW_BYTES {
                // The other side's reading wakes it.
                pipe.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            pipe.bytes += count;
        }
        if count > 0 {
            self.send(Parcel::Octets(octets));
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            self.shut = true;
            self.send(Parcel::End(End::Closed));
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if !self.shut {
            self.send(Parcel::End(End::Closed));
        }
        let mut state = self.state.lock();
        if let Some(connection) = state.connections.get_mut(&self.connection)
            && let Some(closed) = connection.closed.get_mut(self.side)
        {
            *closed = true;
        }
    }
}
