"""The witness as a process of its own: who answers for whom on one host, and what a
reload does."""

import os
import signal
import subprocess

import pytest
from rig import paths, witness
from rig.ports import free_port
from rig.process import Process, await_that

pytestmark = pytest.mark.ours

#: A key is derived in seconds by a debug build, on a busy machine in many.
START_LIMIT_S = 120


class Witness:
    """One witness of two data nodes that nobody started."""

    def __init__(self, folder, name, page, password=None):
        self.address = f"127.0.0.1:{free_port()}"
        self.partners = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        self.file, self.log, self.data = (folder / f"{name}{end}" for end in (".yml", ".log", ".d"))
        self.page = page
        self.configure(password)
        self.process = Process(witness.command("rust", self.file), self.log, env=self.env())

    def configure(self, password):
        witness.configure(self.file, self.address, self.partners, self.data, password, self.address)

    def env(self):
        return {"PG_WITNESS_HTTP_LISTEN": self.page}

    def command(self, *words):
        return subprocess.run([paths.pg_witness(), *words], capture_output=True, text=True, timeout=60,
                              env={**os.environ, **self.env()})

    def look(self, name):
        return self.command(name, "--config", str(self.file))

    def output(self):
        return self.log.read_text()

    def await_line(self, text, count=1):
        await_that(lambda: self.output().count(text) >= count, START_LIMIT_S, self.output)

    def reload(self):
        os.kill(self.process.pid, signal.SIGHUP)

    def accepts(self, folder, password):
        file = folder / "password"
        file.write_text(password)
        file.chmod(0o600)
        done = self.command("raft", "members", self.address, "--password-file", str(file))
        return done.returncode == 0


def test_a_command_is_answered_by_its_own_witness(tmp_path):
    page = f"127.0.0.1:{free_port()}"
    first = Witness(tmp_path, "first", page)
    try:
        first.await_line("the status is at")
        second = Witness(tmp_path, "second", page)
        second.await_line("cannot listen on")
        second.process.kill()
        assert first.look("alive").returncode == 0
        for name in ("alive", "status", "members"):
            done = second.look(name)
            assert done.returncode == 1, done
            assert first.address in done.stderr and second.address in done.stderr, done
    finally:
        first.process.kill()


def test_a_reload_compares_with_what_is_in_force(tmp_path):
    one = Witness(tmp_path, "one", f"127.0.0.1:{free_port()}", "right")
    try:
        # It derives its key now; a reload is taken when that is done.
        one.await_line("the status is at")
        one.reload()
        one.await_line("configuration reloaded")
        one.configure(None)
        one.reload()
        one.await_line("not reloaded: stereo: the password was removed")
        assert "the password was removed" in one.look("status").stdout
        one.configure("new")
        one.reload()
        one.await_line("password changed")
        assert "the password was removed" not in one.look("status").stdout
        assert one.accepts(tmp_path, "right") and one.accepts(tmp_path, "new")
    finally:
        one.process.kill()
