"""Two nodes, a witness, applications that write, an observer: started, broken, watched.

What a scenario does to a part it says to the part (`node.crash()`,
`node.patroni.kill()`, `witness.wipe()`); what concerns several of them, and all that
is waited for, is here. What must hold afterwards is in `judgement`."""

import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from rig import paths, process, utility
from rig.network import Network
from rig.process import Process

from .application import Application, conninfo
from .history import two_primaries
from .node import POSTGRES_PORT, RAFT_PORT, Node
from .observer import Observer
from .witness_machine import WitnessMachine

#: Patroni's own limits: a `ttl` of 20 s is the least that it takes.
FAST = {"ttl": 20, "loop_wait": 2, "retry_timeout": 5}
DEFAULTS = {"ttl": 30, "loop_wait": 10, "retry_timeout": 10}

#: No word of any log.
PASSWORD = "kept-quiet-4711"

#: A longer silence is an outage; shorter ones a busy machine has by itself.
UNNOTICED_S = 0.6

FOLDER_PREFIX = "pg-witness-stereo-"
#: Whoever waits shares the machine with what is waited for.
await_that = functools.partial(process.await_that, every_s=0.2)

STORE = str(Path(__file__).with_name("store.py"))
RELAY = str(Path(__file__).with_name("relay.py"))

#: Where a relay listens, and what tells its own connections from those that it relays.
RELAY_PORT, RELAY_MARK = 5999, 7


