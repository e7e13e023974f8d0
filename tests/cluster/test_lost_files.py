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

#: What leaves both nodes with everything: dump and journal say it all.
HARMLESS = "meta"


def without_a_dump(cluster, nodes):
    """With the rest of a journal and no dump PySyncObj acknowledges entries and applies none
    (last_applied stays 1) until somebody removes its files; elected it leads all the same,
    and has no snapshot to send. No witness prevents that, so where one node is whole it is
    up first."""
    if nodes == "one":
        able = [cluster.a, cluster.witness]
        cluster.a.start()
        cluster.await_leader(among=able)
        cluster.b.start()
        cluster.must_write(cluster.a, "/without b")
    else:
        for node in cluster.nodes:
            node.start()
    assert cluster.witness.running and cluster.witness.status() is not None


@pytest.mark.ours
@pytest.mark.parametrize("version", ["0.3.14", paths.NEWEST])
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
        if lost == "dump":
            without_a_dump(cluster, nodes)
            return
        for node in cluster.nodes:
            node.start()
        if lost == HARMLESS or nodes == "one":
            cluster.settle()
            cluster.check()
            return
        # Only the witness holds everything.
        witness = cluster.witness
        await_that(lambda: cluster.settled() or "ESTRANGED" in witness.output()
                   or "DIVERGED" in witness.output(), LIMIT_S, cluster.describe)
        assert witness.running and witness.status() is not None
