//! The command line of `warren bench run`, and the plan that it becomes once it was found to make sense.

use clap::{Args, ValueEnum};

use crate::account::Spread;
use crate::amqp::topology::{Exchange, QueueSettings};
use crate::amqp::wire::Field;
use crate::clock::seconds_as_ns;
use crate::error::BenchError;
use crate::stamp::{SEQUENCE_MAX, STAMP_BYTES};
use crate::uri::{BrokerUri, Scheme};

/// Where the brokers are, which processes are watched, how the result is printed: common to all kinds of bench.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The brokers, as amqp://user:password@host:port/vhost; connections are spread over them in turn. Without any:
    /// guest on 127.0.0.1.
    #[arg(long, value_name = "URI,…", value_delimiter = ',')]
    uris: Vec<String>,
    /// The brokers' processes: their CPU, memory and disk writes are reported, added up.
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
    /// A table for people, or one JSON object.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// No progress on stderr.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// A name for this run, repeated in the JSON.
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
}

impl Common {
    /// The brokers' addresses; at least one.
    pub(crate) fn uris(&self, scheme: Scheme) -> Result<Vec<BrokerUri>, BenchError> {
        match self.uris.as_slice() {
            [] => Ok(vec![BrokerUri::parse(scheme.default_uri(), scheme)?]),
            given => parse_uris(given, scheme),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

/// Who acknowledges deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ack {
    /// The consumer, with basic.ack.
    Manual,
    /// The broker, as soon as it has sent them.
    Auto,
}

/// `x-queue-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueueType {
    /// Replicated. Implies --durable.
    Quorum,
    /// On one node.
    Classic,
}

/// The queues that a run or a declaration bench makes.
#[derive(Clone, Debug, Args)]
pub(crate) struct QueueArguments {
    /// Queues are named PREFIX-0, PREFIX-1, …; what has these names is deleted first.
    #[arg(long, value_name = "PREFIX", default_value = "bench")]
    pub(crate) queue_prefix: String,
    /// The queues survive a restart of the broker.
    #[arg(long)]
    durable: bool,
    /// Sent as x-queue-type; without it the broker decides.
    #[arg(long, value_enum)]
    queue_type: Option<QueueType>,
    /// A further argument of queue.declare, as NAME=VALUE; a value that is an integer, true or false is sent as such.
    #[arg(long, value_name = "NAME=VALUE")]
    argument: Vec<String>,
    /// Leave the queues there at the end.
    #[arg(long)]
    pub(crate) keep: bool,
}

impl QueueArguments {
    /// The settings that queue.declare gets.
    pub(crate) fn settings(&self) -> Result<QueueSettings, BenchError> {
        let kind = self.queue_type.map(|kind| match kind {
            QueueType::Quorum => "quorum",
            QueueType::Classic => "classic",
        });
        let kind = kind.map(|kind| Ok(("x-queue-type".to_owned(), Field::Text(kind.to_owned()))));
        let others = self.argument.iter().map(|text| {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| BenchError::Usage(format!("--argument {text} is not NAME=VALUE")))?;
            Ok((name.to_owned(), field(value)))
        });
        let arguments = kind.into_iter().chain(others).collect::<Result<_, BenchError>>()?;
        Ok(QueueSettings { durable: self.durable || self.queue_type == Some(QueueType::Quorum), arguments })
    }
}

fn field(value: &str) -> Field {
    match (value, value.parse()) {
        (_, Ok(number)) => Field::Integer(number),
        ("true", Err(_)) => Field::Bool(true),
        ("false", Err(_)) => Field::Bool(false),
        (text, Err(_)) => Field::Text(text.to_owned()),
    }
}

