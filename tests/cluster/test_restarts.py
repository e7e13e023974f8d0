"""Power cuts, replaced disks, late joiners: what is on which disk, and what follows."""

import subprocess
import threading
import time

import pytest
from harness import LIMIT_S, Cluster
from rig import paths
from rig.network import Network
from rig.process import await_that


@pytest.mark.parametrize("leader", ["a", "witness"])
@pytest.mark.parametrize("victim", ["a", "b", "witness"])
def test_kill_and_restart(cluster, leader, victim):
    cluster.lead(getattr(cluster, leader))
    cluster.release()
    member = getattr(cluster, victim)
    for round_ in range(2):
        for node in cluster.nodes:
            cluster.must_write(node, f"/{round_}/before/{node.name}")
        member.kill()
        left = [node for node in cluster.nodes if node is not member]
        cluster.await_leader()
        for node in left:
            cluster.must_write(node, f"/{round_}/without/{node.name}")
        member.start()
        cluster.settle()
    cluster.check()


@pytest.mark.parametrize("witness_dials", [True, False], ids=["dialling", "dialled"])
def test_a_machine_that_vanishes_is_known_to_be_gone(tmp_path, kind, witness_dials):
    """Its kernel says no goodbye; ours would wait a quarter of an hour for it, and when
    the machine is back, minutes for the next try."""
    with Network("v") as network, \
            Cluster(tmp_path, kind=kind, witness_dials=witness_dials, network=network) as cluster:
        cluster.start()
        cluster.lead(cluster.a)
        b = cluster.b
        b.machine.unplug()
        await_that(lambda: b.address not in cluster.witness.status()["connected"], 30,
                   "the witness to know that b is gone")
        cluster.must_write(cluster.a, "/without b")
        network.heal()
        await_that(lambda: b.address in cluster.witness.status()["connected"], 20,
                   "the witness to have b back")
        cluster.check()


def test_all_killed_at_once(cluster):
    for node in cluster.nodes:
        cluster.must_write(node, f"/before/{node.name}")
    for member in cluster.members:
        member.kill()
    for member in cluster.members:
        member.start()
    cluster.settle()
    for node in cluster.nodes:
        cluster.must_write(node, f"/after/{node.name}")
    cluster.check()


def test_terminated_in_order(cluster):
    """SIGTERM ends the witness with status 0 and within seconds."""
    cluster.must_write(cluster.a, "/before")
    began = time.monotonic()
    assert cluster.witness.process.terminate() == 0
    assert time.monotonic() - began < 5
    cluster.witness.process = None
    cluster.await_leader(among=cluster.nodes)
    cluster.must_write(cluster.b, "/without the witness")
    cluster.witness.start()
    cluster.check()


@pytest.mark.ours
def test_a_leader_far_ahead(cluster):
    """The witness comes back with entries that nobody else has, to a leader that is
    ahead by more than it sends at once (64 KiB). A Python member never catches up: its
    answers to what is sent at once undo one another."""
    cluster.lead(cluster.witness)
    reader = cluster.reader()
    for node in cluster.nodes:
        node.kill()
    for i in range(5):
        reader.ask("propose", key=f"/nobody else has it/{i}", value="x", wait_s=0.2)
    reader.kill()
    cluster.witness.kill()
    for node in cluster.nodes:
        node.start()
    cluster.await_leader(among=cluster.nodes)
    for i in range(200):
        cluster.must_write(cluster.a, f"/ahead/{i}", "x" * 1000)
    # A leader elected now begins at the end of its log, not where the logs part.
    cluster.lead(cluster.b if cluster.await_leader() is cluster.a else cluster.a)
    cluster.witness.start()
    cluster.settle()
    cluster.check()


@pytest.mark.ours
@pytest.mark.parametrize("leads", ["it", "another"])
def test_a_term_that_comes_twice(tmp_path, kind, leads):
    """Peers up to 0.3.15 begin again at term 0 (H7). The witness comes back with entries
    of a term and at places that theirs have by now: nothing but what they say tells them
    apart, and whoever believes the terms keeps its own for ever. The second leader of
    that term leads, or another does."""
    with Cluster(tmp_path, ("0.3.14", "0.3.14"), None, kind) as cluster:
        cluster.start()
        cluster.lead(cluster.witness)
        cluster.must_write(cluster.a, "/everybody has it")
        reader = cluster.reader()
        for node in cluster.nodes:
            node.kill()
        for i in range(5):
            reader.ask("propose", key=f"/nobody else has it/{i}", value="x", wait_s=0.2)
        term = cluster.witness.status()["term"]
        reader.kill()
        cluster.witness.kill()
        # Their first election is for that term, and b lets a win it.
        cluster.a.start(term=term - 1)
        cluster.b.start(term=term - 1, held=True)
        assert cluster.await_leader(among=cluster.nodes) is cluster.a
        assert cluster.a.status()["term"] == term
        for i in range(20):
            cluster.must_write(cluster.a, f"/others have it/{i}")
        if leads == "another":
            cluster.lead(cluster.b)
        cluster.witness.start()
        cluster.settle()
        cluster.check()


