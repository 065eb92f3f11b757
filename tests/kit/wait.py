"""Waiting for something to become true. Deadlines are generous: a test asserts what happens, not when."""

import time


def eventually(probe, what, timeout_s=30.0, every_s=0.05):
    """Calls `probe` until it returns something true, and returns that. `what` names it in the failure."""
    deadline = time.monotonic() + timeout_s
    last = None
    while True:
        try:
            last = probe()
            if last:
                return last
        except (OSError, AssertionError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"within {timeout_s:.0f} s not: {what}; last seen: {last!r}")
        time.sleep(every_s)