/// The command line of `warren bench run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    queue: QueueArguments,
    /// The consumers' brokers, if they are others than the producers'.
    #[arg(long, value_name = "URI,…", value_delimiter = ',')]
    consumer_uris: Vec<String>,
    /// Where the queues are declared, if not at the first producer's broker: some brokers let a queue live where it was
    /// declared.
    #[arg(long, value_name = "URI")]
    declare_uri: Option<String>,
    /// Publishing connections, with one channel each.
    #[arg(long, value_name = "N", default_value_t = 1)]
    producers: u16,
    /// Consuming connections, with one channel each.
    #[arg(long, value_name = "N", default_value_t = 1)]
    consumers: u16,
    /// Queues. With fewer producers or consumers than queues each serves several, with more they share.
    #[arg(long, value_name = "N", default_value_t = 1)]
    queues: u16,
    /// Bytes of a message's body, at least 16: it carries a number and a time.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    size: usize,
    /// Publisher confirms, at most N messages of each producer unconfirmed at once.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    confirm_window: u32,
    /// No publisher confirms.
    #[arg(long, conflicts_with = "confirm_window")]
    no_confirms: bool,
    /// Who acknowledges deliveries.
    #[arg(long, value_enum, default_value_t = Ack::Manual)]
    ack: Ack,
    /// Unacknowledged deliveries of each consumer at most; 0: no limit.
    #[arg(long, value_name = "N", default_value_t = 500)]
    prefetch: u16,
    /// One basic.ack with `multiple` for every N deliveries.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    multi_ack: u32,
    /// Messages are persistent (delivery mode 2).
    #[arg(long)]
    persistent: bool,
    /// Messages that no queue takes come back.
    #[arg(long)]
    mandatory: bool,
    /// How messages find their queues.
    #[arg(long, value_enum, default_value_t = Exchange::Default)]
    exchange: Exchange,
    /// Further bindings, which no message matches.
    #[arg(long, value_name = "N", default_value_t = 0)]
    extra_bindings: usize,
    /// Publish N messages, all producers together.
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// Publish for S seconds (10 if --messages is not given either); with both, what comes first.
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Leave the first S seconds out of all figures but the counts.
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    warmup: f64,
    /// R messages a second, all producers together. Latency counts from when a message should have been sent.
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// Only publish, and leave the messages there: builds a backlog.
    #[arg(long, conflicts_with = "consume_only")]
    publish_only: bool,
    /// Only consume what is there already: drains a backlog. Ends after --messages or what the queues held at the start.
    #[arg(long)]
    consume_only: bool,
    /// Give up when nothing at all has happened for S seconds.
    #[arg(long, value_name = "S", default_value_t = 30.0)]
    patience: f64,
    /// Give up after S seconds whatever happens.
    #[arg(long, value_name = "S", default_value_t = 3_600.0)]
    deadline: f64,
}

/// Which halves of a run take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Publish and consume at once.
    Both,
    /// Build a backlog.
    PublishOnly,
    /// Drain a backlog.
    ConsumeOnly,
}

/// What a run does: the command line, checked and put into the units of the code.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) common: Common,
    pub(crate) control_uri: BrokerUri,
    pub(crate) producer_uris: Vec<BrokerUri>,
    pub(crate) consumer_uris: Vec<BrokerUri>,
    /// 0 in a run that only consumes.
    pub(crate) producers: usize,
    /// 0 in a run that only publishes.
    pub(crate) consumers: usize,
    pub(crate) queues: usize,
    pub(crate) queue_prefix: String,
    pub(crate) queue_settings: QueueSettings,
    pub(crate) keep: bool,
    pub(crate) exchange: Exchange,
    pub(crate) extra_bindings: usize,
    pub(crate) body_bytes: usize,
    /// None: no confirms.
    pub(crate) confirm_window: Option<u32>,
    pub(crate) ack: Ack,
    pub(crate) prefetch: u16,
    pub(crate) multi_ack: u32,
    pub(crate) persistent: bool,
    pub(crate) mandatory: bool,
    pub(crate) mode: Mode,
    /// To publish in all, or in a run that only consumes: to receive.
    pub(crate) messages: Option<u64>,
    /// How long to publish, or in a run that only consumes: to consume.
    pub(crate) duration_ns: Option<u64>,
    /// Messages a second of all producers.
    pub(crate) rate: Option<f64>,
    pub(crate) warmup_ns: u64,
    pub(crate) patience_ns: u64,
    pub(crate) deadline_ns: u64,
}

/// Beyond this many bytes of body no broker accepts a message.
const BODY_MAX: usize = 512 << 20;
/// Messages a second that one thread can dream of.
const RATE_MAX: f64 = 10e6;

