"""The scripts: functions of a `Session`, by name, in the order in which they are written."""

import importlib

SCRIPTS = {}
FILES = ("permissions", "handshake", "frames", "channels", "topology", "arguments", "publishing", "consuming", "settling", "pipelined", "lifecycle", "management")


def script(function):
    """Adds a script; its name is its file's and its own."""
    name = f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__}"
    assert name not in SCRIPTS, name
    SCRIPTS[name] = function
    return function


def each(**variants):
    """Adds one script for each variant, which it gets as its second argument."""

    def add(function):
        for label, variant in variants.items():
            name = f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__}.{label}"
            SCRIPTS[name] = lambda s, variant=variant: function(s, variant)
        return function

    return add


def load():
    for file in FILES:
        importlib.import_module(f"sidebyside.scripts.{file}")
    return SCRIPTS
