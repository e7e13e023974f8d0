"""An application that writes all the time and remembers what was acknowledged.

As a program (on its machine): application.py NAME JOURNAL HOSTS PAUSE_S. One row after
the other through libpq's own choice among the hosts (`target_session_attrs=read-write`),
which the file HOSTS names, joined by commas, and may name anew; a line in the journal
for each commit that was acknowledged: see `Write`."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from rig import paths
from rig.process import Process, await_that

from stereo.patience import Patience

#: No application waits for ever.
PATIENCE_S = 5

#: Who wrote it, and where: a database keeps by itself what the history is judged by.
TABLE = """CREATE TABLE IF NOT EXISTS writes (
    client text, id bigint, server inet, timeline text, PRIMARY KEY (client, id))"""
INSERT = """INSERT INTO writes
    VALUES (%s, %s, inet_server_addr(), substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))
    RETURNING host(server), timeline, pg_current_wal_insert_lsn() - '0/0'::pg_lsn"""


def conninfo(hosts):
    """As an application of a two-node cluster should have it: all hosts, writable only,
    and no long faith in a silent one."""
    return (f"host={','.join(hosts)} port=5432 user=postgres dbname=postgres "
            "target_session_attrs=read-write connect_timeout=2 tcp_user_timeout=2000 "
            "keepalives_idle=1 keepalives_interval=1 keepalives_count=2")


@dataclass(frozen=True)
class Write:
    """One acknowledged write: when it was sent and acknowledged (seconds since the
    epoch), by which server on which timeline, and the WAL position it began at."""

    client: str
    begin: float
    end: float
    id: int
    server: str
    timeline: int
    lsn: int


class Application:
    """The writing application `name` on `machine`, and what it has seen."""

    def __init__(self, name, machine, folder, hosts, pause_s=0.25):
        self.name = name
        self.machine = machine
        self.journal = folder / f"{name}.acknowledged"
        self.log = folder / f"{name}.application.log"
        self._hosts = folder / f"{name}.hosts"
        self.tell(hosts)
        self._pause_s = pause_s
        self._parsed = []
        self._offset = 0
        self.process = None

    def tell(self, hosts):
        """Where the database is, from its next connection on."""
        new = self._hosts.with_suffix(".new")
        new.write_text(",".join(hosts))
        new.rename(self._hosts)

    def start(self):
        """Begins to write, or goes on where it ended."""
        if self.process is not None and self.process.alive():
            return
        self.journal.touch()
        root = str(Path(__file__).resolve().parent.parent)
        self.process = Process(
            [paths.python(), __file__, self.name, self.journal, self._hosts, self._pause_s],
            self.log, self.machine, env={"PYTHONPATH": root})

    def ended(self):
        if self.process is not None:
            self.process.kill()
        self.process = None

    stop = ended

    def forget(self):
        """Begins anew: what was acknowledged was so by a cluster that is no more."""
        self.ended()
        self.journal.rename(self.journal.with_suffix(f".before-{time.time():.0f}"))
        self._parsed, self._offset = [], 0

    def acknowledged(self):
        """All writes that were acknowledged, oldest first. A line cut short by our kill is
        no acknowledgement that anybody saw."""
        if self.journal.exists():
            with open(self.journal) as journal:
                journal.seek(self._offset)
                while (line := journal.readline()).endswith("\n"):
                    self._parsed.append(_parse(self.name, line))
                    self._offset = journal.tell()
        return self._parsed

    def last_before(self, moment):
        return max((write.end for write in self.acknowledged() if write.end <= moment), default=None)

    def first_after(self, moment):
        """The time of the first acknowledgement after `moment`, or None yet."""
        return next((write.end for write in self.acknowledged() if write.end > moment), None)

    def await_writes(self, number, limit_s=60):
        """Waits until so many more were acknowledged."""
        wanted = len(self.acknowledged()) + number
        await_that(lambda: len(self.acknowledged()) >= wanted, limit_s,
                   lambda: f"{number} more writes of {self.name}: {self.log.read_text()[-500:]}")

    def longest_silence_s(self, since, until=None):
        """The longest time without an acknowledgement, from `since` on, until now."""
        until = until or time.time()
        times = [write.end for write in self.acknowledged() if since <= write.end <= until] + [until]
        return max((later - earlier for earlier, later in zip(times, times[1:])), default=0.0)


def _parse(client, line):
    begin, end, id_, server, timeline, lsn = line.split()
    return Write(client, float(begin), float(end), int(id_), server, int(timeline, 16), int(lsn))


def write(name, journal, hosts, pause_s):
    patience = Patience(PATIENCE_S)
    # What was under way when we ended may be committed: never the same id again.
    id_ = max((int(line.split()[2]) for line in open(journal) if line.endswith("\n")), default=0) + 10
    with open(journal, "a", buffering=1) as acknowledged:
        while True:
            try:
                with psycopg.connect(conninfo(Path(hosts).read_text().split(",")), autocommit=True) as connection:
                    connection.execute(TABLE)
                    while True:
                        # Also after an error: whether the last one was committed is unknown.
                        id_ += 1
                        began = time.time()
                        row = patience.row(connection, INSERT, (name, id_))
                        acknowledged.write(f"{began:.4f} {time.time():.4f} {id_} {' '.join(map(str, row))}\n")
                        time.sleep(pause_s)
            except psycopg.Error as error:
                print(f"{time.time():.3f} {str(error).splitlines()[:1]}", flush=True)
                time.sleep(max(2 * pause_s, 0.1))


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
