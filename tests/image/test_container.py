"""The container image in a real engine, held as hard as one can be."""

import platform
import time

import pytest
from engine import ComposedWitness, ContainedWitness
from harness import Cluster
from rig.process import await_that
from test_programs import lead_lose_and_return

from kit.common import version

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def image(made, engine):
    """The image for this machine, loaded."""
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    (archive,) = made("container", "x86_64", "aarch64").glob("*-oci.tar")
    loaded = engine.load(archive)
    assert loaded == [f"pg-witness:{version()}-{arch}" for arch in ("amd64", "arm64")]
    return f"pg-witness:{version()}-{names[platform.machine()]}"


@pytest.fixture
def cluster(tmp_path, engine, image):
    with Cluster(tmp_path, password="secret") as cluster:
        ContainedWitness(cluster, engine, image)
        yield cluster.start()
    # What this cluster was must not be remembered in the next one.
    engine("volume", "rm", "contained")


def test_votes_and_keeps_its_state(cluster, engine):
    """It is nobody, owns nothing but its volume, and is what holds a majority."""
    lead_lose_and_return(cluster)

    told = engine("inspect", "contained", "--format", "{{.Config.User}} {{.Config.StopSignal}}").stdout
    assert told.split() == ["65532:65532", "SIGTERM"]

    # Stopped in good order, well within the engine's patience, and a voter still.
    witness = cluster.witness
    assert witness.process.terminate() == 0
    witness.process = None
    witness.start()
    cluster.settle()
    assert "state found, term" in witness.output() and "a voter" in witness.output()


def test_health_does_not_ask_for_a_quorum(cluster):
    """An orchestrator must not start a witness again in the middle of a failover."""
    witness = cluster.witness.process
    await_that(lambda: witness.health() == "healthy", 30, witness.output)
    cluster.a.kill()
    cluster.b.kill()
    await_that(lambda: witness.output().count(" disconnected: ") >= 2, 30, witness.output)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        assert witness.health() == "healthy"
        time.sleep(0.5)


@pytest.mark.parametrize("words", [
    pytest.param(["--init"], id="as the image says"),
    pytest.param(["--env", "PG_WITNESS_DEMO="], id="as PID 1")])
def test_refuses_to_run_without_a_configuration(engine, image, words):
    """Two rules, each alone: a demonstration would look like a voter."""
    done = engine("run", "--rm", "--read-only", "--network", "none", *words, image, check=False)
    assert done.returncode == 78
    for variable in ("PATRONI_RAFT_SELF_ADDR", "PATRONI_RAFT_PARTNER_ADDRS", "PATRONI_RAFT_DATA_DIR"):
        assert variable in done.stderr


@pytest.mark.on_demand
def test_compose_file(tmp_path, engine, image):
    """It comes up, is held as the file says, and votes."""
    with Cluster(tmp_path, password="secret") as cluster:
        witness = ComposedWitness(cluster, engine, image)
        lead_lose_and_return(cluster.start())
        held = ("{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} "
                "{{.HostConfig.NetworkMode}} {{.HostConfig.RestartPolicy.Name}}")
        told = engine("inspect", witness.process.name, "--format", held).stdout
        assert told.split() == ["true", "[ALL]", "[no-new-privileges:true]", "host", "unless-stopped"]
    engine("volume", "rm", "composed_state")
