//! From the first octet to `open-ok` (0-9-1 §2.2.4). What goes wrong before the client is known is not told to it,
//! as RabbitMQ does: it waits and closes. Knows no users and no virtual hosts.

use amq_protocol::protocol::{AMQPClass, connection};
use bytes::{Buf, BytesMut};
use warren_types::table::{self, ShortString};
use warren_types::{AMQPValue, AmqpError, ChannelNumber, FieldTable, ReplyCode};

use super::{Connection, External, Limits, Phase};
use crate::action::{Action, Ending, Mechanism};
use crate::error::{Fault, MethodId};
use crate::frame::{self, PROTOCOL_HEADER};

/// How long a client waits that did something wrong before it was known: slows down guessing and storms.
pub(super) const SILENT_CLOSE_MS: u64 = 3_000;

/// RabbitMQ's nine capabilities.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

/// The release of RabbitMQ whose behaviour clients may expect.
pub const RABBITMQ_VERSION: &str = "4.3.5";

/// The server properties that clients of RabbitMQ expect. Some read from `product` and `version` what they can count on
/// (kombu: what the `global` bit of `basic.qos` means), so these are RabbitMQ's; `platform` says who we are.
#[must_use]
pub fn server_properties(version: &str, cluster_name: &str) -> FieldTable {
    let mut properties = FieldTable::default();
    let mut capabilities = FieldTable::default();
    for name in CAPABILITIES {
        insert(&mut capabilities, name, AMQPValue::Boolean(true));
    }
    insert(&mut properties, "capabilities", AMQPValue::FieldTable(capabilities));
    let platform = format!("Warren {version}");
    for (key, value) in [
        ("product", "RabbitMQ"),
        ("version", RABBITMQ_VERSION),
        ("cluster_name", cluster_name),
        ("platform", &platform),
        ("information", "Licensed under the Apache License 2.0"),
        ("copyright", "The Warren authors"),
    ] {
        insert(&mut properties, key, AMQPValue::LongString(value.into()));
    }
    properties
}

fn insert(table: &mut FieldTable, key: &str, value: AMQPValue) {
    if let Ok(key) = ShortString::try_new(key) {
        table.insert(key, value);
    }
}

impl Connection {
    /// Takes the protocol header; false until it is there.
    pub(super) fn on_protocol_header(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> bool {
        let Some(header) = input.first_chunk::<8>().copied() else { return false };
        input.advance(8);
        // The second is how 0-9-1 was written before it had that name.
        if header != *PROTOCOL_HEADER && header != *b"AMQP\x01\x01\x00\x09" {
            out.extend_from_slice(PROTOCOL_HEADER);
            self.end(Ending::Graceful);
            return true;
        }
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: self.config.server_properties.clone(),
            mechanisms: match self.config.external {
                External::Unknown | External::Taken => "PLAIN AMQPLAIN".into(),
                External::Offered => "PLAIN AMQPLAIN EXTERNAL".into(),
            },
            locales: "en_US".into(),
        };
        frame::method(ChannelNumber(0), AMQPClass::Connection(connection::AMQPMethod::Start(start)), out);
        self.phase = Phase::Starting;
        true
    }

    /// A mistake before the client is known, or one that RabbitMQ answers with silence.
    pub(super) fn end_silently(&mut self) {
        self.end(Ending::Silent { delay_ms: SILENT_CLOSE_MS });
    }

    pub(super) fn on_start_ok(&mut self, start_ok: connection::StartOk) -> Option<Action> {
        self.client_properties = start_ok.client_properties;
        let response = start_ok.response.as_bytes();
        let Some(mechanism) = Mechanism::from_name(start_ok.mechanism.as_str()) else {
            self.end_silently();
            return None;
        };
        let credentials = match mechanism {
            Mechanism::Plain => plain(response),
            Mechanism::AmqPlain => amqplain(response),
            Mechanism::External => match self.config.external {
                External::Unknown => None,
                // What the client answers is of no meaning.
                External::Taken | External::Offered => Some((String::new(), Vec::new())),
            },
        };
        let Some((user, password)) = credentials else {
            self.end_silently();
            return None;
        };
        self.phase = Phase::Authenticating { mechanism };
        Some(Action::Authenticate { mechanism, user, password })
    }

