"""What does the service manager hear from us, and how does the log reach the journal?

systemd-python where it can be imported; where not, a plain datagram to NOTIFY_SOCKET, and lines on standard error with
the priorities that the journal understands.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import queue
import socket
import time

LOG = logging.getLogger("backupready")

# The journal's catalogue and everybody who filters know these; they never change.
MESSAGE_VERDICT = "1d0f2b7c7f3c4c0d9a1e5b0e6f0a7c11"
MESSAGE_PROBLEM_ACTIVE = "5c2a8a0b1f554d6b8a53f7d7b1c0de21"
MESSAGE_PROBLEM_CLEAR = "8f4b9d3e2a6148b7a0c5e9d41b7f3a31"
MESSAGE_LOOK_FAILED = "b3a1c6e87d0f4e52bd9c2f60a4e8d741"
MESSAGE_CONFIG_REFUSED = "e7d5f0a93c1b4286a9f8b6d2c0e4a151"

_LOG_QUEUE = 1000  # records
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def notify(state: str) -> None:
    """Tell the service manager; without one, nothing. Fields are separated by line breaks."""
    try:
        from systemd import daemon
    except ImportError:
        _notify_plainly(state)
    else:
        daemon.notify(state)


def _notify_plainly(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel,
        contextlib.suppress(OSError),
    ):
        channel.sendto(state.encode(), name)


def watchdog_seconds() -> float | None:
    """How often the service manager wants a sign of life; None when it does not."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not text.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1e6


def reloading() -> str:
    """The state that announces a reload; the clock is what newer service managers ask for with it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


class _PriorityFormatter(logging.Formatter):
    """`<4>text`, one priority for each line."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


class _Queue(logging.handlers.QueueHandler):
    """Hands records over and never waits: while the disks are frozen the journal may not read. What does not fit is
    dropped, and counted."""

    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


def log_to_journal() -> logging.handlers.QueueListener:
    """Structured into the journal when our standard error goes there, else as plain lines; written on a thread of its
    own. Stop the listener to have everything written."""
    handler: logging.Handler = logging.StreamHandler()
    if "JOURNAL_STREAM" in os.environ:
        try:
            from systemd import journal
        except ImportError:
            handler.setFormatter(_PriorityFormatter("%(message)s"))
        else:
            handler = journal.JournalHandler(SYSLOG_IDENTIFIER="backupready")
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    records: queue.Queue[logging.LogRecord] = queue.Queue(_LOG_QUEUE)
    LOG.addHandler(_Queue(records))
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    listener = logging.handlers.QueueListener(records, handler)
    listener.start()
    return listener
