"""One data node: Patroni and the PostgreSQL that it runs, as the user `postgres`, and
an application on the same machine."""

import json
import shutil
import signal

from rig import paths

from .application import Application
from .parts import Postgres, Program, signal_all

RAFT_PORT = 5010
POSTGRES_PORT = 5432
REST_PORT = 8008


class Member:
    """A machine with a member of the Raft group on it: what both kinds have in common."""

    def __init__(self, name, machine, folder, step):
        self.name = name
        self.machine = machine
        self.folder = folder
        self._step = step
        folder.mkdir()

    def __str__(self):
        return self.name

    @property
    def raft_address(self):
        return f"{self.machine.address}:{RAFT_PORT}"

    def isolate(self, by):
        """`unplug` (the cable), `drop` (a firewall that is silent) or `reject` (one that answers)."""
        self._step(f"{self}: isolated by {by}")
        self.machine.isolate(by)

    def rejoin(self):
        self._step(f"{self}: reachable again")
        self.machine.unblock()
        self.machine.plug()

    def lose(self, percent):
        """Packet loss both ways until `rejoin`."""
        self._step(f"{self}: loses {percent} % of its packets")
        self.machine.lose(percent)


class Node(Member):
    """`raft_password` and `dcs`: what a new cluster is made with; `partners()`: the Raft
    addresses of the others that its configuration names."""

    def __init__(self, name, machine, folder, step, partners, raft_password, dcs, pysyncobj):
        super().__init__(name, machine, folder, step)
        self.pysyncobj = pysyncobj
        self._partners = partners
        self._raft_password = raft_password
        self._dcs = dcs
        self.log = folder / "patroni.log"
        self.config = folder / "patroni.yml"
        self.raft_data = folder / "raft"
        self.postgres_data = folder / "postgres"
        shutil.chown(folder, "postgres", "postgres")
        argv = [paths.python(pysyncobj), str(paths.venv(pysyncobj) / "bin/patroni"), self.config]
        self.patroni = Program(f"{name}'s Patroni", lambda: argv, self.log, machine, step,
                               user="postgres", cwd=folder)
        self.postgres = Postgres(name, self.postgres_data, step)
        #: It writes to its own machine's PostgreSQL, whoever else can reach that.
        self.application = Application(f"on-{name}", machine, folder, [machine.address])

    @property
    def running(self):
        return self.patroni.running

    def start(self):
        self._configure()
        self.machine.plug()
        self.patroni.start()
        self.application.start()

    def stop(self):
        """Patroni's orderly end, which stops PostgreSQL first."""
        self.application.stop()
        self.patroni.stop()

    def crash(self):
        """The power cut: no packet leaves it any more, every process has ended."""
        self._step(f"{self}: power cut")
        self.machine.unplug()
        self._end()

    def kill(self):
        """kill -9 of all that runs there. The machine lives on and refuses connections."""
        self._step(f"{self}: kill -9 of everything")
        self._end()

    def _end(self):
        self.machine.kill_all()
        self.patroni.ended()
        self.application.ended()

    def pause(self):
        """Everything there stops, as a virtual machine that is not scheduled."""
        self._step(f"{self}: SIGSTOP of everything")
        # Twice: one may have been forked meanwhile.
        signal_all(self.machine.pids(), signal.SIGSTOP)
        signal_all(self.machine.pids(), signal.SIGSTOP)

    def resume(self):
        self._step(f"{self}: SIGCONT of everything")
        signal_all(self.machine.pids(), signal.SIGCONT)

    def wipe(self):
        """A new machine in the place of the old: neither Raft nor PostgreSQL data."""
        self._step(f"{self}: all data wiped")
        for folder in (self.raft_data, self.postgres_data):
            shutil.rmtree(folder, ignore_errors=True)

    def wipe_raft(self):
        self._step(f"{self}: Raft data wiped")
        shutil.rmtree(self.raft_data, ignore_errors=True)

    def _configure(self):
        self.config.write_text(json.dumps(self._configuration(), indent=2))
        shutil.chown(self.config, "postgres", "postgres")
        self.config.chmod(0o600)

    def _configuration(self):
        address = self.machine.address

        def user(name):
            # Told from any other text in a log.
            return {"username": name, "password": f"{self._raft_password}-{name}"}

        return {
            "scope": "stereo",
            "name": self.name,
            "restapi": {"listen": f"{address}:{REST_PORT}", "connect_address": f"{address}:{REST_PORT}"},
            "raft": {
                "self_addr": self.raft_address, "partner_addrs": self._partners(self),
                "password": self._raft_password, "data_dir": str(self.raft_data),
            },
            "bootstrap": {
                "dcs": self._dcs,
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"{address}:{POSTGRES_PORT}",
                "connect_address": f"{address}:{POSTGRES_PORT}",
                "data_dir": str(self.postgres_data),
                "bin_dir": str(paths.POSTGRES_BIN),
                "pgpass": str(self.folder / "pgpass"),
                "authentication": {
                    "superuser": user("postgres"),
                    "replication": user("replicator"),
                    "rewind": user("rewinder"),
                },
                "parameters": {
                    "unix_socket_directories": str(self.folder),
                    "shared_buffers": "16MB",
                    "wal_keep_size": "64MB",
                    # Also those that wait for a standby that is no more.
                    "max_connections": 100,
                },
                # The network ends at the switch.
                "pg_hba": ["local all all trust", "host all all all trust",
                           "host replication all all trust"],
                "use_pg_rewind": True,
            },
        }
