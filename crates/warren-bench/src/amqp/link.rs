//! A connection while it is set up and ended: it waits for each answer. In between, `engine` takes its socket over.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use crate::amqp::wire::{self, Field, Frame, MethodId, Reader, Write as _, method, next_frame, put_method};
use crate::clock::{SECOND_NS, monotonic_ns};
use crate::dialect::Parts;
use crate::error::BenchError;
use crate::socket::{ANSWER_WITHIN_S, READ_WAITS, connect, is_retry};
use crate::uri::BrokerUri;

/// The only channel that most connections open.
pub(crate) const CHANNEL: u16 = 1;

/// What the bench can take; a broker may ask for less.
const FRAME_MAX: u32 = 131_072;

/// An open connection to a broker.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    address: String,
    /// What was read and not looked at.
    input: Vec<u8>,
    /// Frames that came while another one was waited for: deliveries between two consume-oks.
    passed_over: Vec<u8>,
    frame_max: usize,
}

impl Link {
    /// Connects, logs in and opens the virtual host. No heartbeats: the bench's own patience finds a dead broker.
    ///
    /// # Errors
    /// [`BenchError::Unreachable`], or what the broker said or did not say.
    pub(crate) fn open(uri: &BrokerUri) -> Result<Self, BenchError> {
        let address = uri.address();
        let stream = connect(uri)?;
        let mut link = Self { stream, address, input: Vec::new(), passed_over: Vec::new(), frame_max: 0 };
        link.send(&wire::PROTOCOL_HEADER)?;
        link.wait_for(method::CONNECTION_START, "the protocol header")?;
        let mut out = Vec::new();
        put_method(&mut out, 0, method::CONNECTION_START_OK, |out| {
            out.table(&client_properties());
            out.short("PLAIN");
            out.long(format!("\0{}\0{}", uri.user, uri.password).as_bytes());
            out.short("en_US");
        });
        let tune = link.call(&out, method::CONNECTION_TUNE, "the login")?;
        let mut tune = Reader(&tune);
        let (channel_max, frame_max) = (link.field(tune.u16())?, link.field(tune.u32())?);
        let frame_max = if frame_max == 0 { FRAME_MAX } else { frame_max.min(FRAME_MAX) };
        link.frame_max = frame_max as usize;
        out.clear();
        put_method(&mut out, 0, method::CONNECTION_TUNE_OK, |out| {
            out.u16(channel_max);
            out.u32(frame_max);
            out.u16(0);
        });
        put_method(&mut out, 0, method::CONNECTION_OPEN, |out| {
            out.short(&uri.vhost);
            out.short("");
            out.push(0);
        });
        link.call(&out, method::CONNECTION_OPEN_OK, "connection.open")?;
        Ok(link)
    }

    /// As [`Link::open`], with channel 1 open.
    pub(crate) fn open_with_channel(uri: &BrokerUri) -> Result<Self, BenchError> {
        let mut link = Self::open(uri)?;
        link.open_channel(CHANNEL)?;
        Ok(link)
    }

    /// Opens a channel.
    pub(crate) fn open_channel(&mut self, channel: u16) -> Result<(), BenchError> {
        let mut out = Vec::new();
        put_method(&mut out, channel, method::CHANNEL_OPEN, |out| out.short(""));
        self.call(&out, method::CHANNEL_OPEN_OK, "channel.open").map(|_arguments| ())
    }

    /// Closes a channel.
    pub(crate) fn close_channel(&mut self, channel: u16) -> Result<(), BenchError> {
        let mut out = Vec::new();
        put_method(&mut out, channel, method::CHANNEL_CLOSE, put_goodbye);
        self.call(&out, method::CHANNEL_CLOSE_OK, "channel.close").map(|_arguments| ())
    }

    /// Largest frame that either side may send, in bytes.
    pub(crate) fn frame_max(&self) -> usize {
        self.frame_max
    }

    /// Sends `out` and waits for the method `answer`, whose arguments come back. `question` is for messages.
    pub(crate) fn call(
        &mut self,
        out: &[u8],
        answer: MethodId,
        question: &'static str,
    ) -> Result<Vec<u8>, BenchError> {
        self.send(out)?;
        self.wait_for(answer, question)
    }

    /// Sends `out` without waiting for anything.
    pub(crate) fn send(&mut self, out: &[u8]) -> Result<(), BenchError> {
        self.stream.write_all(out).map_err(|source| self.broken("writing", source))
    }

