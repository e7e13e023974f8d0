"""The third machine: pg-witness, or Python's controller in its place."""

import shutil
import subprocess

from rig import paths, witness

from .node import Member
from .parts import Program
from .witness_log import end, said


class WitnessMachine(Member):
    """`kind`: `rust` or `python`; it may change between two starts."""

    def __init__(self, name, machine, folder, step, kind, partners, raft_password, pysyncobj):
        super().__init__(name, machine, folder, step)
        self.kind = kind
        self.pysyncobj = pysyncobj
        self._partners = partners
        self._raft_password = raft_password
        self.log = folder / "log"
        self.config = folder / "witness.yml"
        self.data = folder / "data"
        #: Where its log begins that it has written since its last start.
        self.begun = 0
        self.program = Program(name, self._command, self.log, machine, step)

    def _command(self):
        self.begun = self.log_end()
        witness.configure(self.config, self.raft_address, self._partners(self), self.data,
                          self._raft_password)
        return witness.command(self.kind, self.config, self.pysyncobj)

    @property
    def ours(self):
        return self.kind == "rust"

    def is_voter(self):
        """Whether its word counts, as it says itself. The controller's always does."""
        ask = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8272/readyz', timeout=5)"
        return not self.ours or self.machine.run(paths.python(), "-c", ask, check=False,
                                                 capture_output=True).returncode == 0

    @property
    def running(self):
        return self.program.running

    def start(self):
        self.machine.plug()
        self.program.start()

    def stop(self):
        self.program.stop()

    def kill(self):
        self.program.kill()

    def restart(self):
        self.program.restart()

    def pause(self):
        self.program.pause()

    def resume(self):
        self.program.resume()

    def crash(self):
        self._step(f"{self}: power cut")
        self.machine.crash()
        self.program.ended()

    def wipe(self):
        """A new card. What the old one held is kept beside it."""
        self._step(f"{self}: all data wiped")
        number = len(list(self.folder.glob("lost-card-*")))
        if self.data.exists():
            shutil.move(self.data, self.folder / f"lost-card-{number}")

    def operator(self, *argv):
        """A command of pg-witness for this configuration; what it printed."""
        self._step(f"operator: pg-witness {' '.join(argv)}")
        done = subprocess.run([paths.pg_witness(), *argv, "--config", self.config],
                              capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def log_end(self):
        """A position in its log: what follows is said later."""
        return end(self.log)

    def said(self, pattern, since=0):
        """Lines of pg-witness's log in which the pattern is found."""
        return said(self.log, pattern, since)
