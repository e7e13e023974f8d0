"""Where the things are that the tests run."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENVS = Path(os.environ.get("PG_WITNESS_VENVS", "/opt/pg-witness-tests/venvs"))
POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")
#: The loader puts the machine's own library folder in place of `$LIB`.
FAKETIME = "/usr/$LIB/faketime/libfaketime.so.1"

#: pysyncobj release -> the Patroni release that it is tested with.
PATRONI = {"0.3.11": "3.0.2", "0.3.14": "3.3.7", "0.3.17": "4.1.5"}
NEWEST = "0.3.17"


def python(pysyncobj=NEWEST):
    """The interpreter that has this pysyncobj and its Patroni."""
    return str(venv(pysyncobj) / "bin/python")


def venv(pysyncobj=NEWEST):
    """The environment made by `tests/setup` for this pysyncobj."""
    return VENVS / f"patroni-{PATRONI[pysyncobj]}"


def pg_witness():
    """The program under test: `PG_WITNESS_BIN`, else what cargo built last."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return os.environ.get("PG_WITNESS_BIN", str(target / "debug/pg-witness"))
