"""`pg-witness raft`, in place of `syncobj_admin`: of real PySyncObj nodes of each
release, and of our own."""

import json
import os
import subprocess

import pytest
from harness import LIMIT_S
from rig import paths
from rig.process import await_that

pytestmark = pytest.mark.ours


def raft(cluster, *words, password=..., check=True, **kwargs):
    """Runs it; the password goes by the environment, as for Patroni."""
    password = cluster.password if password is ... else password
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PATRONI_")}
    if password is not None:
        environment["PATRONI_RAFT_PASSWORD"] = password
    done = subprocess.run([paths.pg_witness(), "raft", *words], env=environment, capture_output=True,
                          text=True, timeout=60, **kwargs)
    assert not check or done.returncode == 0, done
    return done


def test_status_and_members_of_every_node(cluster):
    cluster.lead(cluster.b)  # No other election meanwhile: term and commit index are compared.
    leader = cluster.settle()
    for member in cluster.members:
        own = member.utility("status")
        told = json.loads(raft(cluster, "status", member.address, "--json").stdout)
        assert told["node"] == member.address
        assert told["state"] == ("leader" if member is leader else "follower")
        assert (told["leader"], told["has-quorum"]) == (leader.address, True)
        assert told["version"] == own["version"]
        assert (told["term"], told["commit-index"]) == (own["raft_term"], own["commit_idx"])
        others = {other.address: True for other in cluster.members if other is not member}
        assert {m["address"]: m["connected"] for m in told["members"]} == others
        text = raft(cluster, "status", member.address).stdout
        assert member.address in text and all(len(line) <= 80 for line in text.splitlines()), text
        told = json.loads(raft(cluster, "members", member.address, "--json").stdout)["members"]
        assert {m["address"] for m in told if m["leader"]} == {leader.address}
        assert {m["address"] for m in told if m["connected"]} == {m.address for m in cluster.members}
        assert told[-1]["address"] == member.address
    cluster.check()


def test_remove_and_add(cluster):
    cluster.lead(cluster.a)
    b = cluster.b.address
    cluster.b.kill()

    def done(verb, through):
        told = raft(cluster, verb, through.address, b, check=False)
        return told.returncode == 0 and told.stdout == f"SUCCESS {verb.upper()} {b}\n"

    for through in (cluster.a, cluster.witness):
        await_that(lambda: done("remove", through), LIMIT_S, cluster.describe, every_s=1)
        members = json.loads(raft(cluster, "members", cluster.a.address, "--json").stdout)["members"]
        assert b not in {m["address"] for m in members}
        await_that(lambda: done("add", through), LIMIT_S, cluster.describe, every_s=1)
    # No member removes itself.
    refused = raft(cluster, "remove", cluster.a.address, cluster.a.address, check=False)
    assert refused.returncode == 1 and "ask another member" in refused.stderr
    cluster.b.wipe()
    cluster.b.start()
    cluster.settle()
    cluster.check()


@pytest.mark.sets("0.3.14-password", "0.3.17")
def test_transfer_hands_over_and_kills_nobody(cluster):
    cluster.lead(cluster.a)
    cluster.release()
    knows = cluster.a.pysyncobj == "0.3.17"
    follower = raft(cluster, "transfer", cluster.b.address, check=False)
    assert follower.returncode == 1
    to = cluster.b.address
    told = raft(cluster, "transfer", cluster.a.address, to, check=False)
    if knows and cluster.b.pysyncobj == "0.3.17":
        assert (told.returncode, told.stdout) == (0, f"SUCCESS TRANSFER {to}\n"), told
        await_that(lambda: cluster.leader() is cluster.b, LIMIT_S, cluster.describe)
    elif not knows:
        # H2: it would die of the question, so it is not asked.
        assert told.returncode == 1 and "has no transfer" in told.stderr, told
        assert cluster.await_leader() is cluster.a
    for node in cluster.nodes:
        assert node.status()["alive"]
    cluster.check()


@pytest.mark.sets("0.3.11", "0.3.17-password")
def test_passwords(cluster, tmp_path):
    address = cluster.a.address
    wrong = raft(cluster, "status", address, password="another", check=False)
    assert wrong.returncode == 1 and "is the password right" in wrong.stderr, wrong
    assert "another" not in wrong.stderr + wrong.stdout
    if cluster.password is None:
        return
    without = raft(cluster, "status", address, password=None, check=False)
    assert without.returncode == 1
    file = tmp_path / "password"
    file.write_text(cluster.password + "\n")
    file.chmod(0o644)
    exposed = raft(cluster, "status", address, "--password-file", str(file), password=None, check=False)
    assert exposed.returncode == 78 and "chmod" in exposed.stderr, exposed
    file.chmod(0o600)
    raft(cluster, "status", address, "--password-file", str(file), password=None)
    # Patroni's own file, as the witness has it.
    raft(cluster, "status", address, "-c", str(cluster.witness.folder / "witness.yml"), password=None)


def test_nobody_there(cluster):
    gone = cluster.b.address
    cluster.b.kill()
    told = raft(cluster, "status", gone, check=False)
    assert told.returncode == 1 and "cannot be reached" in told.stderr
    assert told.stdout == ""
