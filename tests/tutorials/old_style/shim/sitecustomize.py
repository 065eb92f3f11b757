"""Lets pika 0.10 of 2015 load on a Python of today; changes nothing of what it says to a broker.

Its libev adapter uses the word `async` as a name, and it looks for a class where Python kept it until 3.9.
"""

import collections
import collections.abc
import sys

collections.Callable = collections.abc.Callable
sys.modules["pika.adapters.libev_connection"] = None  # "not installed", which pika allows for
