//! Properties made from values: for clients and tests, and for messages that the broker writes itself.

use bytes::{BufMut, Bytes, BytesMut};
use warren_types::{FieldTable, ShortStr, table};

use super::bit;

/// Values of a message's properties; `build` encodes those that are set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PropertiesBuilder {
    /// `content-type`.
    pub content_type: Option<ShortStr>,
    /// `content-encoding`.
    pub content_encoding: Option<ShortStr>,
    /// `headers`.
    pub headers: Option<FieldTable>,
    /// `delivery-mode`: 2 is persistent.
    pub delivery_mode: Option<u8>,
    /// `priority`.
    pub priority: Option<u8>,
    /// `correlation-id`.
    pub correlation_id: Option<ShortStr>,
    /// `reply-to`.
    pub reply_to: Option<ShortStr>,
    /// `expiration`: milliseconds, as a decimal number.
    pub expiration: Option<ShortStr>,
    /// `message-id`.
    pub message_id: Option<ShortStr>,
    /// `timestamp`: seconds since 1970.
    pub timestamp: Option<u64>,
    /// `type`.
    pub kind: Option<ShortStr>,
    /// `user-id`.
    pub user_id: Option<ShortStr>,
    /// `app-id`.
    pub app_id: Option<ShortStr>,
    /// `cluster-id`.
    pub cluster_id: Option<ShortStr>,
}

impl PropertiesBuilder {
    /// The encoding, as [`warren_types::Message::properties`] has it.
    #[must_use]
    pub fn build(&self) -> Bytes {
        let mut list = List { flags: 0, bytes: BytesMut::new() };
        list.text(super::CONTENT_TYPE, self.content_type.as_ref());
        list.text(super::CONTENT_ENCODING, self.content_encoding.as_ref());
        if let Some(headers) = &self.headers {
            let mut encoded = Vec::new();
            table::encode(headers, &mut encoded);
            list.put(super::HEADERS, &encoded);
        }
        list.octet(super::DELIVERY_MODE, self.delivery_mode);
        list.octet(super::PRIORITY, self.priority);
        list.text(super::CORRELATION_ID, self.correlation_id.as_ref());
        list.text(super::REPLY_TO, self.reply_to.as_ref());
        list.text(super::EXPIRATION, self.expiration.as_ref());
        list.text(super::MESSAGE_ID, self.message_id.as_ref());
        if let Some(timestamp) = self.timestamp {
            list.put(super::TIMESTAMP, &timestamp.to_be_bytes());
        }
        list.text(super::TYPE, self.kind.as_ref());
        list.text(super::USER_ID, self.user_id.as_ref());
        list.text(super::APP_ID, self.app_id.as_ref());
        list.text(super::CLUSTER_ID, self.cluster_id.as_ref());
        let mut out = BytesMut::with_capacity(2 + list.bytes.len());
        out.put_u16(list.flags);
        out.put_slice(&list.bytes);
        out.freeze()
    }
}

struct List {
    flags: u16,
    bytes: BytesMut,
}

impl List {
    fn put(&mut self, index: usize, value: &[u8]) {
        self.flags |= bit(index);
        self.bytes.put_slice(value);
    }

    fn octet(&mut self, index: usize, value: Option<u8>) {
        if let Some(value) = value {
            self.put(index, &[value]);
        }
    }

    fn text(&mut self, index: usize, value: Option<&ShortStr>) {
        if let Some(value) = value {
            self.put(index, &[u8::try_from(value.len()).unwrap_or(u8::MAX)]);
            self.bytes.put_slice(value.bytes());
        }
    }
}
