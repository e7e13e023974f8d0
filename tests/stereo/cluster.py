"""Two nodes, a witness, an application, an observer; started, watched, judged."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from rig import paths, utility, witness
from rig.network import Network
from rig.process import Process, await_that

from .application import Application, conninfo
from .node import RAFT_PORT, Node
from .observer import Observer

#: Patroni's own limits: a `ttl` of 20 s is the least that it takes.
FAST = {"ttl": 20, "loop_wait": 2, "retry_timeout": 5}
DEFAULTS = {"ttl": 30, "loop_wait": 10, "retry_timeout": 10}

FOLDER_PREFIX = "pg-witness-stereo-"


class WitnessMachine:
    """The third machine: our program, or Python's."""

    def __init__(self, machine, folder, kind, partners, password):
        self.machine = machine
        self.kind = kind
        self.raft_address = f"{machine.address}:{RAFT_PORT}"
        self.folder = folder
        self.log = folder / "log"
        self.config = folder / "witness.yml"
        self.data = folder / "data"
        self.process = None
        #: How far the machine's wall clock is off; the monotonic clock is not.
        self.clock_ahead_s = 0
        folder.mkdir()
        witness.configure(self.config, self.raft_address, partners, self.data, password)

    def start(self):
        self.machine.plug()
        wrong = []
        if self.clock_ahead_s:
            wrong = ["env", f"LD_PRELOAD={paths.FAKETIME}", "DONT_FAKE_MONOTONIC=1",
                     f"FAKETIME={self.clock_ahead_s:+d}"]
        self.process = Process([*wrong, *witness.command(self.kind, self.config)], self.log, self.machine)

    def stop(self):
        """As a service manager does."""
        self.process.terminate()
        self.process = None

    def crash(self):
        self.machine.crash()
        self.process.kill()
        self.process = None


class Stereo:
    """The cluster, gone without a trace at the end of the `with`."""

    def __init__(self, kind="rust", password="secret", timing=None, folder=None):
        _sweep()
        self.password = password
        self.timing = timing or FAST
        self.folder = Path(folder or tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        self.folder.chmod(0o755)
        self.network = Network("s")
        self.kind = kind

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
        # The witness has the greatest address: it dials both (spec 1.2).
        machines = {name: self.network.machine(name, byte)
                    for name, byte in (("a", 11), ("b", 12), ("witness", 13), ("app", 20))}
        address = {name: f"{machines[name].address}:{RAFT_PORT}" for name in ("a", "b", "witness")}

        def partners(name):
            return [other for other_name, other in address.items() if other_name != name]

        dcs = {**self.timing, "maximum_lag_on_failover": 1048576, "synchronous_mode": True,
               "postgresql": {"use_pg_rewind": True}}
        self.nodes = {name: Node(name, machines[name], self.folder / name, partners(name),
                                 self.password, dcs) for name in ("a", "b")}
        self.witness = WitnessMachine(machines["witness"], self.folder / "witness", self.kind,
                                      partners("witness"), self.password)
        self.members = {**self.nodes, "witness": self.witness}
        hosts = [node.machine.address for node in self.nodes.values()]
        self.outside = machines["app"]
        self.application = Application(self.outside, self.folder, hosts)
        self.observer = Observer(self.outside, self.folder, address,
                                 {n: node.machine.address for n, node in self.nodes.items()},
                                 self.password)
        self._ctl = self.folder / "patronictl.yml"
        self._ctl.write_text(json.dumps({"scope": "stereo", "raft": {
            "partner_addrs": list(address.values()), "password": self.password}}))

    # Verbs

    def start(self, limit_s=120):
        """From nothing to a primary with a synchronous standby, and an application writing."""
        for member in self.members.values():
            member.start()
        self.observer.start()
        self.await_in_sync(limit_s)
        self.application.start()
        return self

    def primary(self):
        """The one node that is primary, or None."""
        roles = self._roles()
        primaries = [name for name, role in roles.items() if role == "primary"]
        return self.nodes[primaries[0]] if len(primaries) == 1 else None

    def standby(self):
        primary = self.primary()
        return next((node for node in self.nodes.values() if primary and node is not primary), None)

    def other(self, node):
        return next(other for other in self.nodes.values() if other is not node)

    def _roles(self):
        return {name: (self.observer.last("postgres", subject=name) or {}).get("role")
                for name in self.nodes}

    def sync(self):
        """The content of the `/sync` key: who leads, and who has every commit."""
        event = self.observer.last("key", subject="sync")
        return json.loads(event["value"]) if event and event["value"] else {}

    def in_sync(self):
        """A primary, and `/sync` says that the other has every commit of it."""
        primary = self.primary()
        if primary is None or not self.other(primary).running:
            return None
        sync = self.sync()
        told = sync.get("leader") == primary.name and sync.get("sync_standby") == self.other(primary).name
        return primary if told and self._roles()[self.other(primary).name] == "standby" else None

    def await_in_sync(self, limit_s=90):
        return await_that(self.in_sync, limit_s, self.describe)

    def raft_leader(self):
        """The name of the member that leads the Raft group, by its own word and the others'."""
        last = {name: self.observer.last("raft", subject=name) for name in self.members}
        leaders = [name for name, event in last.items() if event and event["leads"]]
        return leaders[0] if len(leaders) == 1 else None

    def ask(self, member, *command, limit_s=5.0):
        """PySyncObj's utility protocol, from the application's machine."""
        return utility.ask(member.raft_address, command, self.password, limit_s, self.outside)

    def transfer(self, name):
        """Hands the leadership of the Raft group to `name` (PySyncObj 0.3.16 and later)."""
        def done():
            leader = self.raft_leader()
            if leader == name:
                return True
            if leader is not None:
                self.ask(self.members[leader], "transfer", self.members[name].raft_address)
            return False

        await_that(done, 60, self.describe, every_s=1)

    def patronictl(self, *argv, input=None, limit_s=60):
        """Runs patronictl on the application's machine; raises on a bad exit status."""
        done = subprocess.run(
            [*self.outside.enter, paths.python(), str(paths.venv() / "bin/patronictl"),
             "-c", str(self._ctl), *argv],
            input=input, capture_output=True, text=True, timeout=limit_s,
            env={**os.environ, "EDITOR": "true", "PAGER": "cat", "PATRONICTL_CONFIG_FILE": ""})
        assert done.returncode == 0, f"patronictl {' '.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout

    def query(self, node, sql):
        """One value from a node's PostgreSQL."""
        done = self.outside.run(
            paths.POSTGRES_BIN / "psql", "-X", "-A", "-t", "-c", sql,
            f"host={node.machine.address} user=postgres dbname=postgres connect_timeout=3",
            capture_output=True, text=True, timeout=30)
        return done.stdout.strip()

    # Judging

    def lost_writes(self):
        """Ids that were acknowledged to the application and are not in the primary's table."""
        primary = self.primary()
        assert primary is not None, self.describe()
        acknowledged = {id_ for _, id_ in self.application.acknowledged()}
        present = {int(id_) for id_ in self.query(primary, "SELECT id FROM writes").split()}
        return sorted(acknowledged - present)

    def describe(self):
        lines = [f"the cluster to be well: roles {self._roles()}, raft leader {self.raft_leader()}, "
                 f"sync {self.sync()}"]
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


def moment(time_):
    """A wall clock time as a log shows it."""
    return time.strftime("%H:%M:%S", time.localtime(time_)) + f".{int(time_ % 1 * 1000):03d}"
