//! What nodes ask each other for operators: which clients each of them serves, how many, and to close one. Before:
//! `warren-broker` on the node that an operator asks. After: `warren-broker` on the others.

mod traffic;

use bytes::Bytes;
use prost::Message as _;
use warren_types::{ConnectionId, FieldTable, NodeId, table};

use crate::DecodeError;
use crate::generated::operate as wire;

pub use self::traffic::{Flow, Traffic};

/// Most connections, channels or consumers of one answer that are read.
const ITEMS_MAX: usize = 1 << 20;

/// A question to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Its client connections; detailed: with their channels and consumers.
    List {
        /// With channels and consumers.
        detailed: bool,
    },
    /// How many there are, for limits.
    Count {
        /// Of this virtual host.
        vhost: String,
        /// Of this user.
        user: String,
    },
    /// Close a connection with 320.
    Close {
        /// Its name.
        name: String,
        /// What its client is told.
        reason: String,
    },
    /// Close every connection of a virtual host or a user with 320.
    CloseAll {
        /// Which.
        whose: Whose,
        /// What the clients are told.
        reason: String,
    },
    /// Whether its catalogue is at least at this revision: answered when it is, or after a moment.
    Seen(u64),
    /// What its clients have done.
    Flow,
}

/// Connections that have something in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those to a virtual host.
    Vhost(String),
    /// Those of a user.
    User(String),
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To `List`.
    Connections(Vec<ConnectionInfo>),
    /// To `Count`.
    Counts(ClientCounts),
    /// To `Close` and `CloseAll`: whether there is such a connection.
    Closed(bool),
    /// To `Seen`: at which revision its catalogue is.
    Seen(u64),
    /// To `Flow`.
    Flow(Flow),
}

/// How many clients there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// Connections to the virtual host.
    pub vhost_connections: u64,
    /// Connections of the user.
    pub user_connections: u64,
    /// Channels of the user.
    pub user_channels: u64,
}

/// A client connection.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionInfo {
    /// Its number on its node.
    pub id: ConnectionId,
    /// The node that serves it.
    pub node: NodeId,
    /// `PEER:PORT -> HOST:PORT`, RabbitMQ's connection name.
    pub name: String,
    /// The name that the client gave (`connection_name`).
    pub user_provided_name: Option<String>,
    /// The user; empty before login.
    pub user: String,
    /// The vhost; empty before `connection.open`.
    pub vhost: String,
    /// Open channels.
    pub channels: u16,
    /// Milliseconds since 1970.
    pub connected_at: u64,
    /// Heartbeat in seconds.
    pub heartbeat_s: u16,
    /// Largest frame.
    pub frame_max: u32,
    /// Client properties as sent.
    pub client_properties: FieldTable,
    /// It has published during an alarm, and is not read from.
    pub blocked: bool,
    /// Its channels, if they were asked for.
    pub open: Vec<ChannelInfo>,
    /// What its TLS handshake told; `None` without TLS.
    pub tls: Option<TlsInfo>,
}

/// How a connection is encrypted, in RabbitMQ's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `tlsv1.2` or `tlsv1.3`.
    pub protocol: String,
    /// `ecdhe_rsa`, or `any` where the cipher suite does not say.
    pub key_exchange: String,
    /// `aes_256_gcm`.
    pub cipher: String,
    /// `sha384`.
    pub hash: String,
    /// The client's certificate, if it has shown one.
    pub peer: Option<PeerCertificate>,
}

/// A client's certificate, as RFC 4514 writes names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Who it is for.
    pub subject: String,
    /// Who has made it.
    pub issuer: String,
    /// From when to when it counts.
    pub validity: String,
}

/// A channel.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelInfo {
    /// Its number.
    pub number: u16,
    /// Deliveries that the client holds.
    pub unacknowledged: u64,
    /// Publishes not yet confirmed; `None` when not in confirm mode.
    pub unconfirmed: Option<u64>,
    /// In transactional mode.
    pub transactional: bool,
    /// Prefetch of consumers that start from now on; 0 is no limit.
    pub prefetch: u16,
    /// Prefetch of all consumers together; 0 is no limit.
    pub global_prefetch: u16,
    /// Its consumers.
    pub consumers: Vec<ConsumerInfo>,
}

