"""One process under test: its log, its signals, and its certain end."""

import os
import signal
import subprocess
import time

TICK_HZ = os.sysconf("SC_CLK_TCK")


class Process:
    """A child that dies with us, whatever becomes of us.

    `machine`: a `rig.network.Machine` to run it on, or None for this one.
    `user`: the system user to run it as. Its output is appended to `log`.
    """

    def __init__(self, argv, log, machine=None, user=None, cwd=None, env=None):
        self.log = log
        as_user = ["--reuid", user, "--regid", user, "--init-groups"] if user else []
        prefix = machine.enter if machine else []
        with open(log, "ab") as out:
            self._child = subprocess.Popen(
                [*prefix, "setpriv", *as_user, "--pdeathsig", "KILL", "--", *map(str, argv)],
                # Of its own session: a Ctrl-C is for us, who end it in order.
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd, start_new_session=True,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            )
        self.pid = self._child.pid
        self.started = time.monotonic()

    def alive(self):
        return self._child.poll() is None

    @property
    def exit_status(self):
        return self._child.poll()

    def kill(self):
        """SIGKILL: as a power cut would have it, but for what the kernel still holds."""
        if self.alive():
            self._child.kill()
        self._child.wait()

    def terminate(self, limit_s=15):
        """SIGTERM, as a service manager does; SIGKILL when that takes too long."""
        if self.alive():
            self._child.send_signal(signal.SIGCONT)
            self._child.terminate()
            try:
                self._child.wait(limit_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._child.wait()

    def pause(self):
        """SIGSTOP, and its effect awaited: a virtual machine that is not scheduled."""
        self._child.send_signal(signal.SIGSTOP)
        await_that(lambda: _state(self.pid) in "TtZX", 5, "the process to stop")

    def resume(self):
        self._child.send_signal(signal.SIGCONT)

    def cpu_s(self):
        """CPU time used so far, user and system, in seconds."""
        fields = _stat(self.pid)
        return (int(fields[11]) + int(fields[12])) / TICK_HZ

    def rss_kib(self):
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        return 0

    def written_bytes(self):
        """What it made the kernel send to the storage layer."""
        with open(f"/proc/{self.pid}/io") as io:
            return int(dict(line.split(": ") for line in io)["write_bytes"])


def _stat(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()


def _state(pid):
    try:
        return _stat(pid)[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def await_that(condition, limit_s, what, every_s=0.05):
    """Waits until `condition()` is true and returns what it returned.

    After `limit_s`: AssertionError with `what`, which may be a function that
    tells how things stand by then."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            told = what() if callable(what) else what
            raise AssertionError(f"waited {limit_s:g} s in vain for {told}")
        time.sleep(every_s)
