"""Lets pika 0.10 and 0.13 load on a Python of today; changes nothing of what they say to a broker.

They look for a class where Python kept it until 3.9, and a part that is not used here has `async` as a name.
"""

import collections
import collections.abc
import sys

collections.Callable = collections.abc.Callable
sys.modules["pika.adapters.libev_connection"] = None  # "not installed", which pika allows for
