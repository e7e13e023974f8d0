"""The static program for each board: what it is, and that it votes."""

import subprocess

import pytest
from harness import Cluster
from rig.paths import ROOT

from kit.build import prepare
from kit.common import target

#: Built and run each time; the others on demand.
BOARDS = ["x86_64", "aarch64",
          pytest.param("armv7", marks=pytest.mark.on_demand),
          pytest.param("armv6", marks=pytest.mark.on_demand)]
MACHINES = {"x86_64": "Advanced Micro Devices X86-64", "aarch64": "AArch64", "armv7": "ARM", "armv6": "ARM"}


def told(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("board", BOARDS)
def test_is_static_stripped_and_small(built, board):
    """By binutils' word, not by that of the script which built it."""
    program = built(board)
    assert f"{MACHINES[board]}\n" in told("readelf", "--file-header", program)
    assert "INTERP" not in told("readelf", "--program-headers", program)
    assert "NEEDED" not in told("readelf", "--dynamic", program)
    sections = told("readelf", "--sections", "--wide", program)
    assert ".symtab" not in sections and ".debug" not in sections
    assert program.stat().st_size <= 2_800_000
    # Nothing of the machine that built it.
    text = program.read_bytes()
    assert str(ROOT).encode() not in text and b"/.cargo/" not in text


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("board", BOARDS)
def test_votes_in_a_cluster(as_witness, tmp_path, board):
    """With two real nodes, through the loss of one and of itself, with a password."""
    as_witness(board)
    with Cluster(tmp_path, password="secret") as cluster:
        cluster.start()
        lead_lose_and_return(cluster)


def lead_lose_and_return(cluster):
    """What a witness is there for: its vote and its word make a majority with one node,
    before and after its own restart; at the end nothing is missing."""
    cluster.lead(cluster.a)
    cluster.release()
    cluster.must_write(cluster.b, "/with/all")
    cluster.a.kill()
    cluster.await_leader()
    cluster.must_write(cluster.b, "/with/two")
    cluster.witness.restart()
    cluster.await_leader()
    cluster.must_write(cluster.b, "/after/restart")
    cluster.a.start()
    cluster.settle()
    cluster.check()


@pytest.mark.on_demand
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("board", ["x86_64", "aarch64", "armv7", "armv6"])
def test_unit_tests_pass_there(board):
    """Under qemu, as .cargo/config.toml says."""
    # For those that run themselves as another process.
    environment = {**prepare([target(board)]), "PG_WITNESS_TEST_RUNNER": " ".join(target(board).runner)}
    done = subprocess.run(
        ["cargo", "test", "--locked", "--lib", "--target", target(board).triple],
        cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    assert "test result: ok." in done.stdout