/// A consumer.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerInfo {
    /// Its tag.
    pub tag: String,
    /// Its queue.
    pub queue: String,
    /// The client acknowledges.
    pub ack_required: bool,
    /// No other consumer may be there.
    pub exclusive: bool,
    /// Its prefetch; 0 is no limit.
    pub prefetch: u16,
    /// Its arguments.
    pub arguments: FieldTable,
    /// Its home's session, by which its queue's leader knows it.
    pub session: u64,
    /// Its number there.
    pub subscription: u64,
}

impl Question {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        use wire::question::Question as Wire;
        let question = match self {
            Self::List { detailed } => Wire::List(wire::List { detailed: *detailed }),
            Self::Count { vhost, user } => {
                Wire::Count(wire::Count { vhost: vhost.clone(), user: user.clone() })
            }
            Self::Close { name, reason } => {
                Wire::Close(wire::Close { name: name.clone(), reason: reason.clone() })
            }
            Self::CloseAll { whose, reason } => {
                let whose = match whose {
                    Whose::Vhost(vhost) => wire::close_all::Whose::Vhost(vhost.clone()),
                    Whose::User(user) => wire::close_all::Whose::User(user.clone()),
                };
                Wire::CloseAll(wire::CloseAll { whose: Some(whose), reason: reason.clone() })
            }
            Self::Seen(revision) => Wire::Seen(wire::Seen { revision: *revision }),
            Self::Flow => Wire::Flow(wire::Flow::default()),
        };
        wire::Question { question: Some(question) }.encode_to_vec().into()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`]: damaged, or a question that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        use wire::question::Question as Wire;
        const WHAT: &str = "operator's question";
        let message = wire::Question::decode(bytes)
            .map_err(|error| DecodeError::Malformed { what: WHAT, reason: error.to_string() })?;
        Ok(match message.question.ok_or(DecodeError::Unknown { what: WHAT })? {
            Wire::List(list) => Self::List { detailed: list.detailed },
            Wire::Count(count) => Self::Count { vhost: count.vhost, user: count.user },
            Wire::Close(close) => Self::Close { name: close.name, reason: close.reason },
            Wire::CloseAll(close) => Self::CloseAll {
                whose: match close.whose.ok_or(DecodeError::Field { what: WHAT, field: "whose" })? {
                    wire::close_all::Whose::Vhost(vhost) => Whose::Vhost(vhost),
                    wire::close_all::Whose::User(user) => Whose::User(user),
                },
                reason: close.reason,
            },
            Wire::Seen(seen) => Self::Seen(seen.revision),
            Wire::Flow(_) => Self::Flow,
        })
    }
}

impl Reply {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        use wire::reply::Reply as Wire;
        let reply = match self {
            Self::Connections(connections) => Wire::Connections(wire::Connections {
                connections: connections.iter().map(connection_to_wire).collect(),
            }),
            Self::Counts(counts) => Wire::Counts(wire::Counts {
                vhost_connections: counts.vhost_connections,
                user_connections: counts.user_connections,
                user_channels: counts.user_channels,
            }),
            Self::Closed(found) => Wire::Closed(wire::Closed { found: *found }),
            Self::Seen(revision) => Wire::Seen(wire::Seen { revision: *revision }),
            Self::Flow(flow) => Wire::Flow(flow.to_wire()),
        };
        wire::Reply { reply: Some(reply) }.encode_to_vec().into()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`]: damaged, larger than any node is, or an answer that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        use wire::reply::Reply as Wire;
        let message = wire::Reply::decode(bytes)
            .map_err(|error| DecodeError::Malformed { what: WHAT, reason: error.to_string() })?;
        Ok(match message.reply.ok_or(DecodeError::Unknown { what: WHAT })? {
            Wire::Connections(list) => Self::Connections(
                bounded(list.connections)?.into_iter().map(connection_from_wire).collect::<Result<_, _>>()?,
            ),
            Wire::Counts(counts) => Self::Counts(ClientCounts {
                vhost_connections: counts.vhost_connections,
                user_connections: counts.user_connections,
                user_channels: counts.user_channels,
            }),
            Wire::Closed(closed) => Self::Closed(closed.found),
            Wire::Seen(seen) => Self::Seen(seen.revision),
            Wire::Flow(flow) => Self::Flow(Flow::from_wire(&flow)),
        })
    }
}

