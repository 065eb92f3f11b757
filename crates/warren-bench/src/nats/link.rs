//! A connection while it is set up and ended: it waits for each answer. In between, `engine` takes its socket over.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use serde::Deserialize;

use crate::clock::{SECOND_NS, monotonic_ns};
use crate::dialect::Parts;
use crate::error::BenchError;
use crate::nats::wire::{Incoming, Said, next_said, put_connect, put_publish, put_subscribe};
use crate::socket::{ANSWER_WITHIN_S, READ_WAITS, connect, is_retry};
use crate::uri::BrokerUri;

/// An open connection to a server.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    address: String,
    /// What was read and not looked at.
    input: Vec<u8>,
    /// Messages that came while something else was waited for: deliveries right after a subscription.
    passed_over: Vec<u8>,
    info: Info,
    /// Where answers to requests go, once the first was asked.
    answers: Option<String>,
    asked: u64,
}

/// What a server says about itself, as far as it is of interest.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Info {
    /// By which the cluster knows it.
    pub(crate) server_name: String,
    /// Bytes of the largest payload that it takes.
    pub(crate) max_payload: usize,
    /// Whether it keeps streams.
    pub(crate) jetstream: bool,
    server_id: String,
    client_id: u64,
}

/// The subscription for answers. Others count from [`FIRST_SID`].
const ANSWERS_SID: u32 = 1;
/// The number of a connection's first subscription that is not for answers.
pub(crate) const FIRST_SID: u32 = 2;

/// Seconds after which an answer to a request is given up: what NATS's own clients wait for JetStream.
const REPLY_WITHIN_S: u64 = 5;

impl Link {
    /// Connects, without a login.
    ///
    /// # Errors
    /// [`BenchError::Unreachable`], or what the server said or did not say.
    pub(crate) fn open(uri: &BrokerUri) -> Result<Self, BenchError> {
        let (stream, address) = (connect(uri)?, uri.address());
        let mut link = Self {
            stream,
            address,
            input: Vec::new(),
            passed_over: Vec::new(),
            info: Info::default(),
            answers: None,
            asked: 0,
        };
        let info = link.wait_for("the connection", |said| match said {
            Said::Info(json) => Some(serde_json::from_slice(json)),
            Said::Message(_) | Said::Ping | Said::Pong | Said::Ok | Said::Refusal(_) => None,
        })?;
        link.info = info.map_err(|error| BenchError::protocol(&link.address, &error.to_string()))?;
        let mut out = Vec::new();
        put_connect(&mut out);
        link.send(&out)?;
        link.settle()?;
        Ok(link)
    }

    /// What the server said about itself.
    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    /// `host:port`, for messages.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A subject that no other connection uses.
    pub(crate) fn own_subject(&self, purpose: &str) -> String {
        format!("_INBOX.{}{}.{purpose}", self.info.server_id, self.info.client_id)
    }

    /// Sends `out` without waiting for anything.
    pub(crate) fn send(&mut self, out: &[u8]) -> Result<(), BenchError> {
        self.stream.write_all(out).map_err(|source| self.broken("writing", source))
    }

    /// Waits until the server has handled everything that was sent.
    pub(crate) fn settle(&mut self) -> Result<(), BenchError> {
        self.send(b"PING\r\n")?;
        self.wait_for("PING", |said| match said {
            Said::Pong => Some(()),
            Said::Info(_) | Said::Message(_) | Said::Ping | Said::Ok | Said::Refusal(_) => None,
        })
    }

    /// Subscribes and waits until the server has taken note.
    pub(crate) fn subscribe(
        &mut self,
        subject: &str,
        group: Option<&str>,
        sid: u32,
    ) -> Result<(), BenchError> {
        let mut out = Vec::new();
        put_subscribe(&mut out, subject, group, sid);
        self.send(&out)?;
        self.settle()
    }

