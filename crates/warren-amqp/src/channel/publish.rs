//! Spine 4: a publish with its content; a confirm number is taken. Knows no exchange.
//! Before: `content.rs`. After: [`Action::Publish`].

use bytes::Bytes;
use warren_types::{Message, ReplyCode};

use super::{Channel, Context, Mode};
use crate::action::{Action, Publish};
use crate::content::{Complete, ContentError};
use crate::error::{Fault, MethodId};
use crate::frame::PublishMethod;
use crate::request::TxPublish;

impl Channel {
    /// Takes `basic.publish`; its content follows.
    pub(crate) fn on_publish(&mut self, method: PublishMethod) -> Result<(), Fault> {
        if method.immediate {
            return Err(Fault::new(ReplyCode::NotImplemented, "immediate=true", MethodId::PUBLISH));
        }
        self.incoming.begin(method);
        Ok(())
    }

    /// Takes a content header.
    pub(crate) fn on_header(
        &mut self,
        payload: &Bytes,
        context: &mut Context<'_>,
    ) -> Result<Option<Action>, Fault> {
        let complete = self.incoming.on_header(payload, context.config.max_message_size);
        self.on_content(complete, context)
    }

    /// Takes a piece of body.
    pub(crate) fn on_body(
        &mut self,
        payload: Bytes,
        context: &mut Context<'_>,
    ) -> Result<Option<Action>, Fault> {
        let before = self.incoming.held_bytes();
        let complete = self.incoming.on_body(payload);
        context.hold_back(before, self.incoming.held_bytes(), MethodId::PUBLISH)?;
        self.on_content(complete, context)
    }

    fn on_content(
        &mut self,
        complete: Result<Option<Complete<PublishMethod>>, ContentError>,
        context: &mut Context<'_>,
    ) -> Result<Option<Action>, Fault> {
        let complete = complete.map_err(|cause| Fault { error: cause.error(), id: cause.id() })?;
        let Some(Complete { method, properties, body }) = complete else { return Ok(None) };
        let PublishMethod { exchange, routing_key, mandatory, immediate: _ } = method;
        let message = Message { exchange, routing_key, properties, body };
        let number = match &mut self.mode {
            Mode::Plain => 0,
            Mode::Confirm(confirms) => confirms.issue(),
            Mode::Transactional(transaction) => {
                let (channel, opening) = (self.number, self.opening);
                let kept = message.clone();
                // Its place in the transaction, from 1.
                let number = transaction.publish(TxPublish { mandatory, message }, context)?;
                let checked = Publish { channel, opening, number, mandatory, message: kept };
                return Ok(Some(Action::CheckPublish(checked)));
            }
        };
        let (channel, opening) = (self.number, self.opening);
        Ok(Some(Action::Publish(Publish { channel, opening, number, mandatory, message })))
    }
}
