"""Differences that are meant, with the reason. Most: RabbitMQ 3.10 is what can be installed, 4.3 is what Warren follows."""

import fnmatch
import re

# (scripts, a pattern that each line of the difference contains, why)
KNOWN = [
]


def reason(script, theirs, ours):
    """Why these lines of a script differ, if that is known."""
    for scripts, pattern, why in KNOWN:
        if fnmatch.fnmatchcase(script, scripts) and all(re.search(pattern, line) for line in [*theirs, *ours]):
            return why
    return None