    /// Publishes `payload` to `subject` and waits for the answer. None: nobody listens there now, or none came in time; a
    /// cluster that has just started swallows requests.
    pub(crate) fn request(
        &mut self,
        subject: &str,
        payload: &[u8],
        question: &'static str,
    ) -> Result<Option<Vec<u8>>, BenchError> {
        let answers = match &self.answers {
            Some(answers) => answers.clone(),
            None => {
                let answers = self.own_subject("answer");
                self.subscribe(&format!("{answers}.*"), None, ANSWERS_SID)?;
                self.answers = Some(answers.clone());
                answers
            }
        };
        self.asked += 1;
        let reply = format!("{answers}.{}", self.asked);
        let mut out = Vec::new();
        put_publish(&mut out, subject, &reply, payload);
        self.send(&out)?;
        let answer = self.wait_for_within(REPLY_WITHIN_S, question, |said| match said {
            Said::Message(Incoming { subject, headers, payload, .. }) if *subject == reply.as_bytes() => {
                Some(headers.is_empty().then(|| payload.to_vec()))
            }
            Said::Message(_) | Said::Info(_) | Said::Ping | Said::Pong | Said::Ok | Said::Refusal(_) => None,
        });
        match answer {
            Err(BenchError::Silent { .. }) => Ok(None),
            other => other,
        }
    }

    /// Reads until `wanted` finds something. Messages that it does not want are kept for [`Link::into_parts`].
    fn wait_for<T>(
        &mut self,
        question: &'static str,
        wanted: impl FnMut(&Said<'_>) -> Option<T>,
    ) -> Result<T, BenchError> {
        self.wait_for_within(ANSWER_WITHIN_S, question, wanted)
    }

    fn wait_for_within<T>(
        &mut self,
        waited_s: u64,
        question: &'static str,
        mut wanted: impl FnMut(&Said<'_>) -> Option<T>,
    ) -> Result<T, BenchError> {
        let until_ns = monotonic_ns() + waited_s * SECOND_NS;
        loop {
            while let Some((said, used)) = next_said(&self.input)
                .map_err(|wrong| BenchError::protocol(&self.address, &wrong.to_string()))?
            {
                let found = wanted(&said);
                let is_ping = match said {
                    Said::Refusal(what) => return Err(refusal(&self.address, what)),
                    Said::Message(_) if found.is_none() => {
                        self.passed_over.extend(self.input.iter().take(used));
                        false
                    }
                    Said::Ping => true,
                    Said::Message(_) | Said::Info(_) | Said::Pong | Said::Ok => false,
                };
                self.input.drain(..used);
                if is_ping {
                    self.send(b"PONG\r\n")?;
                }
                if let Some(found) = found {
                    return Ok(found);
                }
            }
            if monotonic_ns() > until_ns {
                return Err(BenchError::Silent { address: self.address.clone(), question, waited_s });
            }
            self.fill(question)?;
        }
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
            Ok(()) => Ok(Self {
                stream,
                address,
                input,
                passed_over: Vec::new(),
                info: Info::default(),
                answers: None,
                asked: 0,
            }),
            Err(source) => Err(BenchError::Broken { address, doing: "ending it", source }),
        }
    }

    /// Reads once, waiting a little.
    fn fill(&mut self, question: &'static str) -> Result<(), BenchError> {
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk) {
            Ok(0) => {
                let source = std::io::Error::new(ErrorKind::UnexpectedEof, "the server closed it");
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

    fn broken(&self, doing: &'static str, source: std::io::Error) -> BenchError {
        BenchError::Broken { address: self.address.clone(), doing, source }
    }
}

/// What an `-ERR` said.
pub(crate) fn refusal(address: &str, what: &[u8]) -> BenchError {
    let text = String::from_utf8_lossy(what).trim_matches('\'').to_owned();
    BenchError::Refused { address: address.to_owned(), scope: "connection", code: 0, text }
}
