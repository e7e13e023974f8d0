"""The witness as its peers' sockets see it, read by a relay in between."""

import contextlib

import pytest
from harness import Cluster
from proxy import Relay, appends, judge


@pytest.mark.parametrize("pysyncobj", ["0.3.11", "0.3.14", "0.3.17"])
@pytest.mark.parametrize("witness_dials", [True, False], ids=["dialling", "dialled"])
def test_no_append_below_what_a_peer_has(tmp_path, kind, pysyncobj, witness_dials):
    """S3, S5, H4: writes from all sides while it leads, with restarts of a peer and
    changes of leaders in between."""
    relayed = ["a", "b"] if witness_dials else ["witness"]
    with Cluster(tmp_path, (pysyncobj, pysyncobj), None, kind, witness_dials, relayed) as cluster, \
            contextlib.ExitStack() as stack:
        relays = [stack.enter_context(Relay(member.address, member.bind))
                  for member in cluster.members if member.name in relayed]
        cluster.start()
        for turn in range(3):
            cluster.lead(cluster.witness)
            for i in range(30):
                cluster.must_write(cluster.nodes[i % 2], f"/{turn}/{i}", str(i))
            cluster.b.restart(wipe=turn == 1)
            cluster.settle()
            cluster.lead(cluster.nodes[turn % 2])
            cluster.must_write(cluster.b, f"/{turn}/between")
        cluster.check()

        talks = [talk for relay in relays for talk in relay.conversations
                 if cluster.witness.address in (talk.dialler, talk.acceptor)]
        assert sum(appends(talk, cluster.witness.address) for talk in talks) > 100
        faults = [fault for talk in talks for fault in judge(talk, cluster.witness.address)]
        if kind == "rust":
            assert not faults, faults[:5]
        else:
            print(f"Python's witness: {len(faults)} faults, such as {faults[:3]}")
