"""One data node's Raft member, without PostgreSQL: a real `KVStoreTTL`, driven
over a Unix socket by one JSON object a line.

Usage: node.py '{"control": PATH, "self_addr": ADDR or null, "partner_addrs": [...],
"data_dir": PATH, "password": TEXT or null, "retry_timeout": SECONDS,
"term": NUMBER, "held": BOOL}'

It begins in that term, as if it had stood for election so often in vain (0: as its
release begins), and, if held, does not stand for election (see `hold`).

Runs under any supported Patroni; uses nothing but its environment's packages.
Ticks as Patroni does (`startAutoTick`), so what kills Patroni's thread kills
this one's too, and `status` says so (`alive`)."""

import importlib.util
import json
import logging
import os
import socket
import sys
import threading
import time

from h30 import Recorder


def without(package):
    """From now on `package` is imported without what its `__init__` does."""
    sys.modules[package] = importlib.util.module_from_spec(importlib.util.find_spec(package))


# Reads the limits of every parameter of PostgreSQL, for half a second of CPU at each start;
# `patroni.dcs` wants nothing of it but a module inside.
without("patroni.postgresql")

from patroni.dcs.raft import KVStoreTTL
from pysyncobj import FAIL_REASON
from pysyncobj.monotonic import monotonic

FAILURES = {v: k for k, v in vars(FAIL_REASON).items() if not k.startswith("_")}
STATES = {0: "follower", 1: "candidate", 2: "leader"}


class NameTheLeader(logging.Filter):
    """Adds to every line who leads, for a test must know whose append did it: a Python
    leader makes Python followers drop applied entries as well (H8)."""

    def __init__(self, kv):
        super().__init__()
        self._kv = kv

    def filter(self, record):
        leader = self._kv._getLeader()
        record.msg = f"{record.msg} [leader {leader and leader.id}]"
        return True


class Node:
    """The verbs: each public method is a command, its result the answer."""

    def __init__(self, config, term=0, held=False):
        self._ready = threading.Event()
        self._kv = KVStoreTTL(self._ready.set, None, None, commandsWaitLeader=False, **config)
        logging.getLogger("pysyncobj.syncobj").addFilter(NameTheLeader(self._kv))
        Recorder(self._kv)
        if term:
            self._kv._SyncObj__raftCurrentTerm = term
        if held:
            self.hold()
        self._kv.startAutoTick()

    def set(self, key, value, ttl=None, **conditions):
        """As Patroni writes: retried until its timeout. True only if acknowledged."""
        try:
            return self._kv.set(key, value, ttl=ttl, handle_raft_error=False, **conditions) is not False
        except Exception as error:
            return {"failed": str(error)}

    def propose(self, key, value, wait_s=10):
        """One proposal, not retried: how the cluster answered it."""
        done, answer = threading.Event(), []

        def answered(_result, error):
            answer.append(FAILURES.get(error, error))
            done.set()

        now = time.time()
        self._kv._set(key, {"value": value, "updated": now, "created": now}, callback=answered)
        return answer[0] if done.wait(wait_s) else "NO_ANSWER"

    def delete(self, key, recursive=False, **conditions):
        return self._kv.delete(key, recursive=recursive, **conditions)

    def get(self, key):
        return self._kv.get(key)

    def dump(self):
        """The whole store, as this node has applied it."""
        while True:
            try:
                return self._kv.get("", recursive=True)
            except RuntimeError:
                pass  # It changed under the iteration.

    def status(self):
        """What the tests wait for, under names that every release has."""
        status = self._kv.getStatus()
        leader = status["leader"]
        return {
            "alive": self._kv._KVStoreTTL__thread.is_alive(),
            "ready": self._ready.is_set(),
            "state": STATES[status["state"]],
            "leader": leader and leader.id,
            "term": status["raft_term"],
            "log_len": status["log_len"],
            "commit_idx": status["commit_idx"],
            "last_applied": status["last_applied"],
            "connected": sorted(n.id for n in self._kv.otherNodes if self._kv.isNodeConnected(n)),
            "members": sorted([n.id for n in self._kv.otherNodes] + [self._kv.selfNode.id]
                              if self._kv.selfNode else [n.id for n in self._kv.otherNodes]),
            # What this node, as leader, knows that each member has on its disk.
            "match": {k.removeprefix("match_idx_server_"): v for k, v in status.items()
                      if k.startswith("match_idx_server_")},
        }

    def compact(self):
        """Asks for a snapshot; the log is short when it is done."""
        self._kv.forceLogCompaction()

    def load(self, clients, seconds, prefix):
        """`clients` threads that write one after the other: the latencies in seconds of
        what was acknowledged, and how many were not."""
        until = time.monotonic() + seconds
        latencies, refused = [], []

        def client(name):
            while time.monotonic() < until:
                began = time.monotonic()
                done = self.set(f"{prefix}/{name}", "x" * 100)
                (latencies if done is True else refused).append(time.monotonic() - began)

        threads = [threading.Thread(target=client, args=(name,)) for name in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"latencies": latencies, "refused": len(refused)}

    def hold(self):
        """Never campaign from now on; vote, follow and lead as ever, and say so when no
        leader is heard of: PySyncObj forgets it only where it asks this to campaign. Nor
        when the leader hands over (`timeout_now`), which is over then, as a campaign ends it."""
        def nobody():
            self._kv._SyncObj__raftLeader = None
            self._kv._SyncObj__transferInProgress = False
            return False

        self._kv._SyncObj__connectedToAnyone = nobody

    def release(self):
        """Campaign again as PySyncObj does."""
        vars(self._kv).pop("_SyncObj__connectedToAnyone", None)

    def campaign(self, limit_s=2):
        """Stand for election now. With no more than an earlier deadline the next append of
        the leader would put it off again, on a busy machine each time."""
        timeouts = self._kv.conf.raftMinTimeout, self._kv.conf.raftMaxTimeout
        held = vars(self._kv).pop("_SyncObj__connectedToAnyone", None)
        term, until = self._term(), time.monotonic() + limit_s
        self._election_timeouts(0, 0)
        while self._term() == term and time.monotonic() < until:
            time.sleep(0.002)
        self._election_timeouts(*timeouts)
        if held:
            self._kv._SyncObj__connectedToAnyone = held

    def _term(self):
        return self._kv._SyncObj__raftCurrentTerm

    def _election_timeouts(self, least, most):
        self._kv.conf.raftMinTimeout, self._kv.conf.raftMaxTimeout = least, most
        self._kv._SyncObj__raftElectionDeadline = monotonic() + least


def serve(node, control):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(control + ".new")
    listener.listen(16)
    os.rename(control + ".new", control)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=converse, args=(node, connection), daemon=True).start()


def converse(node, connection):
    with connection, connection.makefile("rw") as lines:
        for line in lines:
            request = json.loads(line)
            try:
                verb = getattr(node, request.pop("verb"))
                answer = {"result": verb(**request)}
            except Exception as error:
                logging.exception("control")
                answer = {"error": repr(error)}
            lines.write(json.dumps(answer) + "\n")
            lines.flush()


def main():
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    config = json.loads(sys.argv[1])
    control, term, held = (config.pop(name) for name in ("control", "term", "held"))
    serve(Node(config, term, held), control)


if __name__ == "__main__":
    main()
