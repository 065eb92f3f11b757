"""Plays the same scripts against RabbitMQ and Warren and prints what differs. See README.md."""

import argparse
import difflib
import json
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import cluster as clusters  # noqa: E402
from sidebyside import known, scripts  # noqa: E402
from sidebyside.session import Session  # noqa: E402


@dataclass
class Target:
    """Where a broker is."""

    amqp: tuple
    http: str

    @classmethod
    def parse(cls, text):
        amqp, http = text.split(",")
        host, port = amqp.rsplit(":", 1)
        return cls((host, int(port)), http)


def play(target, name):
    """The lines of one script on one broker."""
    session = Session(target, name)
    try:
        scripts.SCRIPTS[name](session)
    except Exception as error:  # noqa: BLE001: a script that breaks off is a difference like others
        where = traceback.extract_tb(error.__traceback__)[-1]
        session.note(f"breaks off: {type(error).__name__}: {error} ({where.name}:{where.lineno})")
    finally:
        try:
            session.finish()
        except Exception as error:  # noqa: BLE001
            session.note(f"is not cleaned up: {error}")
    return session.lines


def hunks(reference, ours):
    """What differs: pairs of lists of lines."""
    matcher = difflib.SequenceMatcher(None, reference, ours, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag != "equal":
            yield reference[a:b], ours[c:d]


def compare(name, reference, ours, verbose):
    """Prints the line of one script; says whether it differs for no known reason."""
    unknown, reasons = [], []
    reference = [known.level("rabbit", line) for line in reference]
    ours = [known.level("warren", line) for line in ours]
    for theirs, our in hunks(reference, ours):
        why = known.reason(name, theirs, our)
        if why:
            reasons.append((why, theirs, our))
        else:
            unknown.append((theirs, our))
    if unknown:
        print(f"differs  {name}")
        for theirs, our in unknown:
            for line in theirs:
                print(f"    rabbit  {line}")
            for line in our:
                print(f"    warren  {line}")
    elif reasons:
        print(f"known    {name}: {'; '.join(sorted({why for why, _, _ in reasons}))}")
        if verbose:
            for _, theirs, our in reasons:
                print("\n".join([f"    rabbit  {line}" for line in theirs] + [f"    warren  {line}" for line in our]))
    else:
        print(f"same     {name}")
    if verbose > 1:
        print("\n".join(f"      {line}" for line in ours))
    sys.stdout.flush()
    return bool(unknown)


def main():
    parser = argparse.ArgumentParser(prog="sidebyside", description=__doc__)
    parser.add_argument("--rabbit", metavar="HOST:PORT,HOST:PORT", help="addresses of AMQP and of the HTTP API")
    parser.add_argument("--warren", metavar="HOST:PORT,HOST:PORT", help="a Warren that runs; else one is started")
    parser.add_argument("--nodes", type=int, default=1, help="how many nodes of Warren are started")
    parser.add_argument("--only", action="append", default=[], help="scripts whose name contains this")
    parser.add_argument("--recorded", metavar="FILE", help="what RabbitMQ answered before, instead of --rabbit")
    parser.add_argument("--record", metavar="FILE", help="keep what RabbitMQ answers")
    parser.add_argument("-v", "--verbose", action="count", default=0)
    given = parser.parse_args()
    names = [n for n in scripts.load() if not given.only or any(part in n for part in given.only)]
    recorded = json.loads(Path(given.recorded).read_text()) if given.recorded else None
    rabbit = Target.parse(given.rabbit) if given.rabbit else None
    if rabbit is None and recorded is None:
        parser.error("--rabbit or --recorded")
    with tempfile.TemporaryDirectory() as directory:
        cluster = None
        if given.warren:
            warren = Target.parse(given.warren)
        else:
            cluster = clusters.Cluster(clusters.find_binary(), directory, size=given.nodes).start()
            node = cluster.nodes[0]
            warren = Target(node.address, f"127.0.0.1:{node.http_port}")
        try:
            failed = run(names, rabbit, recorded, warren, given)
        finally:
            if cluster:
                cluster.destroy()
    print(f"{len(names)} scripts, {failed} differ for no known reason")
    return 1 if failed else 0


def run(names, rabbit, recorded, warren, given):
    failed, kept = 0, {}
    with ThreadPoolExecutor(2) as pool:
        for name in names:
            ours = pool.submit(play, warren, name)
            reference = play(rabbit, name) if recorded is None else recorded.get(name, ["not recorded"])
            kept[name] = reference
            failed += compare(name, reference, ours.result(), given.verbose)
    if given.record:
        Path(given.record).write_text(json.dumps(kept, indent=0, ensure_ascii=False))
    return failed


if __name__ == "__main__":
    sys.exit(main())
