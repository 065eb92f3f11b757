//! `headers`: a binding's arguments against the message's headers (0-9-1 §3.1.3.4, with RabbitMQ's `x-match`).

use std::collections::BTreeMap;

use warren_types::{AMQPValue, AmqpError, FieldTable, ReplyCode};

use super::Target;
use crate::arguments::{self, term};
use crate::names::refuse;
use crate::topology::BindingKey;

const MATCH: &str = "x-match";

#[derive(Clone, Debug, Default)]
pub(crate) struct Headers(BTreeMap<BindingKey, Criteria>);

/// How many of the criteria must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    All,
    Any,
}

/// What a binding asks of the headers.
#[derive(Clone, Debug)]
struct Criteria {
    mode: Mode,
    /// Void asks only that the header is there.
    headers: Vec<(String, AMQPValue)>,
}

impl Headers {
    /// # Errors
    /// 406 for an `x-match` that is not one of the four.
    pub(super) fn insert(&mut self, key: &BindingKey, arguments: &FieldTable) -> Result<(), AmqpError> {
        let criteria = Criteria::parse(arguments)?;
        self.0.insert(key.clone(), criteria);
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &BindingKey) {
        self.0.remove(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn visit<'a>(&'a self, headers: &FieldTable, found: &mut impl FnMut(&'a Target)) {
        for (key, criteria) in &self.0 {
            if criteria.hold(headers) {
                found(&key.target);
            }
        }
    }
}

impl Criteria {
    fn parse(arguments: &FieldTable) -> Result<Self, AmqpError> {
        let (mode, with_x) = match arguments.inner().get(MATCH) {
            None => (Mode::All, false),
            Some(AMQPValue::LongString(value)) => match value.as_bytes() {
                b"all" => (Mode::All, false),
                b"any" => (Mode::Any, false),
                b"all-with-x" => (Mode::All, true),
                b"any-with-x" => (Mode::Any, true),
                _ => {
                    return Err(refuse(
                        ReplyCode::PreconditionFailed,
                        format!(
                            "Invalid x-match field value {}; expected all, any, all-with-x, or any-with-x",
                            term(&AMQPValue::LongString(value.clone()))
                        ),
                    ));
                }
            },
            Some(other) => {
                return Err(refuse(
                    ReplyCode::PreconditionFailed,
                    format!(
                        "Invalid x-match field type {} (value {}); expected longstr",
                        arguments::type_name(other),
                        term(other)
                    ),
                ));
            }
        };
        let headers = arguments
            .inner()
            .iter()
            .filter(|(key, _)| {
                let key = key.as_str();
                key != MATCH && (with_x || !key.starts_with("x-"))
            })
            .map(|(key, value)| (key.as_str().to_owned(), value.clone()))
            .collect();
        Ok(Self { mode, headers })
    }

    fn hold(&self, headers: &FieldTable) -> bool {
        let mut each = self.headers.iter().map(|(key, wanted)| {
            headers.inner().get(key.as_str()).is_some_and(|value| agrees(wanted, value))
        });
        match self.mode {
            Mode::All => each.all(|holds| holds),
            Mode::Any => each.any(|holds| holds),
        }
    }
}

fn agrees(wanted: &AMQPValue, value: &AMQPValue) -> bool {
    matches!(wanted, AMQPValue::Void) || arguments::same_value(wanted, value)
}
