"""Tells what PySyncObj's hazard H30 takes from any other loss.

Each chunk of a snapshot raises a Python follower's commit index, whatever its log
holds. A leader that was deposed with entries that nobody else has thus commits them
and acknowledges them to its clients, just before the snapshot drops them.

In the node, a `Recorder` writes to the log each acknowledgement that rests on nothing
but that; in the test, `recorded` reads them there and `judge` divides the losses. None
of this changes what PySyncObj does. It must not excuse a loss that a witness caused,
so an acknowledgement is recorded only if all of these are so:

* a chunk raised the commit index over the entry, and left it in the log;
* this member made the entry itself, as a leader in this life;
* as far as that leader was told, no other member ever had it on its disk, so it was
  one of three that held it;
* a client of this member is waiting for that very entry."""

import json
import logging
import pickle

#: Before the JSON object of an acknowledgement, in a node's log.
MARK = "acknowledged by a snapshot's chunk alone: "

_LEADER = 2
_REGULAR = b"\0"


class Recorder:
    """Watches a `SyncObj` from its own thread, message for message."""

    def __init__(self, member):
        self._member = member
        self._receive = member._SyncObj__onMessageReceived
        # Each term that this member led: the last index that another acknowledged then.
        self._led = {}
        member._SyncObj__transport.setOnMessageReceivedCallback(self.receive)

    def receive(self, node, message):
        """Takes the place of PySyncObj's own method, which it calls."""
        uncommitted = self._uncommitted() if _is_chunk(message) else []
        self._receive(node, message)
        self._note_progress()
        for entry in uncommitted:
            if self._by_the_chunk_alone(entry):
                command, index, term = entry
                told = {"key": _key(command), "index": index, "term": term}
                logging.warning("%s%s", MARK, json.dumps(told))

    def _uncommitted(self):
        return self._member._SyncObj__getEntries(self._member._SyncObj__raftCommitIndex + 1)

    def _note_progress(self):
        member = self._member
        if member._SyncObj__raftState == _LEADER:
            term = member._SyncObj__raftCurrentTerm
            others = member._SyncObj__raftMatchIndex.values()
            self._led[term] = max([self._led.get(term, 0), *others])

    def _by_the_chunk_alone(self, entry):
        member = self._member
        _, index, term = entry
        if index > member._SyncObj__raftCommitIndex:
            return False
        if member._SyncObj__getEntries(index, 1) != [entry]:
            return False  # The snapshot was loaded, and has taken its place.
        if term not in self._led:
            return False
        if any(index <= acknowledged for led, acknowledged in self._led.items() if led >= term):
            return False
        waiting = member._SyncObj__commandsWaitingCommit.get(index, ())
        return any(waits_for == term for waits_for, _ in waiting)


def _is_chunk(message):
    return message["type"] == "append_entries" and "prevLogIdx" not in message


def _key(command):
    """The key that a command of `KVStoreTTL` writes; None for what writes none."""
    if command[:1] != _REGULAR:
        return None
    call = pickle.loads(command[1:])
    return call[1][0] if isinstance(call, tuple) and call[1] else None


def recorded(log):
    """The keys of the acknowledgements that a node's log tells of."""
    lines = (line.partition(MARK)[2] for line in log.splitlines() if MARK in line)
    return {json.loads(line)["key"] for line in lines}


def judge(acknowledged, store, taken):
    """Which of the acknowledged keys (key: value) the store (key: row) has lost: those
    that H30 took, which are in `taken`, and all others."""
    lost = {key for key, value in acknowledged.items() if store.get(key, {}).get("value") != value}
    return sorted(lost & taken), sorted(lost - taken)
