"""Some minutes of the fault loop; hours with `tests/run --long` or faults.py itself."""

import time

import faults
import pytest

SECONDS = {"quick": 30, "normal": 60, "long": 1200}


@pytest.mark.timeout(1800)
def test_faults(versions, kind, size, seed, tmp_path):
    a, b, password, witness_dials = versions
    seed = int(time.time()) if seed is None else seed
    print(faults.run(tmp_path, SECONDS[size], seed, (a, b), password, kind, witness_dials))
