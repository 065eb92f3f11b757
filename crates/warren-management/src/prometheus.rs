//! The metrics page: Prometheus's text format, version 0.0.4. Each node tells only of itself, and of a queue only
//! when it leads it, so that sums over nodes are right. No labels that grow with what clients declare.

use std::fmt::Write as _;
use std::time::Instant;

use warren_broker::admin::{Admin, Tally, Traffic};

use crate::api::RABBITMQ_VERSION;
use crate::process::Process;

/// What the page says it is.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page.
pub(crate) async fn page(admin: &dyn Admin, started: Instant) -> String {
    let mut page = Page::default();
    let node = admin.node_name();
    let cluster = admin.cluster_name();
    page.info("warren_build_info", "The program's version.", &[("version", admin.version())]);
    page.info(
        "rabbitmq_build_info",
        "The RabbitMQ whose behaviour this broker has.",
        &[
            ("rabbitmq_version", RABBITMQ_VERSION),
            ("erlang_version", "none"),
            ("prometheus_plugin_version", "none"),
            ("prometheus_client_version", "none"),
            ("product_name", "Warren"),
            ("product_version", admin.version()),
        ],
    );
    page.info(
        "rabbitmq_identity_info",
        "The node and its cluster.",
        &[
            ("rabbitmq_node", &node),
            ("rabbitmq_cluster", &cluster),
            ("rabbitmq_cluster_permanent_id", &cluster),
            ("rabbitmq_endpoint", "aggregated"),
        ],
    );
    page.gauge(
        "warren_ready",
        "1 when clients are served in contact with a majority.",
        u64::from(admin.ready().is_ok()),
    );
    cluster_metrics(&mut page, admin);
    queue_metrics(&mut page, admin).await;
    let connections = admin.connections();
    page.both("connections", "Client connections.", connections.len() as u64);
    let channels = connections.iter().map(|connection| u64::from(connection.channels)).sum();
    page.both("channels", "Open channels.", channels);
    flow_metrics(&mut page, &admin.own_flow().total);
    alarm_metrics(&mut page, admin);
    process_metrics(&mut page, &Process::read(started));
    page.0
}

fn cluster_metrics(page: &mut Page, admin: &dyn Admin) {
    let nodes = admin.nodes();
    let this = nodes.iter().find(|node| node.this);
    page.gauge("warren_nodes", "Nodes of the cluster.", nodes.len() as u64);
    let running = nodes.iter().filter(|node| node.running).count();
    page.gauge(
        "warren_nodes_running",
        "Nodes that this one is in contact with, itself included.",
        running as u64,
    );
    let leads = this.is_some_and(|node| node.metadata_leader);
    page.gauge("warren_metadata_leader", "1 when this node leads the metadata group.", u64::from(leads));
    let shards = admin.shards();
    let leader_is_here =
        |shard: &&warren_broker::admin::ShardInfo| this.is_some_and(|node| shard.leader == Some(node.id));
    let count = |wanted: &dyn Fn(&warren_broker::admin::ShardInfo) -> bool| {
        shards.iter().filter(|shard| shard.shard.is_some() && wanted(shard)).count() as u64
    };
    page.gauge("warren_shards", "Shards of the cluster.", count(&|_| true));
    page.gauge("warren_shards_led", "Shards that this node leads.", count(&|shard| leader_is_here(&shard)));
    page.gauge(
        "warren_shards_without_leader",
        "Shards whose leader this node does not know.",
        count(&|s| s.leader.is_none()),
    );
    let lag =
        shards.iter().filter(leader_is_here).flat_map(|shard| &shard.lag).map(|(_, entries)| *entries).max();
    page.gauge(
        "warren_replication_lag_entries",
        "How many log entries the slowest follower of a group that this node leads is behind.",
        lag.unwrap_or(0),
    );
}

