"""The witness as its peers' sockets see it, read by a relay in between."""

import contextlib
import time

import pytest
from faults import Writers
from harness import TRUNCATED, Cluster
from proxy import Relay
from rig.process import await_that

#: How long it leads under load.
SECONDS = {"quick": 20, "normal": 60, "long": 600}


@contextlib.contextmanager
def relayed(folder, pysyncobj, kind, witness_dials):
    """A cluster, and the relays that all of the witness's connections pass."""
    behind = ["a", "b"] if witness_dials else ["witness"]
    with Cluster(folder, (pysyncobj, pysyncobj), None, kind, witness_dials, behind) as cluster, \
            contextlib.ExitStack() as stack:
        relays = [stack.enter_context(Relay(member.address, member.bind, cluster.witness.address))
                  for member in cluster.members if member.name in behind]
        cluster.relays = relays
        cluster.start()
        yield cluster
        talks = [talk for relay in relays for talk in relay.conversations]
        assert sum(talk.appends for talk in talks) > 100
        faults = [fault for talk in talks for fault in talk.faults]
        if kind == "rust":
            assert not faults, faults[:5]
        else:
            print(f"Python's witness: {len(faults)} faults, such as {faults[:3]}")


@pytest.mark.in_turn("witness_dials")
@pytest.mark.parametrize("pysyncobj", ["0.3.11", "0.3.14", "0.3.17"])
@pytest.mark.parametrize("witness_dials", [True, False], ids=["dialling", "dialled"])
def test_no_append_below_what_a_peer_has(tmp_path, kind, pysyncobj, witness_dials):
    """S3, S5, H4: writes from all sides while it leads, with restarts of a peer and
    changes of leaders in between."""
    with relayed(tmp_path, pysyncobj, kind, witness_dials) as cluster:
        for turn in range(3):
            cluster.lead(cluster.witness)
            for i in range(30):
                cluster.must_write(cluster.nodes[i % 2], f"/{turn}/{i}", str(i))
            cluster.b.restart(wipe=turn == 1)
            cluster.settle()
            cluster.lead(cluster.nodes[turn % 2])
            cluster.must_write(cluster.b, f"/{turn}/between")
        cluster.check()


@pytest.mark.ours
def test_who_reconnects_is_not_cut(tmp_path, kind):
    """S3, H8: nodes and a reader that have acknowledged and applied the last entry, the
    one with which the witness's leadership began, lose their connections and come again.
    An append that stands before that entry would make them drop it."""
    with relayed(tmp_path, "0.3.17", kind, witness_dials=False) as cluster:
        cluster.lead(cluster.witness)
        reader = cluster.reader()
        cluster.settle()
        before = cluster.witness.status()
        relay, = cluster.relays
        for _ in range(2):
            linked = len(relay.conversations)
            relay.sever()

            def all_are_back():
                return sum(talk.appends > 0 for talk in relay.conversations[linked:]) >= 3

            await_that(all_are_back, 20, cluster.describe)
            cluster.settle()
        after = cluster.witness.status()
        assert (after["term"], after["commit_idx"]) == (before["term"], before["commit_idx"])
        dropped = [line for line in reader.output().splitlines() if TRUNCATED in line]
        assert not dropped, dropped
        cluster.sound_logs()
        cluster.check()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("pysyncobj, witness_dials", [("0.3.17", True), ("0.3.14", False)])
def test_it_leads_under_load(tmp_path, kind, size, pysyncobj, witness_dials):
    """S3, S5, H4, and that it goes on leading: the same term to the end."""
    with relayed(tmp_path, pysyncobj, kind, witness_dials) as cluster:
        cluster.lead(cluster.witness)
        before = cluster.witness.status()
        with Writers(cluster) as writers:
            # The load is what is measured out, not waited for.
            time.sleep(SECONDS[size])
        after = cluster.witness.status()
        assert after["leader"] == cluster.witness.address, after
        assert after["term"] == before["term"], (before, after)
        cluster.check()
        print(f"{len(cluster.acknowledged)} writes acknowledged, {writers.refused} refused")
        assert len(cluster.acknowledged) > 20 * SECONDS[size]
