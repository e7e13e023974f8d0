"""S7 and S17 with real PySyncObj: how a cluster begins, and how a witness joins one."""

import re
import time

import pytest
from harness import LIMIT_S, Cluster
from rig import paths, witness
from rig.ports import free_port
from rig.process import Process, await_that

#: How long the host of a node that never ran must refuse connections, and what elections
#: and PySyncObj's repeated dials take on a busy machine.
FOUNDED_S = 30 + LIMIT_S


@pytest.fixture(params=["0.3.14", paths.NEWEST])
def releases(request):
    return (request.param, request.param)


@pytest.mark.in_turn("releases")
@pytest.mark.parametrize("order", ["node first", "witness first"])
def test_the_first_node_and_the_witness_found_a_cluster(tmp_path, releases, order):
    with Cluster(tmp_path, releases) as cluster:
        begin = [cluster.a, cluster.witness]
        for member in begin if order == "node first" else reversed(begin):
            member.start()
        cluster.await_leader([cluster.a, cluster.witness], limit_s=FOUNDED_S)
        assert re.search(rf"founded with {cluster.a.address}; {cluster.b.address} refused", cluster.witness.output())
        cluster.must_write(cluster.a, "/before b came")
        cluster.b.start()
        cluster.settle()
        cluster.must_write(cluster.b, "/after")
        cluster.check()


def test_a_lost_card_and_a_node_that_never_ran(tmp_path):
    """K1: `bootstrap: join` on the new card, and a second history does not begin."""
    with Cluster(tmp_path) as cluster:
        for member in (cluster.b, cluster.witness):
            member.start()
        cluster.await_leader([cluster.b, cluster.witness], limit_s=FOUNDED_S)
        cluster.must_write(cluster.b, "/kept")
        cluster.b.kill()
        cluster.witness.kill()
        cluster.witness.wipe()
        cluster.a.start()
        file = tmp_path / "witness" / "witness.yml"
        witness.configure(file, cluster.witness.address, cluster.partners_of(cluster.witness),
                          cluster.witness.data, bind=cluster.witness.bind)
        argv = ["env", "PG_WITNESS_BOOTSTRAP=join", *witness.command("rust", file)]
        cluster.witness.process = Process(argv, cluster.witness.log)
        with pytest.raises(AssertionError):
            cluster.await_leader([cluster.a, cluster.witness], limit_s=40)
        assert "this witness is a voter now" not in cluster.witness.output().rpartition("no state in")[2]
        cluster.b.start()
        cluster.settle()
        cluster.check()


@pytest.mark.parametrize("kind", witness.KINDS)
def test_a_witness_under_an_unexpected_address_costs_no_write(tmp_path, kind):
    """A typo in self_addr. The group expects a third member that is not there; with a
    fourth that acknowledged nothing it could not commit any more."""
    expected = f"127.0.0.1:{free_port()}"
    with Cluster(tmp_path, kind=kind) as cluster:
        for node, other in ((cluster.a, cluster.b), (cluster.b, cluster.a)):
            node.start(partners=[other.address, expected])
        cluster.await_leader(cluster.nodes)
        cluster.must_write(cluster.a, "/before")
        cluster.witness.start()
        until = time.monotonic() + 10
        i = 0
        while time.monotonic() < until:
            i += 1
            cluster.must_write(cluster.nodes[i % 2], f"/meanwhile/{i}")
            time.sleep(0.1)
        if kind == "python":
            return
        await_that(lambda: "not asking to be added" in cluster.witness.output(), LIMIT_S, cluster.describe)
        said = cluster.witness.output()
        assert f"If this witness is meant to be {expected}, set self_addr to it" in said
        command = re.search(rf"raft remove (\S+) {re.escape(expected)}", said)
        assert command, said
        for node in cluster.nodes:
            assert cluster.witness.address not in node.status()["members"]
        # The remedy, as pasted.
        through = cluster.named(command[1])
        await_that(lambda: through.utility("remove", expected, limit_s=10) == f"SUCCESS REMOVE {expected}",
                   LIMIT_S, cluster.describe, every_s=1)
        cluster.settle()
        cluster.check()


@pytest.mark.in_turn("releases")
@pytest.mark.parametrize("witness_dials", [True, False])
def test_a_group_of_one_takes_the_witness_in(tmp_path, releases, witness_dials):
    with Cluster(tmp_path, releases, witness_dials=witness_dials) as cluster:
        cluster.a.start(partners=[cluster.a.address])
        cluster.await_leader([cluster.a])
        cluster.must_write(cluster.a, "/alone")
        cluster.witness.start()
        cluster.settle([cluster.a, cluster.witness])
        assert "new member of the group" in cluster.witness.output()
        cluster.must_write(cluster.a, "/of two")
        cluster.b.start()
        cluster.settle()
        cluster.must_write(cluster.b, "/of three")
        cluster.check()
