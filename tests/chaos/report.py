"""The results as a table for people, as JSON for programs, and as a plot of how long clients waited."""

import json
import math
from collections import defaultdict

from .checker import percentile


def write(results, directory, seed, seconds):
    """Writes report.md, report.json and waits.svg."""
    directory.mkdir(parents=True, exist_ok=True)
    waits = defaultdict(list)
    for result in results:
        for kind, values in (result.verdict.waits if result.verdict else {}).items():
            waits[kind] += values
    (directory / "report.md").write_text(markdown(results, waits, seed, seconds))
    (directory / "report.json").write_text(json.dumps(plain(results, waits, seed, seconds), indent=1))
    (directory / "waits.svg").write_text(plot(waits))


def markdown(results, waits, seed, seconds):
    lines = [
        "# Chaos",
        "",
        f"Seed {seed}, {seconds:g} s of faults each.",
        "",
        "| Scenario | Verdict | Confirmed | Lost | Delivered again | Unknown outcome | Faults |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        verdict = result.verdict
        if verdict is None:
            lines.append(f"| {result.name} | failed | | | | | |")
            continue
        faults = sum(len(values) for values in verdict.waits.values())
        word = "kept" if result.ok else "**" + (", ".join(sorted({v.rule for v in verdict.violations})) or "failed") + "**"
        lines.append(
            f"| {result.name} | {word} | {verdict.confirmed} | {verdict.count('lost')} | {verdict.duplicates} | "
            f"{verdict.unknown} | {faults} |"
        )
    lines += [
        "",
        "From a fault to the first confirm of something published after it, each fault and queue:",
        "",
        "| Fault | Waits | p50 | p99 | Longest |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind, values in sorted(waits.items()):
        values = sorted(values)
        p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
        lines.append(f"| {kind} | {len(values)} | {p50:.2f} s | {p99:.2f} s | {values[-1]:.2f} s |")
    return "\n".join([*lines, "", "![waits](waits.svg)", ""])


def plain(results, waits, seed, seconds):
    return {
        "seed": seed,
        "seconds": seconds,
        "waits": {kind: [round(value, 3) for value in sorted(values)] for kind, values in waits.items()},
        "scenarios": [
            {
                "name": result.name,
                "ok": result.ok,
                "error": result.error,
                "confirmed": result.verdict.confirmed if result.verdict else None,
                "unknown": result.verdict.unknown if result.verdict else None,
                "duplicates": result.verdict.duplicates if result.verdict else None,
                "violations": [
                    {"rule": v.rule, "text": v.text} for v in (result.verdict.violations if result.verdict else [])[:100]
                ],
                "notes": result.notes,
            }
            for result in results
        ],
    }


def plot(waits):
    """A dot for each wait, a row for each kind of fault, on a logarithmic axis from 10 ms to 100 s."""
    left, width, row = 260, 600, 24
    height = row * (len(waits) + 2)

    def x(seconds):
        return left + width * (math.log10(min(max(seconds, 0.01), 100)) + 2) / 4

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 20}" height="{height}" font-family="sans-serif" font-size="12">']
    for seconds in (0.01, 0.1, 1, 10, 100):
        out.append(f'<line x1="{x(seconds):.0f}" y1="10" x2="{x(seconds):.0f}" y2="{height - row}" stroke="#ddd"/>')
        out.append(f'<text x="{x(seconds):.0f}" y="{height - 8}" text-anchor="middle">{seconds:g} s</text>')
    for number, (kind, values) in enumerate(sorted(waits.items())):
        y = row * (number + 1)
        out.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{kind}</text>')
        out += [f'<circle cx="{x(value):.1f}" cy="{y}" r="3" fill="#36c" fill-opacity="0.4"/>' for value in values]
        middle = percentile(sorted(values), 0.5)
        out.append(f'<line x1="{x(middle):.1f}" y1="{y - 8}" x2="{x(middle):.1f}" y2="{y + 8}" stroke="#c33" stroke-width="2"/>')
    return "\n".join([*out, "</svg>"]) + "\n"