impl Plan {
    /// Checks a command line.
    ///
    /// # Errors
    /// [`BenchError::Usage`] for what makes no sense together.
    pub(crate) fn new(arguments: RunArguments, scheme: Scheme) -> Result<Self, BenchError> {
        let usage = |text: &str| Err(BenchError::Usage(text.to_owned()));
        if !(STAMP_BYTES..=BODY_MAX).contains(&arguments.size) {
            return usage("--size must be 16 bytes (a number and a time are in each message) to 512 MiB");
        }
        if arguments.producers == 0 || arguments.consumers == 0 || arguments.queues == 0 {
            return usage(
                "--producers, --consumers and --queues must be 1 or more (see --publish-only, --consume-only)",
            );
        }
        if arguments.messages.is_some_and(|messages| messages == 0 || messages > SEQUENCE_MAX) {
            return usage("--messages must be 1 to 4,294,967,296");
        }
        if arguments.rate.is_some_and(|rate| !(rate > 0.0 && rate <= RATE_MAX)) {
            return usage("--rate must be above 0 and at most 10,000,000");
        }
        let times =
            [arguments.warmup, arguments.patience, arguments.deadline, arguments.seconds.unwrap_or(1.0)];
        if times.iter().any(|seconds| !seconds.is_finite() || *seconds < 0.0) {
            return usage("a time must be a number of seconds, 0 or more");
        }
        if arguments.ack == Ack::Manual
            && arguments.prefetch > 0
            && arguments.multi_ack > u32::from(arguments.prefetch)
        {
            return usage("--multi-ack beyond --prefetch would wait for deliveries that cannot come");
        }
        let mode = match (arguments.publish_only, arguments.consume_only) {
            (false, false) => Mode::Both,
            (true, _) => Mode::PublishOnly,
            (false, true) => Mode::ConsumeOnly,
        };
        let unlimited = arguments.messages.is_none() && mode != Mode::ConsumeOnly;
        let seconds = arguments.seconds.or(unlimited.then_some(DEFAULT_SECONDS));
        let producer_uris = arguments.common.uris(scheme)?;
        let consumer_uris = match arguments.consumer_uris.as_slice() {
            [] => producer_uris.clone(),
            given => parse_uris(given, scheme)?,
        };
        let control_uri = match (&arguments.declare_uri, producer_uris.first()) {
            (Some(uri), _) => BrokerUri::parse(uri, scheme)?,
            (None, Some(first)) => first.clone(),
            (None, None) => return usage("no URI was given"),
        };
        Ok(Self {
            control_uri,
            producer_uris,
            consumer_uris,
            producers: if mode == Mode::ConsumeOnly { 0 } else { usize::from(arguments.producers) },
            consumers: if mode == Mode::PublishOnly { 0 } else { usize::from(arguments.consumers) },
            queues: usize::from(arguments.queues),
            queue_settings: arguments.queue.settings()?,
            queue_prefix: arguments.queue.queue_prefix,
            keep: arguments.queue.keep || mode == Mode::PublishOnly,
            exchange: arguments.exchange,
            extra_bindings: arguments.extra_bindings,
            body_bytes: arguments.size,
            confirm_window: (!arguments.no_confirms).then_some(arguments.confirm_window),
            ack: arguments.ack,
            prefetch: arguments.prefetch,
            multi_ack: arguments.multi_ack,
            persistent: arguments.persistent,
            mandatory: arguments.mandatory,
            mode,
            messages: arguments.messages,
            duration_ns: seconds.map(seconds_as_ns),
            rate: arguments.rate,
            warmup_ns: seconds_as_ns(arguments.warmup),
            patience_ns: seconds_as_ns(arguments.patience),
            deadline_ns: seconds_as_ns(arguments.deadline),
            common: arguments.common,
        })
    }

    /// How the messages spread, for the books.
    pub(crate) fn spread(&self) -> Spread {
        let one_consumer = (0..self.queues).all(|queue| {
            let serves =
                |consumer: &usize| queues_of(*consumer, self.consumers, self.queues).contains(&queue);
            self.consumers <= self.queues || (0..self.consumers).filter(serves).count() <= 1
        });
        Spread { queues: self.queues, to_all: self.exchange == Exchange::Fanout, in_order: one_consumer }
    }

    /// The name of queue number `queue`.
    pub(crate) fn queue_name(&self, queue: usize) -> String {
        format!("{}-{queue}", self.queue_prefix)
    }

    /// Whether the broker acknowledges its deliveries itself.
    pub(crate) fn is_automatic(&self) -> bool {
        self.ack == Ack::Auto
    }

    /// How many of the messages producer `index` sends.
    pub(crate) fn share_of(&self, index: usize) -> Option<u64> {
        let (count, index) = (self.producers.max(1) as u64, index as u64);
        self.messages.map(|messages| messages / count + u64::from(index < messages % count))
    }
}

/// How long is published when nothing was said.
const DEFAULT_SECONDS: f64 = 10.0;

fn parse_uris(texts: &[String], scheme: Scheme) -> Result<Vec<BrokerUri>, BenchError> {
    texts.iter().map(|text| BrokerUri::parse(text, scheme)).collect()
}

