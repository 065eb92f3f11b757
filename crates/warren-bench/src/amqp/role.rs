//! A connection's half of the load in AMQP: frames come in and go to the one channel.

use crate::amqp::consumer::Consumer;
use crate::amqp::link::refusal;
use crate::amqp::publisher::Publisher;
use crate::amqp::wire::{Frame, MethodId, Reader, Template, method, next_frame, put_method};
use crate::dialect::Role;
use crate::error::BenchError;
use crate::measure::Measure;
use crate::producer::Producer;

/// Which half of the load a connection carries.
#[derive(Debug)]
pub(crate) enum AmqpRole {
    /// It publishes.
    Producer(Box<Publisher>),
    /// It consumes.
    Consumer(Consumer),
}

impl Role for AmqpRole {
    type Message = Template;

    fn absorb(
        &mut self,
        bytes: &[u8],
        address: &str,
        now_ns: u64,
        out: &mut Vec<u8>,
        measure: &mut Measure,
    ) -> Result<usize, BenchError> {
        let mut rest = bytes;
        while let Some((frame, used)) =
            next_frame(rest).map_err(|wrong| BenchError::protocol(address, &wrong.to_string()))?
        {
            self.on_frame(frame, address, now_ns, out, measure)?;
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(bytes.len() - rest.len())
    }

    fn acknowledge_rest(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Producer(_) => {}
            Self::Consumer(consumer) => consumer.acknowledge(out),
        }
    }

    fn producer(&self) -> Option<&Producer<Template>> {
        match self {
            Self::Producer(publisher) => Some(&publisher.producer),
            Self::Consumer(_) => None,
        }
    }

    fn producer_mut(&mut self) -> Option<&mut Producer<Template>> {
        match self {
            Self::Producer(publisher) => Some(&mut publisher.producer),
            Self::Consumer(_) => None,
        }
    }
}

impl AmqpRole {
    #[inline]
    fn on_frame(
        &mut self,
        frame: Frame<'_>,
        address: &str,
        now_ns: u64,
        out: &mut Vec<u8>,
        measure: &mut Measure,
    ) -> Result<(), BenchError> {
        let handled = match (frame, self) {
            (Frame::Method { id, arguments, channel: 0 }, role) => {
                return role.on_connection_method(id, arguments, address, out, measure);
            }
            (Frame::Method { id: method::CHANNEL_CLOSE, arguments, .. }, _) => {
                return Err(refusal(address, method::CHANNEL_CLOSE, arguments));
            }
            (Frame::Method { id, arguments, .. }, Self::Producer(publisher)) => {
                publisher.on_method(id, arguments, now_ns, out, measure)
            }
            (Frame::Method { id, arguments, .. }, Self::Consumer(consumer)) => {
                consumer.on_method(id, arguments)
            }
            (Frame::Header { body_bytes, .. }, Self::Producer(publisher)) => {
                publisher.on_header(body_bytes, measure)
            }
            (Frame::Header { body_bytes, .. }, Self::Consumer(consumer)) => {
                consumer.on_header(body_bytes, now_ns, out, measure)
            }
            (Frame::Body { payload, .. }, Self::Producer(publisher)) => publisher.on_body(payload, measure),
            (Frame::Body { payload, .. }, Self::Consumer(consumer)) => {
                consumer.on_body(payload, now_ns, out, measure)
            }
            (Frame::Heartbeat, _) => Ok(()),
        };
        handled.map_err(|what| BenchError::protocol(address, &what))
    }

    fn on_connection_method(
        &mut self,
        id: MethodId,
        arguments: Reader<'_>,
        address: &str,
        out: &mut Vec<u8>,
        measure: &mut Measure,
    ) -> Result<(), BenchError> {
        match (id, self) {
            (method::CONNECTION_CLOSE, _) => {
                // The broker need not wait for our answer: this process reports and ends.
                put_method(out, 0, method::CONNECTION_CLOSE_OK, |_out| ());
                Err(refusal(address, id, arguments))
            }
            (method::CONNECTION_BLOCKED, Self::Producer(publisher)) => {
                measure.blocked += 1;
                publisher.producer.pause(true);
                Ok(())
            }
            (method::CONNECTION_UNBLOCKED, Self::Producer(publisher)) => {
                publisher.producer.pause(false);
                Ok(())
            }
            (method::CONNECTION_BLOCKED | method::CONNECTION_UNBLOCKED, Self::Consumer(_)) => Ok(()),
            (other, _) => {
                let what = format!("method {}.{} on channel 0", other.0, other.1);
                Err(BenchError::protocol(address, &what))
            }
        }
    }
}
