"""A seeded loop of faults against a cluster whose members are machines of their own:
power cuts, stalls, cut and one-way lines, compactions, elections, while clients
write on both nodes and read-only. At the end: no acknowledged write is missing (but
what PySyncObj alone takes, which is counted: h30.py), the stores are equal, nobody
died, no log tells of damage.

As a program: faults.py --seconds 600 --seed 1 --versions 0.3.17,0.3.17"""

import argparse
import collections
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import Cluster  # noqa: E402
from rig import paths  # noqa: E402
from rig.network import Network  # noqa: E402


class Writers:
    """Clients that never write a key twice: a retried copy of an older write can then
    not hide the loss of a newer one. `pause_s`: between two writes of each."""

    def __init__(self, cluster, pause_s=0.03):
        self.cluster = cluster
        self._pause_s = pause_s
        self.refused = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(node, client))
                         for node in cluster.nodes for client in (1, 2)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, node, client):
        # Each has a line of its own: a write that hangs must not hold up the other.
        line = node.another_line()
        i = 0
        while not self._stop.wait(self._pause_s):
            i += 1
            key = f"/{node.name}{client}/{i}"
            try:
                if i % 20 == 0:
                    self.cluster.write(line, f"/ttl{key}", "short", ttl=2)
                if self.cluster.write(line, key, str(i)) is not True:
                    self.refused += 1
            except OSError:
                self.refused += 1  # Its node is down, or was killed under the write.
                self._stop.wait(0.3)


class Faults:
    """Draws one fault after the other; each ends with its cause removed."""

    def __init__(self, cluster, network, seed):
        self.cluster = cluster
        self.network = network
        self.random = random.Random(seed)
        self.done = collections.Counter()
        self.leaders = collections.Counter()
        self._weights = {
            self.kill: 5, self.kill_two: 1, self.stall: 3, self.cut: 3, self.cut_one_way: 2,
            self.unplug: 2, self.compact: 2, self.campaign: 2, self.lend: 2, self.breathe: 2,
        }

    def one(self):
        fault = self.random.choices(list(self._weights), list(self._weights.values()))[0]
        self.done[fault.__name__] += 1
        fault()
        for member in self.cluster.members:
            assert member.running, f"{member.name} died:\n{member.output()[-3000:]}"
        leader = self.cluster.leader()
        self.leaders[leader.name if leader else "none yet"] += 1

    def _wait(self, least_s, most_s):
        time.sleep(self.random.uniform(least_s, most_s))

    def _member(self):
        return self.random.choice(self.cluster.members)

    def kill(self):
        self._restart([self._member()])

    def kill_two(self):
        self._restart(self.random.sample(self.cluster.members, 2))

    def _restart(self, members):
        for member in members:
            member.kill()
        self._wait(0.2, 3)
        for member in members:
            member.start()
        self._wait(0.5, 6)

    def stall(self):
        member = self._member()
        member.pause()
        self._wait(0.3, 5)
        member.resume()
        self._wait(0.2, 2)

    def cut(self):
        one, other = self.random.sample(self.cluster.members, 2)
        self.network.cut(one.machine, other.machine)
        self._wait(0.5, 6)
        self.network.heal()
        self._wait(0.2, 3)

    def cut_one_way(self):
        one, other = self.random.sample(self.cluster.members, 2)
        one.machine.block(other.machine, outward=False)
        self._wait(0.5, 6)
        self.network.heal()
        self._wait(0.2, 3)

    def unplug(self):
        self._member().machine.unplug()
        self._wait(0.5, 6)
        self.network.heal()
        self._wait(0.2, 3)

    def compact(self):
        self._ask(self.random.choice(self.cluster.nodes), "compact")

    def campaign(self):
        self._ask(self.random.choice(self.cluster.nodes), "campaign")
        self._wait(0.2, 2)

    def lend(self):
        """Neither node stands for election and the leader stalls: the witness leads."""
        for node in self.cluster.nodes:
            self._ask(node, "hold")
        leader = self.cluster.leader()
        if leader in self.cluster.nodes:
            leader.pause()
            self._wait(4, 6)
            leader.resume()
        self._wait(1, 4)
        for node in self.cluster.nodes:
            self._ask(node, "release")

    def breathe(self):
        self._wait(1, 4)

    @staticmethod
    def _ask(node, verb):
        try:
            node.ask(verb, limit_s=5)
        except OSError:
            pass  # It is still starting.


def run(folder, seconds, seed, versions=(paths.NEWEST, paths.NEWEST), password="secret",
        kind="rust", witness_dials=True):
    """Raises AssertionError with the seed in sight, else returns what was done."""
    print(f"faults: seed {seed}, {seconds} s, {versions}, witness {kind}", flush=True)
    with Network("f") as network, \
            Cluster(folder, versions, password, kind, witness_dials, network=network) as cluster:
        cluster.start()
        faults = Faults(cluster, network, seed)
        until = time.monotonic() + seconds
        # At most some twenty thousand keys, however long: Patroni has tens.
        with Writers(cluster, pause_s=max(0.03, seconds / 5000)) as writers:
            while time.monotonic() < until:
                faults.one()
        network.heal()
        cluster.check()
        told = {
            "seed": seed, "acknowledged": len(cluster.acknowledged), "refused": writers.refused,
            "taken by H30": cluster.taken_by_h30,
            "faults": dict(faults.done), "leaders": dict(faults.leaders),
            "dropped applied entries, by leader":
                {member.name: len(cluster.truncations(member)) for member in cluster.members},
        }
        assert len(cluster.acknowledged) > seconds, told
        return told


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--versions", default=f"{paths.NEWEST},{paths.NEWEST}")
    parser.add_argument("--password", default=None)
    parser.add_argument("--dialled", action="store_true", help="the witness has the least address")
    parser.add_argument("--witness", choices=["rust", "python"], default="rust")
    parser.add_argument("--keep", help="folder for logs and data; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(run(given.keep or temporary, given.seconds, given.seed, tuple(given.versions.split(",")),
                  given.password, given.witness, not given.dialled))


if __name__ == "__main__":
    main()
