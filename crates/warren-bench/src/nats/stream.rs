//! What a run publishes to and consumes from in JetStream. A queue is a stream whose messages go when they are
//! acknowledged (work-queue retention), with one durable push consumer, explicit acknowledgement and as many
//! unacknowledged messages as the prefetch says. A fanout is one stream with a durable consumer for each queue, which
//! keeps a message until all have acknowledged it (interest retention): JetStream does not let one message into
//! several streams.

use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::amqp::topology::Exchange;
use crate::amqp::wire::Field;
use crate::arguments::{Plan, queues_of};
use crate::clock::{SECOND_NS, monotonic_ns};
use crate::error::BenchError;
use crate::nats::link::Link;

/// The answer to a request to JetStream, as far as it is of interest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    error: Option<ApiError>,
    cluster: Option<Cluster>,
    state: State,
    num_pending: u64,
    num_ack_pending: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ApiError {
    code: u16,
    err_code: u32,
    description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cluster {
    leader: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    messages: u64,
}

const NOT_FOUND: u16 = 404;
/// No answer, no leader now, or the cluster is not ready yet: the same request is made again.
const UNAVAILABLE: u16 = 503;
/// A cluster that has just started does not know all its servers yet: also made again.
const NO_SUITABLE_PEERS: u32 = 10_005;
const TRY_FOR_S: u64 = 30;
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// How often a leader is asked to step down before it is given up that the right one follows: each time one of the
/// others does, by chance.
const STEP_DOWNS: usize = 40;

impl Plan {
    /// Whether the run makes sense with JetStream.
    ///
    /// # Errors
    /// [`BenchError::Usage`] with what does not.
    pub(crate) fn check_for_nats(&self) -> Result<(), BenchError> {
        let usage = |text: &str| Err(BenchError::Usage(text.to_owned()));
        if self.queue_prefix.contains(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-') {
            return usage("--queue-prefix: a stream's name has letters, digits and hyphens only");
        }
        if self.is_automatic() || self.multi_ack > 1 {
            return usage("a stream with work-queue retention asks for each message to be acknowledged");
        }
        match self.exchange {
            Exchange::Default | Exchange::Fanout => {}
            Exchange::Direct | Exchange::Topic | Exchange::Headers => {
                return usage("--exchange is default or fanout with NATS");
            }
        }
        if self.body_bytes > BODY_MAX {
            return usage("--size is at most 400,000 bytes with NATS");
        }
        Ok(())
    }

    /// What producers publish to for queue number `queue`: a subject of one token.
    pub(crate) fn subject(&self, queue: usize) -> String {
        self.stream(queue)
    }

    /// Where the deliveries of queue number `queue` go.
    pub(crate) fn deliver_subject(&self, queue: usize) -> String {
        format!("deliver.{}", self.queue_name(queue))
    }

    /// How many consumers share queue number `queue`.
    pub(crate) fn sharing(&self, queue: usize) -> usize {
        let serves = |consumer: &usize| queues_of(*consumer, self.consumers, self.queues).contains(&queue);
        (0..self.consumers).filter(serves).count()
    }

    fn stream(&self, queue: usize) -> String {
        match self.exchange {
            Exchange::Fanout => format!("{}-fanout", self.queue_prefix),
            Exchange::Default | Exchange::Direct | Exchange::Topic | Exchange::Headers => {
                self.queue_name(queue)
            }
        }
    }

    /// The queues whose streams differ.
    fn streams(&self) -> std::ops::Range<usize> {
        if self.exchange == Exchange::Fanout { 0..1 } else { 0..self.queues }
    }

    /// A stream's configuration. `--queue-type quorum` is three replicas; each `--argument` is set as it is.
    fn stream_config(&self, queue: usize) -> Value {
        let retention = if self.exchange == Exchange::Fanout { "interest" } else { "workqueue" };
        let mut config = Map::new();
        config.insert("name".to_owned(), json!(self.stream(queue)));
        config.insert("subjects".to_owned(), json!([self.subject(queue)]));
        config.insert("retention".to_owned(), json!(retention));
        config.insert("storage".to_owned(), json!("file"));
        config.insert("num_replicas".to_owned(), json!(1));
        for (name, value) in &self.queue_settings.arguments {
            match (name.as_str(), value) {
                ("x-queue-type", Field::Text(kind)) if kind == "quorum" => {
                    config.insert("num_replicas".to_owned(), json!(REPLICAS));
                }
                ("x-queue-type", _) => {}
                (name, Field::Bool(value)) => {
                    config.insert(name.to_owned(), json!(value));
                }
                (name, Field::Integer(value)) => {
                    config.insert(name.to_owned(), json!(value));
                }
                (name, Field::Text(value)) => {
                    config.insert(name.to_owned(), json!(value));
                }
                (_, Field::Table(_)) => {}
            }
        }
        Value::Object(config)
    }

    /// The configuration of a queue's consumer.
    fn consumer_config(&self, queue: usize) -> Value {
        let sharing = self.sharing(queue).max(1);
        let max_ack_pending = match self.prefetch {
            0 => -1,
            prefetch => i64::from(prefetch) * i64::try_from(sharing).unwrap_or(1),
        };
        let mut config = json!({
            "durable_name": self.queue_name(queue),
            "deliver_subject": self.deliver_subject(queue),
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "replay_policy": "instant",
            "max_ack_pending": max_ack_pending,
        });
        if let (true, Some(fields)) = (sharing > 1, config.as_object_mut()) {
            fields.insert("deliver_group".to_owned(), json!(GROUP));
        }
        json!({ "stream_name": self.stream(queue), "config": config })
    }
}

/// Replicas of what is replicated.
const REPLICAS: u8 = 3;
/// Beyond this a message does not fit into what the engine reads at once.
const BODY_MAX: usize = 400_000;
/// By which consumers that share a queue know each other.
pub(crate) const GROUP: &str = "bench";

/// Makes streams and consumers anew: what an earlier run left under these names is deleted. A run with one stream gets
/// its leaders on the server that was asked, as queues are led where they were declared; several are left where the
/// cluster spread them.
pub(crate) fn set_up(plan: &Plan, link: &mut Link) -> Result<(), BenchError> {
    tear_down(plan, link)?;
    let server = link.info().server_name.clone();
    let one_stream = plan.streams().len() == 1;
    for queue in plan.streams() {
        let stream = plan.stream(queue);
        ask(link, &format!("STREAM.CREATE.{stream}"), &plan.stream_config(queue))?;
        if one_stream {
            move_leader(link, "STREAM", &stream, &server)?;
        }
    }
    for queue in 0..plan.queues {
        let (stream, consumer) = (plan.stream(queue), plan.queue_name(queue));
        let config = plan.consumer_config(queue);
        ask(link, &format!("CONSUMER.DURABLE.CREATE.{stream}.{consumer}"), &config)?;
        if one_stream {
            move_leader(link, "CONSUMER", &format!("{stream}.{consumer}"), &server)?;
        }
    }
    Ok(())
}

/// Deletes the streams, and so their consumers; what is not there is no error.
pub(crate) fn tear_down(plan: &Plan, link: &mut Link) -> Result<(), BenchError> {
    for queue in plan.streams() {
        match ask(link, &format!("STREAM.DELETE.{}", plan.stream(queue)), &Value::Null) {
            Ok(_) | Err(BenchError::Declined { code: NOT_FOUND, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How many messages wait in the streams, which must exist: with a fanout, for all consumers together.
pub(crate) fn depth(plan: &Plan, link: &mut Link) -> Result<u64, BenchError> {
    if plan.exchange == Exchange::Fanout {
        let pending = |link: &mut Link, queue| {
            let name = format!("CONSUMER.INFO.{}.{}", plan.stream(queue), plan.queue_name(queue));
            ask(link, &name, &Value::Null).map(|answer| answer.num_pending + answer.num_ack_pending)
        };
        return (0..plan.queues).map(|queue| pending(link, queue)).sum();
    }
    let messages = |link: &mut Link, queue| {
        ask(link, &format!("STREAM.INFO.{}", plan.stream(queue)), &Value::Null)
            .map(|answer| answer.state.messages)
    };
    plan.streams().map(|queue| messages(link, queue)).sum()
}

/// Asks JetStream for something until it answers otherwise than with "not now".
fn ask(link: &mut Link, request: &str, body: &Value) -> Result<Answer, BenchError> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let until_ns = monotonic_ns() + TRY_FOR_S * SECOND_NS;
    loop {
        let found = link.request(&format!("$JS.API.{request}"), body.as_bytes(), "a request to JetStream")?;
        let answer = match found {
            Some(json) => serde_json::from_slice::<Answer>(&json)
                .map_err(|error| BenchError::protocol(link.address(), &error.to_string()))?,
            None => Answer {
                error: Some(ApiError {
                    code: UNAVAILABLE,
                    err_code: 0,
                    description: "nobody answers".to_owned(),
                }),
                ..Answer::default()
            },
        };
        let Some(error) = answer.error else {
            return Ok(answer);
        };
        let is_passing = error.code == UNAVAILABLE || error.err_code == NO_SUITABLE_PEERS;
        if !is_passing || monotonic_ns() > until_ns {
            return Err(BenchError::Declined {
                address: link.address().to_owned(),
                request: request.to_owned(),
                code: error.code,
                text: error.description,
            });
        }
        thread::sleep(TRY_AGAIN);
    }
}

/// Lets leaders of a stream or consumer step down until `server` leads it. One that is not replicated stays.
fn move_leader(link: &mut Link, kind: &str, name: &str, server: &str) -> Result<(), BenchError> {
    for _ in 0..STEP_DOWNS {
        match leader(link, kind, name)? {
            Some(leader) if leader != server => {}
            Some(_) | None => return Ok(()),
        }
        // It answers when another one leads, or cannot: either way the next look tells.
        let subject = format!("$JS.API.{kind}.LEADER.STEPDOWN.{name}");
        link.request(&subject, b"", "a leader's stepping down")?;
    }
    Err(BenchError::Declined {
        address: link.address().to_owned(),
        request: format!("{kind}.LEADER.STEPDOWN.{name}"),
        code: UNAVAILABLE,
        text: format!("another server than {server} led each time"),
    })
}

/// Who leads; waits until somebody does. None: it has no replicas.
fn leader(link: &mut Link, kind: &str, name: &str) -> Result<Option<String>, BenchError> {
    let until_ns = monotonic_ns() + TRY_FOR_S * SECOND_NS;
    loop {
        match ask(link, &format!("{kind}.INFO.{name}"), &Value::Null)?.cluster {
            None => return Ok(None),
            Some(cluster) if !cluster.leader.is_empty() => return Ok(Some(cluster.leader)),
            Some(_) if monotonic_ns() > until_ns => {
                return Err(BenchError::Silent {
                    address: link.address().to_owned(),
                    question: "who leads",
                    waited_s: TRY_FOR_S,
                });
            }
            Some(_) => thread::sleep(TRY_AGAIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::RunArguments;
    use crate::uri::Scheme;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArguments,
    }

    fn plan(line: &str) -> Plan {
        let words = std::iter::once("run").chain(line.split_whitespace());
        Plan::new(Cli::try_parse_from(words).unwrap().run, Scheme::Nats).unwrap()
    }

    #[test]
    fn a_quorum_queue_is_a_stream_with_three_replicas_and_a_consumer_with_the_prefetch() {
        let plan = plan("--queue-type quorum --queues 2 --consumers 2 --argument max_bytes=9 --prefetch 7");
        assert_eq!(
            plan.stream_config(1),
            json!({ "name": "bench-1", "subjects": ["bench-1"], "retention": "workqueue", "storage": "file",
                "num_replicas": 3, "max_bytes": 9 })
        );
        let config = plan.consumer_config(1);
        assert_eq!(
            (&config["stream_name"], &config["config"]["max_ack_pending"]),
            (&json!("bench-1"), &json!(7))
        );
        assert_eq!(config["config"]["deliver_group"], Value::Null);
    }

    #[test]
    fn a_fanout_is_one_stream_with_a_consumer_for_each_queue() {
        let plan = plan("--exchange fanout --queues 3 --consumers 3");
        assert_eq!(plan.streams().len(), 1);
        assert_eq!(plan.stream_config(0)["retention"], json!("interest"));
        assert_eq!(plan.subject(0), "bench-fanout");
        for queue in 0..3 {
            let config = plan.consumer_config(queue);
            assert_eq!(config["stream_name"], json!("bench-fanout"));
            assert_eq!(config["config"]["durable_name"], json!(format!("bench-{queue}")));
        }
    }

    #[test]
    fn consumers_that_share_a_queue_are_a_group_with_the_prefetch_of_all() {
        let config = plan("--consumers 3 --prefetch 10").consumer_config(0);
        assert_eq!(config["config"]["max_ack_pending"], json!(30));
        assert_eq!(config["config"]["deliver_group"], json!(GROUP));
        assert_eq!(plan("--prefetch 0").consumer_config(0)["config"]["max_ack_pending"], json!(-1));
    }

    #[test]
    fn what_jetstream_does_not_have_is_refused() {
        assert!(plan("").check_for_nats().is_ok());
        for line in ["--queue-prefix a.b", "--ack auto", "--multi-ack 2", "--exchange topic", "--size 500000"]
        {
            assert!(matches!(plan(line).check_for_nats(), Err(BenchError::Usage(_))), "{line}");
        }
    }
}
