"""Several machines go down together, and come back in one order or another."""

from rig.process import await_that

from ..scenario import scenario

PEERS = ("0.3.17", "0.3.14")


def _restart_the_nodes(s):
    for node in s.nodes.values():
        node.kill()
    for node in s.nodes.values():
        node.start()
    s.await_well()
    s.application.await_writes(50)


@scenario(pysyncobj=PEERS)
def both_nodes_restarted(s):
    s.raise_term(2)
    _restart_the_nodes(s)
    for _ in range(3):
        s.commit_something()


@scenario(pysyncobj=PEERS, ci=("both_nodes_restarted_without_the_witness[PySyncObj 0.3.14]",))
def both_nodes_restarted_without_the_witness(s):
    # S13: peers before 0.3.16 forget their term, and commit anew in lower ones.
    s.raise_term(3)
    s.witness.stop()
    _restart_the_nodes(s)
    for _ in range(3):
        s.commit_something()
    value = 4711000 + len(s.steps)
    s.patronictl("edit-config", "--force", "-s", f"maximum_lag_on_failover={value}")
    s.witness.start()
    s.await_following(s.witness)
    # Whoever leads from now on, the old log included, knows it.
    s.raise_term(2)
    assert f"maximum_lag_on_failover: {value}" in s.patronictl("show-config")


@scenario(raft=("primary", "witness"), ci=("everything_off_and_on[witness leads Raft]",))
def everything_off_and_on(s):
    for member in s.members.values():
        member.crash()
    for member in s.members.values():
        member.start()
    s.await_well()
    s.application.await_writes(50)


@scenario(raft=("primary", "witness"), who=("primary", "standby"),
          ci=("witness_and_one_node_come_back[standby, witness leads Raft]",))
def witness_and_one_node_come_back(s, who):
    # Both have every commit: `/sync` names the one or the other.
    back = s.primary() if who == "primary" else s.standby()
    for member in s.members.values():
        member.crash()
    s.witness.start()
    back.start()
    await_that(lambda: s.primary() is back, 3 * s.timing["ttl"], s.describe)
    s.application.await_writes(50)
    s.other(back).start()


@scenario(who=("primary", "standby"))
def only_the_nodes_come_back(s, who):
    # The witness is late, by more than a failover.
    for member in s.members.values():
        member.crash()
    for node in s.nodes.values():
        node.start()
    s.await_well()
    s.application.await_writes(50)
    s.witness.start()
    s.await_following(s.witness)
    primary = s.await_well()
    old = primary if who == "primary" else s.standby()
    old.crash()
    await_that(lambda: s.primary() is s.other(old), 3 * s.timing["ttl"], s.describe)
    s.application.await_writes(50)
    old.start()
