"""What pg-witness says, as events: its log is the operator's account of a failover,
so the demonstration tells it from there. Python's controller has no such lines."""

import re
from calendar import timegm
from dataclasses import dataclass
from time import strptime

# `2026-06-29T12:34:56.789Z INFO stereo: voted for 10.77.0.12:5010 in term 7`
LINE = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{3})Z [A-Z]+ (?:\S+: )?(.*)$")


@dataclass(frozen=True)
class Said:
    """One line; `time` in seconds since the epoch, by the witness's own wall clock."""

    time: float
    text: str


def end(log):
    """Where the next line of the file will begin."""
    return log.stat().st_size if log.exists() else 0


def said(log, pattern, since=0):
    """The lines in which `pattern` is found, of those after the position `since`."""
    if not log.exists():
        return []
    text = log.read_bytes()[since:].decode(errors="replace")
    lines = (_parse(line) for line in text.splitlines())
    return [line for line in lines if line and re.search(pattern, line.text)]


def _parse(line):
    parts = LINE.match(line)
    if not parts:
        return None
    second, millisecond, text = parts.groups()
    return Said(timegm(strptime(second, "%Y-%m-%dT%H:%M:%S")) + int(millisecond) / 1000, text)
