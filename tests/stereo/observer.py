"""Notes what happens when: Raft leaders and terms, the leader key, promotions.

As a program (on its machine): observer.py CONFIG writes one JSON line per event.
It is a read-only member, as patronictl is one, asks all members for their `status`,
all PostgreSQLs whether they are in recovery, and all Patronis who they think is what."""

import json
import sys
import threading
import time
import urllib.request
from pathlib import Path

import psycopg
from patroni.dcs.raft import KVStoreTTL
from pysyncobj.utility import TcpUtility
from rig import paths
from rig.process import Process, await_that

from stereo.patience import Patience

EVERY_S = 0.1  # PostgreSQL; the others a little less often

#: Whether it is a standby, and who has every commit of it.
STANDING = """SELECT pg_is_in_recovery(), coalesce(array_agg(application_name), '{}')
    FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'"""


class Observer:
    """What it sees of the members and nodes that it was told of last (`watch`)."""

    def __init__(self, machine, folder, password):
        self.machine = machine
        self.notes = folder / "events"
        self.log = folder / "observer.log"
        self._password = password
        self._events = []
        self._offset = 0
        self.process = None

    def watch(self, members, nodes):
        """`members`: name -> Raft address; `nodes`: name -> PostgreSQL host."""
        if self.process is not None:
            self.process.kill()
        self.notes.touch()
        root = str(Path(__file__).resolve().parent.parent)
        config = {"notes": str(self.notes), "members": members, "nodes": nodes, "password": self._password}
        self.process = Process([paths.python(), __file__, json.dumps(config)],
                               self.log, self.machine, env={"PYTHONPATH": root})

    def events(self, kind=None, since=0.0, **wanted):
        """Events of a kind whose fields are as wanted, oldest first."""
        if self.notes.exists():
            with open(self.notes) as notes:
                notes.seek(self._offset)
                while (line := notes.readline()).endswith("\n"):
                    self._events.append(json.loads(line))
                    self._offset = notes.tell()
        return [event for event in self._events
                if (kind is None or event["kind"] == kind) and event["time"] >= since
                and all(event.get(name) == value for name, value in wanted.items())]

    def last(self, kind, **wanted):
        events = self.events(kind, **wanted)
        return events[-1] if events else None

    def await_event(self, kind, since, limit_s, **wanted):
        return await_that(lambda: self.events(kind, since, **wanted), limit_s,
                          lambda: f"{kind} {wanted}; seen: {self.events(since=since)}")[0]


class Notes:
    """The event file; events of the same subject and content are noted once."""

    def __init__(self, path):
        self._file = open(path, "a", buffering=1)
        self._lock = threading.Lock()
        self._latest = {}

    def note(self, kind, subject, **fields):
        with self._lock:
            if self._latest.get((kind, subject)) == fields:
                return
            self._latest[kind, subject] = fields
            event = {"time": round(time.time(), 3), "kind": kind, "subject": subject, **fields}
            self._file.write(json.dumps(event) + "\n")


def watch_keys(notes, members, password):
    """`key`: the keys of the cluster that are not refreshed without a change."""
    def subject(key):
        name = key.rsplit("/", 1)[-1]
        return name if name in ("leader", "sync", "config", "failover") else None

    def on_set(key, value):
        if subject(key):
            notes.note("key", subject(key), value=value["value"])

    def on_delete(key):
        if subject(key):
            notes.note("key", subject(key), value=None)

    store = KVStoreTTL(lambda: notes.note("observing", "keys"), on_set, on_delete,
                       partner_addrs=list(members.values()), password=password, patronictl=True,
                       commandsWaitLeader=False)
    store.startAutoTick()


def watch_member(notes, name, address, password):
    """`raft`: what a member says of itself and of its leader."""
    # One for all questions: a key is derived from the password for each.
    utility = TcpUtility(password, 1)
    while True:
        try:
            status = utility.executeCommand(address, ["status"])
            leader = status["leader"]
            notes.note("raft", name, leads=status["state"] == 2, term=status["raft_term"],
                       leader=getattr(leader, "id", leader))
        except Exception:
            notes.note("raft", name, leads=False, term=None, leader=None)
        time.sleep(2 * EVERY_S)


def watch_node(notes, name, host):
    """`postgres`: `primary`, `standby` or `down`; `replication`: whom it waits for."""
    patience = Patience(1.5)
    while True:
        try:
            with psycopg.connect(f"host={host} user=postgres dbname=postgres connect_timeout=2 "
                                 "tcp_user_timeout=1000", autocommit=True) as connection:
                while True:
                    standby, waits_for = patience.row(connection, STANDING)
                    notes.note("postgres", name, role="standby" if standby else "primary")
                    notes.note("replication", name, waits_for=waits_for)
                    time.sleep(EVERY_S)
        except psycopg.Error:
            notes.note("postgres", name, role="down")
            notes.note("replication", name, waits_for=[])
        time.sleep(EVERY_S)


def watch_patroni(notes, name, host):
    """`view`: the nodes' roles as this Patroni has them from the store, or none: it does
    not answer. `sync_standby` says that `/sync` names it."""
    while True:
        try:
            with urllib.request.urlopen(f"http://{host}:8008/cluster", timeout=2) as reply:
                roles = {member["name"]: member["role"] for member in json.load(reply)["members"]}
        except (OSError, ValueError):
            roles = None
        notes.note("view", name, roles=roles)
        time.sleep(3 * EVERY_S)


def main():
    config = json.loads(sys.argv[1])
    notes = Notes(config["notes"])
    threads = [threading.Thread(target=watch_member, args=(notes, name, address, config["password"]))
               for name, address in config["members"].items()]
    threads += [threading.Thread(target=watch_node, args=(notes, name, host))
                for name, host in config["nodes"].items()]
    threads += [threading.Thread(target=watch_patroni, args=(notes, name, host))
                for name, host in config["nodes"].items()]
    for thread in threads:
        thread.start()
    watch_keys(notes, config["members"], config["password"])


if __name__ == "__main__":
    main()
