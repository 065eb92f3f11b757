"""Adds up what `warren bench run --output json` printed: a table's head, and a row for each case.

summarize.py head BROKER...          the table's head
summarize.py row NAME DIR BROKER...  the row of DIR/NAME.BROKER (a line of JSON a run)
"""

import json
import statistics
import sys
from pathlib import Path

FIGURES = [
    ("msg/s", ("rates", "delivered"), 0),
    ("CPU us/msg", ("broker", "cpu_us_per_message"), 1),
    ("confirm p50 ms", ("confirm_ms", "p50"), 2),
    ("end-to-end p99 ms", ("end_to_end_ms", "p99"), 1),
    ("disk B/msg", ("broker", "written_bytes_per_message"), 0),
]


def values(runs, path):
    for run in runs:
        value = run
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            yield value


def runs_of(path):
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def problems(broker, runs):
    """What makes a row doubtful, in words."""
    for run in runs:
        counts = run["counts"]
        if run["ending"] != "complete":
            yield f"{broker}: {run['ending']}"
        for name in ("duplicates_unflagged", "out_of_order", "nacked"):
            if counts[name]:
                yield f"{broker}: {counts[name]} {name.replace('_', ' ')}"
        if run["lost"]:
            yield f"{broker}: {run['lost']} LOST"


def cell(found, digits):
    """The median, and how far the runs lie from it: half their spread in percent."""
    if not found:
        return "-"
    middle = statistics.median(found)
    noise = (max(found) - min(found)) / 2 / middle * 100 if middle else 0
    return f"{middle:,.{digits}f} ±{noise:.0f}%" if len(found) > 1 else f"{middle:,.{digits}f}"


def ratio(ours, theirs):
    if not ours or not theirs or not statistics.median(theirs):
        return "-"
    return f"{statistics.median(ours) / statistics.median(theirs):.2f}"


def head(brokers):
    columns = ["work"]
    for name, _, _ in FIGURES:
        columns += [f"{name} {broker}" for broker in brokers]
        if len(brokers) == 2:
            columns.append("ratio")
    print("| " + " | ".join(columns + ["remarks"]) + " |")
    print("|" + " --- |" * (len(columns) + 1))


def row(name, directory, brokers):
    results = {broker: runs_of(Path(directory) / f"{name}.{broker}") for broker in brokers}
    columns = [name]
    for _, path, digits in FIGURES:
        found = [list(values(results[broker], path)) for broker in brokers]
        columns += [cell(some, digits) for some in found]
        if len(brokers) == 2:
            columns.append(ratio(*found))
    remarks = [text for broker in brokers for text in problems(broker, results[broker])]
    remarks += [f"{broker}: no result" for broker in brokers if not results[broker]]
    print("| " + " | ".join(columns + ["; ".join(dict.fromkeys(remarks))]) + " |", flush=True)


def main():
    match sys.argv[1:]:
        case ["head", *brokers] if brokers:
            head(brokers)
        case ["row", name, directory, *brokers] if brokers:
            row(name, directory, brokers)
        case _:
            sys.exit(__doc__)


main()
