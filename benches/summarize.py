"""Adds up what `warren bench ... --output json` printed: a table's head, and for each case a line for each figure.

summarize.py head BROKER...          the table's head
summarize.py row NAME DIR BROKER...  the lines of DIR/NAME.BROKER (a line of JSON a run)
summarize.py table DIR BROKER...     the whole table of what is in DIR
summarize.py device BYTES            copies a run's JSON and adds what the disk took for each byte of message

A broker's cell is the median of its runs and how far they lie from it: half the distance between the best and the
worst, in percent. A ratio is the first broker's figure divided by the other's, for each pair of runs that followed each
other; the cell is the median of the pairs and the smallest and largest. One whose range includes 1 proves nothing.
"""

import json
import statistics
import sys
from pathlib import Path

MIB = 1_048_576


def at(*path, divided_by=1):
    """Reads a figure of one run; none when the run has no such figure."""

    def read(run):
        for key in path:
            run = run.get(key) if isinstance(run, dict) else None
        return None if run is None else run / divided_by

    return read


def written_a_byte(run):
    """Bytes that went to the disk for each byte of message body: consumed soon, or kept."""
    written = at("broker", "written_bytes_per_message")(run)
    body = at("parameters", "body_bytes")(run)
    return written / body if written is not None and body else None


def load(read):
    """A figure that only a run of the load has, not what opens or declares things."""
    return lambda run: read(run) if "counts" in run else None


def connection(read):
    """A figure that only `warren bench connections` has."""
    return lambda run: read(run) if "memory_bytes_per_connection" in run else None


# What a run can tell, how to read it, and with how many decimals. A figure that no run of a case has is left out.
FIGURES = [
    ("msg/s", at("rates", "delivered"), 0),
    ("CPU us/msg", load(at("broker", "cpu_us_per_message")), 1),
    ("confirm p50 ms", at("confirm_ms", "p50"), 2),
    ("confirm p99 ms", at("confirm_ms", "p99"), 2),
    ("end-to-end p50 ms", at("end_to_end_ms", "p50"), 2),
    ("end-to-end p99 ms", at("end_to_end_ms", "p99"), 2),
    ("memory MiB, all nodes", load(at("broker", "rss_peak_bytes", divided_by=MIB)), 0),
    ("disk bytes a byte, processes", written_a_byte, 2),
    ("disk bytes a byte, disk", at("device", "bytes_a_byte"), 2),
    # `scale backlog` of compare.sh
    ("messages queued", at("backlog", "messages"), 0),
    ("queued/s", at("backlog", "fill", "rates", "confirmed"), 0),
    ("queued, CPU us/msg", at("backlog", "fill", "broker", "cpu_us_per_message"), 1),
    ("memory MiB a node", at("backlog", "memory_bytes_a_node", divided_by=MIB), 0),
    ("memory MiB a node, largest mean", at("backlog", "memory_peak_bytes_a_node", divided_by=MIB), 0),
    ("disk bytes a byte, written", at("backlog", "written_bytes_a_byte"), 2),
    ("disk bytes a byte, kept", at("backlog", "kept_bytes_a_byte"), 2),
    ("all killed: first message s", at("backlog", "ready_s"), 2),
    ("drained/s", at("backlog", "drained_per_second"), 0),
    ("not drained", at("backlog", "missing"), 0),
    # `scale queues`
    ("queues", at("queues", "count"), 0),
    ("declared/s", at("queues", "per_second"), 0),
    ("bytes of memory a queue and node", at("queues", "memory_bytes_each"), 0),
    ("all killed: declared again s", at("queues", "ready_s"), 2),
    # `warren bench connections`
    ("connections", at("count"), 0),
    ("opened/s", at("per_second"), 0),
    ("open p50 ms", at("open_ms", "p50"), 2),
    ("CPU us a connection", connection(at("broker", "cpu_us_per_message")), 0),
    ("bytes of memory a connection", at("memory_bytes_per_connection"), 0),
]

# What was asked of each broker, or says that something is wrong: no ratios.
WITHOUT_RATIO = {"messages queued", "not drained", "queues", "connections"}


