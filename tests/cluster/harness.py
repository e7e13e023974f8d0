"""A cluster of two data nodes and the witness, and what one does to it: write,
kill, pause, wipe, force a leader; and at the end, `check`: nothing that was
acknowledged is missing, and all three stores are equal.

On loopback by default (many at once), or on the machines of a `rig.network`."""

import copy
import itertools
import json
import re
import shutil
import socket
import threading
from pathlib import Path

import h30
from rig import paths, utility, witness
from rig.ports import free_port
from rig.process import Process, await_that

NODE = str(Path(__file__).with_name("node.py"))

#: Generous: a witness that is ours stands for election after 1.2-4.2 s, and a
#: refused dial of PySyncObj's is repeated after 5 s.
LIMIT_S = 40

#: What ours says of its vote whenever it opens its state, and when that has changed.
VOTER_OR_NOT = re.compile(r"no state in|not a voter yet|(?<=, )a voter$|is a voter now", re.MULTILINE)

#: PySyncObj's word (0.3.16 and later) for having dropped what it had applied (H8).
TRUNCATED = "truncating already-applied log entries"


class Member:
    """One voting member: its address, its folder, its process."""

    def __init__(self, cluster, name, address, bind, machine):
        self.cluster = cluster
        self.name = name
        self.address = address
        self.bind = bind
        self.machine = machine
        self.folder = cluster.folder / name
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.process = None
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def running(self):
        return self.process is not None and self.process.alive()

    def kill(self):
        self.process.kill()
        self.process = None

    def terminate(self):
        self.process.terminate()
        self.process = None

    def pause(self):
        self.process.pause()

    def resume(self):
        self.process.resume()

    def wipe(self):
        """A replaced disk. The member must not run."""
        assert self.process is None
        shutil.rmtree(self.data, ignore_errors=True)

    def restart(self, wipe=False):
        self.kill()
        if wipe:
            self.wipe()
        self.start()

    def utility(self, *command, password=..., limit_s=5.0):
        """Asks this member with PySyncObj's utility protocol; None: no answer."""
        password = self.cluster.password if password is ... else password
        return utility.ask(self.address, command, password, limit_s, self.machine)

    def output(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class DataNode(Member):
    """A `node.py` process and the line to it."""

    def __init__(self, cluster, name, address, bind, machine, pysyncobj):
        super().__init__(cluster, name, address, bind, machine)
        self.pysyncobj = pysyncobj
        self._lock = threading.Lock()
        self._line = None

    @property
    def control(self):
        return self.folder / "control"

    def start(self, partners=None, password=..., advertise=..., term=0, held=False):
        self.control.unlink(missing_ok=True)
        config = {
            "control": str(self.control),
            "self_addr": self.address if advertise is ... else advertise,
            "bind_addr": self.bind,
            "partner_addrs": partners or self.cluster.partners_of(self),
            "data_dir": str(self.data),
            "password": self.cluster.password if password is ... else password,
            "retry_timeout": 10,
            "term": term,
            "held": held,
        }
        self._line = None
        self.process = Process([paths.python(self.pysyncobj), NODE, json.dumps(config)],
                               self.log, self.machine)

    def ask(self, verb, limit_s=30.0, **arguments):
        """One verb of node.py. Raises OSError when it does not answer."""
        with self._lock:
            if self._line is None:
                self._line = self._connect()
            try:
                self._line.settimeout(limit_s)
                self._line.sendall((json.dumps({"verb": verb, **arguments}) + "\n").encode())
                answer = json.loads(self._line.makefile("r").readline() or "null")
            except (OSError, ValueError):
                self._line = None
                raise
        if answer is None:
            self._line = None
            raise ConnectionResetError(f"{self.name} closed the line")
        if "error" in answer:
            raise OSError(f"{self.name}: {verb}: {answer['error']}")
        return answer["result"]

    def another_line(self):
        """The same node with a connection of its own, for use by one more thread."""
        other = copy.copy(self)
        other._lock = threading.Lock()
        other._line = None
        return other

    def _connect(self):
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(5)
        line.connect(str(self.control))
        return line

    def status(self):
        """None while it does not answer: starting, paused or dead."""
        try:
            return self.ask("status", limit_s=2)
        except OSError:
            return None

    def dump(self):
        return self.ask("dump")


class Witness(Member):
    """The third member, ours or Python's. Its state is seen through `status`."""

    def __init__(self, cluster, name, address, bind, machine, kind, pysyncobj):
        super().__init__(cluster, name, address, bind, machine)
        self.kind = kind
        self.pysyncobj = pysyncobj

    def start(self, password=...):
        file = self.folder / "witness.yml"
        witness.configure(
            file, self.address, self.cluster.partners_of(self), self.data,
            self.cluster.password if password is ... else password, bind=self.bind)
        self.process = Process(witness.command(self.kind, file, self.pysyncobj), self.log, self.machine)

    def votes(self):
        """Whether its word counts (S7), by the last that ours has said of that."""
        if self.kind != "rust":
            return True
        told = VOTER_OR_NOT.findall(self.output())
        return bool(told) and told[-1] in ("a voter", "is a voter now")

    def status(self):
        answer = self.utility("status", limit_s=2)
        if not isinstance(answer, dict):
            return None
        return {
            "alive": True,
            "ready": True,
            "state": {0: "follower", 1: "candidate", 2: "leader"}[answer["state"]],
            "leader": answer["leader"],
            "term": answer["raft_term"],
            "commit_idx": answer["commit_idx"],
            "last_applied": answer["last_applied"],
            "match": {k.removeprefix("match_idx_server_"): v for k, v in answer.items()
                      if k.startswith("match_idx_server_")},
            "connected": {k.removeprefix("partner_node_status_server_") for k, v in answer.items()
                          if k.startswith("partner_node_status_server_") and v == 2},
        }


class Cluster:
    """Two data nodes `a` and `b`, and `witness`.

    `versions`: pysyncobj of a and b. `witness_dials`: whether the witness has the
    greatest address (it dials) or the least (it is dialled). `relayed`: members
    that advertise one address and listen at another, for a proxy in between.
    `network`: puts each on a machine of its own."""

    def __init__(self, folder, versions=(paths.NEWEST, paths.NEWEST), password=None, kind="rust",
                 witness_dials=True, relayed=(), network=None):
        self.folder = Path(folder)
        self.password = password
        self.acknowledged = {}
        self.taken_by_h30 = []
        self._clients = itertools.count(1)
        self._readers = []
        names = ["a", "b", "witness"] if witness_dials else ["witness", "a", "b"]
        places = _machines(network, names) if network else _loopback(names, relayed)
        self.a, self.b = (
            DataNode(self, name, *places[name], pysyncobj)
            for name, pysyncobj in zip(("a", "b"), versions))
        self.witness = Witness(self, "witness", *places["witness"], kind, versions[0])
        self.nodes = [self.a, self.b]
        self.members = [*self.nodes, self.witness]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in [*self._readers, *self.members]:
            if member.process is not None:
                member.process.kill()

    def start(self):
        """Starts all three and waits for a leader that all of them follow."""
        for member in self.members:
            member.start()
        self.settle()
        return self

    def partners_of(self, member):
        return [other.address for other in self.members if other is not member]

    def named(self, address):
        return next(member for member in self.members if member.address == address)

    # Watching

    def leader(self, among=None):
        """The member that all running ones follow in one term, or None."""
        views = [(member, member.status()) for member in (among or self.running())]
        if any(status is None or not status["leader"] for _, status in views):
            return None
        if len({(status["leader"], status["term"]) for _, status in views}) != 1:
            return None
        leader = self.named(views[0][1]["leader"])
        own = dict((member.name, status) for member, status in views).get(leader.name)
        return leader if own and own["state"] == "leader" else None

    def running(self):
        return [member for member in self.members if member.running]

    def settled(self, among=None):
        """The leader, once all running members have acknowledged all that it has, and
        have applied it. A member that gives no success (S7) is not settled."""
        among = among or self.running()
        leader = self.leader(among)
        if leader is None:
            return None
        told = leader.status()
        if told is None or told["last_applied"] != told["commit_idx"]:
            return None
        # PySyncObj keeps what a member acknowledged before it lost its disk.
        if self.witness in among and not self.witness.votes():
            return None
        for member in among:
            status = member.status()
            if status is None or status["last_applied"] != told["commit_idx"]:
                return None
            if member is not leader and told["match"].get(member.address) != told["commit_idx"]:
                return None
        return leader

    def settle(self, among=None, limit_s=LIMIT_S):
        return await_that(lambda: self.settled(among), limit_s, self.describe)

    def await_leader(self, among=None, other_than=None, limit_s=LIMIT_S):
        def found():
            leader = self.leader(among)
            return leader if leader is not other_than else None

        return await_that(found, limit_s, self.describe)

    def describe(self):
        """How things stand, for whoever reads a failed test."""
        lines = ["the members to agree; they say:"]
        for member in self.members:
            lines.append(f"  {member.name} {member.address} running={member.running} {member.status()}")
            lines += [f"    | {line}" for line in member.output().splitlines()[-6:]]
        return "\n".join(lines)

    # Doing

    def write(self, via, key, value="x", **conditions):
        """Writes through a node as Patroni does, and remembers what was acknowledged."""
        done = via.ask("set", key=key, value=value, **conditions)
        if done is True and "ttl" not in conditions:
            self.acknowledged[key] = value
        return done

    def must_write(self, via, key, value="x", **conditions):
        done = self.write(via, key, value, **conditions)
        assert done is True, f"write of {key} through {via.name}: {done}\n{self.describe()}"

    def lead(self, member):
        """Makes `member` the leader; then no data node stands for election any more
        (`release` ends that)."""
        self.hold(except_for=member)
        if member is not self.witness:
            def elected():
                if self.leader() is member:
                    return True
                member.ask("campaign")
                return False

            await_that(elected, LIMIT_S, self.describe, every_s=1.5)
            return
        self.settle()
        if self.leader() is not member:
            before = self.settle()
            before.pause()
            await_that(lambda: (member.status() or {}).get("state") == "leader", LIMIT_S, self.describe)
            before.resume()
        await_that(lambda: self.leader() is member, LIMIT_S, self.describe)

    def hold(self, except_for=None):
        """From now on no data node but `except_for` stands for election."""
        for node in self.nodes:
            if node.running and node is not except_for:
                node.ask("hold")

    def release(self):
        for node in self.nodes:
            if node.running:
                node.ask("release")

    def new_node(self, name, pysyncobj=paths.NEWEST):
        """One more data node, started; whoever runs must be told to add it."""
        node = DataNode(self, name, *_loopback([name], ())[name], pysyncobj)
        node.start(partners=self.partners_of(node))
        self.nodes.append(node)
        self.members.append(node)
        return node

    def reader(self, pysyncobj=paths.NEWEST, machine=None):
        """A read-only client, as patronictl is one, once it has all that the leader has."""
        name = f"client{next(self._clients)}"
        client = DataNode(self, name, None, None, machine or self.a.machine, pysyncobj)
        self._readers.append(client)
        client.start(partners=[member.address for member in self.members], advertise=None)
        await_that(lambda: (client.status() or {}).get("ready"), LIMIT_S, self.describe)
        return client

    # Judging

    def check(self):
        """All three run and agree, by their stores; every acknowledged write is there, but
        for those of `taken_by_h30`, which no witness can save; no thread died and no log
        tells of damage. Leaves the witness leading."""
        for member in self.members:
            if not member.running:
                assert member.process is None, f"{member.name} died: {member.process.exit_status}\n" \
                    f"{member.output()[-3000:]}"
                member.start()
        self.settle()
        for node in self.nodes:
            assert node.status()["alive"], f"the Raft thread of {node.name} died:\n{node.output()[-3000:]}"
        self.same_stores(self.nodes)
        # Only what it streams as leader shows the witness's own store.
        self.lead(self.witness)
        reader = self.reader()
        self.same_stores([*self.nodes, reader])
        recorded = set().union(*(h30.recorded(node.output()) for node in self.nodes))
        self.taken_by_h30, lost = h30.judge(self.acknowledged, reader.dump(), recorded)
        assert not lost, f"{len(lost)} of {len(self.acknowledged)} acknowledged writes are lost: {lost[:5]}"
        if self.taken_by_h30:
            print(f"H30 of PySyncObj took {len(self.taken_by_h30)} of {len(self.acknowledged)} "
                  f"acknowledged writes: {self.taken_by_h30[:5]}", flush=True)
        self.sound_logs()
        reader.kill()

    def same_stores(self, readable):
        """Waits until the stores are equal, key for key and index for index."""
        def equal():
            first, *rest = (node.dump() for node in readable)
            return all(first == other for other in rest)

        def difference():
            first, *rest = (node.dump() for node in readable)
            unequal = [f"{key}: {first.get(key)} != {other.get(key)}"[:200] for other in rest
                       for key in sorted({*first, *other}) if first.get(key) != other.get(key)]
            return f"equal stores; {len(unequal)} unequal: {unequal[:5]}"

        await_that(equal, 20, difference, every_s=0.2)

    def sound_logs(self):
        """No log tells of a panic, or of applied entries that our append has dropped."""
        for member in self.members:
            assert "panicked at" not in member.output(), f"{member.name}:\n{member.output()[-3000:]}"
        if self.witness.kind == "rust":
            assert not self.truncations(self.witness), f"S3: {self.truncations(self.witness)[:5]}"

    def truncations(self, leader):
        """Lines that tell of applied entries dropped for an append of `leader`."""
        return [line for node in self.nodes for line in node.output().splitlines()
                if TRUNCATED in line and f"[leader {leader.address}]" in line]


def _machines(network, names):
    """Addresses in the order of `names`, the first the least."""
    return {name: (f"{machine.address}:5010", None, machine)
            for name, machine in ((name, network.machine(name, 11 + i)) for i, name in enumerate(names))}


def _loopback(names, relayed):
    places = {}
    for name in names:
        address = f"127.0.0.1:{free_port()}"
        bind = f"127.0.0.1:{free_port()}" if name in relayed else address
        places[name] = (address, bind, None)
    return places
