"""One story of what all machines wrote down, in the order in which it happened."""

import json
import re
from calendar import timegm
from time import gmtime, strftime, strptime

# Patroni: `2026-11-23 03:40:24,386 INFO: ...`; PostgreSQL: `2026-11-23 03:40:24.115 UTC [5699] LOG: ...`;
# pg-witness: `2026-11-23T03:40:24.115Z INFO stereo: ...`
STAMPED = re.compile(r"^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)[.,](\d{3})(?:Z| UTC)?\s*(.*)$")
APPLICATION = re.compile(r"^(\d+\.\d+) (.*)$")
STARTED = re.compile(r"^-- started, clock ([+-]\d+) s$")

#: A silence of the application that is worth a line.
SILENCE_S = 1.0


def merged(stereo):
    """Everything, as lines of time, who and what."""
    told = [*_steps(stereo), *_observed(stereo)]
    for name, member in stereo.members.items():
        told += _log(name, member.log)
    for application in stereo.applications():
        told += _silences(application)
    # Stable: the lines of one log keep their order.
    told.sort(key=lambda line: line[0])
    return "".join(f"{moment(time)}  {who:12}  {what}\n" for time, who, what in told)


def moment(time):
    """A wall clock time as a log shows it."""
    return strftime("%H:%M:%S", gmtime(time)) + f".{int(time % 1 * 1000):03d}"


def _steps(stereo):
    return [(time, "TEST", f"===== {text}") for time, text in stereo.steps]


def _observed(stereo):
    for event in stereo.observer.events():
        fields = {key: value for key, value in event.items() if key not in ("time", "kind", "subject")}
        yield event["time"], "observer", f"{event['kind']} {event['subject']}: {json.dumps(fields)}"


def _log(name, log):
    """A log's lines; one without a time happened when the one before did. A clock that
    was wrong is set right by what the harness wrote when it started the program."""
    if not log.exists():
        return
    time, ahead = 0.0, 0
    for line in log.read_text(errors="replace").splitlines():
        started = STARTED.match(line)
        stamped = STAMPED.match(line)
        if started:
            ahead = int(started.group(1))
        elif stamped:
            day, second, millisecond, line = stamped.groups()
            time = timegm(strptime(f"{day} {second}", "%Y-%m-%d %H:%M:%S")) + int(millisecond) / 1000 - ahead
        yield time, name, line


def _silences(application):
    writes = application.acknowledged()
    for before, after in zip(writes, writes[1:]):
        if after.end - before.end > SILENCE_S or after.server != before.server:
            yield before.end, application.name, f"last write acknowledged by {before.server}, id {before.id}"
            yield (after.end, application.name, f"first write acknowledged by {after.server}, id {after.id}, "
                   f"after {after.end - before.end:.2f} s, timeline {after.timeline}")
    if application.log.exists():
        before = None
        for line in application.log.read_text(errors="replace").splitlines():
            stamped = APPLICATION.match(line)
            # The same each time that it tries.
            if stamped and stamped.group(2) != before:
                before = stamped.group(2)
                yield float(stamped.group(1)), application.name, before