def runs_of(path):
    if not path.exists():
        return None
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def problems(broker, runs):
    """What makes a case doubtful, in words."""
    for run in runs:
        backlog = run.get("backlog", {})
        for part in (run, backlog.get("fill", {}), backlog.get("drain", {})):
            if part.get("ending", "complete") != "complete":
                yield f"{broker}: {part['ending']}"
            for name in ("duplicates_unflagged", "out_of_order", "nacked"):
                if part.get("counts", {}).get(name):
                    yield f"{broker}: {part['counts'][name]:,} {name.replace('_', ' ')}"
            if part.get("lost"):
                yield f"{broker}: {part['lost']:,} LOST"
        if backlog.get("missing"):
            yield f"{broker}: {backlog['missing']:,} of the backlog did not come"


def cell(found, digits):
    """The median, and how far the runs lie from it: half their spread in percent."""
    found = [value for value in found if value is not None]
    if not found:
        return "-"
    middle = statistics.median(found)
    noise = (max(found) - min(found)) / 2 / middle * 100 if middle else 0
    return f"{middle:,.{digits}f} ±{noise:.0f}%" if len(found) > 1 else f"{middle:,.{digits}f}"


def ratio(ours, theirs):
    """The median of the pairs' ratios, with the smallest and the largest."""
    pairs = [our / their for our, their in zip(ours, theirs) if our is not None and their]
    if not pairs:
        return "-"
    middle = short(statistics.median(pairs))
    return f"{middle} ({short(min(pairs))} to {short(max(pairs))})" if len(pairs) > 1 else middle


def short(number):
    """Three digits of a ratio."""
    return f"{number:.2f}" if number < 9.995 else f"{number:.1f}" if number < 99.95 else f"{number:,.0f}"


def line(columns):
    print("| " + " | ".join(columns) + " |", flush=True)


def head(brokers):
    first, *others = brokers
    columns = ["case", "figure", *brokers, *[f"{first} / {other}" for other in others], "remarks"]
    line(columns)
    print("|" + " --- |" * len(columns), flush=True)


def row(name, directory, brokers):
    results = {broker: runs_of(Path(directory) / f"{name}.{broker}") for broker in brokers}
    remarks = [text for broker in brokers for text in problems(broker, results[broker] or [])]
    remarks += [f"{broker}: no result" for broker in brokers if results[broker] == []]
    remarks = "; ".join(dict.fromkeys(remarks))
    label = name
    for figure, read, digits in FIGURES:
        found = [[read(run) for run in results[broker] or []] for broker in brokers]
        if all(value is None for values in found for value in values):
            continue
        cells = [cell(values, digits) for values in found]
        ratios = ["" if figure in WITHOUT_RATIO else ratio(found[0], other) for other in found[1:]]
        line([label, figure, *cells, *ratios, remarks])
        label = remarks = ""
    if label:
        line([label, "", *["-"] * (2 * len(brokers) - 1), remarks])


def table(directory, brokers):
    """Cases in the order in which they were measured."""
    files = [path for path in Path(directory).iterdir() if path.suffix[1:] in brokers]
    first_seen = {}
    for path in sorted(files, key=lambda path: path.stat().st_mtime):
        first_seen.setdefault(path.stem, path)
    head(brokers)
    for name in first_seen:
        row(name, directory, brokers)


def with_device(run, written):
    """A run, and the bytes that the disk took for each byte of what was published in all of it, warm-up included."""
    published = run["counts"]["published"] * run["parameters"]["body_bytes"]
    each = written / published if written and published else None
    return run | {"device": {"written_bytes": written, "bytes_a_byte": each}}


def main(arguments):
    match arguments:
        case ["head", *brokers] if brokers:
            head(brokers)
        case ["row", name, directory, *brokers] if brokers:
            row(name, directory, brokers)
        case ["table", directory, *brokers] if brokers:
            table(directory, brokers)
        case ["device", written]:
            for text in filter(str.strip, sys.stdin):
                print(json.dumps(with_device(json.loads(text), int(written))))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
