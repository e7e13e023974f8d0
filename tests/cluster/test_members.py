"""Who belongs to the cluster, who asks, and who is turned away."""

import time

import pytest
from harness import LIMIT_S
from rig import paths
from rig.process import await_that


def members_of(cluster, member):
    return set(member.status()["members"])


def change(through, verb, address):
    """`add` or `remove` through a member, repeated as an operator would."""
    def done():
        said.append(through.utility(verb, address, limit_s=10))
        if said[-1] == f"SUCCESS {verb.upper()} {address}":
            return True
        # The answer to one that was carried out may be lost; repeated it fails.
        told = through.utility("members", limit_s=10) if None in said else None
        return told is not None and (address in {m["addr"] for m in told}) == (verb == "add")

    said = []
    await_that(done, LIMIT_S, lambda: f"{verb} {address} through {through.name}: {said}", every_s=1)


@pytest.mark.parametrize("leader", ["a", "witness"])
@pytest.mark.parametrize("through", ["a", "witness"])
def test_remove_and_add_a_node(cluster, leader, through):
    cluster.lead(getattr(cluster, leader))
    through = getattr(cluster, through)
    cluster.must_write(cluster.b, "/before")
    cluster.b.kill()
    change(through, "remove", cluster.b.address)
    await_that(lambda: cluster.b.address not in members_of(cluster, cluster.a), 10, "a to know it")
    cluster.must_write(cluster.a, "/with two members")
    # Two of two now: with b gone the witness's word is needed, and is given.
    change(through, "add", cluster.b.address)
    cluster.b.wipe()
    cluster.b.start()
    cluster.settle()
    cluster.must_write(cluster.b, "/after")
    cluster.check()


def test_remove_and_add_the_witness(cluster):
    cluster.lead(cluster.a)
    cluster.must_write(cluster.b, "/before")
    change(cluster.a, "remove", cluster.witness.address)
    for node in cluster.nodes:
        await_that(lambda: cluster.witness.address not in members_of(cluster, node), 10,
                   f"{node.name} to know it")
    # H16: it must not disturb those who have removed it.
    term = cluster.a.status()["term"]
    time.sleep(5)
    assert cluster.a.status()["term"] == term
    cluster.must_write(cluster.b, "/without the witness")
    change(cluster.b, "add", cluster.witness.address)
    cluster.witness.restart()
    cluster.settle()
    cluster.must_write(cluster.b, "/after")
    cluster.check()


def test_a_new_witness_adds_itself(cluster):
    """8.3: a witness that nobody named as a member asks to become one."""
    cluster.lead(cluster.a)
    change(cluster.a, "remove", cluster.witness.address)
    cluster.witness.kill()
    cluster.witness.wipe()
    cluster.must_write(cluster.a, "/before it came")
    cluster.witness.start()
    await_that(lambda: cluster.witness.address in members_of(cluster, cluster.a), LIMIT_S,
               cluster.describe)
    cluster.check()


@pytest.mark.ours
def test_a_node_that_was_added_while_the_witness_was_away(cluster):
    """A12: the witness learns of it from that node alone, whose vote it needs in turn.
    Python's controller ignores an unknown node, so that nobody ever leads."""
    cluster.lead(cluster.a)
    cluster.witness.kill()
    c = cluster.new_node("c")
    change(cluster.a, "add", c.address)
    cluster.settle()
    cluster.lead(c)
    cluster.must_write(cluster.b, "/with four members")
    cluster.a.kill()
    cluster.witness.start()
    assert cluster.await_leader(among=[c, cluster.b, cluster.witness]) is c
    cluster.must_write(cluster.b, "/with c, b and the witness")
    cluster.a.start()
    cluster.check()


@pytest.mark.parametrize("leader", ["a", "b", "witness"])
def test_read_only_clients_read_and_write(cluster, leader):
    """3.9: patronictl of every release, also against a witness that leads."""
    cluster.lead(getattr(cluster, leader))
    cluster.must_write(cluster.a, "/from a node")
    cluster.settle()
    for pysyncobj in paths.PATRONI:
        client = cluster.reader(pysyncobj)
        assert client.ask("get", key="/from a node")["value"] == "x"
        assert cluster.write(client, f"/from a client of {pysyncobj}", "w") is True
        client.kill()
    cluster.check()


