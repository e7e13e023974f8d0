"""Strangers who spend what is a witness's own (S16), and what it costs it.

Against a running witness of a group without a password, where anybody may speak:

    attack.py HOST:PORT SECONDS [--kinds KIND,...]

Kinds (default: all): `bombs`, messages of some hundred bytes that inflate to half a
million values, from read-only clients and from whom has not said hello; `pipeline`, 64
connections that ask for `status` and read no answer; `partial`, 32 read-only clients with
a large message that is never whole; `nonsense`, hellos in the name of the witness itself, frames
that are none and connections that end at once. It ends by itself.

`measure` does the same beside two real nodes whose leader is killed in the midst of it:

    attack.py --measure [--rounds N] [--seconds N] [--kinds KIND,...]
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path

MIB = 1 << 20

#: What the witness may take at most, as an operator's service manager would have it.
DATA_BYTES_MAX = 128 * MIB

#: The part of the time in which the witness may run: a small board's speed.
DUTY = 0.25
DUTY_PERIOD_S = 0.02


def frame(body):
    return struct.pack("<i", len(body)) + body


def message(value):
    return frame(zlib.compress(pickle.dumps(value, 2)))


def many_values(values):
    """The pickle of a tuple of so many None."""
    return b"\x80\x02(" + b"N" * (values - 2) + b"t."


def bomb(values):
    return frame(zlib.compress(many_values(values), 9))


READER = message("readonly")
STATUS = message(["status"])
#: As many values as any message may have, and as many as 16 KiB can hold.
LARGE_BOMB, SMALL_BOMB = bomb(1 << 19), bomb(16_000)
#: The same in the command of a message that is none itself, and not too large.
PROPOSAL = message({"type": "apply_command", "command": b"\x00" + many_values(200_000),
                    "request_id": 1})


class Attack:
    """The threads of one attack, from `start` until `seconds` later."""

    def __init__(self, address, seconds):
        host, port = address.rsplit(":", 1)
        self.to = (host.strip("[]"), int(port))
        self.until = time.monotonic() + seconds

    def over(self):
        return time.monotonic() >= self.until

    def connect(self):
        line = socket.create_connection(self.to, timeout=2)
        line.settimeout(0.5)
        return line

    def again_and_again(self, talk, pause_s):
        """`talk` on one new connection after the other."""
        while not self.over():
            with contextlib.suppress(OSError), self.connect() as line:
                talk(line)
            time.sleep(pause_s)

    def bombs(self):
        def as_reader(line):
            line.sendall(READER)
            while not self.over():
                line.sendall(LARGE_BOMB)
                time.sleep(1 / 60)

        def as_proposer(line):
            line.sendall(READER)
            while not self.over():
                line.sendall(PROPOSAL)
                time.sleep(1 / 60)

        def before_hello(line):
            while not self.over():
                line.sendall(SMALL_BOMB * 16)
                time.sleep(1 / 400)

        return [lambda: self.again_and_again(as_reader, 0.01),
                lambda: self.again_and_again(as_proposer, 0.01),
                lambda: self.again_and_again(before_hello, 0.01)]

    def pipeline(self):
        def ask(line):
            line.settimeout(5)
            while not self.over():
                line.sendall(STATUS * 100)

        return [lambda: self.again_and_again(ask, 0.05)] * 64

    def partial(self):
        def begin(size):
            def talk(line):
                line.settimeout(5)
                line.sendall(READER + struct.pack("<i", size) + bytes(size - 1))
                while not self.over() and line.recv(1):
                    pass

            return talk

        # Of the size that any message may have, and of one that a reader's may have.
        return [lambda size=size: self.again_and_again(begin(size), 0.05)
                for size in (16 * MIB, MIB // 5)] * 16

    def nonsense(self):
        def impostor(line):
            line.sendall(message("{}:{}".format(*self.to)))

        def garbage(line):
            line.sendall(frame(b"\x00" * 64))
            line.recv(1)

        return [lambda talk=talk: self.again_and_again(talk, 0.001)
                for talk in (impostor, garbage, lambda _: None)]

    def run(self, kind):
        threads = [threading.Thread(target=work, daemon=True) for work in getattr(self, kind)()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


KINDS = ("bombs", "pipeline", "partial", "nonsense")


class Slowed:
    """A process that runs a part of the time only, while the `with` lasts."""

    def __init__(self, pid):
        self.pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._cycle, daemon=True)

    def _cycle(self):
        with contextlib.suppress(ProcessLookupError):
            while not self._over.is_set():
                os.kill(self.pid, signal.SIGSTOP)
                time.sleep(DUTY_PERIOD_S * (1 - DUTY))
                os.kill(self.pid, signal.SIGCONT)
                self._over.wait(DUTY_PERIOD_S * DUTY)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)


class Peak:
    """The greatest resident memory of a process while the `with` lasts, in KiB."""

    def __init__(self, process):
        self.process = process
        self.rss_kib = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        with contextlib.suppress(OSError):
            while not self._over.wait(0.05):
                self.rss_kib = max(self.rss_kib, self.process.rss_kib())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


def prepare(cluster):
    """All three run, and `a` leads."""
    if not cluster.a.running:
        cluster.a.start()
    cluster.settle()
    cluster.lead(cluster.a)
    cluster.release()


def failover_s(cluster, key, limit_s):
    """Kills the leading node; how long the other one cannot write, at most `limit_s`."""
    cluster.a.kill()
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        with contextlib.suppress(OSError):
            if cluster.write(cluster.b, key) is True:
                break
    return time.monotonic() - began


def measure(folder, rounds, seconds, kinds=KINDS, limit_s=60):
    """The figures of one attack of everything at once, beside an undisturbed time."""
    from harness import Cluster
    from rig.process import Process, await_that

    with Cluster(folder) as cluster:
        cluster.start()
        process = cluster.witness.process
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (DATA_BYTES_MAX, DATA_BYTES_MAX))
        calm, attacked = [], []
        with Slowed(process.pid):
            for turn in range(rounds):
                prepare(cluster)
                calm.append(failover_s(cluster, f"calm{turn}", limit_s))
            prepare(cluster)
            idle_kib, lines = process.rss_kib(), len(cluster.witness.output().splitlines())
            cpu_s, began = process.cpu_s(), time.monotonic()
            with Peak(process) as peak:
                for turn in range(rounds):
                    prepare(cluster)
                    attack = Process([sys.executable, __file__, cluster.witness.address, seconds,
                                      "--kinds", ",".join(kinds)],
                                     Path(folder) / "attack.log", cluster.witness.machine)
                    # Until it is felt; it goes on over the failover.
                    time.sleep(min(5, seconds / 3))
                    attacked.append(failover_s(cluster, f"attacked{turn}", limit_s))
                    await_that(lambda: not attack.alive(), seconds + 30, "the attack to end")
                    if not process.alive():
                        break
            figures = {
                "alive": process.alive(),
                "calm_s": [round(s, 2) for s in calm],
                "attacked_s": [round(s, 2) for s in attacked],
                "idle_mib": round(idle_kib / 1024, 1),
                "peak_mib": round(peak.rss_kib / 1024, 1),
                "log_lines": len(cluster.witness.output().splitlines()) - lines,
                "cpu_percent": None,
            }
            if process.alive():
                elapsed = time.monotonic() - began
                figures["cpu_percent"] = round(100 * (process.cpu_s() - cpu_s) / elapsed, 1)
        return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("address", nargs="?")
    parser.add_argument("duration", nargs="?", type=float, default=20)
    arguments = parser.parse_args()
    if arguments.measure:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        with tempfile.TemporaryDirectory() as folder:
            kinds = arguments.kinds.split(",")
            print(json.dumps(measure(folder, arguments.rounds, arguments.seconds, kinds)))
        return
    attack = Attack(arguments.address, arguments.duration)
    # A process each, or they wait for one another.
    each = [multiprocessing.Process(target=attack.run, args=(kind,), daemon=True)
            for kind in arguments.kinds.split(",")]
    for process in each:
        process.start()
    for process in each:
        process.join()


if __name__ == "__main__":
    main()
