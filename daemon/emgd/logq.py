"""Logging off the working threads: records go through a queue, one thread writes them to standard error (journald's
on a cart).
"""

import logging
import logging.handlers
import queue
import sys


def start(level: str) -> logging.handlers.QueueListener:
    """Set logging up; the listener's `stop` writes what is left."""
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    writer = logging.StreamHandler(sys.stderr)
    writer.setFormatter(logging.Formatter("%(levelname)-7s %(name)s: %(message)s"))
    listener = logging.handlers.QueueListener(records, writer)
    root = logging.getLogger()
    root.handlers = [logging.handlers.QueueHandler(records)]
    root.setLevel(level.upper())
    listener.start()
    return listener
