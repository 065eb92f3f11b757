//! A message's properties as a table by their names, for operators, and back.

use bytes::Bytes;
use warren_amqp::properties::{Properties, PropertiesBuilder};
use warren_types::{AMQPValue, AmqpError, FieldTable, ReplyCode, ShortStr};

fn bad(key: &str) -> AmqpError {
    AmqpError::new(ReplyCode::PreconditionFailed, format!("bad property: {key}"))
}

/// Those that are set.
pub(crate) fn to_table(bytes: &Bytes) -> FieldTable {
    let properties = Properties::new(bytes);
    let mut table = FieldTable::default();
    let mut put = |key: &str, value: Option<AMQPValue>| {
        if let Some(value) = value {
            table.insert(key.into(), value);
        }
    };
    let text = |text: Option<&str>| text.map(|text| AMQPValue::LongString(text.into()));
    put("content_type", text(properties.content_type()));
    put("content_encoding", text(properties.content_encoding()));
    put("headers", properties.headers().map(AMQPValue::FieldTable));
    put("delivery_mode", properties.delivery_mode().map(AMQPValue::ShortShortUInt));
    put("priority", properties.priority().map(AMQPValue::ShortShortUInt));
    put("correlation_id", text(properties.correlation_id()));
    put("reply_to", text(properties.reply_to()));
    put("expiration", text(properties.expiration()));
    put("message_id", text(properties.message_id()));
    put("timestamp", properties.timestamp().map(AMQPValue::Timestamp));
    put("type", text(properties.kind()));
    put("user_id", text(properties.user_id()));
    put("app_id", text(properties.app_id()));
    put("cluster_id", text(properties.cluster_id()));
    table
}

/// # Errors
/// 406 for a property of the wrong kind.
pub(super) fn from_table(table: &FieldTable) -> Result<Bytes, AmqpError> {
    let mut builder = PropertiesBuilder::default();
    for (key, value) in table.inner() {
        let key = key.as_str();
        let text = || match value {
            AMQPValue::LongString(text) => {
                ShortStr::new(Bytes::copy_from_slice(text.as_bytes())).map(Some).map_err(|_| bad(key))
            }
            AMQPValue::ShortString(text) => ShortStr::try_from(text.as_str()).map(Some).map_err(|_| bad(key)),
            AMQPValue::Void => Ok(None),
            _ => Err(bad(key)),
        };
        let number = || match value {
            AMQPValue::LongLongInt(number) => u64::try_from(*number).map_err(|_| bad(key)),
            AMQPValue::Timestamp(number) => Ok(*number),
            _ => Err(bad(key)),
        };
        let octet = || u8::try_from(number()?).map_err(|_| bad(key));
        match key {
            "content_type" => builder.content_type = text()?,
            "content_encoding" => builder.content_encoding = text()?,
            "headers" => match value {
                AMQPValue::FieldTable(headers) => builder.headers = Some(headers.clone()),
                // How some languages write an empty table.
                AMQPValue::FieldArray(none) if none.as_slice().is_empty() => {
                    builder.headers = Some(FieldTable::default());
                }
                _ => return Err(bad(key)),
            },
            "delivery_mode" => builder.delivery_mode = Some(octet()?),
            "priority" => builder.priority = Some(octet()?),
            "correlation_id" => builder.correlation_id = text()?,
            "reply_to" => builder.reply_to = text()?,
            "expiration" => builder.expiration = text()?,
            "message_id" => builder.message_id = text()?,
            "timestamp" => builder.timestamp = Some(number()?),
            "type" => builder.kind = text()?,
            "user_id" => builder.user_id = text()?,
            "app_id" => builder.app_id = text()?,
            "cluster_id" => builder.cluster_id = text()?,
            // RabbitMQ takes no notice of what is no property.
            _ => {}
        }
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_survive_the_way_through_a_table_and_what_is_none_is_passed_over() {
        let mut headers = FieldTable::default();
        headers.insert("h".into(), AMQPValue::LongLongInt(1));
        let mut table = FieldTable::default();
        table.insert("content_type".into(), AMQPValue::LongString("text/plain".into()));
        table.insert("headers".into(), AMQPValue::FieldTable(headers));
        table.insert("delivery_mode".into(), AMQPValue::LongLongInt(2));
        table.insert("timestamp".into(), AMQPValue::LongLongInt(1_700_000_000));
        let back = to_table(&from_table(&table).unwrap());
        assert_eq!(back.inner().get("headers"), table.inner().get("headers"));
        assert_eq!(back.inner().get("delivery_mode"), Some(&AMQPValue::ShortShortUInt(2)));
        assert_eq!(back.inner().len(), 4);
        table.insert("colour".into(), AMQPValue::LongString("red".into()));
        assert_eq!(to_table(&from_table(&table).unwrap()), back);
        for (key, value) in [
            ("priority", AMQPValue::LongLongInt(256)),
            ("headers", AMQPValue::LongString("h".into())),
            ("message_id", AMQPValue::LongString("x".repeat(256).as_str().into())),
        ] {
            let mut table = FieldTable::default();
            table.insert(key.into(), value);
            assert!(from_table(&table).is_err(), "{key}");
        }
    }
}
