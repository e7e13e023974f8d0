"""What a member of the group does all day: it forms, follows, votes, leads, and
expires keys when it leads."""

import threading
import time

import pytest
from harness import LIMIT_S, Cluster
from rig.network import Network
from rig.process import await_that

TTL_S = 5


def test_forms_and_replicates(cluster):
    for i in range(20):
        cluster.must_write(cluster.nodes[i % 2], f"/k/{i}", f"value {i}")
    cluster.must_write(cluster.a, "/k/0", "changed", prevValue="value 0")
    assert cluster.write(cluster.b, "/k/0", "denied", prevExist=False) is False
    assert cluster.b.ask("delete", key="/k/1")
    del cluster.acknowledged["/k/1"]
    members = cluster.witness.utility("members")
    assert sorted(member["addr"] for member in members) == sorted(m.address for m in cluster.members)
    assert [m["addr"] for m in members if m["leader"]] == [cluster.await_leader().address]
    cluster.check()


def test_follows_every_leader(cluster):
    for turn, leader in enumerate([cluster.a, cluster.b, cluster.a]):
        cluster.lead(leader)
        for node in cluster.nodes:
            cluster.must_write(node, f"/led/{turn}/{node.name}")
    cluster.check()


def test_its_vote_elects_the_survivor(cluster):
    cluster.lead(cluster.a)
    cluster.must_write(cluster.a, "/before")
    cluster.a.kill()
    cluster.lead(cluster.b)
    cluster.must_write(cluster.b, "/after")
    cluster.a.start()
    cluster.check()


def test_a_leader_returns_without_help_from_a_test(cluster):
    """As it happens in life: the leader's machine dies, and nobody forces anything."""
    cluster.lead(cluster.a)
    cluster.release()
    # H11: the line between the two others falls silent, the worst case for a first vote.
    time.sleep(4)
    cluster.a.kill()
    died = time.monotonic()
    cluster.await_leader(limit_s=20)
    assert time.monotonic() - died < 15
    cluster.must_write(cluster.b, "/after")
    cluster.check()


def test_leads_when_only_it_can_win(cluster):
    """b misses a write that a and the witness hold; then a dies. Only the witness
    can save the write, for b's log is behind (Raft 5.4.1)."""
    cluster.lead(cluster.a)
    cluster.b.pause()
    cluster.must_write(cluster.a, "/saved by the witness", "1")
    cluster.a.kill()
    cluster.b.resume()
    cluster.b.ask("release")
    alone = time.monotonic()
    assert cluster.await_leader() is cluster.witness
    # S18; by itself it takes five.
    took = time.monotonic() - alone
    print(f"led after {took:.1f} s")
    assert took < 10
    await_that(lambda: cluster.b.ask("get", key="/saved by the witness"), 10, "b to catch up")
    cluster.must_write(cluster.b, "/after")
    cluster.a.start()
    cluster.check()


