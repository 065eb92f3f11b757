//! Messages that operators publish and get: for trying things out, not for work.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use warren_broker::admin::{AfterGet, GotInfo, PublishInfo};

use super::Asked;
use crate::answer::Answer;
use crate::auth::Access;
use crate::error::ApiError;
use crate::table;

const ACK_MODES: &str =
    "Valid values are: ack_requeue_true, ack_requeue_false, reject_requeue_true, reject_requeue_false";
/// Most messages of one get.
const GET_MAX: u64 = 10_000;

impl Asked<'_> {
    pub(super) async fn get_messages(&self, vhost: &str, queue: &str) -> Result<Answer, ApiError> {
        self.vhost_of_put(vhost)?;
        let absent = || ApiError::ParentNotFound("queue_not_found".to_owned());
        self.must_exist(vhost, queue).await.map_err(|_| absent())?;
        self.object.must_have(&["ackmode", "count", "encoding"])?;
        self.caller.must_have(Access::Read, vhost, queue)?;
        let after = match self.object.text("ackmode")?.unwrap_or_default() {
            "ack_requeue_true" => AfterGet::Requeue,
            "ack_requeue_false" => AfterGet::Ack,
            "reject_requeue_true" => AfterGet::RequeueFailed,
            "reject_requeue_false" => AfterGet::Reject,
            other => {
                return Err(ApiError::BadRequest(format!("Invalid ackmode value: {other}. {ACK_MODES}")));
            }
        };
        let base64 = match self.object.text("encoding")?.unwrap_or_default() {
            "auto" => false,
            "base64" => true,
            _ => {
                let text = "Unsupported encoding. Please use auto or base64.";
                return Err(ApiError::BadRequest(text.to_owned()));
            }
        };
        let number = |key: &str| {
            let value = self.object.get(key);
            let text = value.and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok());
            value.and_then(Value::as_u64).or(text)
        };
        let shown = |key: &str| match self.object.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => "undefined".to_owned(),
        };
        let count = number("count").ok_or_else(|| ApiError::term("not_integer", &shown("count")))?;
        let truncate = number("truncate").and_then(|bytes| usize::try_from(bytes).ok());
        let count = u32::try_from(count.min(GET_MAX)).unwrap_or(u32::MAX);
        let got = self.admin.get_messages(&self.caller.name, vhost, queue, count, after).await;
        let got = got.map_err(|error| match ApiError::on_channel(error) {
            ApiError::ObjectNotFound => absent(),
            other => other,
        })?;
        Ok(Answer::List(got.iter().map(|message| shape(message, base64, truncate)).collect()))
    }

    pub(super) async fn publish(&self, vhost: &str, exchange: &str) -> Result<Answer, ApiError> {
        self.vhost_of_put(vhost)?;
        let absent = || ApiError::ParentNotFound("exchange_not_found".to_owned());
        if !self.admin.exchanges(Some(vhost)).iter().any(|known| known.name == exchange) {
            return Err(absent());
        }
        self.object.must_have(&["routing_key", "properties", "payload", "payload_encoding"])?;
        let payload = self.object.text("payload");
        let payload = payload.map_err(|_| ApiError::BadRequest("payload_not_string".to_owned()))?;
        let payload = payload.unwrap_or_default();
        let payload = match self.object.text("payload_encoding")?.unwrap_or_default() {
            "string" => payload.as_bytes().to_vec(),
            "base64" => STANDARD.decode(payload).map_err(|_| ApiError::term("not_base64", payload))?,
            other => return Err(ApiError::term("unsupported_encoding", other)),
        };
        let publish = PublishInfo {
            user: self.caller.name.clone(),
            vhost: vhost.to_owned(),
            exchange: exchange.to_owned(),
            routing_key: self.object.text("routing_key")?.unwrap_or_default().to_owned(),
            properties: table::from_json(self.object.get("properties"))?,
            payload: payload.into(),
        };
        let routed =
            self.admin.publish(publish).await.map_err(|error| match ApiError::on_channel(error) {
                ApiError::ObjectNotFound => absent(),
                other => other,
            })?;
        Ok(Answer::Document(json!({ "routed": routed })))
    }
}

fn shape(message: &GotInfo, base64: bool, truncate: Option<usize>) -> Value {
    let shown = message.payload.get(..truncate.unwrap_or(usize::MAX)).unwrap_or(&message.payload);
    let (payload, encoding) = match std::str::from_utf8(shown) {
        Ok(text) if !base64 => (text.to_owned(), "string"),
        Ok(_) | Err(_) => (STANDARD.encode(shown), "base64"),
    };
    json!({
        "payload_bytes": message.payload.len(),
        "redelivered": message.redelivered,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "message_count": message.remaining,
        "properties": table::to_json(&message.properties),
        "payload": payload,
        "payload_encoding": encoding,
    })
}
