"""Judges a `History`: pure, knows no broker. Each rule is a function that yields violations."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

SETTLE_S = 4.0  # a whole cluster records an acknowledgement that it has read in less than this, on a busy machine too


@dataclass(frozen=True)
class Violation:
    """A promise that was broken."""

    rule: str
    text: str


@dataclass
class Verdict:
    """What came of a run."""

    violations: list
    published: int
    confirmed: int
    unknown: int
    delivered: int
    duplicates: int
    flagged: int
    unavailable: list = field(default_factory=list)  # seconds, one for each fault and queue
    waits: dict = field(default_factory=dict)  # kind of fault -> the same

    @property
    def ok(self):
        return not self.violations

    def count(self, rule):
        return sum(1 for violation in self.violations if violation.rule == rule)


def lost(history):
    """A confirmed message that no consumer was left to acknowledge."""
    acked = {message for _, message, _ in history.acks}
    delivered = {delivery.message for delivery in history.deliveries}
    for message, at in history.confirmed.items():
        if message not in acked:
            what = "delivered, given back, and never seen again" if message in delivered else "never delivered"
            queue = history.published[message][1]
            yield Violation("lost", f"{message} on {queue}, confirmed at {at:.3f}: {what}")


def invented(history):
    """A delivery of what nobody published, or published elsewhere, or whose bytes are others."""
    for at, queue, consumer in history.corrupt:
        yield Violation("invented", f"{consumer} got a body on {queue} at {at:.3f} that nobody sent")
    for delivery in history.deliveries:
        known = history.published.get(delivery.message)
        if known is None or known[1] != delivery.queue:
            yield Violation("invented", f"{delivery} was not published there")


def unflagged(history):
    """A message delivered twice, where the second time does not say so."""
    fresh = defaultdict(list)
    for delivery in history.deliveries:
        if not delivery.redelivered:
            fresh[delivery.message].append(delivery)
    for message, twice in fresh.items():
        if len(twice) > 1:
            yield Violation("unflagged", f"{message} came {len(twice)} times without `redelivered`: {twice}")


def refused_and_kept(history):
    """A nacked publish may have been stored or not; one that is both confirmed and nacked is a lie."""
    for message in history.nacked:
        if message in history.confirmed:
            yield Violation("contradiction", f"{message} was confirmed and nacked")


def sure_acks(history):
    """message -> the moment from which its acknowledgement must hold: its node had read it, and then the whole cluster
    was well for a while with the connection still standing."""
    by_connection = defaultdict(list)
    for asked, answered, connection in history.synced:
        by_connection[connection].append((asked, answered))
    calm = calm_spans(history)
    sure = {}
    for at, message, connection in history.acks:
        read = next((answered for asked, answered in by_connection[connection] if asked >= at), None)
        if read is None:
            continue
        over = history.ended.get(connection, float("inf"))
        for start, end in calm:
            begins = max(start, read)
            if begins + SETTLE_S <= min(end, over):
                sure[message] = min(sure.get(message, float("inf")), begins + SETTLE_S)
                break
    return sure


def calm_spans(history):
    """The spans without any fault, with time to recover after each."""
    spans, begin = [], float("-inf")
    for fault in sorted(history.faults, key=lambda fault: fault.start):
        if fault.start > begin:
            spans.append((begin, fault.start))
        begin = max(begin, fault.end + SETTLE_S)
    spans.append((begin, float("inf")))
    return spans


def came_back(history):
    """A message delivered again after its acknowledgement was surely recorded."""
    sure = sure_acks(history)
    for delivery in history.deliveries:
        since = sure.get(delivery.message)
        if since is not None and delivery.at > since:
            yield Violation("came back", f"{delivery}, though acknowledged for good by {since:.3f}")


def two_holders(history):
    """A message handed to a second consumer while the first one holds it, its node not being hurt."""
    let_go = {}
    for at, message, connection in [*history.acks, *history.requeues]:
        let_go.setdefault((message, connection), []).append(at)
    by_message = defaultdict(list)
    for delivery in history.deliveries:
        by_message[delivery.message].append(delivery)
    for message, deliveries in by_message.items():
        deliveries.sort(key=lambda delivery: delivery.at)
        for earlier, later in zip(deliveries, deliveries[1:]):
            ends = [at for at in let_go.get((message, earlier.connection), []) if at >= earlier.at]
            end = min([*ends, history.ended.get(earlier.connection, float("inf"))])
            if end <= later.at:
                continue
            node = history.connections[earlier.connection].node
            hurt = any(
                node in fault.nodes and fault.start <= later.at and fault.end + SETTLE_S >= earlier.at
                for fault in history.faults
            )
            if not hurt:
                yield Violation("two holders", f"{later}, while {earlier} was still held")


def out_of_order(history):
    """What a consumer gets for the first time comes in the order it was published in, on each publisher's connection:
    over two connections AMQP promises none."""
    newest = {}
    for delivery in sorted(history.deliveries, key=lambda delivery: delivery.at):
        if delivery.redelivered:
            continue
        publisher, number = delivery.message
        source = history.published.get(delivery.message, (0, "", None))[2]
        key = delivery.queue, delivery.connection, publisher, source
        before = newest.get(key, -1)
        if number < before:
            yield Violation("order", f"{delivery} came after number {before}")
        newest[key] = max(number, before)


def stuck(history):
    """What only the drain's own consumer got, though the queue's consumers had been there all the time."""
    first = {}
    for delivery in sorted(history.deliveries, key=lambda delivery: delivery.at):
        first.setdefault(delivery.message, delivery)
    late = [d for d in first.values() if d.consumer == history.drain and d.message in history.confirmed]
    for queue, count in Counter(delivery.queue for delivery in late).items():
        yield Violation("stuck", f"{count} messages of {queue} were not delivered until a new consumer asked for them")


def surprises(history):
    """What a client could not make sense of."""
    for at, client, text in history.unexpected:
        yield Violation("unexpected", f"{client} at {at:.3f}: {text}")


RULES = (lost, invented, unflagged, refused_and_kept, came_back, two_holders, out_of_order, stuck, surprises)


def unavailability(history):
    """(kind of fault, queue, seconds): from the fault to the first confirm of something published after it. Whose publisher
    was at a node that the fault hit waits for another reason, its own connection, and is told apart where other nodes stayed whole."""
    by_queue = defaultdict(list)
    for message, at in history.confirmed.items():
        published, queue, _ = history.published[message]
        by_queue[queue].append((published, at))
    sent = defaultdict(list)
    for published, queue, connection in history.published.values():
        sent[queue].append((published, connection))
    all_nodes = {connection.node for connection in history.connections.values()}
    for fault in history.faults:
        for queue, confirms in by_queue.items():
            after = [at - fault.start for published, at in confirms if published >= fault.start]
            if not after:
                continue
            before = [entry for entry in sent[queue] if entry[0] < fault.start]
            connection = history.connections.get(max(before)[1]) if before else None
            is_hit = connection is not None and connection.node in fault.nodes and not all_nodes <= fault.nodes
            yield f"{fault.kind}: its own clients" if is_hit else fault.kind, queue, min(after)


def check(history):
    """The verdict on a run that is over."""
    violations = [violation for rule in RULES for violation in rule(history)]
    waits = defaultdict(list)
    for kind, _, seconds in unavailability(history):
        waits[kind].append(seconds)
    times = Counter(delivery.message for delivery in history.deliveries)
    return Verdict(
        violations=violations,
        published=len(history.published),
        confirmed=len(history.confirmed),
        unknown=len(history.published.keys() - history.confirmed.keys() - history.nacked.keys()),
        delivered=len(history.deliveries),
        duplicates=sum(count - 1 for count in times.values()),
        flagged=sum(1 for delivery in history.deliveries if delivery.redelivered),
        unavailable=sorted(wait for waited in waits.values() for wait in waited),
        waits=dict(waits),
    )


def percentile(sorted_values, share):
    """Nearest rank; None of nothing."""
    if not sorted_values:
        return None
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]
