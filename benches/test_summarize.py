"""What summarize.py says of runs, as text."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import summarize  # noqa: E402

BROKERS = ["warren", "rabbitmq", "nats"]


def run(rate=1000.0, cpu=10.0, **changes):
    found = {
        "parameters": {"body_bytes": 1024},
        "ending": "complete",
        "counts": {"published": 10, "duplicates_unflagged": 0, "out_of_order": 0, "nacked": 0},
        "lost": 0,
        "rates": {"delivered": rate},
        "confirm_ms": None,
        "end_to_end_ms": None,
        "broker": {
            "cpu_us_per_message": cpu,
            "written_bytes_per_message": 2048.0,
            "rss_peak_bytes": 3 * summarize.MIB,
        },
    }
    return found | changes


def rows(capsys, directory, name, results, brokers=BROKERS):
    """The lines of case `name` by figure, each a list of its other cells."""
    for broker, runs in results.items():
        (directory / f"{name}.{broker}").write_text("".join(json.dumps(one) + "\n" for one in runs))
    summarize.row(name, directory, brokers)
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    assert cells[0][0] == name
    return {figure: rest for _, figure, *rest in cells}


def test_a_cell_is_the_median_and_half_the_distance_between_best_and_worst():
    assert summarize.cell([100.0, 130.0, 90.0], 0) == "100 ±20%"
    assert summarize.cell([1234.56], 1) == "1,234.6"
    assert summarize.cell([0.0, 0.0], 0) == "0 ±0%"
    assert summarize.cell([None, 5.0], 0) == "5"
    assert summarize.cell([None], 0) == "-"


def test_a_ratio_is_of_runs_that_followed_each_other():
    # Divided as medians it would be 2.00; the machine was slow for both in the second pair.
    assert summarize.ratio([20.0, 10.0, 40.0], [10.0, 2.0, 20.0]) == "2.00 (2.00 to 5.00)"
    assert summarize.ratio([20.0], [10.0]) == "2.00"
    assert summarize.ratio([20.0, 30.0], [10.0]) == "2.00"
    assert summarize.ratio([20.0, None], [None, 10.0]) == "-"
    assert summarize.ratio([20.0], [0.0]) == "-"


def test_ratios_are_short_and_rounded_once():
    cases = [(0.123, "0.12"), (9.99, "9.99"), (9.996, "10.0"), (99.94, "99.9"), (99.96, "100"), (1234.5, "1,234")]
    for number, text in cases:
        assert summarize.short(number) == text, number


def test_a_case_has_a_line_for_each_figure_and_a_column_for_each_broker_and_ratio(capsys, tmp_path):
    results = {
        "warren": [run(rate=4000.0, cpu=5.0), run(rate=6000.0, cpu=5.0)],
        "rabbitmq": [run(rate=1000.0, cpu=50.0), run(rate=1000.0, cpu=50.0)],
        "nats": [run(rate=2000.0, cpu=20.0), run(rate=2000.0, cpu=10.0)],
    }
    found = rows(capsys, tmp_path, "r3-1KiB", results)
    assert list(found) == ["msg/s", "CPU us/msg", "memory MiB, all nodes", "disk bytes a byte, processes"]
    assert found["msg/s"] == [
        "5,000 ±20%", "1,000 ±0%", "2,000 ±0%", "5.00 (4.00 to 6.00)", "2.50 (2.00 to 3.00)", "",
    ]  # fmt: skip
    assert found["CPU us/msg"][3:] == ["0.10 (0.10 to 0.10)", "0.38 (0.25 to 0.50)", ""]
    assert found["disk bytes a byte, processes"][0] == "2.00 ±0%"


def test_a_broker_that_did_not_take_part_has_no_figures_and_one_that_failed_is_told(capsys, tmp_path):
    found = rows(capsys, tmp_path, "case", {"warren": [run()], "rabbitmq": []})
    assert found["msg/s"] == ["1,000", "-", "-", "-", "-", "rabbitmq: no result"]


def test_what_makes_a_case_doubtful_is_told_once_and_in_words(capsys, tmp_path):
    bad = run(ending="stalled", lost=3, counts={"duplicates_unflagged": 0, "out_of_order": 2, "nacked": 0})
    found = rows(capsys, tmp_path, "case", {"warren": [bad, bad]}, ["warren"])
    assert found["msg/s"][-1] == "warren: stalled; warren: 2 out of order; warren: 3 LOST"
    assert found["CPU us/msg"][-1] == ""


def test_a_backlog_has_figures_of_its_own_and_a_count_has_no_ratio(capsys, tmp_path):
    def backlog(messages, drained, missing=0):
        half = {"ending": "complete", "counts": {"delivered": messages}, "rates": {"confirmed": 10.0}}
        return {
            "backlog": {
                "messages": messages, "fill": half, "drain": half, "drained_per_second": drained,
                "memory_bytes_a_node": 5 * summarize.MIB, "ready_s": 1.5, "missing": missing,
            }
        }  # fmt: skip

    found = rows(capsys, tmp_path, "b", {"warren": [backlog(100, 50.0)], "nats": [backlog(10, 25.0, missing=4)]})
    assert found["messages queued"] == ["100", "-", "10", "", "", "nats: 4 of the backlog did not come"]
    assert found["drained/s"][:5] == ["50", "-", "25", "-", "2.00"]
    assert found["memory MiB a node"][0] == "5"
    assert "msg/s" not in found


def test_what_opens_connections_has_no_messages(capsys, tmp_path):
    opened = {
        "count": 9, "per_second": 3.0, "open_ms": {"p50": 1.0}, "memory_bytes_per_connection": 7.0,
        "broker": {"cpu_us_per_message": 80.0, "rss_peak_bytes": 1},
    }  # fmt: skip
    found = rows(capsys, tmp_path, "c", {"warren": [opened]}, ["warren"])
    assert {figure: cells[0] for figure, cells in found.items()} == {
        "connections": "9", "opened/s": "3", "open p50 ms": "1.00", "CPU us a connection": "80",
        "bytes of memory a connection": "7",
    }  # fmt: skip


def test_what_the_disk_took_is_for_all_that_was_published(capsys, tmp_path):
    one = summarize.with_device(run(), 30_720)
    assert one["device"] == {"written_bytes": 30_720, "bytes_a_byte": 3.0}
    # Nothing is known of a file system in memory.
    none = summarize.with_device(run(), 0)
    assert none["device"]["bytes_a_byte"] is None
    found = rows(capsys, tmp_path, "case", {"warren": [one], "nats": [none]})
    assert found["disk bytes a byte, disk"][:3] == ["3.00", "-", "-"]


def test_a_table_has_all_cases_in_the_order_in_which_they_were_measured(capsys, tmp_path):
    for age, name in enumerate(["first", "second"]):
        path = tmp_path / f"{name}.warren"
        path.write_text(json.dumps(run()) + "\n")
        os.utime(path, (age, age))
    (tmp_path / "notes.txt").write_text("not a result")
    summarize.table(tmp_path, ["warren"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| case | figure | warren | remarks |"
    assert [line.split(" | ")[0] for line in lines if line.split(" | ")[0] != "| "][2:] == ["| first", "| second"]
