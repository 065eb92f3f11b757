//! A publishing channel: what the broker's methods mean to the producer.

use crate::amqp::content::Incoming;
use crate::amqp::link::CHANNEL;
use crate::amqp::wire::{MethodId, Reader, Template, WireError, method, put_method};
use crate::measure::Measure;
use crate::producer::Producer;
use crate::stamp::Stamp;

/// One publishing channel.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) producer: Producer<Template>,
    returning: Incoming<()>,
}

impl Publisher {
    /// A channel on which nothing came back yet.
    pub(crate) fn new(producer: Producer<Template>) -> Self {
        Self { producer, returning: Incoming::Idle }
    }

    /// A method on the channel. Errors say in words what is wrong with it.
    pub(crate) fn on_method(
        &mut self,
        id: MethodId,
        mut arguments: Reader<'_>,
        now_ns: u64,
        out: &mut Vec<u8>,
        measure: &mut Measure,
    ) -> Result<(), String> {
        let wrong = |wrong: WireError| wrong.to_string();
        match id {
            method::BASIC_ACK => {
                let (number, bits) = (arguments.u64().map_err(wrong)?, arguments.u8().map_err(wrong)?);
                self.producer.on_confirmed(number, bits & 1 != 0, now_ns, measure)?;
            }
            method::BASIC_NACK => {
                let (number, bits) = (arguments.u64().map_err(wrong)?, arguments.u8().map_err(wrong)?);
                self.producer.on_refused(number, bits & 1 != 0, now_ns, measure)?;
            }
            method::BASIC_RETURN => self.returning = Incoming::AwaitingHeader(()),
            method::CHANNEL_FLOW => {
                let active = arguments.u8().map_err(wrong)? & 1 != 0;
                self.producer.pause(!active);
                put_method(out, CHANNEL, method::CHANNEL_FLOW_OK, |out| out.push(u8::from(active)));
            }
            other => return Err(format!("method {}.{} to a producer", other.0, other.1)),
        }
        Ok(())
    }

    /// A content header: of a returned message.
    pub(crate) fn on_header(&mut self, body_bytes: u64, measure: &mut Measure) -> Result<(), String> {
        let returned = self.returning.on_header(body_bytes)?;
        count_returned(returned, measure);
        Ok(())
    }

    /// A part of a body: of a returned message.
    pub(crate) fn on_body(&mut self, payload: &[u8], measure: &mut Measure) -> Result<(), String> {
        let returned = self.returning.on_body(payload)?;
        count_returned(returned, measure);
        Ok(())
    }
}

fn count_returned(returned: Option<((), Option<Stamp>)>, measure: &mut Measure) {
    if let Some(((), Some(stamp))) = returned {
        measure.ledger.on_returned(stamp);
    }
}

/// Appends `confirm.select`.
pub(crate) fn put_confirm_select(out: &mut Vec<u8>) {
    put_method(out, CHANNEL, method::CONFIRM_SELECT, |out| out.push(0));
}