@pytest.mark.ours
def test_leadership_is_given_back(tmp_path):
    """It only lends itself: a data node of 0.3.16 or later that has kept up with it for a
    minute leads again, without anybody's help."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        cluster.lead(cluster.witness)
        began = time.monotonic()
        cluster.release()
        leader = cluster.await_leader(other_than=cluster.witness, limit_s=60 + LIMIT_S)
        assert time.monotonic() - began > 50, "a minute has not passed"
        assert f"handing leadership over to {leader.address}" in cluster.witness.output()
        cluster.must_write(leader, "/after")
        cluster.check()


@pytest.mark.sets("mixed-password")
def test_forwarded_writes_succeed_while_it_leads(cluster):
    """H3, S5: each proposal, never repeated, is answered with success: in 0.3.14 and
    below an answer after its entry kills the thread of Patroni."""
    cluster.lead(cluster.witness)
    for i in range(100):
        node = cluster.nodes[i % 2]
        assert node.ask("propose", key=f"/p/{i}", value=str(i)) == "SUCCESS", cluster.describe()
        cluster.acknowledged[f"/p/{i}"] = str(i)
    assert cluster.await_leader() is cluster.witness
    cluster.check()


@pytest.mark.sets("mixed-password")
def test_large_values_while_it_leads(cluster):
    """H4: 60 KB, beyond what PySyncObj sends whole; H5: grown to slowly, for the sake
    of the journal of 0.3.15 and below, which can but double at once."""
    cluster.lead(cluster.witness)
    for size in (500, 1000, 2000, 4000, 8000, 16000, 32000, 60000):
        cluster.must_write(cluster.a, f"/large/{size}", "v" * size)
    for size in (70000, 140000):
        cluster.must_write(cluster.b, f"/large/{size}", "v" * size)
    cluster.check()


@pytest.mark.parametrize("leader", ["a", "b", "witness"])
def test_expires_keys_under_each_leader(cluster, leader):
    """S8: never before its time, and soon after."""
    cluster.lead(getattr(cluster, leader))
    written = {}
    for node in cluster.nodes:
        written[node] = time.monotonic()
        assert cluster.write(node, f"/ttl/{node.name}", ttl=TTL_S) is True
        cluster.must_write(node, f"/kept/{node.name}")

    def expired():
        """What was acknowledged through a node is there; its key goes in time."""
        gone = [node for node in cluster.nodes if f"/ttl/{node.name}" not in node.dump()]
        for node in gone:
            assert time.monotonic() - written[node] >= TTL_S - 0.01, f"{node.name}: {node.dump()}"
        return gone == cluster.nodes

    await_that(expired, TTL_S + 10, cluster.describe, every_s=0.01)
    await_that(lambda: all(len(node.dump()) == 2 for node in cluster.nodes), 5, "all keys to expire")
    cluster.check()


def test_a_refreshed_key_stays(cluster):
    """The leader key of a live primary: refreshed in time, under a witness that leads."""
    cluster.lead(cluster.witness)
    assert cluster.write(cluster.a, "/leader", "a", ttl=2, prevExist=False) is True
    until = time.monotonic() + 6
    while time.monotonic() < until:
        assert cluster.write(cluster.a, "/leader", "a", ttl=2, prevValue="a") is True
        assert cluster.b.ask("get", key="/leader")["value"] == "a"
        time.sleep(0.5)
    await_that(lambda: cluster.b.ask("get", key="/leader") is None, 6, "the key to expire at last")
    cluster.check()


@pytest.mark.ours
def test_what_was_refreshed_while_the_leader_was_stopped_stays(cluster):
    """S8: the leading witness is stopped for two TTLs (SIGSTOP, a stalled board) while a
    primary goes on refreshing its key. The refreshes wait in the sockets when it wakes;
    the key must not expire before they are read, and must expire when they end."""
    ttl_s = 5
    cluster.lead(cluster.witness)
    assert cluster.write(cluster.a, "/leader", "a", ttl=ttl_s) is True
    refreshing, refreshed = threading.Event(), []
    refreshing.set()

    def refresh():
        line = cluster.a.another_line()
        while refreshing.is_set():
            refreshed.append(cluster.write(line, "/leader", "a", ttl=ttl_s))
            time.sleep(0.3)

    primary = threading.Thread(target=refresh)
    primary.start()
    try:
        time.sleep(1)
        cluster.witness.pause()
        time.sleep(2 * ttl_s)
        cluster.witness.resume()
        awake = time.monotonic()
        while time.monotonic() < awake + 2 * ttl_s:
            assert cluster.b.ask("get", key="/leader") is not None, cluster.describe()
            time.sleep(0.05)
        assert "key expired" not in cluster.witness.output()
        assert refreshed[-1] is True, refreshed
        assert cluster.await_leader() is cluster.witness
    finally:
        refreshing.clear()
        primary.join()
    await_that(lambda: cluster.b.ask("get", key="/leader") is None, 2 * ttl_s, "the key to expire")
    assert "key expired" in cluster.witness.output()
    cluster.check()


@pytest.mark.ours
def test_a_cut_line_to_the_leader_alone_unseats_nobody(versions, kind, tmp_path):
    """The controller raises the term, wins with the other node's vote, and whoever
    writes through the old leader waits until that one notices."""
    a, b, password, witness_dials = versions
    with Network("l") as network, \
            Cluster(tmp_path, (a, b), password, kind, witness_dials, network=network) as cluster:
        cluster.start()
        cluster.lead(cluster.a)
        cluster.release()
        before = cluster.a.status()
        network.cut(cluster.witness.machine, cluster.a.machine)
        said = f"follows {cluster.a.address}, which is unreachable from here; not starting an election"
        await_that(lambda: said in cluster.witness.output(), 30, cluster.witness.output)

        def idle():
            """As an idle Patroni writes; a leader that commits nothing is not respected for long."""
            for node in cluster.nodes:
                cluster.must_write(node, f"/meanwhile/{node.name}/{time.monotonic()}")

        # The time of several campaigns.
        until = time.monotonic() + 20
        while time.monotonic() < until:
            idle()
            time.sleep(1)
        after = cluster.a.status()
        assert (after["state"], after["term"]) == ("leader", before["term"]), (before, after)
        network.heal()

        def settled():
            idle()
            return cluster.settled()

        # PySyncObj may dial again after half a minute only (H22).
        await_that(settled, LIMIT_S, cluster.describe, every_s=1)
        assert cluster.a.status()["term"] == before["term"]
        cluster.check()
