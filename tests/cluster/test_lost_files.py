"""Files of the data nodes' Raft state that a power cut or a bad disk took. Whenever two
of the three members hold everything the group comes back by itself, with all that was
acknowledged (S18). Where only the witness does, it lives and says what is to be decided."""

import pytest

from harness import LIMIT_S, Cluster
from rig import paths
from rig.process import await_that
from test_restarts import fill_and_compact

WRITES = 20


def empty_meta(node):
    """A rename without an fsync: the new name, and none of its bytes. 0.3.14 may not have
    written it at all by then."""
    meta = file(node, ".journal")
    meta.with_name(meta.name + ".meta").write_bytes(b"")


def zero_journal(node):
    journal = file(node, ".journal")
    journal.write_bytes(bytes(journal.stat().st_size))


def remove_dump(node):
    file(node, ".dump").unlink()


def file(node, suffix):
    found = node.data / (node.address + suffix)
    assert found.exists(), sorted(path.name for path in node.data.iterdir())
    return found


LOSSES = {"meta": empty_meta, "journal": zero_journal, "dump": remove_dump}

def comes_back(lost, nodes, version):
    """Whether the group must come back whole. A `.meta` says nothing that dump and journal do
    not say. Nodes without a dump apply nothing and acknowledge no write; if they keep their
    terms the witness leads and restores both. With 0.3.14 they begin in term 1 again with what
    the journals hold, and what the witness holds may be a stale past (S13): it is set aside,
    and kept."""
    return nodes == "one" or lost == "meta" or (lost == "dump" and version == paths.NEWEST)


@pytest.mark.ours
@pytest.mark.in_turn("version")
@pytest.mark.parametrize("version", [paths.NEWEST, "0.3.14"])
@pytest.mark.parametrize("nodes", ["one", "both"])
@pytest.mark.parametrize("lost", list(LOSSES))
def test_files_that_were_lost(tmp_path, lost, nodes, version):
    with Cluster(tmp_path, (version, version)) as cluster:
        cluster.start()
        fill_and_compact(cluster)
        for i in range(WRITES):
            cluster.must_write(cluster.nodes[i % 2], f"/new/{i}", str(i))
        cluster.settle()
        for node in cluster.nodes:
            node.kill()
        damaged = cluster.nodes if nodes == "both" else [cluster.b]
        for node in damaged:
            LOSSES[lost](node)
        for node in cluster.nodes:
            node.start()
        if comes_back(lost, nodes, version):
            cluster.settle()
            cluster.check()
            return
        # Only the witness holds everything.
        witness = cluster.witness
        said = "ORPHANED", "DIVERGED", "an earlier state was set aside"
        await_that(lambda: cluster.settled() or any(word in witness.output() for word in said),
                   LIMIT_S, cluster.describe)
        assert witness.running and witness.status() is not None
