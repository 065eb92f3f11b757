"""`python -m chaos [SCENARIO...] [--seconds N] [--seed N]`: see README.md."""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from kit.cluster import find_binary

from . import lab, report
from .run import run
from .scenarios import ALL, BY_NAME


def main():
    parser = argparse.ArgumentParser(prog="chaos", description="Breaks a cluster and judges what its clients saw.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="which ones; all when left out")
    parser.add_argument("--list", action="store_true", help="name them all and end")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each goes on hurting the cluster")
    parser.add_argument("--seed", type=int, help="of all dice; drawn and printed when left out")
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is run")
    parser.add_argument("--report", type=Path, help="where report.md, report.json and waits.svg go")
    given = parser.parse_args()
    if given.list:
        for scenario in ALL:
            print(f"{scenario.name:<18} {(scenario.faults.__doc__ or scenario.faults.__name__.replace('_', ' ')).strip()}")
        return 0
    unknown = [name for name in given.scenarios if name not in BY_NAME]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    if reason := lab.missing():
        print(f"SKIPPED: {reason}", file=sys.stderr)
        return 0
    binary = find_binary()
    if binary is None:
        print("no warren binary: run `cargo build` or set WARREN_BIN", file=sys.stderr)
        return 2
    # So that what the laboratory has made is undone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = given.seed if given.seed is not None else random.randrange(1 << 31)
    results = []
    home = Path(tempfile.mkdtemp(prefix="warren-chaos-", dir="/var/tmp"))
    print(f"seed {seed}, {given.seconds:g} s each, logs in {home}", flush=True)
    for turn in range(given.rounds):
        for name in given.scenarios or [scenario.name for scenario in ALL]:
            needs = BY_NAME[name].needs
            if needs and not os.environ.get(needs):
                print(f"{name:<18} SKIPPED  set {needs} to the binary of an older build", flush=True)
                continue
            where = home / f"{name}-{turn}"
            result = run(BY_NAME[name], binary, where, seed + turn, given.seconds)
            results.append(result)
            print(result.line(), flush=True)
            if not result.ok:
                for violation in (result.verdict.violations if result.verdict else [])[:8]:
                    print(f"    {violation.rule}: {violation.text[:400]}")
                if result.error:
                    print(result.error)
                print(f"    logs: {where}", flush=True)
    report.write(results, given.report or home, seed, given.seconds)
    bad = [result.name for result in results if not result.ok]
    print(f"{len(results) - len(bad)} kept every promise, {len(bad)} did not{': ' if bad else ''}{', '.join(bad)}")
    print(f"report: {given.report or home}/report.md  ({time.strftime('%H:%M:%S')})")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
