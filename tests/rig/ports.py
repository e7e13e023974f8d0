"""TCP ports of loopback that no two tests share, whoever runs them at once."""

import fcntl
import itertools
import socket
import tempfile
from pathlib import Path

#: Below the kernel's ephemeral ports, so that no client's end takes one either.
_RANGES = range(20000, 32000, 500)


def _own():
    """The ports of a range that this process alone draws from until it ends."""
    for first in _RANGES:
        lock = open(Path(tempfile.gettempdir()) / f"pg-witness-ports-{first}", "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return lock, itertools.cycle(range(first, first + _RANGES.step))
    raise AssertionError("every range of ports is taken: how many test suites run here?")


_lock, _next = None, None


def free_port():
    """A port that nobody listens on now; not drawn again before all others were."""
    global _lock, _next
    if _lock is None:
        _lock, _next = _own()
    for port in itertools.islice(_next, _RANGES.step):
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port")
