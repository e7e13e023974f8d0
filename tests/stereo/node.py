"""One data node: Patroni and the PostgreSQL that it runs, as the user `postgres`."""

import json
import shutil

from rig import paths
from rig.process import Process

RAFT_PORT = 5010
POSTGRES_PORT = 5432
REST_PORT = 8008


class Node:
    """`name` on `machine`; `partners`: the Raft addresses of the two others."""

    def __init__(self, name, machine, folder, partners, password, dcs, pysyncobj=paths.NEWEST):
        self.name = name
        self.machine = machine
        self.folder = folder
        self.pysyncobj = pysyncobj
        self.raft_address = f"{machine.address}:{RAFT_PORT}"
        self.log = folder / "patroni.log"
        self.config = folder / "patroni.yml"
        self.process = None
        folder.mkdir()
        shutil.chown(folder, "postgres", "postgres")
        self.config.write_text(json.dumps(self._configuration(partners, password, dcs), indent=2))
        shutil.chown(self.config, "postgres", "postgres")
        self.config.chmod(0o600)

    def _configuration(self, partners, password, dcs):
        address = self.machine.address
        return {
            "scope": "stereo",
            "name": self.name,
            "restapi": {"listen": f"{address}:{REST_PORT}", "connect_address": f"{address}:{REST_PORT}"},
            "raft": {
                "self_addr": self.raft_address, "partner_addrs": partners, "password": password,
                "data_dir": str(self.folder / "raft"),
            },
            "bootstrap": {
                "dcs": dcs,
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"{address}:{POSTGRES_PORT}",
                "connect_address": f"{address}:{POSTGRES_PORT}",
                "data_dir": str(self.folder / "postgres"),
                "bin_dir": str(paths.POSTGRES_BIN),
                "pgpass": str(self.folder / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", "password": "postgres"},
                    "replication": {"username": "replicator", "password": "replicator"},
                    "rewind": {"username": "rewinder", "password": "rewinder"},
                },
                "parameters": {
                    "unix_socket_directories": str(self.folder),
                    "shared_buffers": "16MB",
                    "wal_keep_size": "64MB",
                    "max_connections": 30,
                },
                # The network ends at the switch.
                "pg_hba": ["local all all trust", "host all all all trust",
                           "host replication all all trust"],
                "use_pg_rewind": True,
            },
        }

    def start(self):
        self.machine.plug()
        self.process = Process(
            [paths.python(self.pysyncobj), str(paths.venv(self.pysyncobj) / "bin/patroni"), self.config],
            self.log, self.machine, user="postgres", cwd=self.folder)

    def crash(self):
        """The machine is gone: no packet leaves it any more, every process has ended."""
        self.machine.crash()
        self.process.kill()
        self.process = None

    def stop(self):
        """Patroni's orderly end, which stops PostgreSQL first."""
        self.process.terminate(limit_s=60)
        self.process = None

    @property
    def running(self):
        return self.process is not None and self.process.alive()

    def output(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""