async fn queue_metrics(page: &mut Page, admin: &dyn Admin) {
    let this = admin.nodes().into_iter().find(|node| node.this).map(|node| node.id);
    let mut queues = admin.queues(None).await;
    queues.retain(|queue| queue.leader.is_some() && queue.leader == this);
    let ready: u64 = queues.iter().filter_map(|queue| queue.ready).sum();
    let unacked: u64 = queues.iter().filter_map(|queue| queue.unacked).sum();
    page.both("queues", "Queues that this node leads.", queues.len() as u64);
    page.both("queue_messages", "Messages in queues that this node leads.", ready + unacked);
    page.both("queue_messages_ready", "Messages ready for delivery.", ready);
    page.both("queue_messages_unacked", "Messages delivered and not acknowledged.", unacked);
    let bytes = queues.iter().filter_map(|queue| queue.ready_bytes).sum();
    page.both("queue_messages_ready_bytes", "Bytes of the bodies of ready messages.", bytes);
    let consumers = queues.iter().filter_map(|queue| queue.consumers).map(u64::from).sum();
    page.both("consumers", "Consumers of queues that this node leads.", consumers);
    let tallies = queues.iter().filter_map(|queue| queue.total);
    tally_metrics(page, tallies.fold(Tally::default(), Tally::and));
}

/// What clients of this node did since it started, under RabbitMQ's names.
fn flow_metrics(page: &mut Page, done: &Traffic) {
    let unroutable = "no queue took and that were";
    for (name, help, count) in [
        ("connections_opened", "Connections that were opened.", done.connection_created),
        ("connections_closed", "Connections that were closed.", done.connection_closed),
        ("channels_opened", "Channels that were opened.", done.channel_created),
        ("channels_closed", "Channels that were closed.", done.channel_closed),
        ("queues_declared", "Declarations of queues.", done.queue_declared),
        ("queues_created", "Queues that were made.", done.queue_created),
        ("queues_deleted", "Queues that were deleted.", done.queue_deleted),
    ] {
        page.counter(&format!("rabbitmq_{name}_total"), help, "", count);
    }
    for (name, help, count) in [
        ("received", "Messages that were published.".to_owned(), done.publish),
        ("confirmed", "Messages that were confirmed to publishers.".to_owned(), done.confirm),
        ("unroutable_returned", format!("Messages that {unroutable} returned."), done.return_unroutable),
        ("unroutable_dropped", format!("Messages that {unroutable} dropped."), done.drop_unroutable),
    ] {
        let name = format!("rabbitmq_global_messages_{name}_total");
        page.counter(&name, &help, "{protocol=\"amqp091\"}", count);
    }
}

/// What happened in the queues that this node leads, since it leads them, under RabbitMQ's names.
fn tally_metrics(page: &mut Page, tally: Tally) {
    let Tally { publish, deliver, deliver_no_ack, get, get_no_ack, get_empty, redeliver, ack } = tally;
    page.counter("rabbitmq_queue_messages_published_total", "Messages that came into queues.", "", publish);
    let delivered = deliver.saturating_add(deliver_no_ack).saturating_add(get).saturating_add(get_no_ack);
    for (name, help, count) in [
        ("delivered", "Messages that were delivered or got.", delivered),
        ("delivered_consume_manual_ack", "Deliveries to be acknowledged.", deliver),
        ("delivered_consume_auto_ack", "Deliveries not to be acknowledged.", deliver_no_ack),
        ("delivered_get_manual_ack", "Messages got, to be acknowledged.", get),
        ("delivered_get_auto_ack", "Messages got, not to be acknowledged.", get_no_ack),
        ("get_empty", "A basic.get that found nothing.", get_empty),
        ("redelivered", "Messages that were delivered again.", redeliver),
        ("acknowledged", "Messages that consumers acknowledged.", ack),
    ] {
        let name = format!("rabbitmq_global_messages_{name}_total");
        page.counter(&name, help, "{protocol=\"amqp091\",queue_type=\"rabbit_quorum_queue\"}", count);
    }
}

