"""A PostgreSQL server of any major version, in the state that a test wants."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from rig import paths
from rig.ports import free_port
from rig.process import Process, await_that

#: Debian's, and those that `tests/setup` could get beside it.
OTHERS = Path(os.environ.get("PG_WITNESS_POSTGRES", "/opt/pg-witness-tests/postgres"))
USER = "postgres"


def majors():
    """Version -> folder of programs, oldest first."""
    found = {int(folder.parent.name): folder for folder in OTHERS.glob("*/bin")}
    found[15] = paths.POSTGRES_BIN
    return dict(sorted(found.items()))


def as_user(argv, **kwargs):
    return subprocess.run(["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "--",
                           *map(str, argv)], capture_output=True, text=True, **kwargs)


def template(major, folder):
    """A fresh cluster with the roles of the tests, to be copied."""
    programs = majors()[major]
    data = folder / f"template-{major}"
    data.mkdir()
    shutil.chown(data, USER, USER)
    made = as_user([programs / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C",
                    "-A", "trust", "-N"], cwd="/")
    assert made.returncode == 0, made.stderr
    roles = """
        CREATE ROLE plain LOGIN;
        SET password_encryption = 'md5';
        CREATE ROLE md5er LOGIN PASSWORD 'pass word';
        SET password_encryption = 'scram-sha-256';
        CREATE ROLE scrammer LOGIN PASSWORD 'pass word';
    """
    # A line is a statement to the single-user server.
    lines = "\n".join(line.strip() for line in roles.strip().splitlines())
    done = as_user([programs / "postgres", "--single", "-D", data, "postgres"], input=lines + "\n", cwd="/")
    assert done.returncode == 0 and "ERROR" not in done.stderr, done.stderr
    return data


class Server:
    """A copy of a template on a port of its own, 127.0.0.1 and ::1."""

    def __init__(self, template_folder, major, folder):
        self.major = major
        self.programs = majors()[major]
        self.data = folder / "data"
        self.log = folder / "postgres.log"
        self.port = free_port()
        self.process = None
        subprocess.run(["cp", "-a", template_folder, self.data], check=True)
        self.set(port=self.port, listen_addresses="'*'", unix_socket_directories="''", fsync="off",
                 max_connections=10, max_wal_senders=2, shared_buffers="8MB", log_connections="on",
                 log_disconnections="on")

    def set(self, **settings):
        with open(self.data / "postgresql.conf", "a") as conf:
            for name, value in settings.items():
                conf.write(f"{name} = {value}\n")

    def hba(self, *lines):
        (self.data / "pg_hba.conf").write_text("\n".join(lines) + "\n")
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGHUP)

    def recover(self, **settings):
        """Makes its next start one of a standby."""
        if self.major >= 12:
            (self.data / "standby.signal").touch()
            self.set(**settings)
        else:
            settings = {"standby_mode": "on", **settings}
            of_server = {"hot_standby"}
            self.set(**{k: v for k, v in settings.items() if k in of_server})
            (self.data / "recovery.conf").write_text("".join(
                f"{k} = '{str(v).strip(chr(39))}'\n" for k, v in settings.items() if k not in of_server))
            shutil.chown(self.data / "recovery.conf", USER, USER)

    def start(self, until="ready to accept"):
        """Starts it and awaits a line of its log."""
        begun = len(self.output())
        self.process = Process([self.programs / "postgres", "-D", self.data], self.log, user=USER, cwd="/")
        if until:
            await_that(lambda: until in self.output()[begun:], 30, self.output)
        return self

    def output(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def pid(self):
        return self.process.pid

    def url(self, host="127.0.0.1"):
        return f"postgres://{host}:{self.port}/postgres"

    def session(self, user="postgres"):
        """A session under `trust`, held open by the returned socket."""
        held = socket.create_connection(("127.0.0.1", self.port), 10)
        body = struct.pack("!I", 196608) + f"user\0{user}\0database\0postgres\0\0".encode()
        held.sendall(struct.pack("!I", len(body) + 4) + body)
        got = b""
        while b"Z\0\0\0\5I" not in got:
            more = held.recv(4096)
            assert more, got
            got += more
        return held

    def children(self):
        """Process id -> title of the postmaster's children."""
        found = {}
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as children:
            for pid in children.read().split():
                try:
                    title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                except (FileNotFoundError, ProcessLookupError):
                    continue  # It has just ended.
                found[int(pid)] = title.decode(errors="replace").strip()
        return found

    def stop(self, how=signal.SIGQUIT):
        """Ends it: at once, or with SIGINT in order."""
        if self.process is not None:
            if self.process.alive():
                self.process.resume()
                for pid in self.children():
                    _signal(pid, signal.SIGCONT)
                os.kill(self.pid, how)
                deadline = time.monotonic() + 10
                while self.process.alive() and time.monotonic() < deadline:
                    time.sleep(0.02)
            self.process.kill()


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
