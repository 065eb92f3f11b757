//! The delay that a message asks for at an exchange of type `x-delayed-message`, as the community plugin has it: header
//! `x-delay` in milliseconds. Spine 6, behind `router`; the queue's leader keeps the message until it is due.

use warren_amqp::properties::{self, Properties};
use warren_types::{AMQPValue, Message};

const HEADER: &str = "x-delay";

/// The delay in milliseconds, 0 where there is none that counts: none, not a number, below 1 or above 2^32 - 1. Where
/// there is one, the header goes on as its negative, so that the message is not delayed again at the next such exchange.
pub(crate) fn take_delay(message: &mut Message) -> u32 {
    let Some(delay) = Properties::new(&message.properties).header(HEADER).and_then(|value| number(&value))
    else {
        return 0;
    };
    match u32::try_from(delay) {
        Ok(0) | Err(_) => 0,
        Ok(delay) => {
            // The plugin writes 32 bits always, and wraps; what does not fit is wider here.
            let negated = match i32::try_from(delay) {
                Ok(delay) => AMQPValue::LongInt(-delay),
                Err(_) => AMQPValue::LongLongInt(-i64::from(delay)),
            };
            message.properties = properties::with_header(&message.properties, HEADER, Some(&negated));
            delay
        }
    }
}

/// A number of any width, or a string of digits, or a fraction without what is behind its point.
fn number(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(v) => Some((*v).into()),
        AMQPValue::ShortShortUInt(v) => Some((*v).into()),
        AMQPValue::ShortInt(v) => Some((*v).into()),
        AMQPValue::ShortUInt(v) => Some((*v).into()),
        AMQPValue::LongInt(v) => Some((*v).into()),
        AMQPValue::LongUInt(v) => Some((*v).into()),
        AMQPValue::LongLongInt(v) => Some(*v),
        AMQPValue::LongString(v) => std::str::from_utf8(v.as_bytes()).ok()?.parse().ok(),
        AMQPValue::ShortString(v) => v.as_str().parse().ok(),
        AMQPValue::Float(v) => whole(f64::from(*v)),
        AMQPValue::Double(v) => whole(*v),
        AMQPValue::Boolean(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::Timestamp(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "truncated on purpose; what is out of range saturates")]
fn whole(value: f64) -> Option<i64> {
    value.is_finite().then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use warren_amqp::properties::PropertiesBuilder;
    use warren_types::FieldTable;
    use warren_types::table::ShortString;

    use super::*;

    fn message(delay: AMQPValue) -> Message {
        let mut headers = FieldTable::default();
        headers.insert(ShortString::try_new(HEADER).unwrap(), delay);
        let properties = PropertiesBuilder { headers: Some(headers), ..PropertiesBuilder::default() }.build();
        Message { properties, ..Message::default() }
    }

    #[test]
    fn a_delay_of_any_kind_of_number_is_taken_and_left_negated() {
        for delay in [
            AMQPValue::LongInt(300),
            AMQPValue::LongLongInt(300),
            AMQPValue::ShortUInt(300),
            AMQPValue::LongString("300".into()),
            AMQPValue::Double(300.9),
        ] {
            let mut message = message(delay.clone());
            assert_eq!(take_delay(&mut message), 300, "{delay:?}");
            let left = Properties::new(&message.properties).header(HEADER);
            assert_eq!(left, Some(AMQPValue::LongInt(-300)), "{delay:?}");
            assert_eq!(take_delay(&mut message), 0, "not a second time");
        }
    }

    #[test]
    fn what_is_no_delay_stays_as_it_is() {
        for value in [
            AMQPValue::LongInt(0),
            AMQPValue::LongInt(-5),
            AMQPValue::LongLongInt(1 << 32),
            AMQPValue::LongString("soon".into()),
            AMQPValue::Boolean(true),
            AMQPValue::Double(f64::NAN),
        ] {
            let mut message = message(value.clone());
            let before = message.clone();
            assert_eq!(take_delay(&mut message), 0, "{value:?}");
            assert_eq!(message, before);
        }
        assert_eq!(take_delay(&mut Message::default()), 0);
    }

    #[test]
    fn the_longest_delay_is_2_to_the_32_less_1() {
        let mut message = message(AMQPValue::LongLongInt(u32::MAX.into()));
        assert_eq!(take_delay(&mut message), u32::MAX);
        let left = Properties::new(&message.properties).header(HEADER);
        assert_eq!(left, Some(AMQPValue::LongLongInt(-4_294_967_295)));
    }
}