    /// The answer to [`Action::Authenticate`]: the user's name, or why not. A refusal (403) is told only to clients
    /// with the capability `authentication_failure_close`, always in the same words; other errors as they are.
    pub fn authenticated(&mut self, result: Result<String, AmqpError>, out: &mut BytesMut) {
        let Phase::Authenticating { mechanism } = self.phase else { return };
        match result {
            Ok(user) => {
                self.user = user;
                let tune = connection::Tune {
                    channel_max: self.config.channel_max,
                    frame_max: self.config.frame_max,
                    heartbeat: self.config.heartbeat_s,
                };
                frame::method(
                    ChannelNumber(0),
                    AMQPClass::Connection(connection::AMQPMethod::Tune(tune)),
                    out,
                );
                self.phase = Phase::Tuning;
            }
            Err(error) if error.code == ReplyCode::AccessRefused => {
                if self.capability("authentication_failure_close") {
                    let text = format!(
                        "Login was refused using authentication mechanism {}. For details see the broker logfile.",
                        mechanism.name()
                    );
                    self.fail_connection(Fault::new(ReplyCode::AccessRefused, text, MethodId::NONE), out);
                } else {
                    self.end_silently();
                }
            }
            Err(error) => self.fail_connection(Fault { error, id: MethodId::NONE }, out),
        }
    }

    pub(super) fn on_tune_ok(&mut self, tune_ok: &connection::TuneOk, out: &mut BytesMut) {
        let wanted = Limits {
            channel_max: tune_ok.channel_max,
            frame_max: tune_ok.frame_max,
            heartbeat_s: tune_ok.heartbeat,
        };
        match Limits::negotiate(wanted, &self.config) {
            Ok(limits) => {
                self.limits = limits;
                self.heartbeat = super::Heartbeat::new(limits.heartbeat_s);
                self.phase = Phase::AwaitingOpen;
            }
            // RabbitMQ blames tune, not tune-ok.
            Err(error) => self.fail_connection(Fault { error, id: MethodId::new(10, 30) }, out),
        }
    }

    pub(super) fn on_open(&mut self, open: connection::Open) -> Action {
        self.vhost = open.virtual_host.into();
        self.phase = Phase::Opening;
        Action::OpenVhost { vhost: self.vhost.clone() }
    }

    /// The answer to [`Action::OpenVhost`]: that the user may, or what closes the connection.
    pub fn vhost_opened(&mut self, result: Result<(), AmqpError>, out: &mut BytesMut) {
        if self.phase != Phase::Opening {
            return;
        }
        match result {
            Ok(()) => {
                let ok = connection::AMQPMethod::OpenOk(connection::OpenOk {});
                frame::method(ChannelNumber(0), AMQPClass::Connection(ok), out);
                self.phase = Phase::Running;
            }
            Err(error) => self.fail_connection(Fault { error, id: MethodId::new(10, 40) }, out),
        }
    }

    /// True when the client said in its properties that it understands this.
    #[must_use]
    pub fn capability(&self, name: &str) -> bool {
        match self.client_properties.inner().get("capabilities") {
            Some(AMQPValue::FieldTable(capabilities)) => {
                capabilities.inner().get(name) == Some(&AMQPValue::Boolean(true))
            }
            Some(_) | None => false,
        }
    }
}

/// `PLAIN`: NUL, user, NUL, password. An authorisation identity in front is not supported.
fn plain(response: &[u8]) -> Option<(String, Vec<u8>)> {
    let rest = response.strip_prefix(&[0])?;
    let split = rest.iter().position(|octet| *octet == 0)?;
    let (user, password) = rest.split_at_checked(split)?;
    let password = password.get(1..)?;
    if password.contains(&0) {
        return None;
    }
    Some((String::from_utf8(user.to_vec()).ok()?, password.to_vec()))
}

/// `AMQPLAIN`: a table without its length.
fn amqplain(response: &[u8]) -> Option<(String, Vec<u8>)> {
    let table = table::decode_bare(response).ok()?;
    let bytes = |key: &str| match table.inner().get(key) {
        Some(AMQPValue::LongString(value)) => Some(value.as_bytes().to_vec()),
        Some(AMQPValue::ByteArray(value)) => Some(value.as_slice().to_vec()),
        Some(_) | None => None,
    };
    Some((String::from_utf8(bytes("LOGIN")?).ok()?, bytes("PASSWORD")?))
}
