"""The password is changed in a running cluster: the witness first, then node by node."""

import os
import signal

import pytest
from harness import Cluster
from rig import witness
from rig.process import await_that


@pytest.mark.ours
@pytest.mark.parametrize("witness_dials", [True, False], ids=["dials", "is dialled"])
def test_password_changed_node_by_node(tmp_path, kind, witness_dials):
    with Cluster(tmp_path, password="the old one", kind=kind, witness_dials=witness_dials) as cluster:
        cluster.start()
        cluster.must_write(cluster.a, "/before")
        third = cluster.witness
        witness.configure(third.folder / "witness.yml", third.address, cluster.partners_of(third),
                          third.data, "the new one", bind=third.bind)
        os.kill(third.process.pid, signal.SIGHUP)
        await_that(lambda: "password changed" in third.output(), 30, third.output)

        # A link that breaks meanwhile comes back, with the password that the node has.
        cluster.b.restart()
        cluster.settle()
        # Until the second node is changed the two see only the witness, which stays with the
        # Raft leader: the node changed first is without the store for that time.
        cluster.lead(cluster.a)
        cluster.release()
        for node, served in ((cluster.b, cluster.a), (cluster.a, cluster.b)):
            node.kill()
            node.start(password="the new one")
            await_that(node.status, 60, cluster.describe)
            written = f"/through {served.name}"
            await_that(lambda: cluster.write(served, written) is True, 60, cluster.describe)
        cluster.password = "the new one"
        cluster.settle(limit_s=60)
        cluster.check()