const WHAT: &str = "answer for an operator";

fn bounded<T>(items: Vec<T>) -> Result<Vec<T>, DecodeError> {
    if items.len() > ITEMS_MAX { Err(DecodeError::Field { what: WHAT, field: "items" }) } else { Ok(items) }
}

fn table_to_wire(table: &FieldTable) -> Bytes {
    let mut bytes = Vec::new();
    table::encode(table, &mut bytes);
    bytes.into()
}

fn table_from_wire(bytes: &[u8]) -> Result<FieldTable, DecodeError> {
    table::decode(bytes).map_err(|_| DecodeError::Field { what: WHAT, field: "table" })
}

fn small(number: u32, field: &'static str) -> Result<u16, DecodeError> {
    u16::try_from(number).map_err(|_| DecodeError::Field { what: WHAT, field })
}

fn connection_to_wire(info: &ConnectionInfo) -> wire::Connection {
    wire::Connection {
        id: info.id.0,
        name: info.name.clone(),
        user_provided_name: info.user_provided_name.clone(),
        user: info.user.clone(),
        vhost: info.vhost.clone(),
        channels: info.channels.into(),
        connected_at_ms: info.connected_at,
        heartbeat_s: info.heartbeat_s.into(),
        frame_max: info.frame_max,
        client_properties: table_to_wire(&info.client_properties),
        open: info.open.iter().map(channel_to_wire).collect(),
        node: info.node.0,
        blocked: info.blocked,
        tls: info.tls.as_ref().map(tls_to_wire),
    }
}

fn tls_to_wire(info: &TlsInfo) -> wire::Tls {
    let certificate = |peer: &PeerCertificate| wire::PeerCertificate {
        subject: peer.subject.clone(),
        issuer: peer.issuer.clone(),
        validity: peer.validity.clone(),
    };
    wire::Tls {
        protocol: info.protocol.clone(),
        key_exchange: info.key_exchange.clone(),
        cipher: info.cipher.clone(),
        hash: info.hash.clone(),
        peer: info.peer.as_ref().map(certificate),
    }
}

fn tls_from_wire(info: wire::Tls) -> TlsInfo {
    let certificate =
        |wire::PeerCertificate { subject, issuer, validity }| PeerCertificate { subject, issuer, validity };
    TlsInfo {
        protocol: info.protocol,
        key_exchange: info.key_exchange,
        cipher: info.cipher,
        hash: info.hash,
        peer: info.peer.map(certificate),
    }
}

fn connection_from_wire(info: wire::Connection) -> Result<ConnectionInfo, DecodeError> {
    Ok(ConnectionInfo {
        id: ConnectionId(info.id),
        node: NodeId(info.node),
        name: info.name,
        user_provided_name: info.user_provided_name,
        user: info.user,
        vhost: info.vhost,
        channels: small(info.channels, "channels")?,
        connected_at: info.connected_at_ms,
        heartbeat_s: small(info.heartbeat_s, "heartbeat")?,
        frame_max: info.frame_max,
        client_properties: table_from_wire(&info.client_properties)?,
        blocked: info.blocked,
        open: bounded(info.open)?.into_iter().map(channel_from_wire).collect::<Result<_, _>>()?,
        tls: info.tls.map(tls_from_wire),
    })
}

fn channel_to_wire(info: &ChannelInfo) -> wire::Channel {
    wire::Channel {
        number: info.number.into(),
        unacknowledged: info.unacknowledged,
        unconfirmed: info.unconfirmed,
        transactional: info.transactional,
        prefetch: info.prefetch.into(),
        global_prefetch: info.global_prefetch.into(),
        consumers: info.consumers.iter().map(consumer_to_wire).collect(),
    }
}

