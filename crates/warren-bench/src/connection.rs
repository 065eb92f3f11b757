//! One connection under load: a non-blocking socket, what came of it, what goes into it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use crate::dialect::{Dialect, Parts, Role};
use crate::error::BenchError;
use crate::measure::Measure;
use crate::producer::Filled;

/// One connection under load.
#[derive(Debug)]
pub(crate) struct Connection<R> {
    stream: TcpStream,
    address: String,
    pub(crate) role: R,
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
pub(crate) enum After {
    /// Bytes or time.
    Idle,
    /// Room in the socket.
    Stuck,
    /// Nothing: it has more to send.
    Eager,
}

impl<R: Role> Connection<R> {
    /// Takes a connection that was set up over.
    pub(crate) fn new(parts: Parts, role: R) -> Result<Self, BenchError> {
        let Parts { stream, address, input } = parts;
        match stream.set_nonblocking(true) {
            Ok(()) => Ok(Self { stream, address, role, input, output: Vec::new(), written: 0, stuck: false }),
            Err(source) => Err(BenchError::Broken { address, doing: "handing it over", source }),
        }
    }

    /// The socket, to wait for it.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Handles what came while the connection was set up.
    pub(crate) fn start(&mut self, now_ns: u64, measure: &mut Measure) -> Result<(), BenchError> {
        let input = std::mem::take(&mut self.input);
        self.absorb(&input, now_ns, measure)
    }

    /// Reads once into `scratch`, which is shared by all connections, and handles what came. `clock` is asked when the
    /// bytes are there.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        clock: impl FnOnce() -> u64,
        measure: &mut Measure,
    ) -> Result<(), BenchError> {
        let held = self.input.len();
        let Some((start, rest)) = scratch.split_at_mut_checked(held).filter(|(_, rest)| !rest.is_empty())
        else {
            return Err(BenchError::protocol(&self.address, "a frame larger than was agreed"));
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

    fn absorb(&mut self, bytes: &[u8], now_ns: u64, measure: &mut Measure) -> Result<(), BenchError> {
        let used = self.role.absorb(bytes, &self.address, now_ns, &mut self.output, measure)?;
        self.input.extend_from_slice(bytes.get(used..).unwrap_or_default());
        Ok(())
    }

    /// Sends what waits, and when all of that is out, what the producer has next.
    pub(crate) fn work(&mut self, now_ns: u64, measure: &mut Measure) -> Result<After, BenchError> {
        self.flush()?;
        if self.stuck {
            return Ok(After::Stuck);
        }
        let filled = match self.role.producer_mut() {
            Some(producer) => producer.fill(now_ns, &mut self.output, measure),
            None => return Ok(After::Idle),
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
    pub(crate) fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// Appends the acknowledgements that wait for more deliveries to join them.
    pub(crate) fn acknowledge_rest(&mut self) {
        self.role.acknowledge_rest(&mut self.output);
    }

    /// Sends the rest and ends the connection in good order.
    pub(crate) fn end<D: Dialect<Role = R>>(mut self) -> Result<(), BenchError> {
        self.acknowledge_rest();
        let rest = self.output.split_off(self.written);
        D::end(Parts { stream: self.stream, address: self.address, input: self.input }, &rest)
    }

    fn broken(&self, doing: &'static str, source: std::io::Error) -> BenchError {
        BenchError::Broken { address: self.address.clone(), doing, source }
    }
}
