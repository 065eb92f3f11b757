//! One connection under load: a non-blocking socket, what came of it, what goes into it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use super::consumer::Consumer;
use super::error::BenchError;
use super::link::{Link, Parts, refusal};
use super::measure::Measure;
use super::producer::{Filled, Producer};
use super::wire::{Frame, MethodId, Reader, method, next_frame, put_method};

/// Which half of the load a connection carries.
#[derive(Debug)]
pub(super) enum Role {
    /// It publishes.
    Producer(Box<Producer>),
    /// It consumes.
    Consumer(Consumer),
}

/// One connection under load.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    address: String,
    pub(super) role: Role,
    /// The start of a frame whose rest has not come.
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of `output` the socket has taken.
    written: usize,
    /// The socket takes no more for now.
    stuck: bool,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Bytes or time.
    Idle,
    /// Room in the socket.
    Stuck,
    /// Nothing: it has more to send.
    Eager,
}

impl Connection {
    /// Takes a connection that was set up over.
    pub(super) fn new(link: Link, role: Role) -> Result<Self, BenchError> {
        let Parts { stream, address, input } = link.into_parts();
        match stream.set_nonblocking(true) {
            Ok(()) => Ok(Self { stream, address, role, input, output: Vec::new(), written: 0, stuck: false }),
            Err(source) => Err(BenchError::Broken { address, doing: "handing it over", source }),
        }
    }

    /// The socket, to wait for it.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Handles what came while the connection was set up.
    pub(super) fn start(&mut self, now_ns: u64, measure: &mut Measure) -> Result<(), BenchError> {
        let input = std::mem::take(&mut self.input);
        self.absorb(&input, now_ns, measure)
    }

    /// Reads once into `scratch`, which is shared by all connections, and handles the frames. `clock` is asked when the
    /// bytes are there.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        clock: impl FnOnce() -> u64,
        measure: &mut Measure,
    ) -> Result<(), BenchError> {
        let held = self.input.len();
        let Some((start, rest)) = scratch.split_at_mut_checked(held) else {
            return Err(self.protocol("a frame larger than was agreed"));
        };
        start.copy_from_slice(&self.input);
        let count = match self.stream.read(rest) {
            Ok(0) => return Err(self.broken("waiting", ErrorKind::UnexpectedEof.into())),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(self.broken("reading", error)),
        };
        self.input.clear();
        let bytes = scratch.get(..held + count).unwrap_or_default();
        self.absorb(bytes, clock(), measure)
    }

    fn absorb(&mut self, mut bytes: &[u8], now_ns: u64, measure: &mut Measure) -> Result<(), BenchError> {
        while let Some((frame, used)) =
            next_frame(bytes).map_err(|wrong| self.protocol(&wrong.to_string()))?
        {
            self.on_frame(frame, now_ns, measure)?;
            bytes = bytes.get(used..).unwrap_or_default();
        }
        self.input.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn on_frame(&mut self, frame: Frame<'_>, now_ns: u64, measure: &mut Measure) -> Result<(), BenchError> {
        let out = &mut self.output;
        let handled = match (frame, &mut self.role) {
            (Frame::Method { id, arguments, channel: 0 }, _) => {
                return self.on_connection_method(id, arguments, measure);
            }
            (Frame::Method { id: method::CHANNEL_CLOSE, arguments, .. }, _) => {
                return Err(refusal(&self.address, method::CHANNEL_CLOSE, arguments));
            }
            (Frame::Method { id, arguments, .. }, Role::Producer(producer)) => {
                producer.on_method(id, arguments, now_ns, out, measure)
            }
            (Frame::Method { id, arguments, .. }, Role::Consumer(consumer)) => {
                consumer.on_method(id, arguments)
            }
            (Frame::Header { body_bytes, .. }, Role::Producer(producer)) => {
                producer.on_header(body_bytes, measure)
            }
            (Frame::Header { body_bytes, .. }, Role::Consumer(consumer)) => {
                consumer.on_header(body_bytes, now_ns, out, measure)
            }
            (Frame::Body { payload, .. }, Role::Producer(producer)) => producer.on_body(payload, measure),
            (Frame::Body { payload, .. }, Role::Consumer(consumer)) => {
                consumer.on_body(payload, now_ns, out, measure)
            }
            (Frame::Heartbeat, _) => Ok(()),
        };
        handled.map_err(|what| self.protocol(&what))
    }

    fn on_connection_method(
        &mut self,
        id: MethodId,
        arguments: Reader<'_>,
        measure: &mut Measure,
    ) -> Result<(), BenchError> {
        match (id, &mut self.role) {
            (method::CONNECTION_CLOSE, _) => {
                // The broker need not wait for our answer: this process reports and ends.
                put_method(&mut self.output, 0, method::CONNECTION_CLOSE_OK, |_out| ());
                Err(refusal(&self.address, id, arguments))
            }
            (method::CONNECTION_BLOCKED, Role::Producer(producer)) => {
                measure.blocked += 1;
                producer.pause(true);
                Ok(())
            }
            (method::CONNECTION_UNBLOCKED, Role::Producer(producer)) => {
                producer.pause(false);
                Ok(())
            }
            (method::CONNECTION_BLOCKED | method::CONNECTION_UNBLOCKED, Role::Consumer(_)) => Ok(()),
            (other, _) => Err(self.protocol(&format!("method {}.{} on channel 0", other.0, other.1))),
        }
    }

    /// Sends what waits, and when all of that is out, what the producer has next.
    pub(super) fn work(&mut self, now_ns: u64, measure: &mut Measure) -> Result<After, BenchError> {
        self.flush()?;
        if self.stuck {
            return Ok(After::Stuck);
        }
        let filled = match &mut self.role {
            Role::Producer(producer) => producer.fill(now_ns, &mut self.output, measure),
            Role::Consumer(_) => return Ok(After::Idle),
        };
        self.flush()?;
        Ok(match (self.stuck, filled) {
            (true, _) => After::Stuck,
            (false, Filled::Chunk) => After::Eager,
            (false, Filled::All) => After::Idle,
        })
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stuck = true;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken("writing", error)),
            }
        }
        self.output.clear();
        self.written = 0;
        self.stuck = false;
        Ok(())
    }

    /// Whether the socket has taken all that was to be sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// Appends the acknowledgements that wait for more deliveries to join them.
    pub(super) fn acknowledge_rest(&mut self) {
        match &mut self.role {
            Role::Producer(_) => {}
            Role::Consumer(consumer) => consumer.acknowledge(&mut self.output),
        }
    }

    /// Sends the rest and ends the connection in good order.
    pub(super) fn end(mut self) -> Result<(), BenchError> {
        self.acknowledge_rest();
        let rest = self.output.split_off(self.written);
        let mut link =
            Link::from_parts(Parts { stream: self.stream, address: self.address, input: self.input })?;
        link.send(&rest)?;
        link.close()
    }

    fn broken(&self, doing: &'static str, source: std::io::Error) -> BenchError {
        BenchError::Broken { address: self.address.clone(), doing, source }
    }

    fn protocol(&self, what: &str) -> BenchError {
        BenchError::Protocol { address: self.address.clone(), what: what.to_owned() }
    }
}