fn alarm_metrics(page: &mut Page, admin: &dyn Admin) {
    let own = admin.nodes().into_iter().find(|node| node.this).map(|node| node.alarms).unwrap_or_default();
    let resources = admin.resources();
    page.gauge("rabbitmq_alarms_memory_used_watermark", "1 while the memory alarm is on.", own.memory.into());
    page.gauge("rabbitmq_alarms_free_disk_space_watermark", "1 while the disk alarm is on.", own.disk.into());
    page.gauge("rabbitmq_disk_space_available_bytes", "Free bytes on the disk.", resources.disk_free);
    page.gauge(
        "rabbitmq_disk_space_available_limit_bytes",
        "Free bytes below which publishers are stopped.",
        resources.disk_limit,
    );
}

fn process_metrics(page: &mut Page, process: &Process) {
    page.gauge("rabbitmq_process_open_fds", "Open files and sockets.", process.open_files);
    page.gauge("rabbitmq_process_max_fds", "The most open files and sockets.", process.open_files_max);
    page.gauge("rabbitmq_process_resident_memory_bytes", "Memory in use.", process.resident_bytes);
    page.gauge(
        "rabbitmq_resident_memory_limit_bytes",
        "Memory that may be used.",
        process.memory_limit_bytes,
    );
    page.gauge("rabbitmq_erlang_uptime_seconds", "Seconds since the start.", process.uptime_ms / 1000);
    page.gauge("warren_process_resident_memory_bytes", "Memory in use.", process.resident_bytes);
    page.gauge("warren_process_open_fds", "Open files and sockets.", process.open_files);
}

/// The text, line by line.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string cannot fail.
        let _infallible = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn counter(&mut self, name: &str, help: &str, labels: &str, value: u64) {
        self.head(name, help, "counter");
        let _infallible = writeln!(self.0, "{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        let _infallible = writeln!(self.0, "{name} {value}");
    }

    /// Under our name, and under RabbitMQ's for the dashboards that exist.
    fn both(&mut self, name: &str, help: &str, value: u64) {
        self.gauge(&format!("warren_{name}"), help, value);
        self.gauge(&format!("rabbitmq_{name}"), help, value);
    }

    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.head(name, help, "gauge");
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let _infallible = writeln!(self.0, "{name}{{{}}} 1", labels.join(","));
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fake;

    #[tokio::test]
    async fn the_page_tells_of_this_nodes_queues_only() {
        let page = page(&Fake::default(), Instant::now()).await;
        for line in [
            "warren_queues 1",
            "warren_queue_messages_ready 3",
            "warren_queue_messages_unacked 1",
            "rabbitmq_queue_messages 4",
            "warren_shards 2",
            "warren_shards_led 1",
            "warren_shards_without_leader 1",
            "warren_replication_lag_entries 7",
            "warren_connections 1",
            "rabbitmq_channels 2",
            "rabbitmq_global_messages_received_total{protocol=\"amqp091\"} 9",
            "rabbitmq_queue_messages_published_total 6",
        ] {
            assert!(page.lines().any(|printed| printed == line), "{line} in\n{page}");
        }
    }

    #[tokio::test]
    async fn each_metric_has_its_help_and_type_before_it_and_is_there_once() {
        let page = page(&Fake::default(), Instant::now()).await;
        let lines: Vec<&str> = page.lines().collect();
        let mut seen = Vec::new();
        for metric in lines.chunks(3) {
            let name = metric[2].split([' ', '{']).next().unwrap();
            assert!(metric[0].starts_with(&format!("# HELP {name} ")), "{metric:?}");
            // The name says which of the two it is.
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            assert_eq!(metric[1], format!("# TYPE {name} {kind}"));
            assert!(!seen.contains(&name), "{name} twice");
            seen.push(name);
        }
    }

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        assert_eq!(escaped("a\"} 1\nb\\"), "a\\\"} 1\\nb\\\\");
    }
}