@pytest.mark.ours
def test_what_the_data_nodes_lost_is_not_lost_in_silence(cluster):
    """S2: while the witness is away a loses its disk, and b, who never had them, leads
    it past the writes that a and the witness had acknowledged. A Python witness drops
    its copy of them; ours keeps it, says so, and takes no part until it is told to."""
    cluster.lead(cluster.a)
    for i in range(20):
        cluster.must_write(cluster.a, f"/everybody has it/{i}")
    cluster.settle()
    cluster.b.pause()
    for i in range(10):
        cluster.must_write(cluster.a, f"/b does not have it/{i}")
    cluster.witness.kill()
    cluster.a.kill()
    cluster.a.wipe()
    cluster.b.resume()
    cluster.b.ask("release")
    cluster.a.start()
    assert cluster.await_leader(among=cluster.nodes) is cluster.b
    for i in range(30):
        cluster.must_write(cluster.b, f"/in their place/{i}")
    cluster.witness.start()
    witness = cluster.witness
    await_that(lambda: "DIVERGED" in witness.output(), LIMIT_S, witness.output)
    # The two go on without it.
    cluster.must_write(cluster.a, "/meanwhile")
    assert witness.status()["commit_idx"] < cluster.a.status()["commit_idx"]
    assert cluster.await_leader(among=cluster.nodes) is cluster.b

    witness.terminate()
    file = str(witness.folder / "witness.yml")
    done = subprocess.run([paths.pg_witness(), "reset", "stereo", "--config", file],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    witness.start()
    cluster.settle()
    lost = {key for key in cluster.acknowledged if key.startswith("/b does not have it/")}
    assert len(lost) == 10
    for key in lost:
        del cluster.acknowledged[key]
    cluster.check()


def test_kill_under_writes(cluster):
    """Writers on both nodes while each member dies in turn: what was acknowledged stays."""
    stop = threading.Event()

    def writer(node):
        i = 0
        while not stop.is_set():
            i += 1
            try:
                cluster.write(node, f"/w/{node.name}/{i}", str(i))
            except OSError:
                time.sleep(0.2)  # Its node is the one that was killed.

    writers = [threading.Thread(target=writer, args=(node,)) for node in cluster.nodes]
    for thread in writers:
        thread.start()
    try:
        for member in (cluster.witness, cluster.a, cluster.b, cluster.witness):
            time.sleep(1)
            member.restart()
            time.sleep(2)
            cluster.await_leader()
    finally:
        stop.set()
        for thread in writers:
            thread.join()
    assert len(cluster.acknowledged) > 50
    cluster.check()


def compacted(node):
    """The log is as short as a snapshot leaves it: two entries and what came after."""
    return node.status()["log_len"] < 10


def fill_and_compact(cluster):
    for i in range(30):
        cluster.must_write(cluster.nodes[i % 2], f"/old/{i}", str(i))
    cluster.settle()
    for node in cluster.nodes:
        node.ask("compact")
        await_that(lambda: compacted(node), 20, f"{node.name} to compact its log")


def test_witness_joins_late_by_snapshot(cluster):
    fill_and_compact(cluster)
    cluster.witness.restart(wipe=True)
    cluster.must_write(cluster.a, "/new")
    cluster.check()


@pytest.mark.parametrize("leader", ["a", "witness"])
def test_node_joins_late_by_snapshot(cluster, leader):
    """From a Python leader, and from the witness, which has no older entries itself
    because it has joined by snapshot."""
    fill_and_compact(cluster)
    cluster.witness.restart(wipe=True)
    cluster.settle()
    cluster.must_write(cluster.b, "/new")
    cluster.lead(getattr(cluster, leader))
    cluster.b.restart(wipe=True)
    cluster.settle()
    assert cluster.await_leader() is getattr(cluster, leader)
    cluster.must_write(cluster.b, "/newer")
    cluster.check()


def test_snapshot_then_restart(cluster):
    """What came by snapshot is on the disk: the witness knows it after a power cut."""
    fill_and_compact(cluster)
    cluster.witness.restart(wipe=True)
    cluster.settle()
    cluster.witness.restart()
    cluster.settle()
    cluster.check()


@pytest.mark.ours
def test_an_amnesic_witness_loses_nothing(cluster):
    """S7: a write stands on a and the witness. a dies, and the witness's disk is
    replaced. With b, which has not got it, an empty witness must not found a majority."""
    cluster.lead(cluster.a)
    cluster.b.pause()
    cluster.must_write(cluster.a, "/on a and the witness only")
    cluster.a.kill()
    cluster.witness.restart(wipe=True)
    cluster.b.resume()
    cluster.b.ask("release")
    until = time.monotonic() + 12
    while time.monotonic() < until:
        status = cluster.b.status()
        assert status is None or status["state"] != "leader", cluster.describe()
        time.sleep(0.2)
    cluster.a.start()
    cluster.check()


@pytest.mark.ours
@pytest.mark.sets("0.3.14-password")
def test_a_stale_past_does_not_return(cluster):
    """S13, H7: nodes up to 0.3.15 forget their term. What they commit while the witness
    is away has lower terms than its log, and must not be erased by it."""
    for leader in (cluster.a, cluster.b, cluster.a, cluster.b):
        cluster.lead(leader)
    cluster.must_write(cluster.a, "/old")
    cluster.settle()
    for member in cluster.members:
        member.kill()
    for node in cluster.nodes:
        node.start()
    cluster.await_leader(among=cluster.nodes)
    for i in range(5):
        cluster.must_write(cluster.a, f"/while it was away/{i}")
    cluster.witness.start()
    cluster.settle()
    cluster.check()
