"""The witness in its two forms, from one and the same Patroni YAML file:
`pg-witness run FILE`, and Patroni's own `patroni_raft_controller FILE`."""

import json
from pathlib import Path

from . import paths

KINDS = ("rust", "python")


def configure(file, address, partners, data_dir, password=None, bind=None):
    """Writes the `raft:` section that a Patroni of this cluster has, and nothing else.

    JSON is YAML: no writer for it is needed."""
    raft = {"self_addr": address, "partner_addrs": list(partners), "data_dir": str(data_dir)}
    if password is not None:
        raft["password"] = password
    if bind is not None:
        raft["bind_addr"] = bind
    text = json.dumps({"scope": "stereo", "name": "witness", "raft": raft}, indent=2)
    Path(file).write_text(text + "\n")
    Path(file).chmod(0o600)


def command(kind, file, pysyncobj=paths.NEWEST):
    """The command line that runs the witness of this kind."""
    if kind == "rust":
        return [paths.pg_witness(), "run", str(file)]
    return [paths.python(pysyncobj), str(paths.venv(pysyncobj) / "bin/patroni_raft_controller"), str(file)]