class Stereo:
    """The cluster, gone without a trace at the end of the `with`."""

    def __init__(self, kind="rust", timing=None, folder=None, pysyncobj=paths.NEWEST, synchronous=True,
                 password=PASSWORD):
        _sweep()
        self.kind = kind
        self.timing = timing or FAST
        self.pysyncobj = pysyncobj
        self.synchronous = synchronous
        self.password = password
        self.folder = Path(folder or tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        self.folder.chmod(0o755)
        self.network = Network("s")
        self.steps = []  # (time, what was done)
        self.began = 0.0  # when the scenario did
        self.nodes = {}
        self.witness = None
        self._addresses = iter(range(14, 20))
        self._relays = []

    def __enter__(self):
        try:
            self.network.__enter__()
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.network.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self):
        self.outside = self.network.machine("app", 20)
        self.observer = Observer(self.outside, self.folder, self.password)
        self.application = Application("app", self.outside, self.folder, [], pause_s=0.04)
        for name, byte in (("a", 11), ("b", 12)):
            self._make_node(name, byte)
        # The witness has the greatest address: it dials both (spec 1.2).
        self.witness = WitnessMachine(
            "witness", self.network.machine("witness", 13), self.folder / "witness", self.step,
            self.kind, self._partners, self.password, self.pysyncobj)
        self.patronictl_config = self.folder / "patronictl.yml"

    def _make_node(self, name, byte):
        dcs = {**self.timing, "maximum_lag_on_failover": 1048576, "synchronous_mode": self.synchronous,
               "postgresql": {"use_pg_rewind": True}}
        self.nodes[name] = Node(
            name, self.network.machine(name, byte), self.folder / name, self.step,
            self._partners, self.password, dcs, self.pysyncobj)
        return self.nodes[name]

    def _partners(self, member):
        return [other.raft_address for other in self.members.values() if other is not member]

    @property
    def members(self):
        return {**self.nodes, "witness": self.witness}

    def applications(self):
        return [self.application, *(node.application for node in self.nodes.values())]

    # Doing

    def step(self, text):
        """Notes what is done, for the timeline and for what is measured from it."""
        self.steps.append((time.time(), text))

    def start(self, limit_s=120):
        """From nothing to a primary with a synchronous standby, and applications writing."""
        for member in self.members.values():
            member.start()
        self.watch()
        self.await_well(limit_s)
        self.begin_to_write()
        return self

    def watch(self):
        """Tells whoever looks from outside who belongs to the cluster now."""
        self.application.tell([node.machine.address for node in self.nodes.values()])
        self.patronictl_config.write_text(json.dumps({"scope": "stereo", "raft": {
            "partner_addrs": [m.raft_address for m in self.members.values()], "password": self.password}}))
        self.observer.watch({name: member.raft_address for name, member in self.members.items()},
                            {name: node.machine.address for name, node in self.nodes.items()})

    def begin_to_write(self):
        self.application.start()
        self.application.await_writes(1)

    def forget_the_cluster(self):
        """What was acknowledged was so by a cluster that the operator has thrown away."""
        self.step("operator: the old cluster is given up")
        for application in self.applications():
            if application.journal.exists():
                application.forget()

    def add_node(self, name, take_the_place_of=None):
        """A new data node with an address of its own; it clones itself from the primary."""
        if take_the_place_of is not None:
            del self.nodes[take_the_place_of.name]
        node = self._make_node(name, next(self._addresses))
        node.start()
        self.watch()
        return node

    def remove(self, member):
        """Ends a data node for good: its machine, and its membership."""
        if member.running:
            member.stop()
        del self.nodes[member.name]
        self.expel(member.raft_address)
        self.watch()

    def expel(self, raft_address):
        """`syncobj_admin -remove`, until every member knows it."""
        self.step(f"operator: remove {raft_address}")

        def gone():
            views = [self.member_set(member) for member in self.members.values()
                     if member.running and member.raft_address != raft_address]
            if all(view and raft_address not in view for view in views):
                return True
            self.ask(next(iter(self.nodes.values())), "remove", raft_address)
            return False

        await_that(gone, 60, self.describe, every_s=1)

    def cut(self, one, other, one_way=False):
        """Cuts the line between two; `one_way`: only what `one` sends is lost."""
        self.step(f"line cut from {one} to {other}" + ("" if one_way else ", and back"))
        if one_way:
            other.machine.block(one.machine, outward=False)
        else:
            self.network.cut(one.machine, other.machine)

    def heal(self):
        self.step("all lines healed")
        self.network.heal()

    def slow(self, member, delay_ms):
        """From now on the Raft links that `member` dials take so much longer each way."""
        self.step(f"the Raft links of {member} are {delay_ms} ms long")
        relay = Process([paths.python(), RELAY, RELAY_PORT, delay_ms, RELAY_MARK],
                        self.folder / "relay.log", member.machine)
        self._relays.append(relay)
        await_that(lambda: "LISTEN" in member.machine.run(
            "ss", "-lnt", f"sport = :{RELAY_PORT}", capture_output=True, text=True).stdout,
            10, "the relay to listen")
        member.machine.turn(RAFT_PORT, RELAY_PORT, RELAY_MARK)

    def give_raft_to(self, name):
        """Hands the leadership of the Raft group to `name` (PySyncObj 0.3.16 and later)."""
        def done():
            leader = self.raft_leader()
            if leader == name:
                return True
            if leader is not None:
                self.ask(self.members[leader], "transfer", self.members[name].raft_address)
                # It is told of within a moment, if it comes about.
                try:
                    await_that(lambda: self.raft_leader() == name, 2, "")
                except AssertionError:
                    pass
            return False

        await_that(done, 60, self.describe)

    def patronictl(self, *argv, input=None, limit_s=60):
        """Runs patronictl on the application's machine; raises on a bad exit status."""
        self.step(f"operator: patronictl {' '.join(argv)}")
        done = subprocess.run(
            [*self.outside.enter, paths.python(self.pysyncobj),
             str(paths.venv(self.pysyncobj) / "bin/patronictl"), "-c", str(self.patronictl_config), *argv],
            input=input, capture_output=True, text=True, timeout=limit_s,
            env={**os.environ, "EDITOR": "true", "PAGER": "cat", "PATRONICTL_CONFIG_FILE": ""})
        assert done.returncode == 0, f"patronictl {' '.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout

    def commit_something(self):
        """A change that needs the Raft group's majority. Its acknowledgement is the proof."""
        value = 1_000_000 + int(time.time()) % 1_000_000
        self.patronictl("edit-config", "--force", "-s", f"maximum_lag_on_failover={value}")

    # Watching

    def ask(self, member, *command, limit_s=5.0):
        """PySyncObj's utility protocol, from the application's machine."""
        return utility.ask(member.raft_address, command, self.password, limit_s, self.outside)

    def member_set(self, member):
        """Who belongs to the Raft group, by this member's word; None without an answer."""
        told = self.ask(member, "members", limit_s=2)
        return {entry["addr"] for entry in told} if isinstance(told, list) else None

    def store(self):
        """Who leads, and the key-value store as that member has it."""
        done = subprocess.run(
            [*self.outside.enter, paths.python(), STORE,
             ",".join(member.raft_address for member in self.members.values()), "15"],
            capture_output=True, text=True, timeout=40,
            env={**os.environ, "RAFT_PASSWORD": self.password})
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout else None

    def query(self, node, sql):
        """The rows of a node's PostgreSQL, as psql prints them."""
        done = self.outside.run(
            paths.POSTGRES_BIN / "psql", "-X", "-A", "-t", "-F", " ", "-c", sql,
            f"host={node.machine.address} port={POSTGRES_PORT} user=postgres dbname=postgres "
            "connect_timeout=3", capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, f"{node}: {sql}: {done.stderr}"
        return done.stdout.strip()

    def roles(self):
        """`primary`, `standby` or `down`, node by node."""
        return {name: (self.observer.last("postgres", subject=name) or {}).get("role")
                for name in self.nodes}

    def primary(self):
        """The one node that is primary, or None."""
        primaries = [name for name, role in self.roles().items() if role == "primary"]
        return self.nodes[primaries[0]] if len(primaries) == 1 else None

    def standby(self):
        primary = self.primary()
        return next((node for node in self.nodes.values() if primary and node is not primary), None)

    def other(self, node):
        return next(other for other in self.nodes.values() if other is not node)

    def view(self, node):
        """The roles of all nodes as this one's Patroni tells them; empty when it is silent."""
        event = self.observer.last("view", subject=node.name)
        return (event and event["roles"]) or {}

    def well(self):
        """The primary, if all other nodes that run are its standbys and, in synchronous
        mode, one of them has every commit by `/sync` and by PostgreSQL's word."""
        primary = self.primary()
        if primary is None:
            return None
        standbys = [node.name for node in self.nodes.values() if node.running and node is not primary]
        roles, view = self.roles(), self.view(primary)
        if view.get(primary.name) != "leader" or any(roles[name] != "standby" for name in standbys):
            return None
        if self.synchronous and standbys:
            named = {name for name in standbys if view.get(name) == "sync_standby"}
            told = self.observer.last("replication", subject=primary.name)
            if not named & set(told["waits_for"] if told else ()):
                return None
        return primary

    def await_well(self, limit_s=120):
        return await_that(self.well, limit_s, self.describe)

    def await_failover(self, from_, limit_s=None):
        """Another node is primary and acknowledges writes; the outage was no longer than
        `limit_s` (by default what the timers allow). Returns the new primary."""
        ttl, loop_wait = self.timing["ttl"], self.timing["loop_wait"]
        limit_s = limit_s or ttl + 3 * loop_wait + 5
        since = self.steps[-1][0]

        def done():
            primary, written = self.primary(), self.application.acknowledged()
            return (primary is not None and primary is not from_
                    and written[-1].server == primary.machine.address)

        await_that(done, limit_s + 60, self.describe)
        outage_s = self.application.longest_silence_s(since - 1)
        assert outage_s <= limit_s, f"no write was acknowledged for {outage_s:.1f} s, more than {limit_s}"
        return self.primary()

    def await_promotion(self, node):
        """`node` was promoted since the last step, whoever else takes itself for primary."""
        self.observer.await_event("postgres", self.steps[-1][0], 3 * self.timing["ttl"],
                                  subject=node.name, role="primary")

    def await_unchanged(self, primary):
        """`primary` is well, and no other was promoted since the scenario began."""
        assert self.await_well() is primary, self.describe()
        others = {event["subject"] for event in
                  self.observer.events("postgres", self.began, role="primary")} - {primary.name}
        assert not others, f"{others} was promoted"

    def await_unnoticed(self, primary):
        """Nothing changed for who uses the database."""
        self.await_unchanged(primary)
        silence_s = self.application.longest_silence_s(self.began)
        assert silence_s < UNNOTICED_S, f"no write was acknowledged for {silence_s:.1f} s"

    def endure(self, seconds):
        """Leaves the fault as it is for so long. Whoever acknowledges meanwhile is alone."""
        until = time.monotonic() + seconds

        def over():
            found = two_primaries(write for application in self.applications()
                                  for write in application.acknowledged())
            assert not found, found[0]
            return time.monotonic() > until

        await_that(over, seconds + 30, "time to pass", every_s=1)

    def raise_term(self, by):
        """So many elections: the leader of the Raft group is frozen until another leads."""
        for _ in range(by):
            leader = self.await_raft(*self.members)
            program = self.witness.program if leader == "witness" else self.nodes[leader].patroni
            program.pause()
            self.await_raft(*(name for name in self.members if name != leader))
            program.resume()
            self.await_well()

    def raft_leader(self):
        """The name of the member that leads the Raft group, by its own word."""
        last = {name: self.observer.last("raft", subject=name) for name in self.members}
        leaders = [name for name, event in last.items() if event and event["leads"]]
        return leaders[0] if len(leaders) == 1 else None

    def await_raft(self, *among, limit_s=60):
        """One of these members leads the Raft group."""
        return await_that(lambda: self.raft_leader() in among and self.raft_leader(), limit_s, self.describe)

    def await_following(self, member, limit_s=60):
        """`member` has a leader, has applied what is committed, and its vote counts."""
        def follows():
            status = self.ask(member, "status", limit_s=2)
            leader = self.raft_leader()
            return (isinstance(status, dict) and leader
                    and status["leader"] == self.members[leader].raft_address
                    and status["last_applied"] >= status["leader_commit_idx"]
                    and (member is not self.witness or member.is_voter()))

        await_that(follows, limit_s, self.describe)

    def describe(self):
        lines = [f"the cluster to be well: {self.roles()}, Raft leader {self.raft_leader()}, views "
                 f"{ {name: self.view(node) for name, node in self.nodes.items()} }"]
        for name, member in self.members.items():
            text = member.log.read_text(errors="replace") if member.log.exists() else ""
            lines += [f"  {name} | {line}" for line in text.splitlines()[-8:]]
        return "\n".join(lines)


def connection_string(stereo):
    """For a person who keeps the cluster up."""
    return conninfo([node.machine.address for node in stereo.nodes.values()])


def _sweep():
    """Removes the folders of runs that are no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        owner = re.match(rf"{FOLDER_PREFIX}(\d+)-", folder.name)
        if owner and not os.path.exists(f"/proc/{owner.group(1)}"):
            shutil.rmtree(folder, ignore_errors=True)
