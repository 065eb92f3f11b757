//! Field tables as JSON and back.

use serde_json::{Map, Number, Value};
use warren_types::table::{FieldArray, LongString, ShortString};
use warren_types::{AMQPValue, FieldTable};

use crate::error::ApiError;

/// Deepest nesting that is taken from JSON: well inside what the wire may carry.
const DEPTH_MAX: usize = 16;

/// A table as a JSON object.
pub(crate) fn to_json(table: &FieldTable) -> Value {
    Value::Object(
        table.inner().iter().map(|(key, value)| (key.as_str().to_owned(), value_to_json(value))).collect(),
    )
}

fn value_to_json(value: &AMQPValue) -> Value {
    let text = |bytes: &[u8]| Value::String(String::from_utf8_lossy(bytes).into_owned());
    // JSON has no infinity; RabbitMQ cannot say it either.
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match value {
        AMQPValue::Boolean(truth) => Value::Bool(*truth),
        AMQPValue::ShortShortInt(number) => (*number).into(),
        AMQPValue::ShortShortUInt(number) => (*number).into(),
        AMQPValue::ShortInt(number) => (*number).into(),
        AMQPValue::ShortUInt(number) => (*number).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongUInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => (*number).into(),
        AMQPValue::Float(number) => float((*number).into()),
        AMQPValue::Double(number) => float(*number),
        AMQPValue::DecimalValue(decimal) => {
            float(f64::from(decimal.value) / 10_f64.powi(decimal.scale.into()))
        }
        AMQPValue::ShortString(string) => Value::String(string.as_str().to_owned()),
        AMQPValue::LongString(string) => text(string.as_bytes()),
        AMQPValue::ByteArray(bytes) => text(bytes.as_slice()),
        AMQPValue::Timestamp(seconds) => (*seconds).into(),
        AMQPValue::FieldArray(array) => Value::Array(array.as_slice().iter().map(value_to_json).collect()),
        AMQPValue::FieldTable(table) => to_json(table),
        AMQPValue::Void => Value::Null,
    }
}

/// A JSON object as a table: whole numbers become 64-bit integers, other numbers doubles, texts long strings.
///
/// # Errors
/// 400 for what is no object, keys over 255 bytes, numbers that fit nothing, and nesting deeper than a table may be.
pub(crate) fn from_json(value: Option<&Value>) -> Result<FieldTable, ApiError> {
    match value {
        None => Ok(FieldTable::default()),
        Some(Value::Object(object)) => object_to_table(object, 0),
        // rabbitmqadmin and PHP clients send an empty table as an empty list.
        Some(Value::Array(list)) if list.is_empty() => Ok(FieldTable::default()),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Err(ApiError::BadRequest("arguments must be an object".to_owned()))
        }
    }
}

fn object_to_table(object: &Map<String, Value>, depth: usize) -> Result<FieldTable, ApiError> {
    let mut table = FieldTable::default();
    for (key, value) in object {
        let key = ShortString::try_new(key.as_str())
            .map_err(|_| ApiError::BadRequest("an argument's name is longer than 255 bytes".to_owned()))?;
        table.insert(key, value_from_json(value, depth)?);
    }
    Ok(table)
}

fn value_from_json(value: &Value, depth: usize) -> Result<AMQPValue, ApiError> {
    if depth >= DEPTH_MAX {
        return Err(ApiError::BadRequest(format!("arguments are nested more than {DEPTH_MAX} deep")));
    }
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(truth) => AMQPValue::Boolean(*truth),
        Value::String(text) => AMQPValue::LongString(LongString::from(text.as_str())),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => AMQPValue::LongLongInt(whole),
            (None, Some(double)) if number.is_f64() => AMQPValue::Double(double),
            (None, _) => return Err(ApiError::BadRequest(format!("{number} is out of range"))),
        },
        Value::Array(list) => {
            let values: Result<Vec<_>, _> =
                list.iter().map(|value| value_from_json(value, depth + 1)).collect();
            AMQPValue::FieldArray(FieldArray::from(values?))
        }
        Value::Object(object) => AMQPValue::FieldTable(object_to_table(object, depth + 1)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_json_can_say_survives_the_way_through_a_table() {
        let arguments = json!({ "x-max-length": 10, "x-queue-type": "quorum", "ratio": 0.5, "on": true, "none": null,
            "list": [1, "two", { "three": 3 }], "deep": { "er": { "est": -1 } } });
        assert_eq!(to_json(&from_json(Some(&arguments)).unwrap()), arguments);
    }

    #[test]
    fn hostile_arguments_are_refused() {
        let mut deep = json!(1);
        for _ in 0..40 {
            deep = json!({ "a": deep });
        }
        for arguments in
            [deep, json!({ "a".repeat(256): 1 }), json!({ "big": u64::MAX }), json!("text"), json!([1])]
        {
            assert!(matches!(from_json(Some(&arguments)), Err(ApiError::BadRequest(_))), "{arguments}");
        }
        assert_eq!(from_json(Some(&json!([]))).unwrap(), FieldTable::default());
    }
}