/// Of `queues` queues, those that participant `index` of `count` serves: its share when there are more queues than
/// participants, else one, which it then shares.
pub(crate) fn queues_of(index: usize, count: usize, queues: usize) -> Vec<usize> {
    if count >= queues {
        vec![index % queues.max(1)]
    } else {
        (0..queues).filter(|queue| queue % count.max(1) == index).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArguments,
    }

    fn plan(line: &str) -> Result<Plan, BenchError> {
        let words = std::iter::once("run").chain(line.split_whitespace());
        Plan::new(Cli::try_parse_from(words).unwrap().run, Scheme::Amqp)
    }

    #[test]
    fn without_arguments_a_run_is_ten_seconds_on_loopback_with_confirms() {
        let plan = plan("").unwrap();
        assert_eq!(plan.producer_uris, [BrokerUri::parse("amqp://", Scheme::Amqp).unwrap()]);
        assert_eq!(plan.consumer_uris, plan.producer_uris);
        assert_eq!(plan.control_uri, BrokerUri::parse("amqp://", Scheme::Amqp).unwrap());
        assert_eq!((plan.duration_ns, plan.messages), (Some(10_000_000_000), None));
        assert_eq!((plan.confirm_window, plan.prefetch, plan.body_bytes), (Some(1_000), 500, 1_024));
        assert!(!plan.persistent && !plan.queue_settings.durable && !plan.keep);
    }

    #[test]
    fn a_quorum_queue_is_durable_and_arguments_have_their_types() {
        let plan =
            plan("--queue-type quorum --argument x-max-length=5 --argument a=b --argument c=true").unwrap();
        let text = |text: &str| Field::Text(text.to_owned());
        let expected = [
            ("x-queue-type", text("quorum")),
            ("x-max-length", Field::Integer(5)),
            ("a", text("b")),
            ("c", Field::Bool(true)),
        ];
        assert!(plan.queue_settings.durable);
        assert_eq!(plan.queue_settings.arguments, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn half_a_run_has_no_other_half() {
        let publish = plan("--publish-only --producers 3 --messages 10").unwrap();
        assert_eq!((publish.producers, publish.consumers, publish.keep), (3, 0, true));
        assert_eq!((0..3).map(|index| publish.share_of(index).unwrap()).collect::<Vec<_>>(), [4, 3, 3]);
        let consume = plan("--consume-only --consumers 2").unwrap();
        assert_eq!((consume.producers, consume.consumers, consume.keep), (0, 2, false));
        assert_eq!((consume.messages, consume.duration_ns), (None, None));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--size 15",
            "--producers 0",
            "--queues 0",
            "--messages 0",
            "--rate 0",
            "--rate -1",
            "--rate NaN",
            "--seconds inf",
            "--patience -1",
            "--multi-ack 501",
            "--argument x",
            "--uris http://h",
            "--consumer-uris nonsense",
        ] {
            let words: Vec<_> = std::iter::once("run").chain(line.split_whitespace()).collect();
            match Cli::try_parse_from(&words) {
                Ok(cli) => {
                    assert!(matches!(Plan::new(cli.run, Scheme::Amqp), Err(BenchError::Usage(_))), "{line}")
                }
                Err(error) => assert_eq!(error.exit_code(), 2, "{line}"),
            }
        }
        for line in
            ["--confirm-window 0", "--confirm-window 5 --no-confirms", "--publish-only --consume-only"]
        {
            let words = std::iter::once("run").chain(line.split_whitespace());
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }

    #[test]
    fn order_is_only_checked_where_a_queue_has_one_consumer() {
        for (line, in_order) in [
            ("", true),
            ("--consumers 2", false),
            ("--consumers 2 --queues 2", true),
            ("--consumers 3 --queues 2", false),
        ] {
            assert_eq!(plan(line).unwrap().spread().in_order, in_order, "{line}");
        }
    }

    #[test]
    fn every_queue_is_served_and_every_participant_has_one() {
        for (count, queues) in [(1, 1), (1, 16), (3, 16), (16, 16), (100, 1), (5, 2)] {
            let mut served: Vec<usize> = (0..count)
                .flat_map(|index| {
                    let own = queues_of(index, count, queues);
                    assert!(!own.is_empty(), "participant {index} of {count} with {queues} queues");
                    own
                })
                .collect();
            assert_eq!(served.len(), count.max(queues));
            served.sort_unstable();
            served.dedup();
            assert_eq!(served, (0..queues).collect::<Vec<_>>());
        }
    }
}