fn channel_from_wire(info: wire::Channel) -> Result<ChannelInfo, DecodeError> {
    Ok(ChannelInfo {
        number: small(info.number, "channel")?,
        unacknowledged: info.unacknowledged,
        unconfirmed: info.unconfirmed,
        transactional: info.transactional,
        prefetch: small(info.prefetch, "prefetch")?,
        global_prefetch: small(info.global_prefetch, "prefetch")?,
        consumers: bounded(info.consumers)?.into_iter().map(consumer_from_wire).collect::<Result<_, _>>()?,
    })
}

fn consumer_to_wire(info: &ConsumerInfo) -> wire::Consumer {
    wire::Consumer {
        tag: info.tag.clone(),
        queue: info.queue.clone(),
        ack_required: info.ack_required,
        exclusive: info.exclusive,
        prefetch: info.prefetch.into(),
        arguments: table_to_wire(&info.arguments),
        session: info.session,
        subscription: info.subscription,
    }
}

fn consumer_from_wire(info: wire::Consumer) -> Result<ConsumerInfo, DecodeError> {
    Ok(ConsumerInfo {
        tag: info.tag,
        queue: info.queue,
        ack_required: info.ack_required,
        exclusive: info.exclusive,
        prefetch: small(info.prefetch, "prefetch")?,
        arguments: table_from_wire(&info.arguments)?,
        session: info.session,
        subscription: info.subscription,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_survive_a_round_trip_and_damage_is_refused() {
        let consumer = ConsumerInfo {
            tag: "t".to_owned(),
            queue: "q".to_owned(),
            ack_required: true,
            exclusive: false,
            prefetch: 7,
            arguments: FieldTable::default(),
            session: 3,
            subscription: 4,
        };
        let channel = ChannelInfo {
            number: 3,
            unacknowledged: 2,
            unconfirmed: Some(0),
            transactional: false,
            prefetch: 1,
            global_prefetch: 0,
            consumers: vec![consumer],
        };
        let connection = ConnectionInfo {
            id: ConnectionId(9),
            node: NodeId(4),
            name: "a -> b".to_owned(),
            user_provided_name: None,
            user: "u".to_owned(),
            vhost: "/".to_owned(),
            channels: 1,
            connected_at: 5,
            heartbeat_s: 60,
            frame_max: 131_072,
            client_properties: FieldTable::default(),
            blocked: true,
            open: vec![channel],
            tls: Some(TlsInfo {
                protocol: "tlsv1.3".to_owned(),
                key_exchange: "any".to_owned(),
                cipher: "aes_256_gcm".to_owned(),
                hash: "sha384".to_owned(),
                peer: Some(PeerCertificate {
                    subject: "CN=client".to_owned(),
                    issuer: "CN=authority".to_owned(),
                    validity: "from - to".to_owned(),
                }),
            }),
        };
        let counts = ClientCounts { vhost_connections: 1, user_connections: 2, user_channels: 3 };
        let traffic = Traffic { publish: 1, queue_deleted: 2, ..Traffic::default() };
        let flow = Flow { total: traffic, recent: Traffic::default(), recent_ms: 5 };
        for reply in [
            Reply::Connections(vec![connection]),
            Reply::Counts(counts),
            Reply::Closed(true),
            Reply::Seen(7),
            Reply::Flow(flow),
        ] {
            let bytes = reply.encode();
            assert_eq!(Reply::decode(&bytes), Ok(reply));
            for end in 1..bytes.len() {
                drop(Reply::decode(&bytes[..end]));
            }
        }
        for question in [
            Question::List { detailed: true },
            Question::Count { vhost: "/".to_owned(), user: "u".to_owned() },
            Question::Close { name: "n".to_owned(), reason: "r".to_owned() },
            Question::CloseAll { whose: Whose::Vhost("v".to_owned()), reason: "r".to_owned() },
            Question::CloseAll { whose: Whose::User("u".to_owned()), reason: "r".to_owned() },
            Question::Seen(u64::MAX),
            Question::Flow,
        ] {
            assert_eq!(Question::decode(&question.encode()), Ok(question));
        }
        assert!(Question::decode(&[]).is_err() && Reply::decode(&[0xff]).is_err());
    }
}