    /// Waits for the next method `answer`. What else comes is kept for [`Link::into_parts`].
    pub(crate) fn wait_for(
        &mut self,
        answer: MethodId,
        question: &'static str,
    ) -> Result<Vec<u8>, BenchError> {
        let until_ns = monotonic_ns() + ANSWER_WITHIN_S * SECOND_NS;
        loop {
            while let Some((frame, used)) =
                next_frame(&self.input).map_err(|wrong| self.protocol(&wrong.to_string()))?
            {
                let found = match frame {
                    Frame::Method { id, arguments, .. } if id == answer => Some(arguments.0.to_vec()),
                    Frame::Method {
                        id: id @ (method::CONNECTION_CLOSE | method::CHANNEL_CLOSE),
                        arguments,
                        ..
                    } => {
                        return Err(refusal(&self.address, id, arguments));
                    }
                    Frame::Method { .. } | Frame::Header { .. } | Frame::Body { .. } => {
                        self.passed_over.extend(self.input.iter().take(used));
                        None
                    }
                    Frame::Heartbeat => None,
                };
                self.input.drain(..used);
                if let Some(arguments) = found {
                    return Ok(arguments);
                }
            }
            if monotonic_ns() > until_ns {
                return Err(BenchError::Silent {
                    address: self.address.clone(),
                    question,
                    waited_s: ANSWER_WITHIN_S,
                });
            }
            self.fill(question)?;
        }
    }

    /// Says goodbye and waits for the answer, dropping all else that still comes.
    pub(crate) fn close(mut self) -> Result<(), BenchError> {
        let mut out = Vec::new();
        put_method(&mut out, 0, method::CONNECTION_CLOSE, put_goodbye);
        self.call(&out, method::CONNECTION_CLOSE_OK, "connection.close").map(|_arguments| ())
    }

    /// Gives the socket away.
    pub(crate) fn into_parts(mut self) -> Parts {
        self.passed_over.append(&mut self.input);
        Parts { stream: self.stream, address: self.address, input: self.passed_over }
    }

    /// Takes a socket back, to end the connection. `input` is what was read of it and not understood yet.
    pub(crate) fn from_parts(parts: Parts) -> Result<Self, BenchError> {
        let Parts { stream, address, input } = parts;
        let prepare = || {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(READ_WAITS))
        };
        match prepare() {
            Ok(()) => Ok(Self { stream, address, input, passed_over: Vec::new(), frame_max: 0 }),
            Err(source) => Err(BenchError::Broken { address, doing: "ending it", source }),
        }
    }

    /// Reads once, waiting a little.
    fn fill(&mut self, question: &'static str) -> Result<(), BenchError> {
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk) {
            Ok(0) => {
                let source = std::io::Error::new(ErrorKind::UnexpectedEof, "the broker closed it");
                Err(self.broken(question, source))
            }
            Ok(count) => {
                self.input.extend(chunk.iter().take(count));
                Ok(())
            }
            Err(error) if is_retry(error.kind()) => Ok(()),
            Err(source) => Err(self.broken(question, source)),
        }
    }

    fn field<T>(&self, read: Result<T, wire::WireError>) -> Result<T, BenchError> {
        read.map_err(|wrong| self.protocol(&wrong.to_string()))
    }

    fn broken(&self, doing: &'static str, source: std::io::Error) -> BenchError {
        BenchError::Broken { address: self.address.clone(), doing, source }
    }

    fn protocol(&self, what: &str) -> BenchError {
        BenchError::Protocol { address: self.address.clone(), what: what.to_owned() }
    }
}

/// What a close method said.
pub(crate) fn refusal(address: &str, id: MethodId, mut arguments: Reader<'_>) -> BenchError {
    let code = arguments.u16().unwrap_or_default();
    let text = arguments.short().map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
    let scope = if id == method::CONNECTION_CLOSE { "connection" } else { "channel" };
    BenchError::Refused { address: address.to_owned(), scope, code, text }
}

fn put_goodbye(out: &mut Vec<u8>) {
    out.u16(200);
    out.short("done");
    out.u16(0);
    out.u16(0);
}

fn client_properties() -> Vec<(String, Field)> {
    let capabilities = [
        "publisher_confirms",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
    ];
    let capabilities = capabilities.map(|name| (name.to_owned(), Field::Bool(true)));
    vec![
        ("product".to_owned(), Field::Text("warren bench".to_owned())),
        ("version".to_owned(), Field::Text(env!("CARGO_PKG_VERSION").to_owned())),
        ("capabilities".to_owned(), Field::Table(capabilities.into())),
    ]
}
