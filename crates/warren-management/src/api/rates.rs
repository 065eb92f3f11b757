//! Counters and their rates in RabbitMQ's shape: `X` and, beside it, `X_details` with how often a second that was lately.

use serde_json::{Map, Value, json};
use warren_broker::admin::{Flow, QueueInfo, Tally, Traffic};

/// What happened in queues: in all, and lately in so many milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Happened {
    total: Tally,
    recent: Tally,
    recent_ms: u64,
}

impl Happened {
    pub(super) fn of(queue: &QueueInfo) -> Self {
        let (recent, recent_ms) = queue.recent;
        Self { total: queue.total.unwrap_or_default(), recent, recent_ms }
    }

    pub(super) fn of_all<'a>(queues: impl Iterator<Item = &'a QueueInfo>) -> Self {
        queues.map(Self::of).fold(Self::default(), |sum, one| Self {
            total: sum.total.and(one.total),
            recent: sum.recent.and(one.recent),
            recent_ms: sum.recent_ms.max(one.recent_ms),
        })
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.total == Tally::default()
    }

    /// `message_stats` of a queue.
    pub(super) fn message_stats(&self) -> Map<String, Value> {
        let mut stats = Map::new();
        for ((name, total), (_, recent)) in named(self.total).into_iter().zip(named(self.recent)) {
            put(&mut stats, name, total, per_second(recent, self.recent_ms));
        }
        stats
    }

    /// How fast the numbers of ready and of unacknowledged messages change, as far as what was counted tells: what
    /// expires, is purged or comes back is not in it.
    pub(super) fn growth(&self) -> (f64, f64) {
        let Tally { publish, deliver, deliver_no_ack, get, get_no_ack, get_empty: _, redeliver, ack } =
            self.recent;
        let rate = |count: u64| per_second(count, self.recent_ms);
        let left = rate(deliver) + rate(deliver_no_ack) + rate(get) + rate(get_no_ack);
        let ready = rate(publish) + rate(redeliver) - left;
        (ready, rate(deliver) + rate(get) - rate(redeliver) - rate(ack))
    }
}

fn named(tally: Tally) -> [(&'static str, u64); 9] {
    let Tally { publish, deliver, deliver_no_ack, get, get_no_ack, get_empty, redeliver, ack } = tally;
    [
        ("publish", publish),
        ("deliver", deliver),
        ("deliver_no_ack", deliver_no_ack),
        ("get", get),
        ("get_no_ack", get_no_ack),
        ("get_empty", get_empty),
        (
            "deliver_get",
            deliver.saturating_add(deliver_no_ack).saturating_add(get).saturating_add(get_no_ack),
        ),
        ("redeliver", redeliver),
        ("ack", ack),
    ]
}

/// What publishers did, over the `message_stats` of queues: there a message counts once for each queue that it went to.
pub(super) fn put_publishes(stats: &mut Map<String, Value>, flow: &Flow) {
    let of = |traffic: &Traffic| {
        [
            ("publish", traffic.publish),
            ("confirm", traffic.confirm),
            ("return_unroutable", traffic.return_unroutable),
            ("drop_unroutable", traffic.drop_unroutable),
        ]
    };
    for ((name, total), (_, recent)) in of(&flow.total).into_iter().zip(of(&flow.recent)) {
        put(stats, name, total, per_second(recent, flow.recent_ms));
    }
    // The store does not count for single messages.
    put(stats, "disk_reads", 0, 0.0);
    put(stats, "disk_writes", 0, 0.0);
}

/// `churn_rates` of the overview.
pub(super) fn churn(flow: &Flow) -> Value {
    let of = |traffic: &Traffic| {
        [
            ("connection_created", traffic.connection_created),
            ("connection_closed", traffic.connection_closed),
            ("channel_created", traffic.channel_created),
            ("channel_closed", traffic.channel_closed),
            ("queue_declared", traffic.queue_declared),
            ("queue_created", traffic.queue_created),
            ("queue_deleted", traffic.queue_deleted),
        ]
    };
    let mut churn = Map::new();
    for ((name, total), (_, recent)) in of(&flow.total).into_iter().zip(of(&flow.recent)) {
        put(&mut churn, name, total, per_second(recent, flow.recent_ms));
    }
    Value::Object(churn)
}

/// A number and how fast it grows.
pub(super) fn put(object: &mut Map<String, Value>, name: &str, number: u64, rate: f64) {
    object.insert(name.to_owned(), number.into());
    object.insert(format!("{name}_details"), json!({ "rate": rate }));
}

fn per_second(count: u64, ms: u64) -> f64 {
    // Both are far below what a float holds exactly.
    if ms == 0 { 0.0 } else { count as f64 * 1000.0 / ms as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_by_the_second() {
        let recent = Tally { publish: 50, deliver: 20, ack: 10, ..Tally::default() };
        let happened = Happened { total: Tally { publish: 100, ..recent }, recent, recent_ms: 5_000 };
        let stats = happened.message_stats();
        assert_eq!((&stats["publish"], &stats["publish_details"]["rate"]), (&json!(100), &json!(10.0)));
        assert_eq!((&stats["deliver_get"], &stats["deliver_get_details"]["rate"]), (&json!(20), &json!(4.0)));
        assert_eq!(happened.growth(), (6.0, 2.0));
        assert!(Happened::default().is_nothing());
        assert_eq!(per_second(5, 0), 0.0);
    }
}
