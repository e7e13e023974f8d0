"""An application that writes all the time and remembers what was acknowledged.

As a program (on its machine): application.py JOURNAL HOST,HOST. One row each 20 ms
through libpq's own choice among the hosts (`target_session_attrs=read-write`); a line
`TIME ID` in the journal for each commit that was acknowledged."""

import sys
import time
from pathlib import Path

import psycopg
from rig import paths
from rig.process import Process, await_that

PAUSE_S = 0.02


def conninfo(hosts):
    """As an application of a two-node cluster should have it: both hosts, writable only,
    and no long faith in a silent one."""
    return (f"host={','.join(hosts)} port=5432 user=postgres dbname=postgres "
            "target_session_attrs=read-write connect_timeout=2 tcp_user_timeout=2000 "
            "keepalives_idle=1 keepalives_interval=1 keepalives_count=2")


class Application:
    """The writing application on `machine`, and what it has seen."""

    def __init__(self, machine, folder, hosts):
        self.machine = machine
        self.hosts = hosts
        self.journal = folder / "acknowledged"
        self.log = folder / "application.log"
        self.process = None

    def start(self):
        self.journal.touch()
        root = str(Path(__file__).resolve().parent.parent)
        self.process = Process(
            [paths.python(), __file__, self.journal, ",".join(self.hosts)],
            self.log, self.machine, env={"PYTHONPATH": root})
        await_that(self.acknowledged, 30, lambda: f"a first write: {self.log.read_text()[-500:]}")

    def stop(self):
        self.process.kill()
        self.process = None

    def acknowledged(self):
        """(time, id) of every acknowledged row, oldest first. A line cut short by our
        kill is no acknowledgement that anybody saw."""
        lines = self.journal.read_text().splitlines(keepends=True)
        return [(float(time_), int(id_)) for time_, id_ in
                (line.split() for line in lines if line.endswith("\n"))]

    def last_before(self, moment):
        return max(time_ for time_, _ in self.acknowledged() if time_ <= moment)

    def first_after(self, moment):
        """The time of the first acknowledgement after `moment`, or None yet."""
        return next((time_ for time_, _ in self.acknowledged() if time_ > moment), None)

    def longest_silence_s(self, since):
        """The longest time without an acknowledgement, from `since` on."""
        times = [time_ for time_, _ in self.acknowledged() if time_ >= since]
        return max((later - earlier for earlier, later in zip(times, times[1:])), default=0.0)


def write(journal, hosts):
    with open(journal, "a", buffering=1) as acknowledged:
        id_ = 0
        while True:
            try:
                with psycopg.connect(conninfo(hosts), autocommit=True) as connection:
                    connection.execute("CREATE TABLE IF NOT EXISTS writes (id bigint PRIMARY KEY)")
                    while True:
                        # Also after an error: whether the last one was committed is unknown.
                        id_ += 1
                        connection.execute("INSERT INTO writes VALUES (%s)", (id_,))
                        acknowledged.write(f"{time.time():.3f} {id_}\n")
                        time.sleep(PAUSE_S)
            except psycopg.Error as error:
                print(f"{time.time():.3f} {str(error).splitlines()[:1]}", flush=True)
                time.sleep(0.1)


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2].split(","))