def test_a_read_only_client_lives_through_a_change_of_leaders(cluster):
    client = cluster.reader()
    for leader in (cluster.witness, cluster.a, cluster.witness, cluster.b):
        cluster.lead(leader)
        cluster.must_write(client, f"/under {leader.name}", leader.address)
    cluster.same_stores([*cluster.nodes, client])
    cluster.check()


def test_a_wrong_password_has_no_effect(cluster):
    """Neither a stranger's question nor a member with the wrong word changes anything."""
    wrong = "wrong" if cluster.password else "a password where there is none"
    cluster.lead(cluster.a)
    cluster.b.kill()
    cluster.b.start(password=wrong)
    term = cluster.a.status()["term"]
    for member in (cluster.a, cluster.witness):
        assert member.utility("members", password=wrong, limit_s=2) is None
        assert member.utility("remove", cluster.b.address, password=wrong, limit_s=2) is None
    until = time.monotonic() + 6  # One dial of b's, repeated after 5 s, is among it.
    i = 0
    while time.monotonic() < until:
        i += 1
        cluster.must_write(cluster.a, f"/meanwhile/{i}")
        time.sleep(0.2)
    assert cluster.a.status()["term"] == term
    cluster.b.restart()
    cluster.check()


def test_garbage_has_no_effect(cluster):
    """S9: bytes of no protocol, on the witness's port, while it works."""
    import random
    import socket

    random.seed(1)
    host, port = cluster.witness.address.rsplit(":", 1)
    pieces = [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\0" * 64, b"\x10\0\0\0" + b"x" * 16,
              b"\xff\xff\xff\x7f" + b"y" * 4096, b"", *(random.randbytes(n) for n in (3, 4, 5, 500, 70000))]
    for i, piece in enumerate(pieces):
        with socket.create_connection((host, int(port)), timeout=5) as stranger:
            try:
                stranger.sendall(piece)
            except ConnectionError:
                pass
        cluster.must_write(cluster.nodes[i % 2], f"/meanwhile/{i}")
    cluster.check()


@pytest.mark.ours
def test_a_vote_that_is_not_wanted_is_withdrawn(cluster, monkeypatch):
    """`vote: auto`: beside three data nodes it leaves and reads, also after a restart;
    beside two it comes back, and its word counts."""
    monkeypatch.setenv("PG_WITNESS_VOTE", "auto")
    monkeypatch.setenv("PG_WITNESS_VOTE_WITHDRAWS_AFTER", "10")
    witness = cluster.witness

    def listed():
        return witness.address in members_of(cluster, cluster.a)

    def reads():
        ours, theirs = witness.status(), cluster.a.status()
        return (not listed() and ours is not None and ours["leader"] == cluster.a.address
                and ours["last_applied"] == theirs["last_applied"])

    cluster.lead(cluster.a)
    witness.restart()
    c = cluster.new_node("c")
    change(cluster.a, "add", c.address)
    cluster.settle()
    await_that(lambda: not listed(), 2 * LIMIT_S, cluster.describe)
    cluster.must_write(cluster.b, "/without the witness")
    await_that(reads, LIMIT_S, cluster.describe)
    witness.restart()
    cluster.must_write(cluster.b, "/after its restart")
    await_that(reads, LIMIT_S, cluster.describe)
    # A node that is down is a member: the rule counts it.
    c.kill()
    cluster.must_write(cluster.b, "/with a node down")
    await_that(reads, LIMIT_S, cluster.describe)
    assert "to add us" not in witness.output()
    change(cluster.a, "remove", c.address)
    cluster.nodes.remove(c)
    cluster.members.remove(c)
    await_that(listed, LIMIT_S, cluster.describe)
    cluster.settle()
    cluster.b.kill()
    cluster.must_write(cluster.a, "/with the witness's word")
    cluster.b.start()
    cluster.check()
