"""Runs client programs as a user does: own processes, standard output, Ctrl+C."""

import os
import re
import signal
import subprocess
import threading
import time


def _takes_interrupts():
    """Whoever runs the tests in the background ignores Ctrl+C, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Program:
    """A running program whose output lines are collected."""

    def __init__(self, command, env=None):
        self.command = [str(c) for c in command]
        self.process = subprocess.Popen(
            self.command, env={**os.environ, **(env or {})}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_takes_interrupts,
        )  # fmt: skip
        self.lines, self._news = [], threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def expect(self, pattern, count=1, timeout_s=60.0):
        """Waits until `count` lines match the whole pattern, and returns them."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                found = [line for line in self.lines if re.fullmatch(pattern, line)]
                if len(found) >= count:
                    return found
                ended = not self._reader.is_alive()
                left = deadline - time.monotonic()
                if left <= 0 or ended:
                    what = "ended" if ended else "was still running"
                    raise AssertionError(
                        f"{self.command} {what} without {count} x {pattern!r}; its output:\n" + "\n".join(self.lines)
                    )
                self._news.wait(min(left, 1.0))

    def count(self, pattern):
        with self._news:
            return sum(1 for line in self.lines if re.fullmatch(pattern, line))

    def finish(self, timeout_s=60.0):
        """Waits for the end, which must be a good one."""
        status = self.process.wait(timeout=timeout_s)
        self._reader.join()
        assert status == 0, f"{self.command} ended with {status}; its output:\n" + "\n".join(self.lines)
        return self.lines

    def interrupt(self):
        """Ctrl+C; the program must then end well."""
        self.process.send_signal(signal.SIGINT)
        return self.finish()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
