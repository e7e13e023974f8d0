"""What runs on a machine and can be killed, stopped and continued one by one: a
process that we started, and the PostgreSQL that Patroni started."""

import os
import signal
import subprocess

from rig import paths
from rig.process import Process, await_that


class Program:
    """One process of ours, and whether it should live. `argv()` is asked at each start.

    `step(text)` is told what befalls it."""

    def __init__(self, name, argv, log, machine, step, **process):
        self.name = name
        self.log = log
        self._argv = argv
        self._machine = machine
        self._step = step
        self._options = process
        self.process = None
        #: How far the wall clock that it sees is off; the monotonic clock is not.
        self.clock_ahead_s = 0

    @property
    def running(self):
        return self.process is not None and self.process.alive()

    @property
    def died(self):
        """Ended, and not by our hand."""
        return self.process is not None and not self.process.alive()

    def start(self):
        self._step(f"{self.name}: start")
        argv = [*map(str, self._argv())]
        wrong = self._wrong_clock(argv) if self.clock_ahead_s else []
        with open(self.log, "a") as log:
            log.write(f"-- started, clock {self.clock_ahead_s:+d} s\n")
        self.process = Process([*wrong, *argv], self.log, self._machine, **self._options)

    def _wrong_clock(self, argv):
        """What goes before the command for a clock that is off. Python is told by itself:
        libfaketime makes its sleeps fail."""
        if not argv[0].endswith("python"):
            return ["env", f"LD_PRELOAD={paths.FAKETIME}", "DONT_FAKE_MONOTONIC=1",
                    f"FAKETIME={self.clock_ahead_s:+d}"]
        folder = self.log.parent / "wrong-clock"
        folder.mkdir(exist_ok=True)
        custom = folder / "sitecustomize.py"
        custom.write_text(f"import time\nright = time.time\ntime.time = lambda: right() + {self.clock_ahead_s}\n")
        # Patroni, imported here, has set our umask.
        folder.chmod(0o755)
        custom.chmod(0o644)
        return ["env", f"PYTHONPATH={folder}"]

    def stop(self):
        """As a service manager does."""
        self._step(f"{self.name}: stop")
        self.process.terminate(limit_s=60)
        self.process = None

    def kill(self):
        self._step(f"{self.name}: kill -9")
        self.ended()

    def ended(self):
        """Its machine has lost power, or is about to: it may not outlive that."""
        if self.process is not None:
            self.process.kill()
        self.process = None

    def restart(self):
        self.kill()
        self.start()

    def pause(self):
        self._step(f"{self.name}: SIGSTOP")
        self.process.pause()

    def resume(self):
        self._step(f"{self.name}: SIGCONT")
        self.process.resume()


class Postgres:
    """A node's PostgreSQL, which is Patroni's child and not ours."""

    def __init__(self, name, data, step):
        self.name = f"{name}'s PostgreSQL"
        self._data = data
        self._step = step

    def postmaster(self):
        """Its process id, or None when none runs."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().split()[0])
            os.kill(pid, 0)
            return pid
        except (OSError, IndexError, ValueError):
            return None

    def kill(self):
        """SIGKILL to the postmaster; its children end when they notice."""
        self._step(f"{self.name}: kill -9")
        os.kill(self.postmaster(), signal.SIGKILL)

    def pause(self):
        self._step(f"{self.name}: SIGSTOP")
        signal_all(self._all(), signal.SIGSTOP)

    def resume(self):
        self._step(f"{self.name}: SIGCONT")
        signal_all(self._all(), signal.SIGCONT)

    def stop(self):
        """A clean stop behind Patroni's back."""
        self._step(f"{self.name}: pg_ctl stop")
        subprocess.run(
            ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "--",
             paths.POSTGRES_BIN / "pg_ctl", "stop", "-D", self._data, "-m", "fast", "-t", "30"],
            check=True, capture_output=True, cwd="/")

    def _all(self):
        postmaster = self.postmaster()
        told = subprocess.run(["ps", "-o", "pid=", "--ppid", str(postmaster)], capture_output=True, text=True)
        return [postmaster, *map(int, told.stdout.split())]


def signal_all(pids, number):
    """The signal to each that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def await_gone(pid, limit_s=15):
    await_that(lambda: not os.path.exists(f"/proc/{pid}"), limit_s, f"process {pid} to end")
